//! Publishes the report: always to this machine's own copy, to the bucket only when it says something new, and with
//! every heartbeat (`heartbeat` in the configuration).

use std::{fs, io::Write, path::Path, time::Duration};

use anyhow::{Context, Result};
use bucket::{Bucket, Error, Generation, Status};
use sha2::{Digest, Sha256};
use tokio::time::Instant;

use crate::{decide::schedule, random::random_fraction, service::events};

use super::difference::without_times;

/// Salt of the machine's id, as machine-id(5) asks for: the id itself is confidential.
const SALT: &str = "push pulld status 1 ";

/// What is known of the report in the bucket.
#[derive(Debug, Default)]
pub(super) struct Publisher {
    seen: Option<Seen>,
    warned: bool,
}

#[derive(Debug)]
struct Seen {
    generation: Option<Generation>,
    status: Option<Status>,
    due: Instant,
}

impl Publisher {
    /// Writes the report to the bucket if it says something new or a heartbeat is due.
    pub(super) async fn publish(&mut self, bucket: &Bucket, status: &Status, heartbeat: Duration) -> Result<()> {
        let new = |seen: &Seen| {
            let same = seen.status.as_ref().is_some_and(|old| without_times(old) == without_times(status));
            !same || Instant::now() >= seen.due
        };
        if self.seen.as_ref().is_some_and(|seen| !new(seen)) {
            return Ok(());
        }
        if self.seen.is_none() {
            self.read_existing(bucket, status).await?;
        }
        // One more attempt after another writer: one that continues is warned about, not fought.
        for last in [false, true] {
            // Taken while it is written: who gives up a write does not know what is there.
            let generation = self.seen.take().and_then(|seen| seen.generation);
            match bucket.write_status(status, generation).await {
                Ok(generation) => {
                    let due = Instant::now() + schedule::heartbeat(heartbeat, random_fraction());
                    self.seen = Some(Seen { generation: Some(generation), status: Some(status.clone()), due });
                    return Ok(());
                }
                Err(Error::Conflict { .. } | Error::AlreadyExists { .. }) if !last => {
                    self.read_existing(bucket, status).await?;
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Reads the report that is there, to overwrite just that one, and to see whose it is.
    async fn read_existing(&mut self, bucket: &Bucket, ours: &Status) -> Result<()> {
        let due = Instant::now();
        let (generation, found) = match bucket.status(&ours.server).await {
            Ok(Some((generation, status))) => (Some(generation), Some(status)),
            Ok(None) => (None, None),
            Err(Error::Malformed { .. }) => (bucket.status_generation(&ours.server).await?, None),
            Err(error) => return Err(error.into()),
        };
        if let Some(other) = found.filter(|found| found.machine != ours.machine)
            && !self.warned
        {
            self.warned = true;
            tracing::warn!(
                message_id = events::REPORT,
                server = %ours.server,
                other = other.machine,
                "another machine has reported under this server name; if it still runs, give one of them a different `server`"
            );
        }
        self.seen = Some(Seen { generation, status: None, due });
        Ok(())
    }
}

/// Writes this machine's own copy, whole or not at all; it needn't outlive the boot.
pub(super) fn write_local(path: &Path, status: &Status) -> Result<()> {
    let failed = || format!("could not write `{}`", path.display());
    let directory = path.parent().unwrap_or(Path::new("/"));
    fs::create_dir_all(directory).with_context(failed)?;
    let mut file = tempfile::Builder::new()
        .prefix(".new-")
        .permissions(std::os::unix::fs::PermissionsExt::from_mode(0o644))
        .tempfile_in(directory)
        .with_context(failed)?;
    file.write_all(&serde_json::to_vec_pretty(status)?).with_context(failed)?;
    file.persist(path).with_context(failed)?;
    Ok(())
}

/// What identifies the machine without telling its id; `unknown` when it has none.
pub(super) fn machine(path: &Path) -> String {
    match fs::read_to_string(path) {
        Ok(id) if !id.trim().is_empty() => hex::encode(&Sha256::digest(format!("{SALT}{}", id.trim()))[..16]),
        _ => "unknown".to_owned(),
    }
}
