//! systemd's manager over D-Bus (org.freedesktop.systemd1(5)).
//!
//! Every call makes a connection of its own, which takes a third of a millisecond: there is no connection to lose when
//! the bus is restarted, and nothing is held while the agent is idle. Every call has a time limit.

mod bus;
mod job;
mod journal;
pub(super) mod transient;
mod unit;

use std::{path::Path, time::Duration};

use anyhow::{Context, Result};
use bucket::Timestamp;
use tokio::time::timeout;

use self::{
    bus::{ManagerProxy, connect},
    job::Verb,
    transient::{Stop, Transient},
};

use super::{
    service_manager::{CheckResult, LastWords, ServiceManager},
    unit_state::{JobResult, UnitState},
};

/// Time limit for reading all unit files: generators run too.
const RELOAD_TIMEOUT: Duration = Duration::from_secs(90);

/// systemd, as PID 1 of this machine.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Systemd;

impl ServiceManager for Systemd {
    async fn daemon_reload(&self) -> Result<()> {
        let connection = connect().await?;
        let manager = ManagerProxy::new(&connection).await?;
        let reloaded = timeout(RELOAD_TIMEOUT, manager.reload()).await;
        reloaded
            .context("timed out waiting for systemd to read its unit files")?
            .context("systemd could not read its unit files")
    }

    async fn unit(&self, name: &str) -> Result<UnitState> {
        unit::read(name).await
    }

    async fn last_words(&self, name: &str, since: Timestamp, except: Option<&str>) -> LastWords {
        journal::last_words(name, since, except).await
    }

    async fn restart(&self, name: &str, time_limit: Duration) -> Result<JobResult> {
        job::run(Verb::Restart, name, time_limit).await
    }

    async fn reload(&self, name: &str, time_limit: Duration) -> Result<JobResult> {
        job::run(Verb::Reload, name, time_limit).await
    }

    async fn check(&self, command: &[String], time_limit: Duration) -> Result<CheckResult> {
        let directory =
            tempfile::tempdir_in("/run").context("could not create a directory for the output of the check")?;
        let output = directory.path().join("output");
        let transient = Transient {
            unit: "pulld-check.service",
            description: "pulld release check",
            command: command.to_vec(),
            timeout: time_limit,
            output: Some(output.clone()),
            stop: Stop::Kill,
        };
        if transient::run(&transient).await? {
            return Ok(CheckResult::Passed);
        }
        let output_tail = tail(&output, 500);
        let output_tail =
            if output_tail.is_empty() { "it printed nothing".to_owned() } else { format!("output: {output_tail}") };
        Ok(CheckResult::Failed { reason: format!("its check `{}` failed; {output_tail}", command.join(" ")) })
    }
}

/// The end of a file, on one line and safe to show.
fn tail(file: &Path, length: u64) -> String {
    use std::io::{Read, Seek, SeekFrom};
    let read = || -> std::io::Result<String> {
        let mut file = std::fs::File::open(file)?;
        let from = file.metadata()?.len().saturating_sub(length);
        file.seek(SeekFrom::Start(from))?;
        let mut content = Vec::new();
        file.take(length).read_to_end(&mut content)?;
        Ok(String::from_utf8_lossy(&content).into_owned())
    };
    read().unwrap_or_default().trim().escape_debug().to_string()
}
