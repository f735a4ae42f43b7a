//! How a server is, from its document, what its agent last said, and when: pure.

use bucket::{AppState, AppStatus, ReleaseName, ServerState, Timestamp};

use crate::{
    plan::{is_retriable, overdue},
    server::{Reading, Server},
};

/// How a server is, at a glance. In order of how much it asks for attention.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Condition {
    /// It runs what its document says.
    Converged,
    /// It does, but was changed by hand or has apps that the document doesn't name.
    Drifted,
    /// Work is in progress, or the agent has not reported on the newest document yet.
    Pending,
    /// It has no document: nothing was ever chosen for it, or its name is misspelt.
    NoDocument,
    /// It was retired, and its agent still reports.
    Retired,
    /// Its agent reported a state that this program does not know.
    Unknown,
    /// It has a document, and no agent ever reported.
    Never,
    /// Its agent has not reported for longer than it should.
    Silent,
    /// Its document or its agent's report can't be read.
    Unreadable,
    /// What it runs keeps dying and being started again.
    Unstable,
    /// A release could not be installed or did not stay up; the previous release runs.
    Failed,
    /// A release did not stay up, and its rollback failed or was not possible.
    Degraded,
}

impl Condition {
    /// All of them, the calmest first.
    pub const ALL: [Self; 12] = [
        Self::Converged,
        Self::Drifted,
        Self::Pending,
        Self::NoDocument,
        Self::Retired,
        Self::Unknown,
        Self::Never,
        Self::Silent,
        Self::Unreadable,
        Self::Unstable,
        Self::Failed,
        Self::Degraded,
    ];

    /// Its label, as filters, the API and metrics write it.
    pub fn label(self) -> &'static str {
        match self {
            Self::Converged => "converged",
            Self::Drifted => "drifted",
            Self::Pending => "pending",
            Self::NoDocument => "no-document",
            Self::Retired => "retired",
            Self::Unknown => "unknown",
            Self::Never => "never",
            Self::Silent => "silent",
            Self::Unreadable => "unreadable",
            Self::Unstable => "unstable",
            Self::Failed => "failed",
            Self::Degraded => "degraded",
        }
    }

    /// Whether a person should look into it.
    pub fn needs_attention(self) -> bool {
        self >= Self::Never
    }
}

/// How a server is.
pub fn condition(server: &Server, now: Timestamp) -> Condition {
    if server.errors().next().is_some() {
        return Condition::Unreadable;
    }
    let has_document = server.document != Reading::Absent;
    if server.is_retired && !has_document {
        return Condition::Retired;
    }
    let Some(status) = server.status() else {
        return if has_document { Condition::Never } else { Condition::NoDocument };
    };
    if overdue(status, now).is_some() {
        return Condition::Silent;
    }
    match status.state {
        ServerState::Converged | ServerState::Drifted | ServerState::Pending if !has_document => Condition::NoDocument,
        ServerState::Converged | ServerState::Drifted if is_behind(server) => Condition::Pending,
        ServerState::Converged => Condition::Converged,
        ServerState::Drifted => Condition::Drifted,
        ServerState::Pending => Condition::Pending,
        ServerState::Unstable => Condition::Unstable,
        ServerState::Failed => Condition::Failed,
        ServerState::Degraded => Condition::Degraded,
        ServerState::Unknown => Condition::Unknown,
    }
}

/// Whether the agent's report is about a document that said something else than the one there is.
pub fn is_behind(server: &Server) -> bool {
    let reported = server.status().and_then(|status| status.document.generation);
    let says = server.document.known().map(|(generation, document)| document.metadata().said_since(*generation));
    says.is_some_and(|since| reported < Some(since))
}

/// One app on a server.
#[derive(Debug, Clone, Copy)]
pub struct AppRow<'a> {
    /// Its name.
    pub app: &'a str,
    /// The release that the document names.
    pub desired: Option<&'a ReleaseName>,
    /// The release that the agent says is installed.
    pub installed: Option<&'a ReleaseName>,
    /// What the agent said of it.
    pub reported: Option<&'a AppStatus>,
    /// How it is.
    pub state: AppState,
}

impl AppRow<'_> {
    /// Whether a person may want its release tried again: the agent gave it up, or waits for another attempt.
    pub fn is_retriable(&self) -> bool {
        // What was reported of another release says nothing about this one.
        let reported = self.reported.filter(|app| app.state == self.state);
        reported.zip(self.desired).is_some_and(|(app, desired)| is_retriable(app, desired))
    }
}

/// Every app that the document names, as it is now, or that the agent reports. What it reports of what the document names is
/// about the generation that it was made of: of a newer one it says nothing, though that may name the same release.
pub fn apps(server: &Server) -> Vec<AppRow<'_>> {
    // Both may name thousands, so neither is searched from end to end for each of the other. Of one that is reported
    // twice the first counts.
    let mut reported: Vec<&AppStatus> = server.reported_apps().iter().collect();
    reported.sort_by_key(|app| app.app.as_str());
    reported.dedup_by_key(|app| app.app.as_str());
    let find = |name: &str| reported.binary_search_by_key(&name, |app| app.app.as_str()).ok().map(|at| reported[at]);
    let mut named: Vec<&str> = server.releases().map(|release| release.app().as_str()).collect();
    let mut rows: Vec<AppRow> = server
        .releases()
        .map(|release| {
            let app = release.app().as_str();
            AppRow { app, desired: Some(release), installed: None, reported: find(app), state: AppState::Pending }
        })
        .collect();
    named.sort_unstable();
    for app in server.reported_apps() {
        let is_first = find(&app.app).is_some_and(|first| std::ptr::eq(first, app));
        if is_first && named.binary_search(&app.app.as_str()).is_err() {
            let row = AppRow { app: &app.app, desired: None, installed: None, reported: Some(app), state: app.state };
            rows.push(row);
        }
    }
    let is_behind = is_behind(server);
    for row in &mut rows {
        row.installed = row.reported.and_then(|app| app.installed.as_ref());
        // What the agent said of another release than the one desired now says nothing about this one.
        let is_about_it = |app: &&AppStatus| match row.desired {
            None => true,
            desired => !is_behind && app.desired.as_ref() == desired,
        };
        if let Some(app) = row.reported.filter(is_about_it) {
            row.state = app.state;
        }
    }
    rows
}

/// The label of an app's state, as filters and the API write it.
pub fn app_label(state: AppState) -> &'static str {
    match state {
        AppState::Converged => "converged",
        AppState::Drifted => "drifted",
        AppState::Unstable => "unstable",
        AppState::AptHeld => "apt-held",
        AppState::Paused => "paused",
        AppState::Pending => "pending",
        AppState::Failed => "failed",
        AppState::Quarantined => "rolled-back",
        AppState::Degraded => "degraded",
        AppState::Refused => "refused",
        AppState::Orphan => "orphan",
        AppState::Unknown => "unknown",
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use bucket::{AgentStatus, DocumentStatus, Generation, ServerDocument, Status};

    use super::*;

    pub(crate) fn release(n: u8) -> ReleaseName {
        format!("web/web:dev@build-1:2026-11-20T19:05:{n:02}Z:{n:040x}.deb").parse().unwrap()
    }

    pub(crate) fn now() -> Timestamp {
        "2026-11-20T20:00:00Z".parse().unwrap()
    }

    /// A server whose document names `desired` and whose agent says `state` about it and `installed`.
    pub(crate) fn server(desired: u8, told: u8, installed: u8, state: AppState, whole: ServerState) -> Server {
        let document = ServerDocument::parse(format!("[\"{}\"]", release(desired)).as_bytes()).unwrap();
        let app = AppStatus {
            app: "web".into(),
            desired: Some(release(told)),
            installed: Some(release(installed)),
            package: Some("web".into()),
            state,
            activity: None,
            activity_since: None,
            since: now(),
            reason: None,
            drift: Vec::new(),
            units: Vec::new(),
            rolled_back: Vec::new(),
            cached: Vec::new(),
        };
        let generation = Generation(if desired == told { 7 } else { 6 });
        let status = Status {
            server: "web-1".parse().unwrap(),
            machine: "m".into(),
            written: now(),
            state: whole,
            summary: String::new(),
            agent: AgentStatus {
                version: "1".into(),
                started: now(),
                poll_seconds: 300,
                heartbeat_seconds: 900,
                next_poll: None,
                health_window_seconds: None,
            },
            document: DocumentStatus {
                generation: Some(generation),
                error: None,
                bad_entries: Vec::new(),
                bad_count: None,
            },
            apps: vec![app],
            holds: Vec::new(),
            warnings: Vec::new(),
            events: Vec::new(),
            not_compared: Vec::new(),
        };
        Server {
            name: "web-1".parse().unwrap(),
            document: Reading::Known((Generation(7), document)),
            status: Reading::Known(status),
            is_retired: false,
        }
    }

    #[test]
    fn what_the_agent_said_of_an_older_document_is_pending() {
        let converged = server(1, 1, 1, AppState::Converged, ServerState::Converged);
        assert_eq!(condition(&converged, now()), Condition::Converged);
        let behind = server(2, 1, 1, AppState::Converged, ServerState::Converged);
        assert_eq!((condition(&behind, now()), apps(&behind)[0].state), (Condition::Pending, AppState::Pending));
        // The same release, chosen once more.
        let mut again = server(1, 1, 1, AppState::Quarantined, ServerState::Failed);
        if let Reading::Known((generation, _)) = &mut again.document {
            *generation = Generation(8);
        }
        assert_eq!((condition(&again, now()), apps(&again)[0].state), (Condition::Failed, AppState::Pending));
        // The same document, written once more to tell the agent of a hold.
        let mut told = server(1, 1, 1, AppState::Converged, ServerState::Converged);
        if let Reading::Known((generation, document)) = &mut told.document {
            let metadata = document.metadata().clone().telling(&[], *generation);
            (*generation, *document) = (Generation(8), document.clone().with_metadata(metadata));
        }
        assert_eq!((condition(&told, now()), apps(&told)[0].state), (Condition::Converged, AppState::Converged));
        let quarantined = server(2, 2, 1, AppState::Quarantined, ServerState::Failed);
        assert_eq!(
            (condition(&quarantined, now()), apps(&quarantined)[0].installed),
            (Condition::Failed, Some(&release(1)))
        );
    }

    #[test]
    fn an_app_has_one_row_whoever_names_it_and_however_often() {
        let mut server = server(1, 1, 1, AppState::Converged, ServerState::Converged);
        let Reading::Known(status) = &mut server.status else { panic!("it has reported") };
        let named = |app: &str, state| AppStatus { app: app.into(), state, ..status.apps[0].clone() };
        status.apps = vec![
            named("zoo", AppState::Orphan),
            named("web", AppState::Drifted),
            named("zoo", AppState::Failed),
            named("web", AppState::Failed),
            named("api", AppState::Orphan),
        ];
        let rows: Vec<_> = apps(&server).into_iter().map(|row| (row.app, row.state)).collect();
        assert_eq!(rows, [("web", AppState::Drifted), ("zoo", AppState::Orphan), ("api", AppState::Orphan)]);
    }

    #[test]
    fn a_server_without_a_document_is_not_converged() {
        for (state, expected) in [
            (ServerState::Converged, Condition::NoDocument),
            (ServerState::Drifted, Condition::NoDocument),
            (ServerState::Failed, Condition::Failed),
        ] {
            let whole = server(1, 1, 1, AppState::Orphan, state);
            assert_eq!(condition(&Server { document: Reading::Absent, ..whole }, now()), expected);
        }
    }

    #[test]
    fn a_retired_server_is_retired_whatever_its_agent_says_until_it_has_a_document() {
        let whole = server(1, 1, 1, AppState::Failed, ServerState::Failed);
        let retired = Server { document: Reading::Absent, is_retired: true, ..whole.clone() };
        let later = now() + jiff::SignedDuration::from_hours(2);
        assert_eq!((condition(&retired, now()), condition(&retired, later)), (Condition::Retired, Condition::Retired));
        assert!(!Condition::Retired.needs_attention());
        assert_eq!(condition(&Server { is_retired: true, ..whole }, now()), Condition::Failed);
    }

    #[test]
    fn who_says_nothing_is_never_well() {
        let mut server = server(1, 1, 1, AppState::Converged, ServerState::Converged);
        let later = now() + jiff::SignedDuration::from_hours(2);
        assert_eq!(condition(&server, later), Condition::Silent);
        server.status = Reading::Absent;
        assert_eq!(condition(&server, now()), Condition::Never);
        server.document = Reading::Absent;
        assert_eq!(condition(&server, now()), Condition::NoDocument);
        server.document = Reading::Unreadable("permission denied".into());
        assert_eq!(condition(&server, now()), Condition::Unreadable);
    }
}
