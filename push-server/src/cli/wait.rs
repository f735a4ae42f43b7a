//! Following servers until they run what was pushed, or rolled back.

use std::{fmt, time::Duration};

use bucket::{AppState, AppStatus, Bucket, Fetched, Generation, ReleaseName, ServerName};

/// How often the agents' reports are read; an unchanged one costs one conditional request.
const PERIOD: Duration = Duration::from_secs(1);

/// Most characters of a reason that are told.
const MAX_REASON: usize = 3000;

/// What became of a push on one server, by its agent's report.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// The server runs the release.
    Converged,
    /// Another release was pushed.
    Superseded,
    /// The agent returned to the previous release, and why.
    RolledBack(String),
    /// The release could not be installed, and why.
    Failed(String),
    /// The rollback failed or was not possible, and why.
    Degraded(String),
    /// The agent may not install the app, and why.
    Refused(String),
    /// The agent of this server reported nothing of it in time.
    TimedOut(ServerName),
}

impl Outcome {
    /// What the agent reported about a release, once that is final.
    fn of(app: &AppStatus, release: &ReleaseName) -> Option<Self> {
        let reason = app.reason.as_deref().map(|reason| console::cut_lines(reason, MAX_REASON).join("\n"));
        let reason = reason.unwrap_or_default();
        if app.desired.as_ref() != Some(release) {
            return Some(Self::Superseded);
        }
        match app.state {
            AppState::Converged | AppState::Drifted => Some(Self::Converged),
            AppState::Quarantined => Some(Self::RolledBack(reason)),
            AppState::Failed => Some(Self::Failed(reason)),
            AppState::Degraded => Some(Self::Degraded(reason)),
            AppState::Refused => Some(Self::Refused(reason)),
            AppState::Pending | AppState::Orphan | AppState::Unknown => None,
        }
    }

    /// Whether the push did what it was for.
    pub(crate) fn is_ok(&self) -> bool {
        *self == Self::Converged
    }

    /// For programs.
    pub(crate) fn label(&self) -> &'static str {
        match self {
            Self::Converged => "converged",
            Self::Superseded => "superseded",
            Self::RolledBack(_) => "rolled-back",
            Self::Failed(_) => "failed",
            Self::Degraded(_) => "degraded",
            Self::Refused(_) => "refused",
            Self::TimedOut(_) => "timeout",
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Converged => f.write_str("up to date"),
            Self::Superseded => f.write_str("superseded: another release was pushed"),
            Self::RolledBack(reason) => write!(f, "rolled back automatically: {reason}"),
            Self::Failed(reason) => write!(f, "failed: {reason}"),
            Self::Degraded(reason) => write!(f, "degraded, manual intervention required: {reason}"),
            Self::Refused(reason) => write!(f, "refused: {reason}"),
            Self::TimedOut(server) => write!(
                f,
                "timed out: the agent has not reported an outcome; it may be down or waiting for its next poll, see \
                 `push status {server}`"
            ),
        }
    }
}

/// Waits for all servers at once, within `timeout`; the outcomes are in the order of the servers.
pub(crate) async fn follow(
    bucket: &Bucket,
    pushed: Vec<(ServerName, ReleaseName, Generation)>,
    timeout: Duration,
) -> Vec<(ServerName, Outcome)> {
    let end = tokio::time::Instant::now() + timeout;
    let one = async |(server, release, generation): (ServerName, ReleaseName, Generation)| {
        let ended = tokio::time::timeout_at(end, until_final(bucket, &server, &release, generation)).await;
        let outcome = ended.unwrap_or_else(|_| Outcome::TimedOut(server.clone()));
        (server, outcome)
    };
    if !pushed.is_empty() {
        console::note(format_args!("waiting for {} to report", console::count(pushed.len(), "server")));
    }
    futures_util::future::join_all(pushed.into_iter().map(one)).await
}

async fn until_final(bucket: &Bucket, server: &ServerName, release: &ReleaseName, generation: Generation) -> Outcome {
    let mut seen = None;
    loop {
        let fetched = match seen {
            Some(seen) => bucket.status_if_changed(server, seen).await,
            None => bucket.status(server).await.map(Fetched::from),
        };
        if let Ok(Fetched::Found(read, status)) = fetched {
            seen = Some(read);
            if status.document.generation.is_some_and(|about| about >= generation) {
                let ours = status.apps.iter().find(|app| app.app == release.app().as_str());
                if let Some(outcome) = ours.and_then(|app| Outcome::of(app, release)) {
                    return outcome;
                }
            }
        }
        tokio::time::sleep(PERIOD).await;
    }
}
