//! Jobs on units: queued, and waited for.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use futures_util::StreamExt;
use tokio::time::{Instant, timeout_at};

use super::{
    super::unit_state::JobResult,
    bus::{ManagerProxy, QUERY_TIMEOUT, connect, in_words, job_ends},
};

/// What a job does.
#[derive(Debug, Clone, Copy)]
pub(super) enum Verb {
    /// Restart the unit, or start it.
    Restart,
    /// Reload the unit, or restart it if it cannot reload.
    Reload,
    /// Stop it.
    Stop,
}

impl Verb {
    fn infinitive(self) -> &'static str {
        match self {
            Self::Restart => "restart",
            Self::Reload => "reload",
            Self::Stop => "stop",
        }
    }

    fn participle(self) -> &'static str {
        match self {
            Self::Restart => "restarted",
            Self::Reload => "reloaded",
            Self::Stop => "stopped",
        }
    }
}

/// Forgets that a unit failed, if systemd knows it.
pub(super) async fn reset_failed(name: &str) -> Result<()> {
    let manager = connect().await?;
    let manager = ManagerProxy::new(&manager).await?;
    tokio::time::timeout(QUERY_TIMEOUT, manager.reset_failed_unit(name)).await?.map_err(|error| in_words(&error))
}

/// Queues a job on a unit and waits for its end.
pub(super) async fn run(verb: Verb, name: &str, time_limit: Duration) -> Result<JobResult> {
    let deadline = Instant::now() + time_limit;
    let connection = connect().await?;
    let manager = ManagerProxy::new(&connection).await?;
    // Before the job is queued: it may end before the answer says which it was.
    let mut ends = job_ends(&connection, name).await?;
    let queued = async {
        match verb {
            Verb::Restart => {
                // The starts of the release before don't count against this one: after a crash loop systemd would refuse
                // it as one too many (systemctl(1), reset-failed). A unit that isn't loaded has none.
                let _ = manager.reset_failed_unit(name).await;
                manager.restart_unit(name, "replace").await
            }
            Verb::Stop => manager.stop_unit(name, "replace").await,
            Verb::Reload => manager.reload_or_restart_unit(name, "replace").await,
        }
    };
    let job = timeout_at(deadline.min(Instant::now() + QUERY_TIMEOUT), queued).await;
    let job = job.with_context(|| format!("timed out queueing a job on `{name}`"))?;
    let job =
        job.map_err(|error| in_words(&error)).with_context(|| format!("could not {} `{name}`", verb.infinitive()))?;
    loop {
        let signal = match timeout_at(deadline, ends.next()).await {
            Ok(Some(signal)) => signal,
            Ok(None) => bail!("lost the connection to the bus while `{name}` was being {}", verb.participle()),
            Err(_) => return Ok(JobResult::Timeout),
        };
        let ended = signal.args().context("invalid signal from systemd")?;
        if ended.job == job {
            return Ok(JobResult::from(ended.result.clone()));
        }
    }
}
