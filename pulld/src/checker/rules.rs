//! The rules, each a function that finds what contradicts it.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use bucket::{AppState, AppStatus, ReleaseName, ServerDocument, ServerState, Status, UnitAction};

use crate::{machine::OWN_PACKAGE, state::named::Named};

use super::facts::{Dpkg, Package, Record, Unit};

/// Something that must hold of a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rule {
    /// The report has every app that the document lists or dpkg has a release of.
    EveryAppIsReported,
    /// The report has no other app.
    EveryReportedAppExists,
    /// What is reported as desired is what the document lists.
    DesiredIsTheDocuments,
    /// What is reported as installed is what dpkg has.
    InstalledIsDpkgs,
    /// An app is at the document's release, or its state says truthfully why not.
    StateIsTrue,
    /// A state that asks for a person says why.
    ReasonIsGiven,
    /// The server is as its worst app.
    ServerIsAsItsWorstApp,
    /// No package is half-done, unless its app is reported as such.
    NothingIsHalfDone,
    /// No transaction is under way on a server that is reported to be as its document says.
    NoTransactionIsOpen,
    /// What runs was started from what is installed.
    WhatRunsIsInstalled,
    /// No unit runs or has failed whose file is gone: neither one that a release dropped, nor one that was rolled back.
    NoUnitIsLeftOver,
    /// Units are as they are reported, and none of a converged app has failed.
    UnitsAreAsReported,
    /// Only releases that the document may list are quarantined.
    QuarantineIsOfTheDocument,
    /// What pulld does not own is still there.
    ForeignPackagesStay,
}

/// A rule that does not hold, and what shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// The rule.
    pub rule: Rule,
    /// What contradicts what, in a sentence.
    pub evidence: String,
}

/// Everything that the rules look at.
struct Server<'a> {
    document: Option<&'a ServerDocument>,
    status: &'a Status,
    dpkg: &'a Dpkg,
    units: &'a BTreeMap<String, Unit>,
    record: &'a Record,
}

/// The rules that do not hold of a server with this document, as its agent reported it, with what dpkg and systemd say (of
/// units by name), and with what the agent has on disk. All of it is to be read after the report was.
#[must_use]
pub fn check(
    document: Option<&ServerDocument>,
    status: &Status,
    dpkg: &Dpkg,
    units: &BTreeMap<String, Unit>,
    record: &Record,
) -> Vec<Violation> {
    let server = Server { document, status, dpkg, units, record };
    let broken =
        |(rule, find): (Rule, Find)| find(&server).into_iter().map(move |evidence| Violation { rule, evidence });
    ALL.into_iter().flat_map(broken).collect()
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.rule, self.evidence)
    }
}

/// Finds what contradicts a rule, a sentence each.
type Find = fn(&Server) -> Vec<String>;

/// Every rule, with what finds contradictions to it.
const ALL: [(Rule, Find); 14] = [
    (Rule::EveryAppIsReported, unreported_apps),
    (Rule::EveryReportedAppExists, unknown_apps),
    (Rule::DesiredIsTheDocuments, other_desires),
    (Rule::InstalledIsDpkgs, other_releases),
    (Rule::StateIsTrue, untrue_states),
    (Rule::ReasonIsGiven, silent_states),
    (Rule::ServerIsAsItsWorstApp, worse_apps),
    (Rule::NothingIsHalfDone, half_done),
    (Rule::NoTransactionIsOpen, open_transaction),
    (Rule::WhatRunsIsInstalled, old_programs),
    (Rule::NoUnitIsLeftOver, left_over_units),
    (Rule::UnitsAreAsReported, other_units),
    (Rule::QuarantineIsOfTheDocument, forgotten_quarantine),
    (Rule::ForeignPackagesStay, missing_packages),
];

impl Package {
    /// Whether dpkg is content with it.
    fn is_sound(&self) -> bool {
        self.status.get(1..).is_some_and(|status| status.trim_end() == "i")
    }

    /// Whether nothing of it is there but conffiles.
    fn is_absent(&self) -> bool {
        self.status.get(1..).is_some_and(|status| ["c", "n"].contains(&status.trim_end()))
    }

    fn is_of(&self, app: &str) -> bool {
        self.release.as_ref().is_some_and(|release| release.app().as_str() == app)
    }
}

impl Server<'_> {
    /// Whether the report is about the document.
    fn uses_document(&self) -> bool {
        self.status.document.error.is_none()
    }

    /// What the document lists.
    fn desired(&self) -> impl Iterator<Item = &ReleaseName> {
        self.document.into_iter().flat_map(ServerDocument::releases)
    }

    /// Packages of releases that are there, sound or not.
    fn present(&self) -> impl Iterator<Item = (&Package, &ReleaseName)> {
        let present = self.dpkg.packages.iter().filter(|package| !package.is_absent());
        present.filter_map(|package| Some((package, package.release.as_ref()?)))
    }

    fn has(&self, release: &ReleaseName) -> bool {
        self.present().any(|(package, of)| of == release && package.is_sound())
    }

    fn app(&self, app: &str) -> Option<&AppStatus> {
        self.status.apps.iter().find(|status| status.app == app)
    }

    /// What is wrong with each app of the report.
    fn each_app(&self, find: impl Fn(&AppStatus) -> Option<String>) -> Vec<String> {
        let wrong = |app: &AppStatus| Some(format!("`{}` is reported as {}, {}", app.app, app.state, find(app)?));
        self.status.apps.iter().filter_map(wrong).collect()
    }
}

fn unreported_apps(server: &Server) -> Vec<String> {
    let desired = server.desired().filter(|_| server.uses_document());
    let apps: BTreeSet<&str> =
        desired.chain(server.present().map(|(_, release)| release)).map(|release| release.app().as_str()).collect();
    let missing = apps.into_iter().filter(|app| server.app(app).is_none());
    missing.map(|app| format!("`{app}` is not in the report")).collect()
}

fn unknown_apps(server: &Server) -> Vec<String> {
    server.each_app(|app| {
        let is_known = server.desired().any(|release| release.app().as_str() == app.app)
            || server.present().any(|(package, _)| package.is_of(&app.app));
        let is_known = is_known || !server.uses_document();
        (!is_known).then(|| "and neither the document nor dpkg has it".to_owned())
    })
}

fn other_desires(server: &Server) -> Vec<String> {
    server.each_app(|app| {
        let desired = server.desired().find(|release| release.app().as_str() == app.app);
        let is_same = !server.uses_document() || desired == app.desired.as_ref();
        (!is_same).then(|| format!("with {:?} desired, and the document lists {desired:?}", app.desired))
    })
}

fn other_releases(server: &Server) -> Vec<String> {
    server.each_app(|app| {
        let there: Vec<&ReleaseName> =
            server.present().filter(|(package, _)| package.is_of(&app.app)).map(|(_, release)| release).collect();
        let is_same = match &app.installed {
            Some(release) => there.contains(&release),
            None => there.is_empty(),
        };
        (!is_same).then(|| format!("with {:?} installed, and dpkg has {there:?}", app.installed))
    })
}

fn untrue_states(server: &Server) -> Vec<String> {
    server.each_app(|app| {
        // pulld stays as it is where the document does not list it.
        let is_own = app.desired.is_none() && app.package.as_deref() == Some(OWN_PACKAGE);
        let expected = app.desired.as_ref().or(app.installed.as_ref().filter(|_| is_own));
        let is_there = expected.is_some_and(|release| server.has(release));
        let held = app.desired.as_ref().and_then(|release| server.record.quarantine.holds(release));
        let is_paused = || app.app.parse().is_ok_and(|app| server.record.pauses.of(&app).is_some());
        let reason = app.reason.as_deref().unwrap_or_default();
        let names =
            |package: &Package| package.status.starts_with('h') && reason.contains(&format!("`{}`", package.name));
        match app.state {
            AppState::Converged if !app.drift.is_empty() => Some(format!("and differs: {}", app.drift.join("; "))),
            AppState::Converged | AppState::Drifted | AppState::Unstable if !is_there => {
                Some(format!("and dpkg does not have {expected:?} in order"))
            }
            AppState::Pending if is_there => Some("and dpkg has what is desired".to_owned()),
            AppState::Quarantined if held.is_none_or(|held| held.degraded) => {
                Some(format!("and the quarantine says {held:?} of {:?}", app.desired))
            }
            AppState::Quarantined if is_there => Some("and dpkg has what was rolled back".to_owned()),
            AppState::Degraded if held.is_none_or(|held| !held.degraded) => {
                Some(format!("and the quarantine says {held:?} of {:?}", app.desired))
            }
            AppState::Paused if !is_paused() => Some("and no pause is on disk".to_owned()),
            AppState::AptHeld if !server.dpkg.packages.iter().any(names) => {
                Some(format!("and dpkg has no package on hold that the reason names: {reason}"))
            }
            AppState::Orphan if app.desired.is_some() || app.installed.is_none() => {
                Some("and it is listed, or not installed".to_owned())
            }
            AppState::Unknown => Some("which is no state".to_owned()),
            _ => None,
        }
    })
}

fn silent_states(server: &Server) -> Vec<String> {
    server.each_app(|app| {
        let asks =
            !matches!(app.state, AppState::Converged | AppState::Drifted | AppState::Pending | AppState::Unknown);
        let is_silent = app.reason.as_ref().is_none_or(|reason| reason.trim().is_empty());
        let is_silent = is_silent && asks || app.state == AppState::Drifted && app.drift.is_empty();
        is_silent.then(|| "without a reason".to_owned())
    })
}

fn worse_apps(server: &Server) -> Vec<String> {
    let state = server.status.state;
    server.each_app(|app| (app.state.of_server() > state).then(|| format!("and its server as {state}")))
}

fn half_done(server: &Server) -> Vec<String> {
    let is_told = |app: &str| {
        let state = server.app(app).map(|app| app.state);
        matches!(state, Some(AppState::Degraded | AppState::Failed | AppState::Pending | AppState::AptHeld))
    };
    let broken = || server.present().filter(|(package, _)| !package.is_sound());
    let untold = broken().filter(|(_, release)| !is_told(release.app().as_str()));
    let untold = untold.map(|(package, _)| format!("dpkg says `{}` of `{}`", package.status, package.name));
    let audit = (!server.dpkg.audit.is_empty() && broken().next().is_none())
        .then(|| format!("`dpkg --audit` says: {}", server.dpkg.audit));
    untold.chain(audit).collect()
}

fn open_transaction(server: &Server) -> Vec<String> {
    let is_settled =
        matches!(server.status.state, ServerState::Converged | ServerState::Drifted | ServerState::Unstable);
    let open = server.record.transaction.iter().filter(|_| is_settled);
    open.map(|record| format!("the server is reported as {}, and the record is {record}", server.status.state))
        .collect()
}

/// How it is once its units were restarted or found to be running, unless a person was needed.
fn is_carried_out(app: &AppStatus) -> bool {
    matches!(
        app.state,
        AppState::Converged | AppState::Drifted | AppState::Unstable | AppState::Quarantined | AppState::Paused
    )
}

fn old_programs(server: &Server) -> Vec<String> {
    let mut found = Vec::new();
    for (package, release) in server.present().filter(|(package, _)| package.is_sound()) {
        if !server.app(release.app().as_str()).is_some_and(is_carried_out) {
            continue;
        }
        // The others may run what was there before: their release says so.
        for owned in package.units.iter().filter(|unit| unit.action == UnitAction::Restart) {
            let Some(unit) = server.units.get(owned.name.as_str()).filter(|unit| is_started(unit)) else { continue };
            let is_old = unit.started.zip(package.unpacked).is_some_and(|(started, unpacked)| started < unpacked);
            let is_gone = unit.program.as_ref().is_some_and(|program| program.ends_with(" (deleted)"));
            if is_old || is_gone {
                let (name, package) = (&owned.name, &package);
                found.push(format!("`{name}` runs what was there before `{release}`: {unit:?}, {package:?}"));
            }
        }
    }
    found
}

fn left_over_units(server: &Server) -> Vec<String> {
    let is_degraded = server.status.apps.iter().any(|app| app.state == AppState::Degraded);
    if is_degraded || server.record.transaction.is_some() {
        return Vec::new();
    }
    let left = server.units.iter().filter(|(_, unit)| unit.is_gone && (is_started(unit) || unit.active == "failed"));
    left.map(|(name, unit)| format!("`{name}` is {}, and its file is gone", unit.active)).collect()
}

fn is_started(unit: &Unit) -> bool {
    ["active", "activating", "reloading"].contains(&unit.active.as_str())
}

fn other_units(server: &Server) -> Vec<String> {
    server.each_app(|app| {
        // One that comes and goes is as it was reported only now and then.
        if matches!(app.state, AppState::Unstable | AppState::Degraded) {
            return None;
        }
        app.units.iter().find_map(|reported| {
            let active = &server.units.get(&reported.name)?.active;
            let has_failed = app.state == AppState::Converged && active == "failed";
            (has_failed || *active != reported.active)
                .then(|| format!("with `{}` {}, and it is {active}", reported.name, reported.active))
        })
    })
}

fn forgotten_quarantine(server: &Server) -> Vec<String> {
    let entries = server.record.quarantine.entries().iter().filter(|_| server.uses_document());
    let forgotten = entries.filter(|entry| {
        let before = Named::Release(entry.release.clone());
        Named::of(entry.release.app(), server.document).differs_from(&before)
    });
    forgotten.map(|entry| format!("`{}` is quarantined, and the document does not list it", entry.release)).collect()
}

fn missing_packages(server: &Server) -> Vec<String> {
    let is_there =
        |name: &&String| server.dpkg.packages.iter().any(|package| package.name == **name && !package.is_absent());
    let missing = server.dpkg.foreign.iter().filter(|name| !is_there(name));
    missing.map(|name| format!("`{name}` was installed before, and is gone")).collect()
}
