//! systemd's manager over D-Bus (org.freedesktop.systemd1(5)).
//!
//! Every call makes a connection of its own, which takes a third of a millisecond: there is no connection to lose when
//! the bus is restarted, and nothing is held while the agent is idle. Every call has a time limit.

mod bus;
mod check;
mod job;
mod journal;
mod links;
pub(super) mod transient;
mod unit;

use std::time::Duration;

use anyhow::{Context, Result};
use bucket::{Probe, Timestamp, UnitName};
use tokio::time::timeout;

use self::{
    bus::{ManagerProxy, connect},
    job::Verb,
};

use super::{
    clock, probe,
    service_manager::{CheckResult, LastWords, ServiceManager},
    unit_state::{JobResult, UnitState},
};

/// Time limit for reading all unit files: generators run too.
const RELOAD_TIMEOUT: Duration = Duration::from_secs(90);

/// systemd, as PID 1 of this machine.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Systemd;

impl ServiceManager for Systemd {
    fn boot(&self) -> Result<String> {
        clock::boot()
    }

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

    async fn instances(&self, template: &UnitName) -> Result<Vec<UnitName>> {
        links::instances(template).await
    }

    async fn stop(&self, name: &str, time_limit: Duration) -> Result<JobResult> {
        job::run(Verb::Stop, name, time_limit).await
    }

    async fn disable(&self, name: &str) -> Result<()> {
        links::disable(name).await
    }

    async fn reset_failed(&self, name: &str) {
        if let Err(error) = job::reset_failed(name).await {
            tracing::debug!(unit = name, "nothing to forget of `{name}`: {error:#}");
        }
    }

    async fn check(&self, app: &str, probe: &Probe, time_limit: Duration) -> Result<CheckResult> {
        match probe {
            Probe::Http(url) => Ok(probe::http(url, time_limit).await),
            Probe::Tcp(address) => Ok(probe::tcp(address, time_limit).await),
            Probe::Command(command) => check::run(app, command, time_limit).await,
        }
    }
}
