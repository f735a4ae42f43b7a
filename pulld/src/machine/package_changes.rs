//! What changed between two listings of all packages: after a dpkg run, whatever the packages said of themselves. Pure.

use std::{collections::BTreeMap, fmt};

use bucket::Timestamp;
use serde::{Deserialize, Serialize};

use super::package_state::PackageState;

/// Most changes that are told, of those that nobody planned: whoever caused more has said enough.
pub(super) const MAX_CHANGES: usize = 20;

/// Most characters of a version that are told.
const MAX_VERSION: usize = 80;

/// Every package of the machine, by name: its version, and what dpkg thinks of it.
pub(crate) type AllPackages = BTreeMap<String, (String, PackageState)>;

/// A package that is another one than before.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PackageChange {
    /// Its name, with its architecture where dpkg needs that to tell it from others (`libc6:i386`).
    pub(crate) package: String,
    /// What was there before: its version, with dpkg's letters if it was broken; `None` when it wasn't there.
    pub(crate) before: Option<String>,
    /// What is there now, in the same words.
    pub(crate) after: Option<String>,
    /// Since when it may have changed, if that was before the last dpkg run began: then somebody else may have done it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) since: Option<Timestamp>,
}

/// Whether a package that is listed, some of them as `name:architecture`, has that name.
pub(super) fn is_named(listed: &str, package: &str) -> bool {
    listed.split(':').next() == Some(package)
}

impl PackageChange {
    /// Whether it is about a package of that name, of any architecture.
    pub(crate) fn is_of(&self, package: &str) -> bool {
        is_named(&self.package, package)
    }

    /// Whether it is about any of these.
    pub(crate) fn is_of_any(&self, packages: &[String]) -> bool {
        packages.iter().any(|package| self.is_of(package))
    }
}

/// In a clause: "`libc6` is 0+1 instead of 2.36", "`nginx` 1.22 was removed (since 2026-11-20T21:00:00Z, by it or by somebody
/// else)".
impl fmt::Display for PackageChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let escaped = |version: &str| version.escape_debug().to_string();
        write!(f, "`{}` ", self.package.escape_debug())?;
        match (&self.before, &self.after) {
            (Some(before), Some(after)) => write!(f, "is {} instead of {}", escaped(after), escaped(before)),
            (Some(before), None) => write!(f, "{} was removed", escaped(before)),
            (None, Some(after)) => write!(f, "{} was installed", escaped(after)),
            (None, None) => f.write_str("is as before"),
        }?;
        match self.since {
            Some(since) => write!(f, " (since {since:.0}, by it or by somebody else)"),
            None => Ok(()),
        }
    }
}

/// The packages that are other ones than before, without those that were `planned`, by name and of any architecture: at
/// most 20 of them. One that was broken and is sound now was repaired, and one whose triggers are yet to run is only
/// waiting: neither is a change.
pub(crate) fn changes(before: &AllPackages, after: &AllPackages, planned: &[String]) -> Vec<PackageChange> {
    let names: std::collections::BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    let changed = names.into_iter().filter_map(|name| {
        let (was, is) = (before.get(name), after.get(name));
        let state = |found: Option<&Found>| found.and_then(present).map(told);
        differs(was, is).then(|| PackageChange {
            package: name.clone(),
            before: state(was),
            after: state(is),
            since: None,
        })
    });
    changed.filter(|change| !change.is_of_any(planned)).take(MAX_CHANGES).collect()
}

/// What dpkg has of a package.
type Found = (String, PackageState);

/// Whether a package is another one than it was.
pub(super) fn differs(was: Option<&Found>, is: Option<&Found>) -> bool {
    let (was, is) = (was.and_then(present), is.and_then(present));
    let version = |found: Option<&Found>| found.map(|(version, _)| version.clone());
    let is_sound = |found: Option<&Found>| found.is_none_or(|(_, state)| !is_broken(state));
    version(was) != version(is) || (is_sound(was) && !is_sound(is))
}

/// Whether the package is still as the change left it.
pub(super) fn still_holds(change: &PackageChange, now: &AllPackages) -> bool {
    now.get(&change.package).and_then(present).map(told) == change.after
}

/// A package, unless it is only known by its leftover conffiles.
fn present(found: &Found) -> Option<&Found> {
    (found.1 != PackageState::Absent).then_some(found)
}

fn told((version, state): &Found) -> String {
    let version: String = version.chars().take(MAX_VERSION).collect();
    match state {
        PackageState::Broken(letters) if is_broken(state) => format!("{version} ({letters})"),
        PackageState::Broken(_) | PackageState::Installed | PackageState::Absent => version,
    }
}

/// dpkg-query(1): `W` and `t` are the states of a package that is whole, and whose triggers, or another's, are yet to run.
fn is_broken(state: &PackageState) -> bool {
    matches!(state, PackageState::Broken(letters) if !matches!(letters.get(1..), Some("W" | "t")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listing(packages: &[(&str, &str, &str)]) -> AllPackages {
        let state = |letters: &str| match letters {
            "ii" => PackageState::Installed,
            "rc" => PackageState::Absent,
            letters => PackageState::Broken(letters.to_owned()),
        };
        let packages = packages.iter();
        packages.map(|(name, version, letters)| ((*name).to_owned(), ((*version).to_owned(), state(letters)))).collect()
    }

    fn told(before: &[(&str, &str, &str)], after: &[(&str, &str, &str)]) -> Vec<String> {
        changes(&listing(before), &listing(after), &[]).iter().map(PackageChange::to_string).collect()
    }

    #[test]
    fn what_came_went_or_broke_is_told_by_name() {
        let before = [("a", "1", "ii"), ("b", "1", "ii"), ("c", "1", "ii"), ("d", "1", "ii"), ("old", "1", "rc")];
        let after = [("a", "2", "ii"), ("c", "1", "iF"), ("d", "1", "ii"), ("e", "1\u{1b}", "iU"), ("old", "1", "rc")];
        let want = [
            "`a` is 2 instead of 1",
            "`b` 1 was removed",
            "`c` is 1 (iF) instead of 1",
            "`e` 1\\u{1b} (iU) was installed",
        ];
        assert_eq!(told(&before, &after), want);
        assert!(changes(&listing(&before), &listing(&after), &[])[0].is_of("a"));
        let foreign = changes(&listing(&[]), &listing(&[("libc6:i386", "1", "ii")]), &[]);
        assert!(foreign[0].is_of("libc6") && !foreign[0].is_of("libc"));
    }

    #[test]
    fn what_was_repaired_or_waits_for_triggers_is_as_before() {
        let before = [("a", "1", "iF"), ("b", "1", "ii"), ("c", "1", "ii"), ("d", "1", "iHR"), ("e", "1", "it")];
        let after = [("a", "1", "ii"), ("b", "1", "iW"), ("c", "1", "it"), ("d", "1", "iHR"), ("e", "1", "ii")];
        assert_eq!(told(&before, &after), [""; 0]);
    }

    #[test]
    fn however_much_changes_little_is_told() {
        let many = (0..1000).map(|n| (format!("p{n:04}"), ("9".repeat(10_000), PackageState::Installed))).collect();
        let told: Vec<String> = changes(&AllPackages::new(), &many, &[]).iter().map(PackageChange::to_string).collect();
        assert_eq!(told.len(), 20);
        assert!(told.concat().len() < 3000);
    }

    #[test]
    fn what_nobody_planned_is_told_however_much_was_planned() {
        let planned: Vec<String> = (0..25).map(|n| format!("app-{n:02}")).collect();
        let mut before: AllPackages = [("zz-extra".to_owned(), ("3".to_owned(), PackageState::Installed))].into();
        before.insert("app-00:i386".to_owned(), ("1".to_owned(), PackageState::Installed));
        let after = planned.iter().map(|name| (name.clone(), ("1".to_owned(), PackageState::Installed))).collect();
        let told: Vec<String> = changes(&before, &after, &planned).iter().map(PackageChange::to_string).collect();
        assert_eq!(told, ["`zz-extra` 3 was removed"]);
    }
}
