//! What to do so that the machine matches its document, and beside it why nothing else is done. Pure: no I/O, no clock.
//!
//! The same inputs give the same plan, a plan carried out leaves nothing to plan, and nothing is ever removed that
//! didn't come from a release, that the document names, or that is pulld itself.

#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;

use std::{collections::BTreeMap, fmt};

use bucket::{AppName, Entry, ReleaseName, ServerDocument};
use serde::Serialize;

use crate::{
    decide::allowed_apps::AllowedApps,
    machine::{InstalledPackage, OWN_PACKAGE, PackageState},
    state::{pauses::Pauses, quarantine::Quarantine},
};

use super::report::{Cause, KeptFrom, OnHold, PlanReport, Reason, Unlisted};

/// What a plan is made from.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Situation<'a> {
    /// The document; `None` when there is none, which installs nothing and removes nothing.
    pub(crate) document: Option<&'a ServerDocument>,
    /// Whether the machine once matched this very document: a difference is then a change by hand.
    pub(crate) settled: bool,
    /// What dpkg has.
    pub(crate) installed: &'a [InstalledPackage],
    /// The releases that are not retried.
    pub(crate) quarantine: &'a Quarantine,
    /// Which apps the configuration allows.
    pub(crate) allowed: &'a AllowedApps,
    /// The apps that are left alone.
    pub(crate) pauses: &'a Pauses,
    /// Whether apps that the document does not list are removed.
    pub(crate) prune: bool,
}

/// What was decided: what to do, and why that and nothing else.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Decision {
    /// The work.
    pub(crate) plan: Plan,
    /// How each app stands.
    pub(crate) report: PlanReport,
}

/// The ordered work.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Plan {
    /// In the order of the document, removals after installs, pulld itself last.
    pub(crate) steps: Vec<Step>,
}

/// One piece of work.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Step {
    /// Install a release.
    Install {
        /// The release to install.
        release: ReleaseName,
        /// The release of the app that is installed now.
        from: Option<ReleaseName>,
        /// What makes that necessary.
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

/// Why a release is installed, in a sentence.
impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Document => "the server document asks for another release than is installed",
            Self::Drift => "the desired release was installed, and was changed by hand since",
            Self::Repair => "dpkg says that a package of the app is broken",
            Self::Rollback => "a person goes back to it",
            Self::RollbackAgain => "the rollback failed because of the machine, and is tried again",
        })
    }
}

/// Makes the plan.
#[must_use]
pub(crate) fn plan(situation: &Situation) -> Decision {
    let mut decision = Decision::default();
    for release in situation.document.into_iter().flat_map(ServerDocument::releases) {
        let cause = decide(situation, release);
        let planned = match cause {
            Cause::Planned(reason) => Some((release, reason)),
            Cause::Quarantined(_) => {
                repair(situation, release).map(|reason| (situation.quarantine.repair(release), reason))
            }
            _ => None,
        };
        if let Some((release, reason)) = planned {
            let from = current(situation.installed, release.app()).and_then(|package| package.release.clone());
            decision.plan.steps.push(Step::Install { release: release.clone(), from, reason });
        }
        decision.report.note(release.app(), cause);
    }
    leave_or_remove(situation, &mut decision);
    // Ours goes last: installing it ends this process, and the next one finds nothing else half-done.
    decision.plan.steps.sort_by_key(|step| step.app().as_str() == OWN_PACKAGE);
    decision
}

/// The steps as they are carried out, one batch after the other. Normally they are one, with pulld itself at its end. After
/// a crash, or a cycle that failed, pulld goes first and alone: what keeps the agent from reaching its own entry must not
/// keep its cure out.
pub(crate) fn batches(steps: Vec<Step>, own_first: bool) -> Vec<Vec<Step>> {
    let is_own = |step: &Step| step.app().as_str() == OWN_PACKAGE;
    let (own, others) = if own_first { steps.into_iter().partition(is_own) } else { (Vec::new(), steps) };
    [own, others].into_iter().filter(|batch| !batch.is_empty()).collect()
}

/// Why something is installed of an app whose desired release, this one, is quarantined: dpkg calls a package of it broken,
/// because the rollback failed too, or the machine kept it from being rolled back.
///
/// Then the release that was there before is installed once more, with the delays of a retry, and what was left in packages
/// of other names goes. Where it isn't known, which is so after a first install, the quarantined release itself is tried if
/// nothing sound of the app is there that this could break. Should it fail again, for as long as the machine is broken, the
/// app stays degraded.
fn repair(situation: &Situation, release: &ReleaseName) -> Option<Reason> {
    let Situation { installed, quarantine, .. } = situation;
    let app = release.app();
    let is_broken = if quarantine.repair(release) == release {
        current(installed, app).is_some_and(InstalledPackage::is_broken)
    } else {
        installed.iter().any(|package| package.is_broken() && is_cleared_with(package, app))
    };
    // Also where the release before is there, as far as dpkg knows: it may lack files that went with the bad one.
    let held = quarantine.holds(release).filter(|held| held.previous.is_some());
    let awaits_rollback = held.is_some_and(|held| held.failure.awaits_rollback());
    let reason = if is_broken { Some(Reason::Repair) } else { awaits_rollback.then_some(Reason::RollbackAgain) };
    reason.filter(|_| package_on_hold(installed, app).is_none())
}

/// What is removed with the installation of `release` in `package`: other packages of the app, from before it changed its
/// package's name or from a release that did, which dpkg calls broken or whose release is quarantined.
pub(crate) fn left_behind<'a>(
    installed: &'a [InstalledPackage],
    (release, package): (&ReleaseName, &str),
    quarantine: &Quarantine,
) -> Vec<&'a InstalledPackage> {
    let is_other = |there: &&InstalledPackage| there.package != package && is_cleared_with(there, release.app());
    installed.iter().filter(is_other).filter(|there| !there.on_hold && is_bad(there, release, quarantine)).collect()
}

/// Whether dpkg calls a package broken, or what is in it is quarantined and not the `release` to be installed.
pub(crate) fn is_bad(there: &InstalledPackage, release: &ReleaseName, quarantine: &Quarantine) -> bool {
    let is_held = there.release.as_ref().is_some_and(|of| of != release && quarantine.holds(of).is_some());
    there.is_broken() || is_held && there.state == PackageState::Installed
}

/// Whether a package is one of the app's, whichever name it has. pulld's own stays what it is.
fn is_cleared_with(package: &InstalledPackage, app: &AppName) -> bool {
    let is_ours = package.package == OWN_PACKAGE;
    package.release.as_ref().is_some_and(|release| release.app() == app) && is_ours == (app.as_str() == OWN_PACKAGE)
}

/// How the app of a desired release stands.
fn decide(situation: &Situation, release: &ReleaseName) -> Cause {
    if !situation.allowed.allows(release.app().as_str()) {
        return Cause::NotAllowed;
    }
    if let Some(pause) = situation.pauses.of(release.app()) {
        return Cause::Paused(pause.clone());
    }
    // Also when it is installed: it may be there only because it had no rollback target.
    if let Some(held) = situation.quarantine.holds(release) {
        return Cause::Quarantined(held.clone());
    }
    let difference = difference(situation, release);
    if let Some(package) = package_on_hold(situation.installed, release.app()) {
        let kept_from = match difference {
            None => KeptFrom::Nothing,
            Some(Reason::Repair) => KeptFrom::Repairing,
            Some(Reason::Document | Reason::Drift | Reason::Rollback | Reason::RollbackAgain) => KeptFrom::Installing,
        };
        return Cause::OnHold(OnHold { package: package.package.clone(), release: release.clone(), kept_from });
    }
    difference.map_or(Cause::InPlace, Cause::Planned)
}

/// The package of an app that is on hold: one that came from its releases, or that has its name.
fn package_on_hold<'a>(installed: &'a [InstalledPackage], app: &AppName) -> Option<&'a InstalledPackage> {
    let is_of_app = |package: &InstalledPackage| match &package.release {
        Some(release) => release.app() == app,
        None => package.package == app.as_str(),
    };
    // It may have two: whichever is told, it is the same one in whatever order dpkg lists them.
    let on_hold = installed.iter().filter(|package| package.on_hold && is_of_app(package));
    on_hold.min_by_key(|package| &package.package)
}

/// Why `release` has to be installed, if it has.
fn difference(situation: &Situation, release: &ReleaseName) -> Option<Reason> {
    let Situation { installed, quarantine, .. } = situation;
    let Some(same) = installed.iter().find(|package| package.release.as_ref() == Some(release)) else {
        return Some(absence(situation));
    };
    let has_left = || !left_behind(installed, (release, &same.package), quarantine).is_empty();
    match same.state {
        PackageState::Installed => has_left().then_some(Reason::Repair),
        PackageState::Broken(_) => Some(Reason::Repair),
        PackageState::Absent => Some(absence(situation)),
    }
}

/// Why a release has to be installed that is not there.
fn absence(situation: &Situation) -> Reason {
    if situation.settled { Reason::Drift } else { Reason::Document }
}

/// The package that an app is in now: the newest, if it changed its package's name and left one behind.
pub(crate) fn current<'a>(installed: &'a [InstalledPackage], app: &AppName) -> Option<&'a InstalledPackage> {
    of_app(installed, app).max_by(|a, b| a.release.cmp(&b.release))
}

/// The package that `release` takes the place of: of the app's packages that are in order the newest, if there are any.
pub(crate) fn replaced<'a>(
    installed: &'a [InstalledPackage],
    release: &ReleaseName,
    quarantine: &Quarantine,
) -> Option<&'a InstalledPackage> {
    let rank = |package: &&InstalledPackage| (!is_bad(package, release, quarantine), package.release.clone());
    of_app(installed, release.app()).max_by_key(rank)
}

/// The packages that an app has, whatever dpkg says of them.
pub(crate) fn of_app<'a>(
    installed: &'a [InstalledPackage],
    app: &AppName,
) -> impl Iterator<Item = &'a InstalledPackage> {
    installed.iter().filter(move |package| {
        package.state != PackageState::Absent && package.release.as_ref().is_some_and(|release| release.app() == app)
    })
}

/// Decides about what is installed though the document does not list it.
fn leave_or_remove(situation: &Situation, decision: &mut Decision) {
    let desired = |app: &AppName| situation.document.is_some_and(|document| document.release_of(app).is_some());
    let mut unlisted: BTreeMap<&ReleaseName, &InstalledPackage> = BTreeMap::new();
    for package in situation.installed {
        let Some(release) = package.release.as_ref() else { continue };
        if package.state != PackageState::Absent && !desired(release.app()) {
            unlisted.insert(release, package);
        }
    }
    let why = why_all_stay(situation);
    for (release, package) in unlisted {
        let app = release.app();
        // The agent comes with the base image: a document that does not list it leaves it as it is.
        let ours = app.as_str() == OWN_PACKAGE || package.package == OWN_PACKAGE;
        let cause = match situation.pauses.of(app) {
            Some(pause) => Cause::Paused(pause.clone()),
            None if ours => Cause::InPlace,
            None => match why.unwrap_or_else(|| fate(situation, app)) {
                Unlisted::Removed if package.on_hold => Cause::OnHold(OnHold {
                    package: package.package.clone(),
                    release: release.clone(),
                    kept_from: KeptFrom::Removing,
                }),
                unlisted => Cause::Unlisted(unlisted),
            },
        };
        if cause == Cause::Unlisted(Unlisted::Removed) {
            decision.plan.steps.push(Step::Remove { package: package.package.clone(), release: release.clone() });
        }
        decision.report.note(app, cause);
    }
}

/// Why nothing is removed whatever its app, if that is so.
fn why_all_stay(situation: &Situation) -> Option<Unlisted> {
    let Some(document) = situation.document else { return Some(Unlisted::NoDocument) };
    if !situation.prune {
        Some(Unlisted::NoPrune)
    } else if document.bad_entries().next().is_some() || document.unread() > 0 {
        Some(Unlisted::InvalidEntry)
    } else if document.releases().next().is_none() {
        Some(Unlisted::EmptyDocument)
    } else {
        None
    }
}

/// What happens to an app that a document does not list when apps are removed.
fn fate(situation: &Situation, app: &AppName) -> Unlisted {
    let is_placeholder = |entry: &Entry| matches!(entry, Entry::Placeholder { app: named, .. } if named == app);
    if situation.document.is_some_and(|document| document.entries().iter().any(is_placeholder)) {
        Unlisted::NoRelease
    } else if situation.allowed.allows(app.as_str()) {
        Unlisted::Removed
    } else {
        Unlisted::NotAllowed
    }
}
