//! What kind of failure keeps an app from being as its document says: a word for programs beside the sentence for people.

use serde::{Deserialize, Serialize};

/// The kind of a failure. Its words stay as they are; what a later pulld wrote that has more of them is unknown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum FailureKind {
    /// The release's file could not be had from the bucket, or was not what it was said to be.
    NotDownloaded,
    /// Its package can't be installed on this server, by what it says of itself.
    NotInstallable,
    /// dpkg could not install it, or not remove it.
    DpkgFailed,
    /// The machine did not let it be tried: a file system that is full or read-only, a lock that is held, a systemd that
    /// doesn't answer.
    MachineAtFault,
    /// One of its units did not start, or did not stay up.
    UnitFailed,
    /// Its own check failed.
    CheckFailed,
    /// Its package was put on hold.
    OnHold,
    /// A new pulld did not pass its health gate.
    NewPulldFailed,
    /// It was interrupted again and again.
    Interrupted,
    /// It changed other packages than its own.
    OtherPackagesChanged,
    /// Not known: an earlier pulld did not write it down.
    #[default]
    #[serde(other)]
    Unknown,
}

impl FailureKind {
    /// As it is written in JSON.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::NotDownloaded => "not-downloaded",
            Self::NotInstallable => "not-installable",
            Self::DpkgFailed => "dpkg-failed",
            Self::MachineAtFault => "machine-at-fault",
            Self::UnitFailed => "unit-failed",
            Self::CheckFailed => "check-failed",
            Self::OnHold => "on-hold",
            Self::NewPulldFailed => "new-pulld-failed",
            Self::Interrupted => "interrupted",
            Self::OtherPackagesChanged => "other-packages-changed",
            Self::Unknown => "unknown",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kind_is_shown_as_it_is_written_and_one_of_a_later_pulld_is_unknown() {
        use FailureKind as Kind;
        for kind in [
            Kind::NotDownloaded,
            Kind::NotInstallable,
            Kind::DpkgFailed,
            Kind::MachineAtFault,
            Kind::UnitFailed,
            Kind::CheckFailed,
            Kind::OnHold,
            Kind::NewPulldFailed,
            Kind::Interrupted,
            Kind::OtherPackagesChanged,
            Kind::Unknown,
        ] {
            let written = serde_json::to_string(&kind).unwrap();
            assert_eq!(written, format!("\"{}\"", kind.word()));
            assert_eq!(serde_json::from_str::<FailureKind>(&written).unwrap(), kind);
        }
        assert_eq!(serde_json::from_str::<FailureKind>("\"of-a-later-pulld\"").unwrap(), Kind::Unknown);
    }
}
