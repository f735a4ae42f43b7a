//! What dpkg and dpkg-query print, parsed.

use std::collections::BTreeMap;

use bucket::{OwnedUnit, ReleaseName};

use super::super::{
    package_changes::AllPackages,
    package_manager::{AvailablePackage, InstalledPackage},
    package_state::PackageState,
};

/// Most changed files that are reported of one package.
const MAX_CHANGED: usize = 20;

// Control fields are text: these two never occur in it, unlike tabs and newlines.
pub(super) const FIELD: char = '\u{1f}';
pub(super) const RECORD: char = '\u{1e}';

fn records(listing: &str) -> impl Iterator<Item = Vec<&str>> {
    listing.split(RECORD).filter(|record| !record.is_empty()).map(|record| record.split(FIELD).collect())
}

pub(super) fn parse_packages(listing: &str, also: &[String]) -> Vec<InstalledPackage> {
    let mut packages: BTreeMap<&str, InstalledPackage> = BTreeMap::new();
    for record in records(listing) {
        let [package, version, status, _, release, units] = record[..] else { continue };
        let release = ReleaseName::from_stem(release.trim()).ok();
        let on_hold = status.starts_with('h');
        if release.is_none() && !on_hold && !also.iter().any(|name| name == package) {
            continue;
        }
        let units = OwnedUnit::parse_all(units).unwrap_or_default();
        let found = InstalledPackage {
            package: package.to_owned(),
            version: version.to_owned(),
            state: PackageState::parse(status),
            on_hold,
            release,
            units,
        };
        // Of several architectures the one that is there counts.
        let known = packages.entry(package).or_insert_with(|| found.clone());
        if known.state == PackageState::Absent {
            *known = found;
        }
    }
    packages.into_values().collect()
}

pub(super) fn parse_available(listing: &str) -> Vec<AvailablePackage> {
    let installed = records(listing).filter_map(|record| match record[..] {
        [package, version, status, provides, ..] if PackageState::parse(status) == PackageState::Installed => {
            Some(AvailablePackage {
                package: package.to_owned(),
                version: version.to_owned(),
                provides: provides.to_owned(),
            })
        }
        _ => None,
    });
    installed.collect()
}

/// The format of dpkg-query(1) of which [`parse_all_packages`] reads the listing.
pub(in crate::machine) const ALL_PACKAGES: &str = "${binary:Package}\u{1f}${Version}\u{1f}${db:Status-Abbrev}\u{1e}";

pub(in crate::machine) fn parse_all_packages(listing: &str) -> AllPackages {
    let packages = records(listing).filter_map(|record| match record[..] {
        [package, version, status] => Some((package.to_owned(), (version.to_owned(), PackageState::parse(status)))),
        _ => None,
    });
    packages.collect()
}

/// dpkg(1), `--verify`: `??5?????? c /etc/x`; a `c` marks a conffile, which people are meant to change.
pub(super) fn parse_verify(listing: &str) -> Vec<String> {
    let changed = listing.lines().filter_map(|line| {
        let (flags, rest) = line.split_once(' ')?;
        let rest = rest.trim_start();
        let (attribute, path) = rest.split_once(' ').unwrap_or(("", rest));
        let (attribute, path) = if attribute.len() == 1 { (attribute, path.trim_start()) } else { ("", rest) };
        let known = flags == "missing" || flags.len() == 9;
        (known && attribute != "c" && path.starts_with('/')).then(|| {
            let what = if flags == "missing" { "missing" } else { "changed" };
            format!("{} {what}", path.escape_debug())
        })
    });
    changed.take(MAX_CHANGED).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const STEM: &str = "web:dev@build-1:2026-11-20T19:05:02Z:7e0ff6059e653eb75a36efb621d0fd66d1ced433";

    fn listing(records: &[[&str; 6]]) -> String {
        records.iter().map(|record| record.join(&FIELD.to_string()) + &RECORD.to_string()).collect()
    }

    #[test]
    fn only_our_packages_those_on_hold_and_those_asked_for_are_told() {
        let listing = listing(&[
            ["bash", "5.2", "ii ", "", "", ""],
            ["web", "0+1", "ii ", "", STEM, "web.service=restart"],
            ["nginx", "1.22", "ii ", "", "", ""],
            ["linux-image", "6.1", "hi ", "", "", ""],
            ["api", "0+2", "iHR", "", STEM, ""],
            ["old", "", "rc ", "", STEM, ""],
        ]);
        let found: Vec<_> = parse_packages(&listing, &["nginx".to_owned()])
            .into_iter()
            .map(|found| (found.package, found.state, found.on_hold))
            .collect();
        let broken = PackageState::Broken("iHR".to_owned());
        let want = [
            ("api", broken, false),
            ("linux-image", PackageState::Installed, true),
            ("nginx", PackageState::Installed, false),
            ("old", PackageState::Absent, false),
            ("web", PackageState::Installed, false),
        ];
        assert_eq!(found, want.map(|(name, state, on_hold)| (name.to_owned(), state, on_hold)));
    }

    #[test]
    fn every_package_is_listed_with_its_version_and_state() {
        let record = |fields: [&str; 3]| fields.join(&FIELD.to_string()) + &RECORD.to_string();
        let listing = record(["libc6:amd64", "2.36-9", "ii "]) + &record(["old", "", "un "]) + "torn";
        let absent = ("old".to_owned(), (String::new(), PackageState::Absent));
        let there = ("libc6:amd64".to_owned(), ("2.36-9".to_owned(), PackageState::Installed));
        assert_eq!(parse_all_packages(&listing), AllPackages::from([absent, there]));
    }

    #[test]
    fn a_changed_conffile_is_not_drift() {
        let listing =
            "??5?????? c /etc/web.conf\n??5??????   /usr/bin/web\nmissing     /usr/share/web/a b\nmissing   c /etc/x\n";
        assert_eq!(parse_verify(listing), ["/usr/bin/web changed", "/usr/share/web/a b missing"]);
    }
}
