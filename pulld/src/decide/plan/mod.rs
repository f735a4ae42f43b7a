//! What to do so that the machine matches its document. Pure: no I/O, no clock.
//!
//! The same inputs give the same plan, a plan carried out leaves nothing to plan, and nothing is ever removed that
//! didn't come from a release, that the document names, or that is pulld itself.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use bucket::{AppName, Entry, ReleaseName, ServerDocument};
use serde::Serialize;

use crate::{
    decide::allowed_apps::AllowedApps,
    machine::{InstalledPackage, OWN_PACKAGE, PackageState},
    state::quarantine::{Quarantine, Quarantined},
};

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
    /// Whether apps that the document does not list are removed.
    pub(crate) prune: bool,
}

/// The ordered work, and what is left as it is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Plan {
    /// In the order of the document, removals after installs, pulld itself last.
    pub(crate) steps: Vec<Step>,
    /// Releases whose app the configuration does not allow.
    pub(crate) refused: Vec<ReleaseName>,
    /// Installed releases whose app the document does not list, and that stay.
    pub(crate) orphans: Vec<ReleaseName>,
    /// Releases that the document lists and that are not retried.
    pub(crate) quarantined: Vec<Quarantined>,
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

/// Why a release is installed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Reason {
    /// The document asks for another release than is installed.
    Document,
    /// The document's release was installed, and was changed by hand since.
    Drift,
    /// The document's release is installed, but dpkg says it is broken.
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
    let releases: Vec<&ReleaseName> = situation.document.iter().flat_map(|document| document.releases()).collect();
    for release in &releases {
        if !situation.allowed.allows(release.app().as_str()) {
            plan.refused.push((*release).clone());
            continue;
        }
        // Also when it is installed: it may be there only because it had no rollback target.
        if let Some(held) = situation.quarantine.holds(release) {
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

/// Adds what is installed though the document does not list it: it is removed or left as an orphan.
fn leave_or_remove(situation: &Situation, plan: &mut Plan) {
    let named: BTreeSet<&AppName> = situation
        .document
        .iter()
        .flat_map(|document| document.entries())
        .filter_map(|entry| match entry {
            Entry::Release(release) => Some(release.app()),
            Entry::Placeholder(app) => Some(app),
            Entry::Bad { .. } => None,
        })
        .collect();
    // An empty document is more likely a mistake than a wish, and a bad entry may be the name of the very app.
    let sure = situation
        .document
        .is_some_and(|document| document.releases().next().is_some() && document.bad_entries().next().is_none());
    let mut orphans: BTreeMap<&ReleaseName, &InstalledPackage> = BTreeMap::new();
    for package in situation.installed {
        let Some(release) = package.release.as_ref() else { continue };
        // The agent comes with the base image: a document that does not list it leaves it as it is.
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
