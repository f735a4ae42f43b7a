//! Each rule can fail: a server of which all of them hold, and what breaks each.

use std::collections::BTreeMap;

use bucket::{AppState, Generation, OwnedUnit, ReleaseName, ServerDocument, ServerState, Status, UnitAction};
use serde_json::json;

use super::*;
use crate::{
    failure::{FailureKind, Fault},
    machine::fake::release,
    state::quarantine::Quarantined,
};

/// All that is known of a server, to be changed.
struct Known {
    document: ServerDocument,
    status: Status,
    dpkg: Dpkg,
    units: BTreeMap<String, Unit>,
    record: Record,
}

fn package(name: &str, release: Option<ReleaseName>) -> Package {
    let unit = OwnedUnit::new(format!("{name}.service").parse().unwrap(), UnitAction::Restart);
    let units = if release.is_some() { vec![unit] } else { vec![] };
    Package { name: name.to_owned(), status: "ii".to_owned(), release, units, unpacked: Some(100) }
}

/// A server that has `web` as its document says, `db` without being asked for it, and `libc6`.
fn known() -> Known {
    let (web, db) = (release("web", 2), release("db", 1));
    let document = ServerDocument::parse(&serde_json::to_vec(&[&web]).unwrap()).unwrap();
    let app = |release: &ReleaseName, state: &str| {
        let app = release.app().as_str();
        let unit = json!({ "name": format!("{app}.service"), "active": "active", "sub": "running", "since": null, "restarts": 0 });
        json!({ "app": app, "desired": null, "installed": release, "package": app, "state": state, "since": "2026-11-20T19:05:02Z",
            "reason": null, "units": [unit] })
    };
    let mut status: Status = serde_json::from_value(json!({
        "server": "web-1", "machine": "m", "written": "2026-11-20T19:05:02Z", "state": "drifted", "summary": "",
        "agent": { "version": "1", "started": "2026-11-20T19:05:02Z", "poll_seconds": 300 },
        "document": { "generation": 1, "error": null },
        "apps": [app(&web, "converged"), app(&db, "orphan")]
    }))
    .unwrap();
    status.apps[0].desired = Some(web.clone());
    status.apps[1].reason = Some("the document does not list it".to_owned());
    let packages = vec![package("web", Some(web)), package("db", Some(db)), package("libc6", None)];
    let (active, program) = ("active".to_owned(), Some("/usr/bin/web".to_owned()));
    let unit = Unit { active, is_gone: false, started: Some(101), program };
    let units = ["web", "db"].map(|name| (format!("{name}.service"), unit.clone())).into();
    let dpkg = Dpkg { packages, audit: String::new(), foreign: vec!["libc6".to_owned()] };
    Known { document, status, dpkg, units, record: Record::default() }
}

/// The rules that do not hold any more once that was changed.
fn broken(change: impl FnOnce(&mut Known)) -> Vec<Rule> {
    let mut known = known();
    change(&mut known);
    let Known { document, status, dpkg, units, record } = &known;
    let violations = check(Some(document), status, dpkg, units, record);
    for violation in &violations {
        println!("{violation}");
    }
    violations.into_iter().map(|violation| violation.rule).collect()
}

/// Puts `web 2` into the quarantine, and `web 1` in its place.
fn roll_back(known: &mut Known, state: AppState, degraded: bool) {
    quarantine(known, degraded);
    known.dpkg.packages[0].release = Some(release("web", 1));
    let web = &mut known.status.apps[0];
    (web.installed, web.state, web.reason) = (Some(release("web", 1)), state, Some("it crashed".to_owned()));
    known.status.state = state.of_server();
}

fn quarantine(known: &mut Known, degraded: bool) {
    let failure = Fault::told(FailureKind::UnitFailed, "it crashed").into();
    let (generation, since) = (Generation(1), known.status.written);
    known.record.quarantine.add(Quarantined {
        release: release("web", 2),
        failure,
        generation,
        degraded,
        since,
        previous: None,
    });
}

#[test]
fn all_of_them_hold_of_a_server_that_is_well_and_of_one_that_was_rolled_back() {
    assert_eq!(broken(|_| ()), []);
    assert_eq!(broken(|known| roll_back(known, AppState::Quarantined, false)), []);
    assert_eq!(broken(|known| roll_back(known, AppState::Degraded, true)), []);
}

#[test]
fn an_app_that_is_not_reported() {
    assert_eq!(broken(|known| drop(known.status.apps.remove(1))), [Rule::EveryAppIsReported]);
    let listed_only = |known: &mut Known| {
        known.dpkg.packages.remove(0);
        known.status.apps.remove(0);
    };
    assert_eq!(broken(listed_only), [Rule::EveryAppIsReported]);
}

#[test]
fn an_app_that_nobody_knows() {
    let invented = |known: &mut Known| {
        known.dpkg.packages[1].status = "rc".to_owned();
        known.status.apps[1].installed = None;
        known.status.apps[1].state = AppState::Refused;
        known.status.state = ServerState::Failed;
    };
    assert_eq!(broken(invented), [Rule::EveryReportedAppExists]);
}

#[test]
fn another_desire_than_the_documents() {
    let known = broken(|known| known.status.apps[1].desired = Some(release("db", 1)));
    assert_eq!(known, [Rule::DesiredIsTheDocuments, Rule::StateIsTrue]);
}

#[test]
fn another_release_than_dpkg_has() {
    assert_eq!(broken(|known| known.status.apps[0].installed = Some(release("web", 1))), [Rule::InstalledIsDpkgs]);
    let hidden = broken(|known| known.status.apps[0].installed = None);
    assert_eq!(hidden, [Rule::InstalledIsDpkgs]);
}

#[test]
fn a_state_that_is_not_true() {
    let other = |known: &mut Known| {
        known.dpkg.packages[0].release = Some(release("web", 1));
        known.status.apps[0].installed = Some(release("web", 1));
    };
    assert_eq!(broken(other), [Rule::StateIsTrue], "converged at another release");
    let drift = |known: &mut Known| known.status.apps[0].drift.push("changed".to_owned());
    assert_eq!(broken(drift), [Rule::StateIsTrue], "converged, and changed");
    for state in [
        AppState::Pending,
        AppState::Quarantined,
        AppState::Degraded,
        AppState::Paused,
        AppState::AptHeld,
        AppState::Orphan,
        AppState::Unknown,
    ] {
        let claim = |known: &mut Known| {
            (known.status.apps[0].state, known.status.state) = (state, ServerState::Degraded);
            known.status.apps[0].reason = Some("because of `web`".to_owned());
        };
        assert_eq!(broken(claim), [Rule::StateIsTrue], "{state}");
    }
    let kept = |known: &mut Known| {
        roll_back(known, AppState::Quarantined, false);
        known.dpkg.packages[0].release = Some(release("web", 2));
        known.status.apps[0].installed = Some(release("web", 2));
    };
    assert_eq!(broken(kept), [Rule::StateIsTrue], "rolled back, and still there");
    assert_eq!(broken(|known| roll_back(known, AppState::Quarantined, true)), [Rule::StateIsTrue]);
    assert_eq!(broken(|known| roll_back(known, AppState::Degraded, false)), [Rule::StateIsTrue]);
}

#[test]
fn a_state_without_a_reason() {
    assert_eq!(broken(|known| known.status.apps[1].reason = None), [Rule::ReasonIsGiven]);
    assert_eq!(broken(|known| known.status.apps[0].state = AppState::Drifted), [Rule::ReasonIsGiven]);
}

#[test]
fn a_server_that_is_reported_better_than_its_apps() {
    assert_eq!(broken(|known| known.status.state = ServerState::Converged), [Rule::ServerIsAsItsWorstApp]);
}

#[test]
fn a_package_that_is_half_done() {
    for status in ["iF", "iHR", "iU", "iiR"] {
        let half = |known: &mut Known| known.dpkg.packages[1].status = status.to_owned();
        assert_eq!(broken(half), [Rule::NothingIsHalfDone], "{status}");
    }
    assert_eq!(broken(|known| known.dpkg.audit = "libc6 is broken".to_owned()), [Rule::NothingIsHalfDone]);
    let reported = |known: &mut Known| {
        roll_back(known, AppState::Degraded, true);
        known.dpkg.packages[0].status = "iF".to_owned();
        known.dpkg.audit = "web is broken".to_owned();
    };
    assert_eq!(broken(reported), []);
}

#[test]
fn a_transaction_that_is_left_open() {
    let open = |known: &mut Known| known.record.transaction = Some("{}".to_owned());
    assert_eq!(broken(open), [Rule::NoTransactionIsOpen]);
}

#[test]
fn a_program_that_is_not_the_installed_one() {
    let started = |known: &mut Known| known.units.get_mut("web.service").unwrap().started = Some(99);
    assert_eq!(broken(started), [Rule::WhatRunsIsInstalled]);
    let rolled_back = |known: &mut Known| {
        roll_back(known, AppState::Quarantined, false);
        known.units.get_mut("web.service").unwrap().started = Some(99);
    };
    assert_eq!(broken(rolled_back), [Rule::WhatRunsIsInstalled]);
    let deleted = |known: &mut Known| {
        known.units.get_mut("web.service").unwrap().program = Some("/usr/bin/web (deleted)".to_owned());
    };
    assert_eq!(broken(deleted), [Rule::WhatRunsIsInstalled]);
    let left_alone = |known: &mut Known| {
        known.dpkg.packages[0].units[0].action = UnitAction::Start;
        started(known);
    };
    assert_eq!(broken(left_alone), [], "its release does not want it restarted");
}

#[test]
fn a_unit_that_no_release_has_any_more() {
    for active in ["active", "failed"] {
        let dropped = |known: &mut Known| {
            let old = Unit { active: active.to_owned(), is_gone: true, started: None, program: None };
            known.units.insert("old.service".to_owned(), old);
        };
        assert_eq!(broken(dropped), [Rule::NoUnitIsLeftOver], "{active}");
        let needs_a_person = |known: &mut Known| {
            roll_back(known, AppState::Degraded, true);
            dropped(known);
        };
        assert_eq!(broken(needs_a_person), []);
    }
}

#[test]
fn a_unit_that_is_not_as_reported() {
    let stopped = |known: &mut Known| known.units.get_mut("db.service").unwrap().active = "inactive".to_owned();
    assert_eq!(broken(stopped), [Rule::UnitsAreAsReported]);
    let failed = |known: &mut Known| {
        known.units.get_mut("web.service").unwrap().active = "failed".to_owned();
        known.status.apps[0].units[0].active = "failed".to_owned();
    };
    assert_eq!(broken(failed), [Rule::UnitsAreAsReported], "a converged app has no failed unit");
}

#[test]
fn a_quarantine_that_the_document_does_not_know() {
    let old = |known: &mut Known| {
        quarantine(known, false);
        known.document = ServerDocument::parse(&serde_json::to_vec(&[release("web", 3)]).unwrap()).unwrap();
        known.dpkg.packages[0].release = Some(release("web", 3));
        (known.status.apps[0].desired, known.status.apps[0].installed) =
            (Some(release("web", 3)), Some(release("web", 3)));
    };
    assert_eq!(broken(old), [Rule::QuarantineIsOfTheDocument]);
}

#[test]
fn a_foreign_package_that_was_removed() {
    assert_eq!(broken(|known| drop(known.dpkg.packages.pop())), [Rule::ForeignPackagesStay]);
    assert_eq!(broken(|known| known.dpkg.packages[2].status = "rc".to_owned()), [Rule::ForeignPackagesStay]);
}

#[test]
fn files_that_the_agent_did_not_write_are_no_record() {
    assert!(Record::parse(None, None, None).unwrap().transaction.is_none());
    assert!(Record::parse(None, Some("[]"), None).unwrap_err().to_string().contains("quarantine"));
    assert!(Record::parse(None, None, Some("{")).unwrap_err().to_string().contains("pauses"));
}
