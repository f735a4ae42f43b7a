//! What dpkg thinks of a package.

use serde::{Deserialize, Serialize};

/// What dpkg thinks of a package (dpkg-query(1), `db:Status-Abbrev`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum PackageState {
    /// `ii`, or `hi` when a person put it on hold: unpacked and configured.
    Installed,
    /// `rc`, `un`, `pn`: not there, perhaps with conffiles left.
    Absent,
    /// Anything else, as dpkg writes it: half-installed, half-configured, needs reinstallation, triggers pending.
    Broken(String),
}

impl PackageState {
    /// What dpkg-query(1) writes as `db:Status-Abbrev`: what is wanted, what is, and whether it must be installed again.
    pub(super) fn parse(abbreviation: &str) -> Self {
        let mut letters = abbreviation.chars();
        let (_wanted, is, error) = (letters.next(), letters.next(), letters.next().unwrap_or(' '));
        match (is, error) {
            (Some('i'), ' ') => Self::Installed,
            (Some('n' | 'c'), ' ') | (None, _) => Self::Absent,
            _ => Self::Broken(abbreviation.trim().to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_are_read_as_dpkg_writes_them() {
        for (text, want) in [
            ("ii ", PackageState::Installed),
            ("hi ", PackageState::Installed),
            ("ri ", PackageState::Installed),
            ("rc ", PackageState::Absent),
            ("un ", PackageState::Absent),
            ("", PackageState::Absent),
            ("iU ", PackageState::Broken("iU".into())),
            ("iF ", PackageState::Broken("iF".into())),
            ("iHR", PackageState::Broken("iHR".into())),
            ("it ", PackageState::Broken("it".into())),
        ] {
            assert_eq!(PackageState::parse(text), want, "{text}");
        }
    }
}
