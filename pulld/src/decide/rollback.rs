//! What rolling back an app takes. Pure: no I/O, no clock.
//!
//! Decided from what dpkg has now, not from what was tried: deciding again after an interruption gives what is left to
//! do.

use std::path::PathBuf;

use bucket::ReleaseName;
use serde::{Deserialize, Serialize};

use crate::{
    failure::NoRollbackTarget,
    machine::{InstalledPackage, PackageState},
};

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
        /// Whether rolling back removes the update's own package: it has another name, and nothing sound was in it before.
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

/// The dpkg run that rolls an app back.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Undo {
    /// The `.deb` of the previous release, unless that is installed.
    pub(crate) install: Option<PathBuf>,
    /// The update's own package, if that goes and is there.
    pub(crate) remove: Option<String>,
    /// That package, and the `.deb` of the previous release where that is installed too: once the package is gone, as it may
    /// be already, the release is installed again.
    pub(crate) restore: Option<(String, PathBuf)>,
}

impl Undo {
    /// Whether dpkg has nothing to do.
    pub(crate) fn is_nothing(&self) -> bool {
        self.install.is_none() && self.remove.is_none() && self.restore.is_none()
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

    /// What rolling back an update of `package` takes on a machine that has `installed`. Where dpkg has the previous release
    /// that is nothing, unless that package goes: what it took over from the other goes with it. That it is gone doesn't say
    /// whether the previous release was installed again: it is, if dpkg had changed anything (`was_replaced`).
    ///
    /// # Errors
    /// Why it cannot be done: there is no rollback target, or a package that would change is on hold.
    pub(crate) fn undo(
        &self,
        package: &str,
        installed: &[InstalledPackage],
        was_replaced: bool,
    ) -> Result<Undo, NoRollbackTarget> {
        let find = |name: &str| installed.iter().find(|package| package.package == name);
        let present = find(package).is_some_and(|package| package.state != PackageState::Absent);
        let restored = self.installed().is_some_and(|previous| {
            find(&previous.package).is_some_and(|package| {
                package.state == PackageState::Installed && package.release.as_ref() == Some(&previous.release)
            })
        });
        let undo = match self {
            Self::Nothing => Undo { remove: present.then(|| package.to_owned()), ..Undo::default() },
            Self::Package { deb, adds_package, .. } => {
                let is_again = restored && *adds_package && (present || was_replaced);
                Undo {
                    install: (!restored).then(|| deb.clone()),
                    remove: (*adds_package && present).then(|| package.to_owned()),
                    restore: is_again.then(|| (package.to_owned(), deb.clone())),
                }
            }
            // dpkg itself undid it, or a repair of this very release worked in the end.
            Self::Unavailable { .. } if restored => Undo::default(),
            Self::Unavailable { reason, .. } => return Err(reason.clone()),
        };
        let is_installed = undo.install.is_some() || undo.restore.is_some();
        let restored = self.installed().filter(|_| is_installed).map(|previous| previous.package.as_str());
        let changed = restored.into_iter().chain(undo.remove.as_deref());
        match changed.filter_map(find).find(|package| package.on_hold) {
            Some(package) => Err(NoRollbackTarget::OnHold { package: package.package.clone() }),
            None => Ok(undo),
        }
    }

    /// Whether the machine is as before an update of `package`, or was never changed by it.
    pub(crate) fn is_restored(&self, package: &str, installed: &[InstalledPackage]) -> bool {
        self.undo(package, installed, false).is_ok_and(|undo| undo.is_nothing())
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
            on_hold: false,
            release: Some(release("web", minute)),
            units: vec![],
        }
    }

    #[test]
    fn an_upgrade_rolls_back_to_the_previous_deb_unless_that_is_installed() {
        let previous = Previous::Package { installed: web(1), deb: "/old.deb".into(), adds_package: false };
        let undone = |package| previous.undo("web", &[package], false).unwrap();
        let back = Undo { install: Some("/old.deb".into()), ..Undo::default() };
        assert_eq!(undone(there("web", 2, PackageState::Installed)), back);
        assert_eq!(undone(there("web", 1, PackageState::Broken("iHR".into()))), back);
        assert!(undone(there("web", 1, PackageState::Installed)).is_nothing());
    }

    #[test]
    fn a_first_install_is_removed_if_it_is_there() {
        let undone = |state| Previous::Nothing.undo("web", &[there("web", 2, state)], false).unwrap();
        assert_eq!(undone(PackageState::Broken("iF".into())).remove.as_deref(), Some("web"));
        assert!(undone(PackageState::Absent).is_nothing());
        assert!(Previous::Nothing.undo("web", &[], false).unwrap().is_nothing());
    }

    #[test]
    fn an_app_that_renamed_its_package_gets_the_old_one_and_loses_the_new_one() {
        let previous = Previous::Package { installed: web(1), deb: "/old.deb".into(), adds_package: true };
        let undone = previous.undo("web2", &[there("web2", 2, PackageState::Installed)], false).unwrap();
        let remove = Some("web2".into());
        assert_eq!(undone, Undo { install: Some("/old.deb".into()), remove: remove.clone(), restore: None });
        // They were installed side by side, and the new one may have taken files of the old one.
        let both = [there("web", 1, PackageState::Installed), there("web2", 2, PackageState::Installed)];
        let undone = previous.undo("web2", &both, false).unwrap();
        let restore = Some(("web2".into(), "/old.deb".into()));
        assert_eq!(undone, Undo { install: None, remove, restore: restore.clone() });
        // Whoever is killed after the new one had gone has not necessarily restored the old one.
        let [old, _] = both;
        assert!(previous.is_restored("web2", std::slice::from_ref(&old)));
        assert_eq!(previous.undo("web2", &[old], true), Ok(Undo { restore, ..Undo::default() }));
    }

    #[test]
    fn what_was_put_on_hold_meanwhile_is_left_alone() {
        let held = |package: &str, minute| InstalledPackage {
            on_hold: true,
            ..there(package, minute, PackageState::Installed)
        };
        let previous = Previous::Package { installed: web(1), deb: "/old.deb".into(), adds_package: false };
        let on_hold = |package: &str| Err(NoRollbackTarget::OnHold { package: package.to_owned() });
        assert_eq!(previous.undo("web", &[held("web", 2)], false), on_hold("web"));
        assert!(previous.undo("web", &[held("web", 1)], false).unwrap().is_nothing(), "nothing has to be done");
        let renamed = Previous::Package { installed: web(1), deb: "/old.deb".into(), adds_package: true };
        for package in ["web", "web2"] {
            let mut installed = [there("web", 0, PackageState::Absent), there("web2", 2, PackageState::Installed)];
            installed.iter_mut().filter(|there| there.package == package).for_each(|there| there.on_hold = true);
            assert_eq!(renamed.undo("web2", &installed, false), on_hold(package));
        }
        let both = [held("web", 1), there("web2", 2, PackageState::Installed)];
        assert_eq!(
            renamed.undo("web2", &both, false),
            on_hold("web"),
            "it could not get back what goes with the other"
        );
        assert!(Previous::Nothing.undo("web", &[held("web", 2)], false).is_err());
    }

    #[test]
    fn without_a_rollback_target_the_reason_is_told_unless_nothing_changed() {
        let gone = NoRollbackTarget::NotInBucket(release("web", 1));
        let previous = Previous::Unavailable { installed: Some(web(1)), reason: gone.clone() };
        assert_eq!(previous.undo("web", &[there("web", 2, PackageState::Installed)], false), Err(gone));
        assert!(previous.is_restored("web", &[there("web", 1, PackageState::Installed)]));
    }
}
