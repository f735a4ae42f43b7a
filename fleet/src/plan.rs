//! What a push would do to a server, and what to know before.

use bucket::{AgentStatus, AppName, AppState, Release, ReleaseName, ServerDocument, ServerName, Status, Timestamp};

/// What a push of one release would do to one server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proposal {
    /// Where to.
    pub server: ServerName,
    /// The release of the app it should have now; `None` when it doesn't have the app yet.
    pub from: Option<ReleaseName>,
    /// The release it would have.
    pub to: ReleaseName,
    /// Whether that release is dirty.
    pub dirty: bool,
    /// Why it isn't done unless it is forced.
    pub objection: Option<String>,
    /// What to know, none of it a reason not to.
    pub warnings: Vec<String>,
}

impl Proposal {
    /// Whether the server should have this release already.
    pub fn is_no_change(&self) -> bool {
        self.from.as_ref() == Some(&self.to)
    }
}

/// What a push of `release` would do to `server`, whose document is `document` (`None`: it has none)
/// and whose agent last reported `status`.
pub fn propose(
    server: &ServerName,
    document: Option<&ServerDocument>,
    release: &Release,
    status: Option<&Status>,
    now: Timestamp,
) -> Proposal {
    let to = &release.name;
    let from = document.and_then(|document| document.release_of(to.app())).cloned();
    let objection = match (document, &from) {
        (None, _) => Some(format!("`{server}` has no document yet: perhaps its name is misspelt")),
        (Some(_), None) => Some(format!("`{server}` doesn't have `{}` yet", to.app())),
        _ => None,
    };
    Proposal {
        server: server.clone(),
        warnings: warnings(from.as_ref(), release, status, now),
        from,
        to: to.clone(),
        dirty: is_dirty(release),
        objection,
    }
}

fn warnings(from: Option<&ReleaseName>, release: &Release, status: Option<&Status>, now: Timestamp) -> Vec<String> {
    let mut warnings = Vec::new();
    if is_dirty(release) {
        warnings.push("it is dirty: built with uncommitted changes".to_owned());
    }
    if from == Some(&release.name) {
        warnings.push("no change: it is the desired release already".to_owned());
    } else if from.is_some_and(|from| from.time() > release.name.time()) {
        warnings.push("it is older than the release it replaces".to_owned());
    }
    match status {
        None => warnings.push("the server's agent has never reported".to_owned()),
        Some(status) => {
            if let Some(silence) = silence(status, now) {
                warnings.push(format!("the server's agent has been silent for {silence}"));
            }
            if is_quarantined(status, release.name.app(), &release.name) {
                warnings.push("it was rolled back on this server before".to_owned());
            }
        }
    }
    warnings
}

fn is_dirty(release: &Release) -> bool {
    release.metadata.as_ref().is_ok_and(|metadata| metadata.dirty)
}

fn is_quarantined(status: &Status, app: &AppName, release: &ReleaseName) -> bool {
    let ours = status.apps.iter().find(|found| found.app == app.as_str());
    ours.is_some_and(|found| {
        matches!(found.state, AppState::Quarantined | AppState::Degraded) && found.desired.as_ref() == Some(release)
    })
}

/// How long an agent has been silent, if that is longer than it should be: three of its polls, and a heartbeat with its
/// jitter.
pub fn silence(status: &Status, now: Timestamp) -> Option<String> {
    let age = now.duration_since(status.written).as_secs();
    let AgentStatus { poll_seconds, heartbeat_seconds, .. } = status.agent;
    let allowed = heartbeat_seconds.saturating_mul(4) / 3 + poll_seconds.saturating_mul(3);
    (age > i64::try_from(allowed).unwrap_or(i64::MAX)).then(|| age_in_words(age))
}

/// A number of seconds as a person says it: `40 s`, `12 min`, `5 h`, `3 d`.
pub fn age_in_words(seconds: i64) -> String {
    match seconds {
        i64::MIN..0 => "0 s".to_owned(),
        0..90 => format!("{seconds} s"),
        90..5400 => format!("{} min", (seconds + 30) / 60),
        5400..129_600 => format!("{} h", (seconds + 1800) / 3600),
        _ => format!("{} d", (seconds + 43_200) / 86_400),
    }
}
