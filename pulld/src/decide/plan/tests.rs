//! Plans of small machines, by hand.

use bucket::{Generation, Timestamp};

use super::*;
use crate::{
    failure::{Aftermath, DpkgEnd, DpkgFault, DpkgWords, FailureKind, Fault},
    state::quarantine::Quarantined,
};

pub(super) fn release(app: &str, minute: u8) -> ReleaseName {
    format!("{app}/{app}:qa@build:2026-11-20T21:{minute:02}:00Z:7e0ff6059e653eb75a36efb621d0fd66d1ced433.deb")
        .parse()
        .unwrap()
}

pub(super) fn installed(release: &ReleaseName, state: PackageState) -> InstalledPackage {
    InstalledPackage {
        package: release.app().to_string(),
        version: "1".to_owned(),
        state,
        on_hold: false,
        release: Some(release.clone()),
        units: vec![],
    }
}

pub(super) fn document(releases: &[ReleaseName]) -> ServerDocument {
    ServerDocument::parse(&serde_json::to_vec(releases).unwrap()).unwrap()
}

#[derive(Debug)]
pub(super) struct Case {
    pub(super) document: Option<ServerDocument>,
    pub(super) installed: Vec<InstalledPackage>,
    pub(super) quarantine: Quarantine,
    pub(super) pauses: Pauses,
    pub(super) allowed: AllowedApps,
    pub(super) prune: bool,
}

impl Case {
    pub(super) fn new(document: &[ReleaseName], installed: Vec<InstalledPackage>) -> Self {
        Self {
            document: Some(self::document(document)),
            installed,
            quarantine: Quarantine::default(),
            pauses: Pauses::default(),
            allowed: AllowedApps::new(vec!["*".into()]).unwrap(),
            prune: false,
        }
    }

    pub(super) fn decide(&self) -> Decision {
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

    pub(super) fn plan(&self) -> Plan {
        self.decide().plan
    }

    /// How an app stands.
    pub(super) fn cause(&self, app: &str) -> Cause {
        self.decide().report.of(&app.parse().unwrap())
    }
}

pub(super) fn quarantined(release: &ReleaseName, previous: Option<ReleaseName>) -> Quarantined {
    let (release, since) = (release.clone(), Timestamp::UNIX_EPOCH);
    let failure = Fault::told(FailureKind::UnitFailed, "it crashed").into();
    Quarantined { release, failure, generation: Generation(1), degraded: false, since, previous }
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
    case.quarantine.add(quarantined(&release("web", 2), None));
    assert_eq!(case.plan().steps, []);
    assert!(matches!(case.cause("web"), Cause::Quarantined(held) if held.failure.to_string() == "it crashed"));
    case.document = Some(document(&[release("web", 3)]));
    assert_eq!((case.plan().steps.len(), case.cause("web")), (1, Cause::Planned(Reason::Document)));
}

#[test]
fn what_a_quarantined_release_left_broken_is_repaired_with_the_one_before() {
    let (one, two) = (release("web", 1), release("web", 2));
    let broken = installed(&two, PackageState::Broken("iF".into()));
    let mut case = Case::new(std::slice::from_ref(&two), vec![broken]);
    case.quarantine.add(quarantined(&two, Some(one.clone())));
    let repair = Step::Install { release: one.clone(), from: Some(two.clone()), reason: Reason::Repair };
    assert_eq!(case.plan().steps, [repair]);
    case.installed = vec![installed(&one, PackageState::Installed)];
    assert_eq!(case.plan().steps, []);
    // An earlier agent has not noted which that was.
    case.installed = vec![installed(&two, PackageState::Broken("iF".into()))];
    case.quarantine = Quarantine::default();
    case.quarantine.add(quarantined(&two, None));
    let again = Step::Install { release: two.clone(), from: Some(two), reason: Reason::Repair };
    assert_eq!(case.plan().steps, [again]);
}

#[test]
fn a_rollback_that_the_machine_kept_from_working_is_tried_again_until_it_is_made_up_for() {
    let (one, two) = (release("web", 1), release("web", 2));
    let mut case = Case::new(std::slice::from_ref(&two), vec![installed(&two, PackageState::Installed)]);
    let fault = |machine_at_fault| {
        let end = DpkgEnd::Failed("dpkg was not run".to_owned());
        Box::new(DpkgFault { end, words: DpkgWords::None, lines: vec![], machine_at_fault })
    };
    let held = quarantined(&two, Some(one.clone()));
    for (machine_at_fault, planned) in [(true, true), (false, false)] {
        let failure = held.failure.clone().and(Aftermath::RollbackFailed(fault(machine_at_fault)));
        case.quarantine.add(Quarantined { failure: failure.clone(), degraded: true, ..held.clone() });
        let (release, from, reason) = (one.clone(), Some(two.clone()), Reason::RollbackAgain);
        let steps = if planned { vec![Step::Install { release, from, reason }] } else { vec![] };
        assert_eq!(case.plan().steps, steps);
        // Its package had gone, and what it took with it was not restored.
        case.installed = vec![installed(&one, PackageState::Installed)];
        assert_eq!(case.plan().steps.len(), usize::from(planned));
        case.installed = vec![installed(&two, PackageState::Installed)];
        // Nor when it was made up for.
        case.quarantine.add(Quarantined { failure: failure.and(Aftermath::RestoredLater), ..held.clone() });
        assert_eq!(case.plan().steps, []);
    }
}

#[test]
fn what_a_release_that_renamed_its_package_left_goes_with_the_next_installation() {
    let (one, two, three) = (release("web", 1), release("web", 2), release("web", 3));
    let next = |state| InstalledPackage { package: "web-next".into(), ..installed(&two, state) };
    let broken = || next(PackageState::Broken("iF".into()));
    let left = |case: &Case, release: &ReleaseName| {
        let left = left_behind(&case.installed, (release, "web"), &case.quarantine);
        left.into_iter().map(|package| package.package.clone()).collect::<Vec<_>>()
    };
    // It is quarantined, and its rollback failed: before, or after the release before was restored.
    for there in [PackageState::Absent, PackageState::Installed] {
        let mut case = Case::new(std::slice::from_ref(&two), vec![installed(&one, there), broken()]);
        case.quarantine.add(quarantined(&two, Some(one.clone())));
        let repair = Step::Install { release: one.clone(), from: Some(two.clone()), reason: Reason::Repair };
        assert_eq!((case.plan().steps, left(&case, &one)), (vec![repair], vec!["web-next".to_owned()]));
        case.installed.pop();
        if case.installed[0].state == PackageState::Installed {
            assert_eq!(case.plan().steps, []);
        }
        case.installed[0].state = PackageState::Broken("iF".into());
        case.installed.push(next(PackageState::Installed));
        assert_eq!(left(&case, &one), ["web-next"], "what is quarantined goes though dpkg is content with it");
    }
    // Another release was pushed since.
    let case = Case::new(std::slice::from_ref(&three), vec![broken()]);
    assert_eq!((apps(&case.plan()), left(&case, &three)), (vec!["web"], vec!["web-next".to_owned()]));
    let case = Case::new(std::slice::from_ref(&three), vec![installed(&three, PackageState::Installed), broken()]);
    assert_eq!(case.cause("web"), Cause::Planned(Reason::Repair));
    let sound = vec![installed(&three, PackageState::Installed), next(PackageState::Installed)];
    assert_eq!(Case::new(&[three], sound).plan().steps, [], "it isn't the agent's to judge");
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
