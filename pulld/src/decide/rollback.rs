//! What rolling back an app takes. Pure: no I/O, no clock.
//!
//! Decided from what dpkg has now, not from what was tried: deciding again after an interruption gives what is left to
//! do.

use std::{fmt, path::PathBuf};

use bucket::ReleaseName;
use serde::{Deserialize, Serialize};

use crate::machine::{InstalledPackage, PackageState};

/// What was installed of an app before it was updated: the rollback target, if there is one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Previous {
    /// Nothing: rolling back removes the package of the update.
    Nothing,
    /// A release whose verified file is on disk: rolling back installs it.
    Package {
        /// What was installed.
        installed: PreviousPackage,
        /// The verified file of that release.
        deb: PathBuf,
        /// Whether the update's own package is one more, of another name, that rolling back removes.
        adds_package: bool,
    },
    /// Something that cannot be installed again.
    Unavailable {
        /// The release that was installed; `None` for a package that did not come from a release.
        installed: Option<PreviousPackage>,
        /// Why it cannot be installed again.
        reason: NoRollbackTarget,
    },
}

/// The package of an app before its update. Its name is not always that of the update's package.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PreviousPackage {
    /// Its Debian package name.
    pub(crate) package: String,
    /// The release it came from.
    pub(crate) release: ReleaseName,
}

/// Why an app cannot be rolled back, in a sentence.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct NoRollbackTarget {
    sentence: String,
}

/// The dpkg run that rolls an app back.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Undo {
    /// The `.deb` of the previous release, unless that is installed.
    pub(crate) install: Option<PathBuf>,
    /// The package that was not installed before, if it is now.
    pub(crate) remove: Option<String>,
}

impl Undo {
    /// Whether dpkg has nothing to do.
    pub(crate) fn is_nothing(&self) -> bool {
        self.install.is_none() && self.remove.is_none()
    }
}

impl Previous {
    /// The release that was installed, and its package.
    pub(crate) fn installed(&self) -> Option<&PreviousPackage> {
        match self {
            Self::Package { installed, .. } | Self::Unavailable { installed: Some(installed), .. } => Some(installed),
            Self::Nothing | Self::Unavailable { installed: None, .. } => None,
        }
    }

    /// What rolling back an update of `package` takes on a machine that has `installed`.
    ///
    /// # Errors
    /// Why there is no rollback target. None is needed while the previous release is still installed.
    pub(crate) fn undo(&self, package: &str, installed: &[InstalledPackage]) -> Result<Undo, NoRollbackTarget> {
        let find = |name: &str| installed.iter().find(|package| package.package == name);
        let present = find(package).is_some_and(|package| package.state != PackageState::Absent);
        let restored = self.installed().is_some_and(|previous| {
            find(&previous.package).is_some_and(|package| {
                package.state == PackageState::Installed && package.release.as_ref() == Some(&previous.release)
            })
        });
        match self {
            Self::Nothing => Ok(Undo { install: None, remove: present.then(|| package.to_owned()) }),
            Self::Package { deb, adds_package, .. } => Ok(Undo {
                install: (!restored).then(|| deb.clone()),
                remove: (*adds_package && present).then(|| package.to_owned()),
            }),
            // dpkg itself undid it, or a repair of this very release worked in the end.
            Self::Unavailable { .. } if restored => Ok(Undo::default()),
            Self::Unavailable { reason, .. } => Err(reason.clone()),
        }
    }

    /// Whether the machine is as before an update of `package`, or was never changed by it.
    pub(crate) fn is_restored(&self, package: &str, installed: &[InstalledPackage]) -> bool {
        self.undo(package, installed).is_ok_and(|undo| undo.is_nothing())
    }
}

impl NoRollbackTarget {
    /// The reason as a sentence, without full stop.
    pub(crate) fn new(sentence: impl Into<String>) -> Self {
        Self { sentence: sentence.into() }
    }
}

impl fmt::Display for NoRollbackTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.sentence)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::fake::release;

    fn web(minute: u8) -> PreviousPackage {
        PreviousPackage { package: "web".into(), release: release("web", minute) }
    }

    fn there(package: &str, minute: u8, state: PackageState) -> InstalledPackage {
        InstalledPackage {
            package: package.to_owned(),
            version: String::new(),
            state,
            release: Some(release("web", minute)),
            units: vec![],
        }
    }

    #[test]
    fn an_upgrade_rolls_back_to_the_previous_deb_unless_that_is_installed() {
        let previous = Previous::Package { installed: web(1), deb: "/old.deb".into(), adds_package: false };
        let undone = |package| previous.undo("web", &[package]).unwrap();
        let back = Undo { install: Some("/old.deb".into()), remove: None };
        assert_eq!(undone(there("web", 2, PackageState::Installed)), back);
        assert_eq!(undone(there("web", 1, PackageState::Broken("iHR".into()))), back);
        assert!(undone(there("web", 1, PackageState::Installed)).is_nothing());
    }

    #[test]
    fn a_first_install_is_removed_if_it_is_there() {
        let undone = |state| Previous::Nothing.undo("web", &[there("web", 2, state)]).unwrap();
        assert_eq!(undone(PackageState::Broken("iF".into())).remove.as_deref(), Some("web"));
        assert!(undone(PackageState::Absent).is_nothing());
        assert!(Previous::Nothing.undo("web", &[]).unwrap().is_nothing());
    }

    #[test]
    fn an_app_that_renamed_its_package_gets_the_old_one_and_loses_the_new_one() {
        let previous = Previous::Package { installed: web(1), deb: "/old.deb".into(), adds_package: true };
        let undone = previous.undo("web2", &[there("web2", 2, PackageState::Installed)]).unwrap();
        assert_eq!(undone, Undo { install: Some("/old.deb".into()), remove: Some("web2".into()) });
    }

    #[test]
    fn without_a_rollback_target_the_reason_is_told_unless_nothing_changed() {
        let gone = NoRollbackTarget::new("gone");
        let previous = Previous::Unavailable { installed: Some(web(1)), reason: gone.clone() };
        assert_eq!(previous.undo("web", &[there("web", 2, PackageState::Installed)]), Err(gone));
        assert!(previous.is_restored("web", &[there("web", 1, PackageState::Installed)]));
    }
}
