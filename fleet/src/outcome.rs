//! Following a server until it runs what was pushed, or rolled back: by its agent's reports.

use std::{fmt, time::Duration};

use bucket::{Activity, AppState, AppStatus, Bucket, Fetched, Generation, ReleaseName, ServerName, Status, Timestamp};
use jiff::SignedDuration;

/// How often the agents' reports are read; an unchanged one costs one conditional request.
const PERIOD: Duration = Duration::from_secs(1);

/// Most characters of a reason that are told.
const MAX_REASON: usize = 3000;

/// What became of a push on one server, by its agent's report.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The server runs the release.
    Converged,
    /// The agent has read the document, from which the app was taken.
    Removed,
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
    /// The agent of this server reported nothing final in time, and what was last known of it.
    TimedOut(ServerName, Option<String>),
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
            AppState::Converged | AppState::Drifted | AppState::Unstable => Some(Self::Converged),
            AppState::AptHeld if app.installed.as_ref() == Some(release) => Some(Self::Converged),
            AppState::Quarantined => Some(Self::RolledBack(reason)),
            AppState::Failed | AppState::AptHeld | AppState::Paused => Some(Self::Failed(reason)),
            AppState::Degraded => Some(Self::Degraded(reason)),
            AppState::Refused => Some(Self::Refused(reason)),
            AppState::Pending | AppState::Orphan | AppState::Unknown => None,
        }
    }

    /// Whether the push did what it was for.
    pub fn is_ok(&self) -> bool {
        matches!(self, Self::Converged | Self::Removed)
    }

    /// For programs.
    pub fn label(&self) -> &'static str {
        match self {
            Self::Converged => "converged",
            Self::Removed => "removed",
            Self::Superseded => "superseded",
            Self::RolledBack(_) => "rolled-back",
            Self::Failed(_) => "failed",
            Self::Degraded(_) => "degraded",
            Self::Refused(_) => "refused",
            Self::TimedOut(..) => "timeout",
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Converged => f.write_str("up to date"),
            Self::Removed => f.write_str("the agent has read that the app is no longer in the document"),
            Self::Superseded => f.write_str("superseded: another release was pushed"),
            Self::RolledBack(reason) => write!(f, "rolled back automatically: {reason}"),
            Self::Failed(reason) => write!(f, "failed: {reason}"),
            Self::Degraded(reason) => write!(f, "degraded, manual intervention required: {reason}"),
            Self::Refused(reason) => write!(f, "refused: {reason}"),
            Self::TimedOut(server, last) => {
                let last = last.as_ref().map_or(String::new(), |last| format!(" (last: {last})"));
                write!(
                    f,
                    "timed out: the agent has not reported an outcome{last}; it may be down or waiting for its next poll, see \
                     `push status {server}`"
                )
            }
        }
    }
}

/// How far a server is with a push that it has not finished.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Stage {
    /// Its agent has never reported.
    NeverReported,
    /// Its agent has not read the document yet; it polls at this time, or so often.
    Waiting { next_poll: Option<Timestamp>, poll: SignedDuration },
    /// Its agent works on it, and does this right now, if it says.
    Working { activity: Option<Activity> },
}

impl Stage {
    /// The stage of a release that a report tells, as long as it tells no outcome.
    fn of(status: Option<&Status>, release: Option<&ReleaseName>, generation: Generation) -> Self {
        let Some(status) = status else { return Self::NeverReported };
        if status.document.generation.is_some_and(|about| about >= generation) {
            let app = status.apps.iter().find(|app| release.is_some() && app.desired.as_ref() == release);
            // What a newer agent does, and this program has no word for, is simply work.
            let known = |activity: &Activity| *activity != Activity::Unknown;
            return Self::Working { activity: app.and_then(|app| app.activity).filter(known) };
        }
        let poll = SignedDuration::from_secs(i64::try_from(status.agent.poll_seconds).unwrap_or(i64::MAX));
        Self::Waiting { next_poll: status.agent.next_poll, poll }
    }

    /// Whether it is worth telling after what was `told`: something else, unless it says less than that.
    fn is_news(&self, told: Option<&Self>) -> bool {
        let says_less = matches!((self, told), (Self::Working { activity: None }, Some(Self::Working { .. })));
        told != Some(self) && !says_less
    }

    /// In words. A poll whose time is past was followed by others, of which nobody told: it is said how often they come.
    fn describe(&self, now: Timestamp) -> String {
        match self {
            Self::NeverReported => "the agent has never reported".to_owned(),
            Self::Waiting { next_poll: Some(next), .. } if *next > now => {
                format!("the agent polls within {}", console::age(next.duration_since(now)))
            }
            Self::Waiting { poll, .. } => format!("the agent polls within {}", console::age(*poll)),
            Self::Working { activity: Some(activity) } => activity.to_string(),
            Self::Working { activity: None } => "the agent has read the document and works on it".to_owned(),
        }
    }
}

/// Waits until the agent of a server has reported what became of a release, or of its removal, that the document has since a
/// generation, but no longer than `timeout`. `say` is told how far it is, whenever that changes.
pub async fn follow(
    bucket: &Bucket,
    server: &ServerName,
    (release, generation): (Option<&ReleaseName>, Generation),
    timeout: Duration,
    say: impl Fn(&str),
) -> Outcome {
    let mut last = None;
    let following = until_final(bucket, server, (release, generation), |stage| {
        say(&stage);
        last = Some(stage);
    });
    match tokio::time::timeout(timeout, following).await {
        Ok(outcome) => outcome,
        Err(_) => Outcome::TimedOut(server.clone(), last),
    }
}

async fn until_final(
    bucket: &Bucket,
    server: &ServerName,
    (release, generation): (Option<&ReleaseName>, Generation),
    mut say: impl FnMut(String),
) -> Outcome {
    let mut seen = None;
    let mut told = None;
    loop {
        let fetched = match seen {
            Some(seen) => bucket.status_if_changed(server, seen).await,
            None => bucket.status(server).await.map(Fetched::from),
        };
        let status = match &fetched {
            Ok(Fetched::Found(_, status)) => Some(status),
            _ => None,
        };
        if status.is_some() || matches!(fetched, Ok(Fetched::Absent)) {
            let stage = Stage::of(status, release, generation);
            let is_over = status.is_some_and(|status| outcome(status, release, generation).is_some());
            if !is_over && stage.is_news(told.as_ref()) {
                say(stage.describe(bucket.now()));
                told = Some(stage);
            }
        }
        if let Ok(Fetched::Found(read, status)) = fetched {
            seen = Some(read);
            if let Some(outcome) = outcome(&status, release, generation) {
                return outcome;
            }
        }
        tokio::time::sleep(PERIOD).await;
    }
}

/// What a report says of a release, if it is about the document that names it and that is final.
fn outcome(status: &Status, release: Option<&ReleaseName>, generation: Generation) -> Option<Outcome> {
    status.document.generation.filter(|about| *about >= generation)?;
    let Some(release) = release else { return Some(Outcome::Removed) };
    Outcome::of(status.apps.iter().find(|app| app.app == release.app().as_str())?, release)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_poll_is_announced_as_exactly_as_it_is_known() {
        let now: Timestamp = "2026-11-20T20:00:00Z".parse().unwrap();
        let waiting = |next_poll: Option<i64>| {
            let next_poll = next_poll.map(|seconds| now + SignedDuration::from_secs(seconds));
            Stage::Waiting { next_poll, poll: SignedDuration::from_mins(5) }.describe(now)
        };
        assert_eq!(waiting(Some(42)), "the agent polls within 42 s");
        assert_eq!(waiting(Some(-42)), "the agent polls within 5 min");
        assert_eq!(waiting(None), "the agent polls within 5 min");
    }

    /// A release of `web`, of that minute.
    fn release(minute: u8) -> ReleaseName {
        let commit = "7e0ff60a".repeat(5);
        ReleaseName::from_stem(&format!("web:dev@build-1:2026-11-20T21:{minute:02}:00Z:{commit}")).unwrap()
    }

    /// A report about generation 7 of a document that asks for `web`, whose agent does this with it.
    fn working(release: &ReleaseName, activity: Option<&str>) -> Status {
        serde_json::from_value(serde_json::json!({
            "server": "web-1", "machine": "m", "written": "2026-11-20T19:05:02Z", "state": "pending", "summary": "",
            "agent": {"version": "1", "started": "2026-11-20T19:05:02Z", "poll_seconds": 300},
            "document": {"generation": 7, "error": null},
            "apps": [{"app": "web", "desired": release, "installed": null, "package": null, "state": "pending",
                      "activity": activity, "since": "2026-11-20T19:05:02Z", "reason": null}]
        }))
        .unwrap()
    }

    #[test]
    fn each_activity_is_told_once_and_nothing_that_says_less() {
        let release = release(1);
        let activities = [
            None,
            Some("downloading"),
            Some("downloading"),
            Some("watching-health"),
            None,
            Some("reticulating"),
            Some("rolling-back"),
        ];
        let mut told = None;
        let mut lines = Vec::new();
        for activity in activities {
            let stage = Stage::of(Some(&working(&release, activity)), Some(&release), Generation(7));
            if stage.is_news(told.as_ref()) {
                lines.push(stage.describe(Timestamp::UNIX_EPOCH));
                told = Some(stage);
            }
        }
        let expected =
            ["the agent has read the document and works on it", "downloading", "watching health", "rolling back"];
        assert_eq!(lines, expected);
    }

    #[test]
    fn what_is_done_with_another_release_is_not_told_of_this_one() {
        let (ours, other) = (release(1), release(2));
        let stage = Stage::of(Some(&working(&other, Some("installing"))), Some(&ours), Generation(7));
        assert_eq!(stage, Stage::Working { activity: None });
    }
}
