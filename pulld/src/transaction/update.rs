//! One app of a transaction: what its package shall become, what it was, and how far it is.

use std::path::PathBuf;

use bucket::{AppName, Check, ReleaseName};
use serde::{Deserialize, Serialize};

use crate::{
    decide::{
        rollback::{Previous, PreviousPackage, Undo},
        units::UnitBefore,
    },
    failure::{Fault, NoRollbackTarget},
    machine::{InstalledPackage, OWN_PACKAGE, PackageState},
};

use super::progress::{Failed, Outcome, Progress};

/// The installation of one app's release, or the removal of its package.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct AppUpdate {
    /// The app.
    pub(crate) app: AppName,
    /// The package that is installed or removed.
    pub(crate) package: String,
    /// What the package shall become.
    pub(crate) target: Target,
    /// What was installed of the app before.
    pub(crate) previous: Previous,
    /// The release's own check; in the record the words of `Push-Check`, of which earlier agents read a command.
    pub(crate) check: Option<Check>,
    /// The units of the release and of the previous one, as they were before anything changed.
    pub(crate) units: Vec<UnitBefore>,
    /// What else a dpkg run of it changed on the machine, in clauses; `None` as in records of earlier pullds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) unplanned: Option<String>,
    /// How far it is.
    pub(crate) progress: Progress,
}

/// What a package shall become.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Target {
    /// Installed from a release.
    Release {
        /// The release.
        release: ReleaseName,
        /// Its verified file.
        deb: PathBuf,
    },
    /// Removed.
    Removed {
        /// The release it came from.
        release: ReleaseName,
    },
}

impl AppUpdate {
    /// The removal of a package that came from `release`.
    pub(crate) fn removal(package: &str, release: &ReleaseName, units: Vec<UnitBefore>) -> Self {
        Self {
            app: release.app().clone(),
            package: package.to_owned(),
            target: Target::Removed { release: release.clone() },
            previous: Previous::Unavailable {
                installed: Some(PreviousPackage { package: package.to_owned(), release: release.clone() }),
                reason: NoRollbackTarget::Removal,
            },
            check: None,
            units,
            unplanned: None,
            progress: Progress::Forward,
        }
    }

    /// Whether it is pulld itself that is updated.
    pub(crate) fn is_own(&self) -> bool {
        self.package == OWN_PACKAGE
    }

    /// The release that it installs; `None` for a removal.
    pub(crate) fn release(&self) -> Option<&ReleaseName> {
        match &self.target {
            Target::Release { release, .. } => Some(release),
            Target::Removed { .. } => None,
        }
    }

    /// What it is called in messages: the ID of its release, or the package that is removed.
    pub(crate) fn title(&self) -> &str {
        self.release().map_or(&self.package, ReleaseName::stem)
    }

    /// The ID of the release that was installed before, if one was.
    pub(crate) fn previous_title(&self) -> Option<&str> {
        self.previous.installed().map(|previous| previous.release.stem())
    }

    /// Notes that it cannot stay; the first failure counts.
    pub(crate) fn fail(&mut self, fault: Fault, release_at_fault: bool) {
        self.progress.fail(Failed { failure: fault.into(), release_at_fault });
    }

    /// Whether it still goes forward.
    pub(crate) fn is_forward(&self) -> bool {
        self.progress.is_forward()
    }

    /// Whether it has to be undone.
    pub(crate) fn has_failed(&self) -> bool {
        self.progress.failure().is_some()
    }

    /// How it ended, if it has.
    pub(crate) fn outcome(&self) -> Option<&Outcome> {
        self.progress.outcome()
    }

    /// Whether dpkg has the package as it shall become.
    pub(crate) fn is_in_place(&self, installed: &[InstalledPackage]) -> bool {
        let found = installed.iter().find(|package| package.package == self.package);
        match &self.target {
            Target::Release { release, .. } => found.is_some_and(|package| {
                package.state == PackageState::Installed && package.release.as_ref() == Some(release)
            }),
            Target::Removed { .. } => found.is_none_or(|package| package.state == PackageState::Absent),
        }
    }

    /// What rolling it back takes on a machine that has `installed`.
    ///
    /// # Errors
    /// Why there is no rollback target.
    pub(crate) fn undo(&self, installed: &[InstalledPackage]) -> Result<Undo, NoRollbackTarget> {
        let was_replaced = matches!(self.progress, Progress::RollingBack { replaced: true, .. });
        self.previous.undo(&self.package, installed, was_replaced)
    }

    /// Whether the machine is as it was before the update.
    pub(crate) fn is_undone(&self, installed: &[InstalledPackage]) -> bool {
        self.previous.is_restored(&self.package, installed)
    }
}
