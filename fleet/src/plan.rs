//! What a push would do to a server, and what to know before.

use std::fmt;

use bucket::{
    AgentStatus, AppName, AppState, PushKind, Release, ReleaseName, ServerDocument, ServerName, Status, Timestamp,
};
use jiff::SignedDuration;

/// What a push of one release would do to one server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proposal {
    /// The server to push to.
    pub server: ServerName,
    /// The release of the app it should have now; `None` when it doesn't have the app yet.
    pub from: Option<ReleaseName>,
    /// The release it would have.
    pub to: ReleaseName,
    /// Whether that release is dirty.
    pub dirty: bool,
    /// Why it isn't done unless it is forced.
    pub objection: Option<Objection>,
    /// What to know, none of it a reason not to.
    pub warnings: Vec<Warning>,
}

impl Proposal {
    /// Whether the server should have this release already.
    pub fn is_no_change(&self) -> bool {
        self.from.as_ref() == Some(&self.to)
    }
}

/// Why a push isn't done unless an operator insists: a misspelt name would look the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Objection {
    /// The server has no document.
    NewServer(ServerName),
    /// The server's document has no release of the app.
    NewApp(ServerName, AppName),
}

impl fmt::Display for Objection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NewServer(server) => write!(f, "`{server}` has no document yet; check the spelling"),
            Self::NewApp(server, app) => write!(f, "`{server}` does not have `{app}` yet"),
        }
    }
}

/// What an operator should know before a push.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Warning {
    /// The release was built with uncommitted changes.
    Dirty,
    /// The release is the desired one already.
    NoChange,
    /// The release is older than the one it replaces, though this is no rollback.
    Older,
    /// The server's agent has never reported.
    NeverReported,
    /// The server's agent has not reported for this long, which is longer than it should take.
    NotReporting(SignedDuration),
    /// The agent rolled this release back on this server, so it won't try it again by itself.
    RolledBack,
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dirty => f.write_str("this release is dirty: built with uncommitted changes"),
            Self::NoChange => f.write_str("no change: this release is already the desired one"),
            Self::Older => f.write_str("this release is older than the one it replaces"),
            Self::NeverReported => f.write_str("the server's agent has never reported"),
            Self::NotReporting(elapsed) => {
                write!(f, "the server's agent has not reported for {}", console::age(*elapsed))
            }
            Self::RolledBack => f.write_str("this release was rolled back on this server"),
        }
    }
}

/// What a push of `release` would do to `server`, whose document is `document` (`None`: it has none)
/// and whose agent last reported `status`.
pub fn propose(
    server: &ServerName,
    document: Option<&ServerDocument>,
    release: &Release,
    kind: PushKind,
    status: Option<&Status>,
    now: Timestamp,
) -> Proposal {
    let to = &release.name;
    let from = document.and_then(|document| document.release_of(to.app())).cloned();
    let objection = match (document, &from) {
        (None, _) => Some(Objection::NewServer(server.clone())),
        (Some(_), None) => Some(Objection::NewApp(server.clone(), to.app().clone())),
        _ => None,
    };
    Proposal {
        server: server.clone(),
        warnings: warnings(from.as_ref(), release, kind, status, now),
        from,
        to: to.clone(),
        dirty: is_dirty(release),
        objection,
    }
}

fn warnings(
    from: Option<&ReleaseName>,
    release: &Release,
    kind: PushKind,
    status: Option<&Status>,
    now: Timestamp,
) -> Vec<Warning> {
    let name = &release.name;
    let is_older = from.is_some_and(|from| from.time() > name.time());
    let overdue = status.and_then(|status| overdue(status, now));
    let warnings = [
        is_dirty(release).then_some(Warning::Dirty),
        (from == Some(name)).then_some(Warning::NoChange),
        // Of a rollback that is the point.
        (is_older && kind == PushKind::Deploy).then_some(Warning::Older),
        status.is_none().then_some(Warning::NeverReported),
        overdue.map(Warning::NotReporting),
        status.is_some_and(|status| is_quarantined(status, name.app(), name)).then_some(Warning::RolledBack),
    ];
    warnings.into_iter().flatten().collect()
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

/// How long an agent has not reported, if that is longer than it should take: three of its polls, and a heartbeat with
/// its jitter.
pub fn overdue(status: &Status, now: Timestamp) -> Option<SignedDuration> {
    let age = now.duration_since(status.written);
    let AgentStatus { poll_seconds, heartbeat_seconds, .. } = status.agent;
    let allowed = heartbeat_seconds.saturating_mul(4) / 3 + poll_seconds.saturating_mul(3);
    (age.as_secs() > i64::try_from(allowed).unwrap_or(i64::MAX)).then_some(age)
}
