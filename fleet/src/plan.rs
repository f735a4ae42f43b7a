//! What a push would do to a server, and what to know before.

use std::fmt;

use bucket::{
    AgentStatus, AppName, AppState, AppStatus, PushKind, Release, ReleaseName, ServerName, Status, Timestamp,
};
use jiff::SignedDuration;

use crate::server::{Reading, Server};

/// What a push of one release would do to one server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proposal {
    /// The server to push to.
    pub server: ServerName,
    /// The app to push.
    pub app: AppName,
    /// The release of the app it should have now; `None` when it doesn't have the app yet.
    pub from: Option<ReleaseName>,
    /// The release it would have; `None` when the app would be taken off.
    pub to: Option<ReleaseName>,
    /// Whether that release is dirty.
    pub dirty: bool,
    /// Bytes that the server's agent will download: none of what it says it has. `None` when nobody knows.
    pub download: Option<u64>,
    /// The units that the agent will restart: those of the release.
    pub restarts: Vec<String>,
    /// Why it isn't done unless it is forced.
    pub objection: Option<Objection>,
    /// What to know, none of it a reason not to.
    pub warnings: Vec<Warning>,
}

impl Proposal {
    /// Whether the server should have this release already, and it isn't to be tried again.
    pub fn is_no_change(&self) -> bool {
        self.from == self.to && !self.warnings.contains(&Warning::Retried)
    }
}

/// What an operator said about a push beyond where it goes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Insistence {
    /// Servers that don't have the app yet are meant.
    pub install: bool,
    /// Servers of which nothing is in the bucket are meant.
    pub new_servers: bool,
    /// Servers that the operator has put on hold are meant.
    pub held: bool,
}

/// Why a push isn't done unless an operator insists: a misspelt name would look the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Objection {
    /// The server has no document, and no agent ever reported under its name.
    NewServer(ServerName),
    /// The server's document has releases of other apps only, and its agent doesn't say that the app is there.
    NewApp(ServerName, AppName),
}

impl Objection {
    /// Whether it stands though an operator insists on that.
    pub fn stands(&self, insistence: Insistence) -> bool {
        match self {
            Self::NewServer(_) => !insistence.new_servers,
            Self::NewApp(..) => !insistence.install,
        }
    }
}

impl fmt::Display for Objection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NewServer(server) => write!(f, "no server `{server}` has a document or a report"),
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
    /// The release stays the same: its agent tries it again.
    Retried,
    /// There seems to be nothing to try again.
    NothingToRetry,
    /// The release is gone from the bucket, and the server still has it.
    OnlyCached,
    /// Taking the app out of the document does not remove its package.
    StaysInstalled,
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
            Self::Retried => f.write_str("same release, retried"),
            Self::NothingToRetry => f.write_str("the server's agent does not report that this release failed"),
            Self::StaysInstalled => f.write_str(
                "the package stays installed and its units keep running until the agent's `prune` removes it, or somebody does",
            ),
            Self::OnlyCached => f.write_str("this release is gone from the bucket: only the server's own cache has it"),
        }
    }
}

/// What a push of `release` would do to `server`.
pub fn propose(server: &Server, release: &Release, kind: &PushKind, now: Timestamp) -> Proposal {
    let to = &release.name;
    let from = server.desired(to.app()).cloned();
    // Of a retry nobody knows how far the last one came.
    let is_installed = *kind != PushKind::Retry && server.installed(to.app()) == Some(to);
    let is_there = is_installed || server.status().is_some_and(|status| status.has_cached(to));
    let units = release.metadata.as_ref().map(|metadata| metadata.services.as_slice()).unwrap_or_default();
    Proposal {
        server: server.name.clone(),
        download: if is_there { Some(0) } else { Some(release.size).filter(|_| !release.is_gone()) },
        restarts: if is_installed { Vec::new() } else { units.to_vec() },
        warnings: warnings(from.as_ref(), release, kind, server.status(), now),
        objection: objection(server, to.app()),
        app: to.app().clone(),
        from,
        to: Some(to.clone()),
        dirty: is_dirty(release),
    }
}

/// What taking an app off `server` would do.
pub fn propose_removal(server: &Server, app: &AppName, now: Timestamp) -> Proposal {
    let status = server.status();
    let overdue = status.and_then(|status| overdue(status, now));
    let is_absent = status.is_some() && server.reported(app.as_str()).is_none_or(|app| app.package.is_none());
    let warnings = [
        (!is_absent).then_some(Warning::StaysInstalled),
        status.is_none().then_some(Warning::NeverReported),
        overdue.map(Warning::NotReporting),
    ];
    Proposal {
        server: server.name.clone(),
        app: app.clone(),
        from: server.desired(app).cloned(),
        to: None,
        dirty: false,
        download: Some(0),
        restarts: Vec::new(),
        objection: None,
        warnings: warnings.into_iter().flatten().collect(),
    }
}

/// Whether nothing in the bucket is of a server: a push creates it, so its name had better be right.
pub fn is_new(server: &Server) -> bool {
    server.document == Reading::Absent && server.status == Reading::Absent
}

/// Why an app isn't pushed to a server unless an operator insists, if there is a reason.
pub fn objection(server: &Server, app: &AppName) -> Option<Objection> {
    if is_new(server) {
        return Some(Objection::NewServer(server.name.clone()));
    }
    // A server that its agent reports from, and for which nothing was chosen yet, was just set up.
    let is_first = server.status != Reading::Absent && server.releases().next().is_none();
    // What the machine has, as its agent itself, is not misspelt either.
    let is_known = server.desired(app).is_some() || server.reported(app.as_str()).is_some();
    (!is_first && !is_known).then(|| Objection::NewApp(server.name.clone(), app.clone()))
}

fn warnings(
    from: Option<&ReleaseName>,
    release: &Release,
    kind: &PushKind,
    status: Option<&Status>,
    now: Timestamp,
) -> Vec<Warning> {
    let name = &release.name;
    let is_retry = *kind == PushKind::Retry;
    let reported = status.and_then(|status| status.apps.iter().find(|found| found.app == name.app().as_str()));
    let is_older = from.is_some_and(|from| from.time() > name.time());
    let overdue = status.and_then(|status| overdue(status, now));
    let warnings = [
        is_dirty(release).then_some(Warning::Dirty),
        (from == Some(name)).then_some(if is_retry { Warning::Retried } else { Warning::NoChange }),
        (is_retry && !reported.is_some_and(|app| is_retriable(app, name))).then_some(Warning::NothingToRetry),
        release.is_gone().then_some(Warning::OnlyCached),
        // Of a rollback that is the point.
        (is_older && *kind == PushKind::Deploy).then_some(Warning::Older),
        status.is_none().then_some(Warning::NeverReported),
        overdue.map(Warning::NotReporting),
        (!is_retry && reported.is_some_and(|app| was_rolled_back(app, name))).then_some(Warning::RolledBack),
    ];
    warnings.into_iter().flatten().collect()
}

fn is_dirty(release: &Release) -> bool {
    release.metadata.as_ref().is_ok_and(|metadata| metadata.dirty)
}

fn was_rolled_back(app: &AppStatus, release: &ReleaseName) -> bool {
    let is_held = matches!(app.state, AppState::Quarantined | AppState::Degraded);
    app.rolled_back.contains(release) || (is_held && app.desired.as_ref() == Some(release))
}

/// Whether a retry of a release makes sense: its agent says that it gave up, or that it waits for another attempt.
pub fn is_retriable(app: &AppStatus, release: &ReleaseName) -> bool {
    let has_failed = matches!(app.state, AppState::Failed | AppState::Quarantined | AppState::Degraded);
    has_failed && app.desired.as_ref() == Some(release)
}

/// The longest heartbeat and the longest poll that an agent can be configured to, in seconds: who reports more doesn't
/// keep silent for longer.
const MAX_INTERVALS: (u64, u64) = (24 * 3600, 7 * 24 * 3600);

/// How long an agent has not reported, if that is longer than it should take: three of its polls, and a heartbeat with
/// its jitter.
pub fn overdue(status: &Status, now: Timestamp) -> Option<SignedDuration> {
    let age = now.duration_since(status.written);
    let AgentStatus { poll_seconds, heartbeat_seconds, .. } = status.agent;
    let allowed = heartbeat_seconds.min(MAX_INTERVALS.0) * 4 / 3 + poll_seconds.min(MAX_INTERVALS.1) * 3;
    (age.as_secs() > i64::try_from(allowed).unwrap_or(i64::MAX)).then_some(age)
}

#[cfg(test)]
mod tests {
    use bucket::{AppState, Generation, ReleaseMetadata, ServerDocument, ServerState};

    use super::*;
    use crate::condition::tests::{now, release, server};

    fn proposed(app: &str, n: u8, server: &Server) -> Proposal {
        let name = release(n).to_string().replace("web", app).parse().unwrap();
        let metadata = ReleaseMetadata {
            dirty: false,
            note: String::new(),
            services: vec![format!("{app}.service")],
            sha256: [0; 32].into(),
            size: 3,
            package: app.parse().unwrap(),
            version: "1".to_owned(),
            architecture: "all".parse().unwrap(),
            repo: String::new(),
            branch: String::new(),
            made_by: None,
        };
        let metadata = Ok(metadata);
        let release = Release {
            name,
            generation: Generation(1),
            size: 3,
            uploaded: now(),
            adopted: None,
            promoted: None,
            metadata,
        };
        propose(server, &release, &PushKind::Deploy, now())
    }

    fn objection_to(app: &str, server: &Server) -> Option<Objection> {
        proposed(app, 1, server).objection
    }

    #[test]
    fn what_a_server_has_is_not_downloaded_and_what_it_runs_is_not_restarted() {
        let mut has = server(1, 1, 1, AppState::Converged, ServerState::Converged);
        let Reading::Known(status) = &mut has.status else { panic!("it has reported") };
        status.apps[0].cached = vec![release(2)];
        status.apps[0].rolled_back = vec![release(3)];
        let units = vec!["web.service".to_owned()];
        for (n, download, restarts) in [(1, 0, vec![]), (2, 0, units.clone()), (3, 3, units)] {
            let proposal = proposed("web", n, &has);
            assert_eq!((proposal.download, proposal.restarts), (Some(download), restarts), "{n}");
            assert_eq!(proposal.warnings.contains(&Warning::RolledBack), n == 3, "{n}");
        }
    }

    #[test]
    fn only_what_may_be_misspelt_is_objected_to() {
        let whole = server(1, 1, 1, AppState::Converged, ServerState::Converged);
        let name = || whole.name.clone();
        let document = |text: &str| Reading::Known((Generation(7), ServerDocument::parse(text.as_bytes()).unwrap()));
        let new_app = |app: &str| Some(Objection::NewApp(name(), app.parse().unwrap()));
        let silent = || Server { status: Reading::Absent, ..whole.clone() };
        let unreadable = || Reading::Unreadable("malformed".to_owned());
        for (case, app, server, expected) in [
            (
                "nothing is known of it",
                "web",
                Server { document: Reading::Absent, ..silent() },
                Some(Objection::NewServer(name())),
            ),
            ("its agent reports", "api", Server { document: Reading::Absent, ..whole.clone() }, None),
            (
                "its report is unreadable",
                "api",
                Server { document: Reading::Absent, status: unreadable(), ..whole.clone() },
                None,
            ),
            ("nothing was chosen for it yet", "api", Server { document: document("[\"db/\"]"), ..whole.clone() }, None),
            ("it never reported", "api", Server { document: document("[]"), ..silent() }, new_app("api")),
            ("it has the app", "web", whole.clone(), None),
            ("it has other apps", "api", whole.clone(), new_app("api")),
            (
                "the machine has the app",
                "web",
                Server { document: document(&whole_document("db")), ..whole.clone() },
                None,
            ),
        ] {
            assert_eq!(objection_to(app, &server), expected, "{case}");
        }
    }

    #[test]
    fn no_interval_keeps_an_agent_from_being_missed() {
        let Reading::Known(mut status) = server(1, 1, 1, AppState::Converged, ServerState::Converged).status else {
            panic!("it has reported")
        };
        let later = now() + SignedDuration::from_hours(24 * 24);
        for (heartbeat, poll) in [(u64::MAX, 300), (900, u64::MAX), (u64::MAX, u64::MAX), (u64::MAX / 4, u64::MAX / 3)]
        {
            (status.agent.heartbeat_seconds, status.agent.poll_seconds) = (heartbeat, poll);
            assert!(overdue(&status, later).is_some() && overdue(&status, now()).is_none(), "{heartbeat} {poll}");
        }
    }

    fn whole_document(app: &str) -> String {
        format!("[\"{}\"]", release(1).to_string().replace("web", app))
    }
}
