//! Plans of small machines by hand, and of thousands by chance.

use bucket::Generation;
use proptest::{collection::vec, prelude::*, sample::subsequence};

use super::*;
use crate::state::quarantine::Quarantined;

fn release(app: &str, minute: u8) -> ReleaseName {
    format!("{app}/{app}:qa@build:2026-11-20T21:{minute:02}:00Z:7e0ff6059e653eb75a36efb621d0fd66d1ced433.deb")
        .parse()
        .unwrap()
}

fn installed(release: &ReleaseName, state: PackageState) -> InstalledPackage {
    InstalledPackage {
        package: release.app().to_string(),
        version: "1".to_owned(),
        state,
        on_hold: false,
        release: Some(release.clone()),
        units: vec![],
    }
}

fn document(releases: &[ReleaseName]) -> ServerDocument {
    ServerDocument::parse(&serde_json::to_vec(releases).unwrap()).unwrap()
}

#[derive(Debug)]
struct Case {
    document: Option<ServerDocument>,
    installed: Vec<InstalledPackage>,
    quarantine: Quarantine,
    pauses: Pauses,
    allowed: AllowedApps,
    prune: bool,
}

impl Case {
    fn new(document: &[ReleaseName], installed: Vec<InstalledPackage>) -> Self {
        Self {
            document: Some(self::document(document)),
            installed,
            quarantine: Quarantine::default(),
            pauses: Pauses::default(),
            allowed: AllowedApps::new(vec!["*".into()]).unwrap(),
            prune: false,
        }
    }

    fn decide(&self) -> Decision {
        plan(&Situation {
            document: self.document.as_ref(),
            settled: false,
            installed: &self.installed,
            quarantine: &self.quarantine,
            pauses: &self.pauses,
            allowed: &self.allowed,
            prune: self.prune,
        })
    }

    fn plan(&self) -> Plan {
        self.decide().plan
    }

    /// How an app stands.
    fn cause(&self, app: &str) -> Cause {
        self.decide().report.of(&app.parse().unwrap())
    }
}

fn apps(plan: &Plan) -> Vec<&str> {
    plan.steps.iter().map(|step| step.app().as_str()).collect()
}

#[test]
fn our_own_package_goes_last_wherever_the_document_names_it() {
    let case = Case::new(&[release("pulld", 1), release("web", 1), release("db", 1)], vec![]);
    assert_eq!(apps(&case.plan()), ["web", "db", "pulld"]);
}

#[test]
fn a_broken_package_of_the_right_release_is_repaired() {
    let web = release("web", 1);
    let case = Case::new(std::slice::from_ref(&web), vec![installed(&web, PackageState::Broken("iHR".into()))]);
    let expected = Step::Install { release: web.clone(), from: Some(web), reason: Reason::Repair };
    assert_eq!(case.plan().steps, [expected]);
}

#[test]
fn absent_or_empty_documents_remove_nothing_even_with_prune() {
    let web = installed(&release("web", 1), PackageState::Installed);
    let mut case = Case::new(&[], vec![web]);
    case.prune = true;
    assert_eq!((case.plan().steps, case.cause("web")), (vec![], Cause::Unlisted(Unlisted::EmptyDocument)));
    case.document = None;
    assert_eq!((case.plan().steps, case.cause("web")), (vec![], Cause::Unlisted(Unlisted::NoDocument)));
}

#[test]
fn a_bad_entry_stops_pruning_because_it_may_name_the_app() {
    let mut case = Case::new(&[], vec![installed(&release("web", 1), PackageState::Installed)]);
    case.prune = true;
    case.document =
        Some(ServerDocument::parse(format!("[\"{}\", \"web/web;oops\"]", release("db", 1)).as_bytes()).unwrap());
    assert_eq!((apps(&case.plan()), case.cause("web")), (vec!["db"], Cause::Unlisted(Unlisted::InvalidEntry)));
    case.document = Some(document(&[release("db", 1)]));
    assert_eq!(apps(&case.plan()), ["db", "web"]);
}

#[test]
fn a_quarantined_release_stays_away_and_another_one_of_its_app_does_not() {
    let mut case = Case::new(&[release("web", 2)], vec![installed(&release("web", 1), PackageState::Installed)]);
    case.quarantine.add(Quarantined {
        release: release("web", 2),
        reason: "it crashed".into(),
        generation: Generation(1),
        degraded: false,
        since: bucket::Timestamp::UNIX_EPOCH,
    });
    assert_eq!(case.plan().steps, []);
    assert!(matches!(case.cause("web"), Cause::Quarantined(held) if held.reason == "it crashed"));
    case.document = Some(document(&[release("web", 3)]));
    assert_eq!((case.plan().steps.len(), case.cause("web")), (1, Cause::Planned(Reason::Document)));
}

#[test]
fn an_app_that_is_not_allowed_is_refused_and_not_removed() {
    let mut case = Case::new(&[release("web", 2)], vec![installed(&release("db", 1), PackageState::Installed)]);
    case.allowed = AllowedApps::new(vec!["we".into()]).unwrap();
    case.prune = true;
    assert_eq!(case.plan().steps, []);
    assert_eq!((case.cause("web"), case.cause("db")), (Cause::NotAllowed, Cause::Unlisted(Unlisted::NotAllowed)));
}

#[test]
fn what_is_on_hold_is_left_alone_and_said() {
    let held = |release: &ReleaseName, state| InstalledPackage { on_hold: true, ..installed(release, state) };
    let broken = PackageState::Broken("hF".into());
    for (app, there, kept_from) in [
        ("web", held(&release("web", 1), PackageState::Installed), KeptFrom::Installing),
        ("web", held(&release("web", 2), PackageState::Installed), KeptFrom::Nothing),
        ("web", held(&release("web", 2), broken), KeptFrom::Repairing),
        // Removed by hand, with its conffiles left.
        ("web", held(&release("web", 1), PackageState::Absent), KeptFrom::Installing),
        // The app was in a package of another name.
        (
            "web",
            InstalledPackage { package: "web-server".into(), ..held(&release("web", 1), PackageState::Installed) },
            KeptFrom::Installing,
        ),
        // Not a release: pulld from the image, a package of Debian.
        (
            "pulld",
            InstalledPackage { release: None, ..held(&release("pulld", 1), PackageState::Installed) },
            KeptFrom::Installing,
        ),
    ] {
        let package = there.package.clone();
        let mut case = Case::new(&[release(app, 2), release("db", 1)], vec![there]);
        assert_eq!(apps(&case.plan()), ["db"], "others go on");
        let kept = case.cause(app);
        assert_eq!(kept, Cause::OnHold(OnHold { package: package.clone(), release: release(app, 2), kept_from }));
        let said = kept.to_string();
        assert!(said.contains(&format!("`apt-mark unhold {package}` there ends")), "{said}");
        case.installed[0].on_hold = false;
        assert!(!matches!(case.cause(app), Cause::OnHold(_)));
    }
}

#[test]
fn what_is_on_hold_is_not_pruned() {
    let held = InstalledPackage { on_hold: true, ..installed(&release("web", 1), PackageState::Installed) };
    let mut case = Case::new(&[release("db", 1)], vec![held]);
    assert_eq!(case.cause("web"), Cause::Unlisted(Unlisted::NoPrune));
    case.prune = true;
    assert_eq!(apps(&case.plan()), ["db"]);
    assert!(matches!(case.cause("web"), Cause::OnHold(held) if held.kept_from == KeptFrom::Removing));
}

const APPS: [&str; 5] = ["pulld", "web", "db", "cache", "mail"];

fn any_state() -> impl Strategy<Value = PackageState> {
    prop_oneof![
        4 => Just(PackageState::Installed),
        1 => Just(PackageState::Absent),
        1 => Just(PackageState::Broken("iHR".to_owned())),
    ]
}

fn any_case() -> impl Strategy<Value = Case> {
    let wanted = subsequence(APPS.to_vec(), 0..=5).prop_shuffle();
    let there = vec((0..5usize, 0..3u8, any_state(), any::<bool>(), proptest::bool::weighted(0.2)), 0..6);
    (wanted, vec(0..3u8, 5), there, any::<bool>(), vec(any::<bool>(), 5)).prop_map(
        |(wanted, minutes, there, prune, allowed)| {
            let releases: Vec<_> = wanted.iter().zip(&minutes).map(|(app, minute)| release(app, *minute)).collect();
            let mut packages: BTreeMap<usize, InstalledPackage> = BTreeMap::new();
            for (app, minute, state, ours, on_hold) in there {
                let mut package = installed(&release(APPS[app], minute), state);
                package.on_hold = on_hold;
                if !ours {
                    package.release = None;
                }
                packages.insert(app, package);
            }
            let mut case = Case::new(&releases, packages.into_values().collect());
            case.prune = prune;
            let globs = APPS.iter().zip(allowed).filter(|(_, allowed)| *allowed).map(|(app, _)| (*app).to_owned());
            case.allowed = AllowedApps::new(globs.collect()).unwrap();
            case
        },
    )
}

/// What a machine has after a plan was carried out without faults.
fn carried_out(case: &Case, plan: &Plan) -> Vec<InstalledPackage> {
    let mut packages: BTreeMap<String, InstalledPackage> =
        case.installed.iter().map(|package| (package.package.clone(), package.clone())).collect();
    for step in &plan.steps {
        match step {
            Step::Install { release, .. } => {
                packages.insert(release.app().to_string(), installed(release, PackageState::Installed));
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
        let mut releases: Vec<_> = case.document.as_ref().unwrap().releases().cloned().collect();
        let by = usize::try_from(seed % 7).unwrap() % releases.len().max(1);
        releases.rotate_left(by);
        let mut packages = case.installed.clone();
        packages.reverse();
        let other = Case { document: Some(document(&releases)), installed: packages, ..Case::new(&[], vec![]) };
        let other = Case { allowed: case.allowed.clone(), prune: case.prune, ..other };
        prop_assert_eq!(sorted(case.decide()), sorted(other.decide()));
    }

    #[test]
    fn only_what_is_ours_and_unwanted_is_removed_and_pulld_never(case in any_case()) {
        let document = case.document.clone().unwrap();
        for step in case.plan().steps {
            let Step::Remove { package, release } = step else { continue };
            prop_assert!(case.prune);
            prop_assert!(package != OWN_PACKAGE && release.app().as_str() != OWN_PACKAGE);
            prop_assert!(document.release_of(release.app()).is_none());
            let there = case.installed.iter().find(|there| there.package == package).unwrap();
            prop_assert_eq!(there.release.as_ref(), Some(&release));
        }
    }

    #[test]
    fn no_step_touches_what_is_on_hold(case in any_case()) {
        for step in case.plan().steps {
            let package = match &step {
                Step::Install { release, .. } => release.app().as_str(),
                Step::Remove { package, .. } => package,
            };
            let there = case.installed.iter().find(|there| there.package == package);
            prop_assert!(there.is_none_or(|there| !there.on_hold), "{step:?}");
        }
    }

    #[test]
    fn our_own_step_is_the_last(case in any_case()) {
        let plan = case.plan();
        let own = plan.steps.iter().position(|step| step.app().as_str() == OWN_PACKAGE);
        prop_assert!(own.is_none_or(|at| at + 1 == plan.steps.len()));
    }
}
