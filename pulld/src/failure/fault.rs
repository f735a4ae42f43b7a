//! One thing that went wrong.

use std::{fmt, path::PathBuf};

use bucket::ReleaseName;
use serde::{Deserialize, Serialize};

use super::{
    check::CheckFault, download::DownloadFault, dpkg::DpkgFault, kind::FailureKind, others::OtherPackages,
    package::PackageFault, unit::UnitFault,
};

/// One thing that went wrong with the update of an app.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Fault {
    /// What is known in words alone: an error that comes from elsewhere, or what another version of pulld wrote.
    Told {
        /// Its kind.
        kind: FailureKind,
        /// The words, perhaps with lines below the first.
        words: String,
    },
    /// The release's file could not be had.
    NotDownloaded(DownloadFault),
    /// The file of the installed release, which a rollback would need, could not be had.
    PreviousNotCached {
        /// That release.
        release: ReleaseName,
        /// Why.
        fault: Box<Fault>,
    },
    /// The package can't be installed on this server.
    NotInstallable(PackageFault),
    /// There is too little space on a disk; all in bytes.
    NoSpace {
        /// Where.
        directory: PathBuf,
        /// What is needed.
        needed: u64,
        /// What has to remain beside that.
        reserve: u64,
        /// What there is.
        free: u64,
    },
    /// dpkg could not install or remove it.
    DpkgFailed(Box<DpkgFault>),
    /// One of its units did not start, or did not stay up.
    UnitFailed(UnitFault),
    /// Its own check failed.
    CheckFailed(CheckFault),
    /// A package is on hold.
    OnHold {
        /// The package.
        package: String,
    },
    /// The rescue put the previous pulld back.
    Rescued {
        /// Why.
        words: String,
    },
    /// A new pulld can't read the configuration.
    RejectedConfiguration {
        /// Why.
        error: String,
    },
    /// It was interrupted again and again.
    Interrupted {
        /// How often.
        times: u32,
    },
    /// It changed other packages than its own.
    OtherPackagesChanged(OtherPackages),
}

impl Fault {
    /// What is known in words.
    pub(crate) fn told(kind: FailureKind, words: impl Into<String>) -> Self {
        Self::Told { kind, words: words.into() }
    }

    /// An error of the machine: of dpkg, systemd or a file system.
    pub(crate) fn machines(error: &anyhow::Error) -> Self {
        Self::told(FailureKind::MachineAtFault, format!("{error:#}"))
    }

    /// The fault behind an error, or else its words.
    pub(crate) fn of(error: anyhow::Error, kind: FailureKind) -> Self {
        error.downcast().unwrap_or_else(|error| Self::told(kind, format!("{error:#}")))
    }

    /// What kind of failure it makes.
    pub(crate) fn kind(&self) -> FailureKind {
        match self {
            Self::Told { kind, .. } => *kind,
            Self::PreviousNotCached { fault, .. } => fault.kind(),
            Self::NotDownloaded(_) => FailureKind::NotDownloaded,
            Self::NotInstallable(_) => FailureKind::NotInstallable,
            Self::NoSpace { .. } => FailureKind::MachineAtFault,
            Self::DpkgFailed(failed) if failed.machine_at_fault => FailureKind::MachineAtFault,
            Self::DpkgFailed(_) => FailureKind::DpkgFailed,
            Self::UnitFailed(_) => FailureKind::UnitFailed,
            Self::CheckFailed(_) => FailureKind::CheckFailed,
            Self::OnHold { .. } => FailureKind::OnHold,
            Self::Rescued { .. } | Self::RejectedConfiguration { .. } => FailureKind::NewPulldFailed,
            Self::Interrupted { .. } => FailureKind::Interrupted,
            Self::OtherPackagesChanged(_) => FailureKind::OtherPackagesChanged,
        }
    }
}

/// That a package is left alone, and who can end that.
pub(crate) fn on_hold(package: &str) -> impl fmt::Display {
    fmt::from_fn(move |f| {
        write!(f, "the package `{package}` is on hold on this server, which `apt-mark unhold {package}` there ends")
    })
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Told { words, .. } => f.write_str(words),
            Self::NotDownloaded(fault) => fault.fmt(f),
            Self::PreviousNotCached { release, fault } => {
                write!(f, "could not cache `{}`, which a rollback would need: {fault}", release.stem())
            }
            Self::NotInstallable(fault) => fault.fmt(f),
            Self::NoSpace { directory, needed, reserve, free } => write!(
                f,
                "not enough disk space in `{}`: need {} MiB plus a {} MiB reserve, have {} MiB",
                directory.display(),
                needed >> 20,
                reserve >> 20,
                free >> 20
            ),
            Self::DpkgFailed(fault) => fault.fmt(f),
            Self::UnitFailed(fault) => fault.fmt(f),
            Self::CheckFailed(fault) => fault.fmt(f),
            Self::OnHold { package } => on_hold(package).fmt(f),
            Self::Rescued { words } => write!(f, "pulld-rescue.service restored the previous pulld: {words}"),
            Self::RejectedConfiguration { error } => write!(f, "the new pulld rejected its configuration: {error}"),
            Self::Interrupted { times } => write!(f, "it was interrupted {times} times"),
            Self::OtherPackagesChanged(others) => others.fmt(f),
        }
    }
}

impl std::error::Error for Fault {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::fake::release;

    #[test]
    fn a_fault_says_what_happened_and_what_kind_it_is() {
        let (web, space) = (release("web", 1), Fault::told(FailureKind::MachineAtFault, "no space"));
        let previous = format!("could not cache `{}`, which a rollback would need: no space", web.stem());
        let others = OtherPackages { changes: "`nginx` 1 was removed".to_owned(), app: None };
        let no_space = Fault::NoSpace { directory: "/var".into(), needed: 3 << 20, reserve: 32 << 20, free: 34 << 20 };
        for (fault, kind, words) in [
            (
                no_space,
                FailureKind::MachineAtFault,
                "not enough disk space in `/var`: need 3 MiB plus a 32 MiB reserve, have 34 MiB",
            ),
            (
                Fault::PreviousNotCached { release: web, fault: Box::new(space) },
                FailureKind::MachineAtFault,
                previous.as_str(),
            ),
            (
                Fault::OnHold { package: "web".to_owned() },
                FailureKind::OnHold,
                "the package `web` is on hold on this server, which `apt-mark unhold web` there ends",
            ),
            (
                Fault::Rescued { words: "it did not start".to_owned() },
                FailureKind::NewPulldFailed,
                "pulld-rescue.service restored the previous pulld: it did not start",
            ),
            (
                Fault::RejectedConfiguration { error: "unknown key `x`".to_owned() },
                FailureKind::NewPulldFailed,
                "the new pulld rejected its configuration: unknown key `x`",
            ),
            (Fault::Interrupted { times: 6 }, FailureKind::Interrupted, "it was interrupted 6 times"),
            (
                Fault::OtherPackagesChanged(others),
                FailureKind::OtherPackagesChanged,
                "other packages changed with it: `nginx` 1 was removed",
            ),
        ] {
            assert_eq!((fault.to_string().as_str(), fault.kind()), (words, kind));
            let written = serde_json::to_string(&fault).unwrap();
            assert_eq!(serde_json::from_str::<Fault>(&written).unwrap(), fault);
        }
    }

    #[test]
    fn an_error_is_the_fault_behind_it_or_its_words() {
        use anyhow::{Context, anyhow};
        let fault = Fault::Interrupted { times: 1 };
        let error = anyhow::Error::new(fault.clone());
        assert_eq!(Fault::of(error, FailureKind::NotDownloaded), fault);
        let error = Err::<(), _>(anyhow!("no route")).context("could not read").unwrap_err();
        let told = Fault::told(FailureKind::NotDownloaded, "could not read: no route");
        assert_eq!(Fault::of(error, FailureKind::NotDownloaded), told);
    }
}
