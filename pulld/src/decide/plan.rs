//! What to do so that the machine matches its document. Pure: no I/O, no clock.
//!
//! The same inputs give the same plan, a plan carried out leaves nothing to plan, and nothing is ever removed that
//! didn't come from a release, that the document names, or that is pulld itself.

use std::collections::{BTreeMap, BTreeSet};

use bucket::{AppName, Entry, Generation, ReleaseName, ServerDocument};
use serde::Serialize;

use crate::{
    decide::allowed_apps::AllowedApps,
    machine::{InstalledPackage, OWN_PACKAGE, PackageState},
    state::quarantine::{Quarantine, Quarantined},
};

/// What a plan is made from.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Situation<'a> {
    /// The document, with its generation; `None` when there is none, which asks for nothing and removes nothing.
    pub(crate) document: Option<(Generation, &'a ServerDocument)>,
    /// Whether the machine once matched this very document: a difference is then a change by hand.
    pub(crate) settled: bool,
    /// What dpkg has.
    pub(crate) installed: &'a [InstalledPackage],
    /// What isn't retried.
    pub(crate) quarantine: &'a Quarantine,
    /// Which apps the configuration allows.
    pub(crate) allowed: &'a AllowedApps,
    /// Whether apps that the document doesn't name are removed.
    pub(crate) prune: bool,
}

/// The ordered work, and what isn't worked on.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Plan {
    /// In the order of the document, removals after installs, pulld itself last.
    pub(crate) steps: Vec<Step>,
    /// Releases whose app the configuration doesn't allow.
    pub(crate) refused: Vec<ReleaseName>,
    /// Releases that are installed though the document doesn't name their app, and that stay.
    pub(crate) orphans: Vec<ReleaseName>,
    /// Releases that aren't retried.
    pub(crate) quarantined: Vec<Quarantined>,
}

/// One piece of work.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Step {
    /// Install a release.
    Install {
        /// Which.
        release: ReleaseName,
        /// The release of the app that is there now.
        from: Option<ReleaseName>,
        /// Why.
        reason: Reason,
    },
    /// Remove a package that came from a release.
    Remove {
        /// The package.
        package: String,
        /// What it came from.
        release: ReleaseName,
    },
}

/// Why a release is installed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Reason {
    /// The document asks for another release than is installed.
    Document,
    /// The document's release was installed, and somebody changed that by hand.
    Drift,
    /// The document's release is there, but dpkg says it is broken.
    Repair,
}

impl Step {
    /// The app it is about.
    pub(crate) fn app(&self) -> &AppName {
        self.release().app()
    }

    /// The release that it installs or removes.
    pub(crate) fn release(&self) -> &ReleaseName {
        match self {
            Self::Install { release, .. } | Self::Remove { release, .. } => release,
        }
    }
}

/// Makes the plan.
pub(crate) fn plan(situation: &Situation) -> Plan {
    let mut plan = Plan::default();
    let releases: Vec<&ReleaseName> = situation.document.iter().flat_map(|(_, document)| document.releases()).collect();
    for release in &releases {
        if !situation.allowed.allows(release.app().as_str()) {
            plan.refused.push((*release).clone());
            continue;
        }
        // Also when it is installed: it may be there only because there was no way back.
        let held = situation.document.and_then(|(generation, _)| situation.quarantine.holds(release, generation));
        if let Some(held) = held {
            plan.quarantined.push(held.clone());
        } else if let Some(reason) = difference(situation, release) {
            let from = current(situation.installed, release.app()).and_then(|package| package.release.clone());
            plan.steps.push(Step::Install { release: (*release).clone(), from, reason });
        }
    }
    leave_or_remove(situation, &mut plan);
    // Ours goes last: installing it ends this process, and the next one finds nothing else half-done.
    plan.steps.sort_by_key(|step| step.app().as_str() == OWN_PACKAGE);
    plan
}

/// Why `release` has to be installed, if it has.
fn difference(situation: &Situation, release: &ReleaseName) -> Option<Reason> {
    let same = situation.installed.iter().find(|package| package.release.as_ref() == Some(release));
    match same.map(|package| &package.state) {
        Some(PackageState::Installed) => None,
        Some(PackageState::Broken(_)) => Some(Reason::Repair),
        Some(PackageState::Absent) | None if situation.settled => Some(Reason::Drift),
        Some(PackageState::Absent) | None => Some(Reason::Document),
    }
}

/// The package that an app is in now: the newest, if it changed its package's name and left one behind.
pub(crate) fn current<'a>(installed: &'a [InstalledPackage], app: &AppName) -> Option<&'a InstalledPackage> {
    let of_app = |package: &&InstalledPackage| {
        package.state != PackageState::Absent && package.release.as_ref().is_some_and(|release| release.app() == app)
    };
    installed.iter().filter(of_app).max_by(|a, b| a.release.cmp(&b.release))
}

/// Sorts out what is installed though the document doesn't name it.
fn leave_or_remove(situation: &Situation, plan: &mut Plan) {
    let named: BTreeSet<&AppName> = situation
        .document
        .iter()
        .flat_map(|(_, document)| document.entries())
        .filter_map(|entry| match entry {
            Entry::Release(release) => Some(release.app()),
            Entry::Placeholder(app) => Some(app),
            Entry::Bad { .. } => None,
        })
        .collect();
    // An empty document is more likely a mistake than a wish, and a bad entry may be the name of the very app.
    let sure = situation
        .document
        .is_some_and(|(_, document)| document.releases().next().is_some() && document.bad_entries().next().is_none());
    let mut orphans: BTreeMap<&ReleaseName, &InstalledPackage> = BTreeMap::new();
    for package in situation.installed {
        let Some(release) = package.release.as_ref() else { continue };
        // The agent comes with the base image: that the document leaves it as it is says nothing.
        let ours = release.app().as_str() == OWN_PACKAGE || package.package == OWN_PACKAGE;
        if package.state != PackageState::Absent && !named.contains(release.app()) && !ours {
            orphans.insert(release, package);
        }
    }
    for (release, package) in orphans {
        if situation.prune && sure && situation.allowed.allows(release.app().as_str()) {
            plan.steps.push(Step::Remove { package: package.package.clone(), release: release.clone() });
        } else {
            plan.orphans.push(release.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*, sample::subsequence};

    use super::*;

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
        allowed: AllowedApps,
        prune: bool,
    }

    impl Case {
        fn new(document: &[ReleaseName], installed: Vec<InstalledPackage>) -> Self {
            Self {
                document: Some(self::document(document)),
                installed,
                quarantine: Quarantine::default(),
                allowed: AllowedApps::new(vec!["*".into()]).unwrap(),
                prune: false,
            }
        }

        fn plan(&self) -> Plan {
            plan(&Situation {
                document: self.document.as_ref().map(|document| (Generation(1), document)),
                settled: false,
                installed: &self.installed,
                quarantine: &self.quarantine,
                allowed: &self.allowed,
                prune: self.prune,
            })
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
        assert_eq!((case.plan().steps, case.plan().orphans), (vec![], vec![release("web", 1)]));
        case.document = None;
        assert_eq!((case.plan().steps, case.plan().orphans), (vec![], vec![release("web", 1)]));
    }

    #[test]
    fn a_bad_entry_stops_pruning_because_it_may_name_the_app() {
        let mut case = Case::new(&[], vec![installed(&release("web", 1), PackageState::Installed)]);
        case.prune = true;
        case.document =
            Some(ServerDocument::parse(format!("[\"{}\", \"web/web;oops\"]", release("db", 1)).as_bytes()).unwrap());
        assert_eq!(apps(&case.plan()), ["db"]);
        case.document = Some(document(&[release("db", 1)]));
        assert_eq!(apps(&case.plan()), ["db", "web"]);
    }

    #[test]
    fn a_quarantined_release_waits_for_another_generation() {
        let mut case = Case::new(&[release("web", 2)], vec![installed(&release("web", 1), PackageState::Installed)]);
        let entry = |generation| Quarantined {
            release: release("web", 2),
            reason: "it crashed".into(),
            generation: Generation(generation),
            degraded: false,
            since: bucket::Timestamp::UNIX_EPOCH,
        };
        case.quarantine.add(entry(1));
        assert_eq!((case.plan().steps.len(), case.plan().quarantined.len()), (0, 1));
        case.quarantine.add(entry(0));
        assert_eq!((case.plan().steps.len(), case.plan().quarantined.len()), (1, 0));
    }

    #[test]
    fn an_app_that_is_not_allowed_is_refused_and_not_removed() {
        let mut case = Case::new(&[release("web", 2)], vec![installed(&release("db", 1), PackageState::Installed)]);
        case.allowed = AllowedApps::new(vec!["we".into()]).unwrap();
        case.prune = true;
        let plan = case.plan();
        assert_eq!((plan.steps, plan.refused), (vec![], vec![release("web", 2)]));
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
        let there = vec((0..5usize, 0..3u8, any_state(), any::<bool>()), 0..6);
        (wanted, vec(0..3u8, 5), there, any::<bool>(), vec(any::<bool>(), 5)).prop_map(
            |(wanted, minutes, there, prune, allowed)| {
                let releases: Vec<_> = wanted.iter().zip(&minutes).map(|(app, minute)| release(app, *minute)).collect();
                let mut packages: BTreeMap<usize, InstalledPackage> = BTreeMap::new();
                for (app, minute, state, ours) in there {
                    let mut package = installed(&release(APPS[app], minute), state);
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
            let sorted = |mut plan: Plan| {
                plan.steps.sort_by(|a, b| a.app().cmp(b.app()));
                plan.refused.sort();
                plan
            };
            let mut releases: Vec<_> = case.document.as_ref().unwrap().releases().cloned().collect();
            let by = usize::try_from(seed % 7).unwrap() % releases.len().max(1);
            releases.rotate_left(by);
            let mut packages = case.installed.clone();
            packages.reverse();
            let other = Case { document: Some(document(&releases)), installed: packages, ..Case::new(&[], vec![]) };
            let other = Case { allowed: case.allowed.clone(), prune: case.prune, ..other };
            prop_assert_eq!(sorted(case.plan()), sorted(other.plan()));
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
        fn our_own_step_is_the_last(case in any_case()) {
            let plan = case.plan();
            let own = plan.steps.iter().position(|step| step.app().as_str() == OWN_PACKAGE);
            prop_assert!(own.is_none_or(|at| at + 1 == plan.steps.len()));
        }
    }
}
