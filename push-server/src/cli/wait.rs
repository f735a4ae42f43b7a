//! Following servers until they run what was pushed, or went back.

use std::time::Duration;

use bucket::{AppState, AppStatus, Bucket, Fetched, Generation, ReleaseName, ServerName};

use super::show;

/// How often the agents' reports are looked at; an unchanged one costs one conditional request.
const PERIOD: Duration = Duration::from_secs(1);

/// How a push ended on one server.
pub(crate) struct Outcome {
    pub(crate) server: ServerName,
    pub(crate) good: bool,
    pub(crate) word: &'static str,
    pub(crate) line: String,
}

/// Waits for all servers at once, within `timeout`; the outcomes are in the order of the servers.
pub(crate) async fn follow(
    bucket: &Bucket,
    pushed: Vec<(ServerName, ReleaseName, Generation)>,
    timeout: Duration,
) -> Vec<Outcome> {
    let end = tokio::time::Instant::now() + timeout;
    let one = async |(server, release, generation): (ServerName, ReleaseName, Generation)| {
        let ended = tokio::time::timeout_at(end, until_settled(bucket, &server, &release, generation)).await;
        let (good, word, line) = ended.unwrap_or_else(|_| {
            let line = "its agent hasn't said how it went; it may be down, or between two polls: `push status` tells";
            (false, "timeout", line.to_owned())
        });
        Outcome { server, good, word, line }
    };
    if !pushed.is_empty() {
        eprintln!("waiting for the agents of {} servers", pushed.len());
    }
    futures_util::future::join_all(pushed.into_iter().map(one)).await
}

async fn until_settled(
    bucket: &Bucket,
    server: &ServerName,
    release: &ReleaseName,
    generation: Generation,
) -> (bool, &'static str, String) {
    let mut seen = None;
    loop {
        if let Ok(Fetched::Found(read, status)) = bucket.status(server, seen).await {
            seen = Some(read);
            if status.document.generation.is_some_and(|about| about >= generation) {
                let ours = status.apps.iter().find(|app| app.app == release.app().as_str());
                if let Some(settled) = ours.and_then(|app| verdict(app, release)) {
                    return settled;
                }
            }
        }
        tokio::time::sleep(PERIOD).await;
    }
}

fn verdict(app: &AppStatus, release: &ReleaseName) -> Option<(bool, &'static str, String)> {
    let reason = app.reason.as_deref().map(show::safe).unwrap_or_default();
    if app.desired.as_ref() != Some(release) {
        return Some((false, "superseded", "somebody pushed another release meanwhile".to_owned()));
    }
    match app.state {
        AppState::Converged | AppState::Drifted => Some((true, "converged", "runs it".to_owned())),
        AppState::Quarantined => Some((false, "rolled-back", format!("rolled back by itself: {reason}"))),
        AppState::Failed => Some((false, "failed", format!("failed: {reason}"))),
        AppState::Degraded => Some((false, "degraded", format!("needs a person: {reason}"))),
        AppState::Refused => Some((false, "refused", format!("refused: {reason}"))),
        AppState::Pending | AppState::Orphan | AppState::Unknown => None,
    }
}
