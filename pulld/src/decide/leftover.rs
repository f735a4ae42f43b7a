//! Which units no installed release has any more, and what becomes of them. Pure: no I/O, no clock.

use crate::machine::{InstalledPackage, LoadState, PackageState, UnitState};

use super::{instances::is_used, units::UnitBefore};

/// What becomes of a unit after an update or a rollback.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Leftover {
    /// Nothing: a release has it, or its file is another's.
    No,
    /// Its package masked it when it was removed: only that it failed is forgotten.
    Forget,
    /// It is stopped and disabled, and that it failed is forgotten.
    Retire,
}

/// What becomes of a unit of the previous or the new release, on a machine that has `installed`.
pub(crate) fn leftover(before: &UnitBefore, now: &UnitState, installed: &[InstalledPackage]) -> Leftover {
    let name = &before.unit.name;
    let present = || installed.iter().filter(|package| package.state != PackageState::Absent);
    let owned = |name| present().flat_map(|package| &package.units).any(|unit| unit.name == name);
    if name.is_template() || owned(name.clone()) {
        return Leftover::No;
    }
    match now.load {
        LoadState::NotFound => Leftover::Retire,
        LoadState::Masked => Leftover::Forget,
        // The file is there: of another package, of an administrator, or the template of an instance that a release
        // brought. What the machine had before the release came is the machine's.
        _ => {
            let of_release = !before.by_machine && name.template().is_some_and(owned);
            let came_with_it = !before.wanted || !is_used(&before.was);
            if of_release && came_with_it { Leftover::Retire } else { Leftover::No }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::fake::{release, running, unit_state};
    use bucket::OwnedUnit;

    fn before(name: &str, wanted: bool, was: UnitState) -> UnitBefore {
        UnitBefore::new(format!("{name}=restart").parse().unwrap(), wanted, was)
    }

    fn installed(units: &str, state: PackageState) -> Vec<InstalledPackage> {
        let units = OwnedUnit::parse_all(units).unwrap();
        vec![InstalledPackage {
            package: "web".into(),
            version: "1".into(),
            state,
            on_hold: false,
            release: Some(release("web", 1)),
            units,
        }]
    }

    #[test]
    fn what_no_release_has_and_no_file_says_is_retired() {
        let gone = || UnitState { load: LoadState::NotFound, ..running("a") };
        let masked = || UnitState { load: LoadState::Masked, ..unit_state("failed", "failed") };
        let idle = || UnitState { file_state: "disabled".to_owned().into(), ..unit_state("inactive", "dead") };
        let there = PackageState::Installed;
        for (case, unit, now, owned, expected) in [
            ("dropped", before("old.service", false, running("a")), gone(), "web.service=restart", Leftover::Retire),
            (
                "moved to another app",
                before("old.service", false, running("a")),
                running("a"),
                "old.service=restart",
                Leftover::No,
            ),
            ("of another package", before("nginx.service", false, running("a")), running("a"), "", Leftover::No),
            ("its package was removed", before("old.service", false, running("a")), masked(), "", Leftover::Forget),
            (
                "added and rolled back",
                before("new.service", true, gone()),
                gone(),
                "web.service=restart",
                Leftover::Retire,
            ),
            (
                "dropped instance",
                before("x@b.service", false, running("a")),
                running("a"),
                "x@.service=restart",
                Leftover::Retire,
            ),
            (
                "added instance",
                before("x@b.service", true, idle()),
                running("b"),
                "x@.service=restart",
                Leftover::Retire,
            ),
            (
                "instance that was there",
                before("x@b.service", true, running("a")),
                running("b"),
                "x@.service=restart",
                Leftover::No,
            ),
        ] {
            assert_eq!(leftover(&unit, &now, &installed(owned, there.clone())), expected, "{case}");
        }
        let by_machine = UnitBefore { by_machine: true, ..before("x@b.service", false, running("a")) };
        assert_eq!(leftover(&by_machine, &running("a"), &installed("x@.service=restart", there)), Leftover::No);
        let absent = installed("old.service=restart", PackageState::Absent);
        assert_eq!(leftover(&before("old.service", false, running("a")), &gone(), &absent), Leftover::Retire);
    }
}
