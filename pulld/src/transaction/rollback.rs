//! The way back of the apps that didn't stay up. Pure: no I/O, no clock.
//!
//! Decided from what dpkg says now, not from what was tried: planning it again after an interruption gives what is
//! left to do.

use std::path::PathBuf;

use crate::{
    machine::{InstalledPackage, PackageState},
    transaction::record::{AppUpdate, RollbackTarget},
};

/// What undoing one change takes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Undo {
    /// The `.deb` of what was there, unless it is there.
    pub(crate) install: Option<PathBuf>,
    /// The package that wasn't there, if it is.
    pub(crate) remove: Option<String>,
}

impl Undo {
    /// Whether dpkg has nothing to do.
    pub(crate) fn is_nothing(&self) -> bool {
        self.install.is_none() && self.remove.is_none()
    }
}

/// What undoing `update` takes on a machine that has `installed`.
///
/// # Errors
/// Why there is no way back, as a sentence. When what was there is still there, none is needed.
pub(crate) fn undo(update: &AppUpdate, installed: &[InstalledPackage]) -> Result<Undo, String> {
    let state = |name: &str| installed.iter().find(|package| package.package == name);
    let present = |name: &str| state(name).is_some_and(|package| package.state != PackageState::Absent);
    let restored = update.before.as_ref().is_some_and(|before| {
        state(&before.package).is_some_and(|package| {
            package.state == PackageState::Installed && package.release.as_ref() == Some(&before.release)
        })
    });
    let renamed = update.before.as_ref().is_some_and(|before| before.package != update.package);
    let remove = (update.first && (update.before.is_none() || renamed) && present(&update.package))
        .then(|| update.package.clone());
    match &update.rollback_target {
        RollbackTarget::Deb(_) if restored => Ok(Undo { install: None, remove }),
        RollbackTarget::Deb(deb) => Ok(Undo { install: Some(deb.clone()), remove }),
        RollbackTarget::Remove => Ok(Undo { install: None, remove }),
        // dpkg itself undid it, or a repair of this very release worked in the end.
        RollbackTarget::None { .. } if restored => Ok(Undo::default()),
        RollbackTarget::None { reason } => Err(reason.clone()),
    }
}

#[cfg(test)]
mod tests {
    use super::super::record::{Before, Target};
    use super::*;
    use crate::machine::fake::release;

    /// A change that installs a release for the first time.
    fn update(app: &str, minute: u8) -> AppUpdate {
        let release = release(app, minute);
        AppUpdate {
            app: release.app().clone(),
            package: app.to_owned(),
            target: Target::Release { release, deb: "/new.deb".into() },
            before: None,
            first: true,
            rollback_target: RollbackTarget::Remove,
            check: None,
            units: vec![],
            replaced: false,
            failure: None,
            outcome: None,
        }
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
    fn an_upgrade_goes_back_to_the_deb_that_was_there_unless_it_is_there() {
        let mut update = update("web", 2);
        update.before = Some(Before { package: "web".into(), release: release("web", 1) });
        update.rollback_target = RollbackTarget::Deb("/old.deb".into());
        update.first = false;
        let undone = |state| undo(&update, &[state]).unwrap();
        let back = Undo { install: Some("/old.deb".into()), remove: None };
        assert_eq!(undone(there("web", 2, PackageState::Installed)), back);
        assert_eq!(undone(there("web", 1, PackageState::Broken("iHR".into()))), back);
        assert!(undone(there("web", 1, PackageState::Installed)).is_nothing());
    }

    #[test]
    fn a_first_install_is_removed_if_it_is_there() {
        let mut update = update("web", 2);
        update.rollback_target = RollbackTarget::Remove;
        let undone = |state| undo(&update, &[there("web", 2, state)]).unwrap();
        assert_eq!(undone(PackageState::Broken("iF".into())).remove.as_deref(), Some("web"));
        assert!(undone(PackageState::Absent).is_nothing());
        assert!(undo(&update, &[]).unwrap().is_nothing());
    }

    #[test]
    fn an_app_that_renamed_its_package_gets_the_old_one_and_loses_the_new_one() {
        let mut update = update("web", 2);
        update.package = "web2".into();
        update.before = Some(Before { package: "web".into(), release: release("web", 1) });
        update.rollback_target = RollbackTarget::Deb("/old.deb".into());
        let undone = undo(&update, &[there("web2", 2, PackageState::Installed)]).unwrap();
        assert_eq!(undone, Undo { install: Some("/old.deb".into()), remove: Some("web2".into()) });
    }

    #[test]
    fn without_a_way_back_the_reason_is_told() {
        let mut update = update("web", 2);
        update.rollback_target = RollbackTarget::None { reason: "gone".into() };
        assert_eq!(undo(&update, &[there("web", 2, PackageState::Installed)]), Err("gone".into()));
    }
}
