//! The agent's report, composed from what a cycle saw. Pure.

use std::collections::{BTreeMap, BTreeSet};

use bucket::{
    AgentStatus, AppName, AppState, AppStatus, BadEntry, DocumentStatus, Event, Generation, ReleaseName,
    ServerDocument, ServerName, ServerState, Status, Timestamp, ToldHold, UnitStatus,
};

use console::count;

use crate::{
    decide::{
        drift::{Drift, unit_drift},
        instances::with_instances,
        plan,
        report::{Cause, PlanReport, Unstable, Waiting},
        why::Causes,
    },
    machine::{InstalledPackage, PackageState, UnitState},
    state::quarantine::Quarantine,
};

/// What a report is made from.
pub(super) struct Observation<'a> {
    /// The server.
    pub(super) server: &'a ServerName,
    /// The machine's hashed id.
    pub(super) machine: &'a str,
    /// The agent.
    pub(super) agent: AgentStatus,
    /// The document that the agent uses, with its generation.
    pub(super) document: Option<(Generation, &'a ServerDocument)>,
    /// Whether the bucket has said what document there is, or that there is none.
    pub(super) is_read: bool,
    /// Why the newest document cannot be used.
    pub(super) document_error: Option<String>,
    /// What a person should look at, each a sentence.
    pub(super) warnings: Vec<String>,
    /// What went wrong with the cycle as a whole.
    pub(super) failure: Option<String>,
    /// What dpkg has; `None` while it does not answer.
    pub(super) installed: Option<&'a [InstalledPackage]>,
    /// How each app stands, as far as the plan says.
    pub(super) report: &'a PlanReport,
    /// Apps that wait for their next attempt.
    pub(super) waiting: &'a BTreeMap<AppName, Waiting>,
    /// Files that differ from what a package shipped, by package, in the words of [`crate::machine::PackageManager`].
    pub(super) files: &'a BTreeMap<String, Vec<String>>,
    /// The apps whose files should have been compared since the start, and were not yet.
    pub(super) not_compared: BTreeSet<&'a AppName>,
    /// The state of the units, by name.
    pub(super) units: &'a BTreeMap<String, UnitState>,
    /// Units that do not stay up, by name.
    pub(super) unstable: &'a BTreeMap<&'a str, &'a Unstable>,
    /// What happened here lately, oldest first.
    pub(super) events: &'a [Event],
    /// Releases that did not stay up here.
    pub(super) quarantine: &'a Quarantine,
    /// The releases in the cache, newest first.
    pub(super) cached: &'a [ReleaseName],
}

/// The report, and what is behind it.
#[derive(Debug)]
pub(super) struct Composed {
    /// The report.
    pub(super) status: Status,
    /// Why each app is as it says.
    pub(super) causes: Causes,
}

/// Composes the report. What hasn't changed since the `previous` one keeps its time.
pub(super) fn compose(observation: &Observation, previous: Option<&Status>, now: Timestamp) -> Composed {
    let installed = observation.installed.unwrap_or_default();
    let desired: Vec<&ReleaseName> =
        observation.document.iter().flat_map(|(_, document)| document.releases()).collect();
    let mut apps: Vec<AppName> = desired.iter().map(|release| release.app().clone()).collect();
    let there: BTreeSet<&AppName> = installed
        .iter()
        .filter(|package| package.state != PackageState::Absent)
        .filter_map(|package| Some(package.release.as_ref()?.app()))
        .collect();
    apps.extend(there.into_iter().filter(|app| desired.iter().all(|release| release.app() != *app)).cloned());
    let mut causes = PlanReport::default();
    let apps: Vec<AppStatus> = apps
        .iter()
        .map(|app| {
            let release = desired.iter().find(|release| release.app() == app).copied();
            let (status, cause) = compose_app(observation, app, release, installed, now);
            causes.note(app, cause);
            let same = |before: &&AppStatus| {
                (&before.app, before.state, &before.desired, &before.installed)
                    == (&status.app, status.state, &status.desired, &status.installed)
            };
            let since =
                previous.and_then(|previous| previous.apps.iter().find(same)).map_or(now, |before| before.since);
            AppStatus { since, ..status }
        })
        .collect();
    let document = document_status(observation);
    let warnings = observation.warnings.iter().cloned().chain(too_long(observation));
    let warnings = warnings.chain(unstable_besides(observation, &apps)).collect();
    let own = if document.error.is_some() || observation.failure.is_some() || document.bad_count() > 0 {
        ServerState::Failed
    } else {
        ServerState::Converged
    };
    let state = apps.iter().map(|app| app.state.of_server()).fold(own, Ord::max);
    let status = Status {
        server: observation.server.clone(),
        machine: observation.machine.to_owned(),
        written: now,
        state,
        summary: summarize(observation, &apps, &document),
        agent: observation.agent.clone(),
        document,
        apps,
        holds: holds(observation, now),
        warnings,
        events: observation.events.to_vec(),
        not_compared: observation.not_compared.iter().map(ToString::to_string).collect(),
    };
    let trouble = observation.failure.clone().or_else(|| observation.document_error.clone());
    Composed { status: status.fit(), causes: Causes { trouble, apps: causes } }
}

fn document_status(observation: &Observation) -> DocumentStatus {
    let document = observation.document.map(|(_, document)| document);
    let bad = || document.into_iter().flat_map(ServerDocument::bad_entries);
    let bad_count = bad().count() + document.map_or(0, ServerDocument::unread);
    DocumentStatus {
        generation: observation.document.map(|(generation, _)| generation),
        error: observation.document_error.clone(),
        bad_entries: bad()
            .take(DocumentStatus::MAX_BAD_ENTRIES)
            .map(|(entry, reason)| BadEntry { entry, reason: reason.to_owned() })
            .collect(),
        bad_count: Some(bad_count).filter(|count| *count > DocumentStatus::MAX_BAD_ENTRIES),
    }
}

/// The holds in force that the document's metadata tells of. They bind who pushes, and nothing here.
fn holds(observation: &Observation, now: Timestamp) -> Vec<ToldHold> {
    let told = observation.document.map(|(_, document)| document.metadata().holds()).unwrap_or_default();
    told.into_iter().filter(|hold| hold.until > now).collect()
}

/// What is wrong with the length of the document.
fn too_long(observation: &Observation) -> Option<String> {
    let (_, document) = observation.document.filter(|(_, document)| document.unread() > 0)?;
    Some(format!(
        "the last {} of the server document are ignored, because it may have at most {}: remove some",
        count(document.unread(), "entry"),
        count(ServerDocument::MAX_ENTRIES, "entry")
    ))
}

fn compose_app(
    observation: &Observation,
    app: &AppName,
    desired: Option<&ReleaseName>,
    installed: &[InstalledPackage],
    now: Timestamp,
) -> (AppStatus, Cause) {
    let package = package_of(installed, app, desired);
    let units: Vec<UnitStatus> = package
        .iter()
        .flat_map(|package| with_instances(&package.units, observation.units))
        .filter_map(|unit| Some((observation.units.get(unit.name.as_str())?, unit)))
        .map(|(state, unit)| UnitStatus {
            name: unit.name.to_string(),
            active: state.active.clone().into(),
            sub: state.sub.clone().into(),
            since: state.since,
            restarts: state.restarts,
        })
        .collect();
    let others = plan::of_app(installed, app).filter(|there| Some(*there) != package);
    let mut drift: Vec<Drift> = others.filter_map(broken).collect();
    drift.extend(package.map(|package| drift_of(observation, package)).unwrap_or_default());
    let release = package.and_then(|package| package.release.as_ref());
    let unstable = package.and_then(|package| unstable_of(observation, package));
    let cause = observation.report.of(app).considering(observation.waiting.get(app).cloned(), unstable, &drift);
    let status = AppStatus {
        app: app.to_string(),
        desired: desired.cloned(),
        installed: release.cloned(),
        package: package.map(|package| package.package.clone()),
        state: cause.state(),
        activity: None,
        activity_since: None,
        since: now,
        reason: cause.reason(),
        drift: drift.iter().map(ToString::to_string).collect(),
        units,
        rolled_back: observation.quarantine.rolled_back(app),
        cached: observation.cached.iter().filter(|cached| cached.app() == app).cloned().collect(),
    };
    (status, cause)
}

/// The package that an app is in: that of the desired release or else the newest, of those that are in order if there are
/// any.
fn package_of<'a>(
    installed: &'a [InstalledPackage],
    app: &AppName,
    desired: Option<&ReleaseName>,
) -> Option<&'a InstalledPackage> {
    plan::of_app(installed, app).max_by_key(|package| {
        let is_desired = desired.is_some() && package.release.as_ref() == desired;
        (package.state == PackageState::Installed, is_desired, &package.release)
    })
}

/// The unit of a package that dies most often, if one does not stay up.
fn unstable_of<'a>(observation: &Observation<'a>, package: &InstalledPackage) -> Option<&'a Unstable> {
    let units = with_instances(&package.units, observation.units);
    let unstable = units.iter().filter_map(|unit| observation.unstable.get(unit.name.as_str()));
    unstable.copied().max_by_key(|unstable| unstable.restarts)
}

/// What is unstable though its app has another state, which matters more or is a person's will.
fn unstable_besides(observation: &Observation, apps: &[AppStatus]) -> Vec<String> {
    let stated = |app: &&AppStatus| matches!(app.state, AppState::Unstable | AppState::Pending);
    let of = |app: &AppStatus| -> BTreeSet<String> { app.units.iter().map(|unit| unit.name.clone()).collect() };
    let stated: BTreeSet<String> = apps.iter().filter(stated).flat_map(of).collect();
    let shown: BTreeSet<String> = apps.iter().flat_map(of).collect();
    let besides = observation.unstable.iter().filter(|(unit, _)| shown.contains(**unit) && !stated.contains(**unit));
    besides.map(|(_, unstable)| unstable.to_string()).collect()
}

/// Most differences of one app that are reported.
const MAX_DRIFT: usize = 10;

/// That dpkg calls a package broken, if it does.
fn broken(package: &InstalledPackage) -> Option<Drift> {
    let PackageState::Broken(state) = &package.state else { return None };
    Some(Drift::Broken { package: package.package.clone(), state: state.clone() })
}

fn drift_of(observation: &Observation, package: &InstalledPackage) -> Vec<Drift> {
    let mut drift = Vec::from_iter(broken(package));
    for unit in with_instances(&package.units, observation.units) {
        drift.extend(observation.units.get(unit.name.as_str()).and_then(|state| unit_drift(&unit, state)));
    }
    let files = observation.files.get(&package.package).map(Vec::as_slice).unwrap_or_default();
    drift.extend(files.iter().cloned().map(Drift::ChangedFile));
    if drift.len() > MAX_DRIFT {
        let more = drift.len() - MAX_DRIFT;
        drift.truncate(MAX_DRIFT);
        drift.push(Drift::More(more));
    }
    drift
}

fn summarize(observation: &Observation, apps: &[AppStatus], document: &DocumentStatus) -> String {
    if let Some(failure) = &observation.failure {
        return failure.clone();
    }
    let wanted: Vec<&AppStatus> = apps.iter().filter(|app| app.desired.is_some()).collect();
    let is_match = |app: &&&AppStatus| {
        let is_content = app.state == AppState::Unstable || app.state.of_server() <= ServerState::Drifted;
        app.installed == app.desired && is_content
    };
    let matching = wanted.iter().filter(is_match).count();
    let mut parts = match document.generation {
        None if observation.is_read => vec!["no server document".to_owned()],
        None => vec!["server document not read yet".to_owned()],
        Some(generation) => {
            let verb = if matching == 1 { "matches" } else { "match" };
            let apps = count(wanted.len(), "app");
            vec![format!("{matching} of {apps} {verb} document generation {generation}")]
        }
    };
    if let Some(error) = &document.error {
        parts.push(format!("cannot use the newest document: {error}"));
    }
    if document.bad_count() > 0 {
        parts.push(format!("{} in the document", count(document.bad_count(), "invalid entry")));
    }
    for (state, words) in [
        (AppState::Degraded, "degraded"),
        (AppState::Quarantined, "quarantined"),
        (AppState::Failed, "failed"),
        (AppState::Refused, "refused"),
        (AppState::Unstable, "unstable"),
        (AppState::Pending, "pending"),
        (AppState::AptHeld, "held by apt"),
        (AppState::Paused, "paused"),
        (AppState::Drifted, "drifted"),
        (AppState::Orphan, "orphaned"),
    ] {
        let names: Vec<&str> = apps.iter().filter(|app| app.state == state).map(|app| app.app.as_str()).collect();
        if !names.is_empty() {
            parts.push(format!("{words}: {}", names.join(", ")));
        }
    }
    parts.join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::report::difference::{changed_apps, without_times};
    use crate::{
        decide::{allowed_apps::AllowedApps, plan::Situation},
        machine::fake::{release, running, unit_state},
        state::pauses::Pauses,
    };
    use bucket::{OwnedUnit, UnitAction};

    fn package(app: &str, state: PackageState) -> InstalledPackage {
        let unit = OwnedUnit::new(format!("{app}.service").parse().unwrap(), UnitAction::Restart);
        let release = Some(release(app, 1));
        InstalledPackage {
            package: app.to_owned(),
            version: "1".into(),
            state,
            on_hold: false,
            release,
            units: vec![unit],
        }
    }

    /// The report of a server whose document asks for `web`, and that has `installed`.
    fn report(installed: &[InstalledPackage], unit: UnitState, previous: Option<&Status>, now: i64) -> Status {
        let document = ServerDocument::parse(&serde_json::to_vec(&[release("web", 1)]).unwrap()).unwrap();
        let decision = plan::plan(&Situation {
            document: Some(&document),
            settled: false,
            installed,
            quarantine: &Quarantine::default(),
            pauses: &Pauses::default(),
            allowed: &AllowedApps::new(vec!["*".into()]).unwrap(),
            prune: false,
        });
        let observation = Observation {
            server: &"web-1".parse().unwrap(),
            machine: "machine",
            agent: AgentStatus {
                version: "1".into(),
                started: Timestamp::UNIX_EPOCH,
                poll_seconds: 300,
                heartbeat_seconds: 900,
                next_poll: None,
                health_window_seconds: None,
            },
            document: Some((Generation(7), &document)),
            is_read: true,
            document_error: None,
            warnings: vec![],
            failure: None,
            installed: Some(installed),
            report: &decision.report,
            waiting: &BTreeMap::new(),
            files: &BTreeMap::new(),
            not_compared: BTreeSet::new(),
            units: &[("web.service".to_owned(), unit)].into(),
            unstable: &BTreeMap::new(),
            events: &[],
            quarantine: &Quarantine::default(),
            cached: &[],
        };
        compose(&observation, previous, Timestamp::from_second(now).unwrap()).status
    }

    #[test]
    fn the_worst_app_is_the_servers_state() {
        let web = package("web", PackageState::Installed);
        let broken = package("web", PackageState::Broken("iF".into()));
        let stopped = unit_state("inactive", "dead");
        let state = |installed: &[InstalledPackage], unit: UnitState| report(installed, unit, None, 0).state;
        assert_eq!(state(std::slice::from_ref(&web), running("a")), ServerState::Converged);
        assert_eq!(state(std::slice::from_ref(&web), stopped), ServerState::Drifted);
        assert_eq!(state(&[web, package("db", PackageState::Installed)], running("a")), ServerState::Drifted);
        assert_eq!(state(&[broken], running("a")), ServerState::Pending);
        assert_eq!(state(&[], running("a")), ServerState::Pending);
    }

    #[test]
    fn what_did_not_change_keeps_its_time_and_is_not_told_again() {
        let web = [package("web", PackageState::Installed)];
        let first = report(&web, running("a"), None, 100);
        let second = report(&web, running("a"), Some(&first), 200);
        assert_eq!(second.apps[0].since, first.apps[0].since);
        assert_eq!(without_times(&first), without_times(&second));
        assert!(changed_apps(Some(&first), &second).is_empty());
        let third = report(&web, unit_state("inactive", "dead"), Some(&second), 300);
        assert_eq!(third.apps[0].since.as_second(), 300);
        assert_eq!(changed_apps(Some(&second), &third).len(), 1);
        assert_ne!(without_times(&second), without_times(&third));
    }
}
