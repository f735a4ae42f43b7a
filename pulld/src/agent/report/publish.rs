//! Publishes the report: always to this machine's own copy, to the bucket only when it says something new, and with
//! every heartbeat (`heartbeat` in the configuration).

use std::{
    fs::{self, Permissions},
    io::Write,
    os::unix::fs::{PermissionsExt, fchown},
    path::Path,
    time::Duration,
};

use anyhow::{Context, Result};
use bucket::{Error, Generation, ServerName, Status};
use serde::Serialize;
use sha2::{Digest, Sha256};
use tokio::time::Instant;

use crate::{decide::schedule, random::random_fraction, service::events, store::bucket::Bucket};

use super::difference::without_times;

/// Salt of the machine's id, as machine-id(5) asks for: the id itself is confidential.
const SALT: &str = "push pulld status 1 ";

/// The group `adm`, by the number that every Debian gives it: those who may read the journal, which has the same words
/// of units and maintainer scripts, may read this machine's report. Nobody else may, because nobody checked what scripts print.
const READERS: u32 = 4;

/// What is known of the report in the bucket.
#[derive(Debug, Default)]
pub(super) struct Publisher {
    seen: Option<Seen>,
    rival: Option<Rival>,
}

#[derive(Debug)]
struct Seen {
    generation: Option<Generation>,
    status: Option<Status>,
    due: Instant,
}

/// Another machine that reports under this server's name.
#[derive(Debug)]
struct Rival {
    machine: String,
    /// When it must have reported again, if it still runs.
    until: Instant,
}

impl Publisher {
    /// Writes the report to the bucket if it says something new or a heartbeat is due.
    ///
    /// Two machines of one name replace each other's reports, each at its own pace: a report is never written because
    /// the other one was.
    pub(super) async fn publish(&mut self, bucket: &Bucket, status: &Status, heartbeat: Duration) -> Result<()> {
        let new = |seen: &Seen| {
            let same = seen.status.as_ref().is_some_and(|old| without_times(old) == without_times(status));
            !same || Instant::now() >= seen.due
        };
        if self.seen.as_ref().is_some_and(|seen| !new(seen)) {
            return Ok(());
        }
        if self.seen.is_none() {
            self.read_existing(bucket, status, None).await?;
        }
        // One more attempt after another writer: one that continues is warned about, not fought.
        for last in [false, true] {
            // Taken while it is written: who gives up a write does not know what is there.
            let generation = self.seen.take().and_then(|seen| seen.generation);
            let status = self.with_warning(status);
            match bucket.write_status(&status, generation).await {
                Ok(generation) => {
                    let due = Instant::now() + schedule::heartbeat(heartbeat, random_fraction());
                    self.seen = Some(Seen { generation: Some(generation), status: Some(status), due });
                    return Ok(());
                }
                Err(Error::Conflict { .. } | Error::AlreadyExists { .. }) if !last => {
                    self.read_existing(bucket, &status, Some(heartbeat)).await?;
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Has the next report written though it says nothing new.
    pub(super) fn make_due(&mut self) {
        if let Some(seen) = &mut self.seen {
            seen.due = Instant::now();
        }
    }

    /// That another machine reports under this name, as a sentence, while it does.
    pub(super) fn warning(&self, server: &ServerName) -> Option<String> {
        let rival = self.rival.as_ref().filter(|rival| Instant::now() < rival.until)?;
        Some(format!(
            "another machine reports as `{server}` too, so that each replaces the report of the other: give one of them \
             another `server` in its configuration (the id of the other, hashed, is {})",
            rival.machine
        ))
    }

    /// The report with the warning, which it may have been composed without.
    fn with_warning(&self, status: &Status) -> Status {
        let mut status = status.clone();
        if let Some(warning) = self.warning(&status.server).filter(|warning| !status.warnings.contains(warning)) {
            status.warnings.push(warning);
        }
        status
    }

    /// Reads the report that is there, to overwrite just that one, and to see whose it is. One that was written since
    /// ours, a `heartbeat` ago at most, is of a machine that runs; of any other the time of the report decides.
    async fn read_existing(&mut self, bucket: &Bucket, ours: &Status, heartbeat: Option<Duration>) -> Result<()> {
        let due = Instant::now();
        let (generation, found) = match bucket.status(&ours.server).await {
            Ok(Some((generation, status))) => (Some(generation), Some(status)),
            Ok(None) => (None, None),
            Err(Error::Malformed { .. } | Error::TooLarge { .. }) => {
                (bucket.status_generation(&ours.server).await?, None)
            }
            Err(error) => return Err(error.into()),
        };
        if let Some(other) = found.filter(|found| found.machine != ours.machine) {
            self.note_rival(&other, ours, heartbeat);
        }
        self.seen = Some(Seen { generation, status: None, due });
        Ok(())
    }

    fn note_rival(&mut self, other: &Status, ours: &Status, heartbeat: Option<Duration>) {
        // It is silent for a heartbeat, plus or minus something, before it reports again; and so is this machine, which
        // sees only then that it did.
        let silence = Duration::from_secs(other.agent.heartbeat_seconds).max(heartbeat.unwrap_or_default()) * 2;
        let age = if heartbeat.is_some() {
            Duration::ZERO
        } else {
            ours.written.duration_since(other.written).unsigned_abs()
        };
        let Some(left) = silence.checked_sub(age) else { return };
        let machine = other.machine.clone();
        let is_known = self.rival.as_ref().is_some_and(|rival| rival.machine == machine);
        self.rival = Some(Rival { machine, until: Instant::now() + left });
        if !is_known && let Some(warning) = self.warning(&ours.server) {
            tracing::warn!(message_id = events::REPORT, server = %ours.server, other = other.machine, "{warning}");
        }
    }
}

/// Writes this machine's own copy, or what is behind it, whole or not at all; it needn't outlive the boot.
pub(super) fn write_local(path: &Path, status: &impl Serialize) -> Result<()> {
    let failed = || format!("could not write `{}`", path.display());
    let directory = path.parent().unwrap_or(Path::new("/"));
    fs::create_dir_all(directory).with_context(failed)?;
    fail_point!("report.local.begin");
    // Readable by its owner alone so far.
    let mut file = tempfile::Builder::new().prefix(".new-").tempfile_in(directory).with_context(failed)?;
    file.write_all(&serde_json::to_vec_pretty(status)?).with_context(failed)?;
    if fchown(file.as_file(), None, Some(READERS)).is_ok() {
        file.as_file().set_permissions(Permissions::from_mode(0o640)).with_context(failed)?;
    }
    file.persist(path).with_context(failed)?;
    fail_point!("report.local.end");
    Ok(())
}

/// What identifies the machine without telling its id; `unknown` when it has none.
pub(super) fn machine(path: &Path) -> String {
    match fs::read_to_string(path) {
        Ok(id) if !id.trim().is_empty() => hex::encode(&Sha256::digest(format!("{SALT}{}", id.trim()))[..16]),
        _ => "unknown".to_owned(),
    }
}
