//! What holds of every plan, tried on thousands of small machines by chance.

use bucket::Timestamp;
use proptest::{bool::weighted, collection::vec, prelude::*, sample::subsequence};

use super::{
    tests::{Case, document, quarantined, release},
    *,
};
use crate::state::{named::Named, pauses::Pause};

const APPS: [&str; 5] = ["pulld", "web", "db", "cache", "mail"];

fn any_state() -> impl Strategy<Value = PackageState> {
    prop_oneof![
        4 => Just(PackageState::Installed),
        1 => Just(PackageState::Absent),
        1 => Just(PackageState::Broken("iHR".to_owned())),
    ]
}

/// The package that a release of an app brings: the last one has another name.
fn package_of(release: &ReleaseName) -> String {
    let app = release.app().as_str();
    let is_renamed = app != OWN_PACKAGE && *release == super::tests::release(app, 2);
    if is_renamed { format!("{app}-next") } else { app.to_owned() }
}

fn installed(release: &ReleaseName, state: PackageState) -> InstalledPackage {
    InstalledPackage { package: package_of(release), ..super::tests::installed(release, state) }
}

/// A document with these releases, and with entries that can't be used.
fn any_document(releases: &[ReleaseName], bad: usize) -> ServerDocument {
    let mut entries: Vec<serde_json::Value> = releases.iter().map(|release| release.to_string().into()).collect();
    for at in 0..bad {
        entries.insert(at.min(entries.len()), serde_json::json!("web/web;oops"));
    }
    ServerDocument::parse(&serde_json::to_vec(&entries).unwrap()).unwrap()
}

/// What a document asks for; nothing where there is none.
fn desired(case: &Case) -> Vec<ReleaseName> {
    case.document.iter().flat_map(ServerDocument::releases).cloned().collect()
}

fn any_case() -> impl Strategy<Value = Case> {
    let wanted = subsequence(APPS.to_vec(), 0..=5).prop_shuffle();
    let document = (wanted, vec(0..3u8, 5), prop_oneof![4 => Just(0..1usize), 1 => Just(1..3)], weighted(0.1));
    let document = document.prop_flat_map(|(wanted, minutes, bad, is_gone)| {
        let releases: Vec<_> = wanted.iter().zip(&minutes).map(|(app, minute)| release(app, *minute)).collect();
        bad.prop_map(move |bad| (!is_gone).then(|| any_document(&releases, bad)))
    });
    let there = vec((0..5usize, 0..3u8, any_state(), any::<bool>(), weighted(0.2)), 0..8);
    let bad = vec((0..5usize, 0..3u8, proptest::option::of(0..3u8)), 0..3);
    let allowed = vec(weighted(0.8), 5);
    (document, there, any::<bool>(), allowed, bad, vec(0..5usize, 0..2)).prop_map(
        |(document, there, prune, allowed, bad, paused)| {
            let mut packages: BTreeMap<String, InstalledPackage> = BTreeMap::new();
            for (app, minute, state, ours, on_hold) in there {
                let mut package = installed(&release(APPS[app], minute), state);
                package.on_hold = on_hold;
                if !ours {
                    package.release = None;
                }
                packages.insert(package.package.clone(), package);
            }
            let mut case = Case::new(&[], packages.into_values().collect());
            (case.document, case.prune) = (document, prune);
            let globs = APPS.iter().zip(allowed).filter(|(_, allowed)| *allowed).map(|(app, _)| (*app).to_owned());
            case.allowed = AllowedApps::new(globs.collect()).unwrap();
            for (app, minute, previous) in bad {
                let previous = previous.map(|previous| release(APPS[app], previous));
                case.quarantine.add(quarantined(&release(APPS[app], minute), previous));
            }
            for app in paused {
                case.pauses.add(paused_at(&release(APPS[app], 0)));
            }
            case
        },
    )
}

fn paused_at(release: &ReleaseName) -> Pause {
    let (who, why) = ("anna".to_owned(), "too slow".to_owned());
    Pause { release: release.clone(), named: Named::Unknown, who, why, since: Timestamp::UNIX_EPOCH, until: None }
}

/// What a machine has after a plan was carried out without faults.
fn carried_out(case: &Case, plan: &Plan) -> Vec<InstalledPackage> {
    let mut packages: BTreeMap<String, InstalledPackage> =
        case.installed.iter().map(|package| (package.package.clone(), package.clone())).collect();
    for step in &plan.steps {
        match step {
            Step::Install { release, .. } => {
                let package = package_of(release);
                for left in left_behind(&case.installed, (release, &package), &case.quarantine) {
                    packages.remove(&left.package);
                }
                packages.insert(package, installed(release, PackageState::Installed));
            }
            Step::Remove { package, .. } => {
                packages.remove(package);
            }
        }
    }
    packages.into_values().collect()
}

proptest! {
    #[test]
    fn a_plan_carried_out_leaves_nothing_to_plan(mut case in any_case()) {
        let plan = case.plan();
        case.installed = carried_out(&case, &plan);
        prop_assert_eq!(case.plan().steps, vec![]);
    }

    #[test]
    fn the_order_of_independent_apps_changes_only_the_order(case in any_case(), seed in any::<u64>()) {
        let sorted = |mut decision: Decision| {
            decision.plan.steps.sort_by(|a, b| a.app().cmp(b.app()));
            decision
        };
        let rotated = case.document.as_ref().map(|document| {
            let mut entries: Vec<serde_json::Value> = serde_json::from_slice(&document.to_json()).unwrap();
            let by = usize::try_from(seed % 7).unwrap() % entries.len().max(1);
            entries.rotate_left(by);
            ServerDocument::parse(&serde_json::to_vec(&entries).unwrap()).unwrap()
        });
        let mut packages = case.installed.clone();
        packages.reverse();
        let other = Case { document: rotated, installed: packages, ..Case::new(&[], vec![]) };
        let other = Case { allowed: case.allowed.clone(), prune: case.prune, ..other };
        let other = Case { quarantine: case.quarantine.clone(), pauses: case.pauses.clone(), ..other };
        prop_assert_eq!(sorted(case.decide()), sorted(other.decide()));
    }

    #[test]
    fn only_what_is_ours_and_unwanted_is_removed_and_pulld_never(case in any_case()) {
        for step in case.plan().steps {
            let Step::Remove { package, release } = step else { continue };
            prop_assert!(case.prune);
            prop_assert!(package != OWN_PACKAGE && release.app().as_str() != OWN_PACKAGE);
            prop_assert!(case.document.as_ref().is_some_and(|document| document.release_of(release.app()).is_none()));
            let there = case.installed.iter().find(|there| there.package == package).unwrap();
            prop_assert_eq!(there.release.as_ref(), Some(&release));
        }
    }

    #[test]
    fn what_goes_with_an_installation_is_of_its_app_and_bad_and_neither_pulld_nor_on_hold(case in any_case()) {
        for step in case.plan().steps {
            let Step::Install { release, .. } = &step else { continue };
            for left in left_behind(&case.installed, (release, &package_of(release)), &case.quarantine) {
                let of = left.release.as_ref().unwrap();
                prop_assert!(of.app() == release.app() && left.package != package_of(release) && !left.on_hold);
                prop_assert!(left.package != OWN_PACKAGE && release.app().as_str() != OWN_PACKAGE);
                prop_assert!(left.is_broken() || case.quarantine.holds(of).is_some());
            }
        }
    }

    #[test]
    fn nothing_of_a_listed_app_stays_broken(mut case in any_case()) {
        case.installed = carried_out(&case, &case.plan());
        for package in case.installed.iter().filter(|package| package.is_broken()) {
            let Some(release) = &package.release else { continue };
            let kept = case.pauses.of(release.app()).is_some() || !case.allowed.allows(release.app().as_str());
            let on_hold = case.installed.iter().any(|there| there.on_hold);
            let is_listed = desired(&case).iter().any(|desired| desired.app() == release.app());
            prop_assert!(kept || on_hold || !is_listed, "{package:?}");
        }
    }

    #[test]
    fn no_step_touches_what_is_on_hold(case in any_case()) {
        for step in case.plan().steps {
            let package = match &step {
                Step::Install { release, .. } => package_of(release),
                Step::Remove { package, .. } => package.clone(),
            };
            // Which package a release brings is known when it is read: one that no release made is found then.
            let is_known = |there: &&InstalledPackage| there.release.is_some() || there.package == step.app().as_str();
            let there = case.installed.iter().filter(is_known).find(|there| there.package == package);
            prop_assert!(there.is_none_or(|there| !there.on_hold), "{step:?}");
        }
    }

    #[test]
    fn our_own_step_is_the_last(case in any_case()) {
        let plan = case.plan();
        let own = plan.steps.iter().position(|step| step.app().as_str() == OWN_PACKAGE);
        prop_assert!(own.is_none_or(|at| at + 1 == plan.steps.len()));
    }

    #[test]
    fn no_step_touches_an_app_that_is_paused(case in any_case()) {
        for step in case.plan().steps {
            prop_assert!(case.pauses.of(step.app()).is_none(), "{step:?}");
        }
    }

    #[test]
    fn a_quarantined_release_is_installed_only_where_nothing_sound_is_there(case in any_case()) {
        for step in case.plan().steps {
            let Step::Install { release, reason, .. } = &step else { continue };
            if case.quarantine.holds(release).is_some() {
                prop_assert_eq!(*reason, Reason::Repair);
                let there = current(&case.installed, release.app()).unwrap();
                prop_assert!(there.is_broken(), "{there:?}");
            }
        }
    }

    #[test]
    fn only_apps_that_the_configuration_allows_are_touched(case in any_case()) {
        for step in case.plan().steps {
            prop_assert!(case.allowed.allows(step.app().as_str()), "{step:?}");
        }
    }

    #[test]
    fn what_the_document_says_of_an_app_is_decided_by_that_app_alone(case in any_case()) {
        for release in &desired(&case) {
            let alone = Case {
                document: Some(document(std::slice::from_ref(release))),
                installed: case.installed.clone(),
                quarantine: case.quarantine.clone(),
                pauses: case.pauses.clone(),
                allowed: case.allowed.clone(),
                prune: case.prune,
            };
            let of_app = |plan: Plan| plan.steps.into_iter().filter(|step| step.app() == release.app()).collect::<Vec<_>>();
            prop_assert_eq!(of_app(case.plan()), of_app(alone.plan()));
            prop_assert_eq!(case.cause(release.app().as_str()), alone.cause(release.app().as_str()));
        }
    }

    #[test]
    fn every_app_has_a_cause_and_those_that_are_planned_have_a_step(case in any_case()) {
        let Decision { plan, report } = case.decide();
        let desired = desired(&case);
        let desired = desired.iter().map(ReleaseName::app);
        let there = case.installed.iter().filter(|package| package.state != PackageState::Absent);
        for app in desired.chain(there.filter_map(|package| Some(package.release.as_ref()?.app()))) {
            let cause = report.of(app);
            prop_assert!(cause != Cause::Unplanned, "{app}");
            let has_step = plan.steps.iter().any(|step| step.app() == app);
            let wants_step = match &cause {
                Cause::Planned(_) | Cause::Unlisted(Unlisted::Removed) => true,
                // The one may have to be repaired; of the other one package is on hold, and another may be removed.
                Cause::Quarantined(_) | Cause::OnHold(OnHold { kept_from: KeptFrom::Removing, .. }) => has_step,
                _ => false,
            };
            prop_assert_eq!(has_step, wants_step, "{}: {:?}", app, cause);
        }
    }
}
