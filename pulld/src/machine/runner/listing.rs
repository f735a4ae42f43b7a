//! What dpkg has, before and after a run.

use std::{
    path::Path,
    process::{Command, Stdio},
};

use anyhow::{Context, Result, ensure};

use super::super::{
    dpkg::{
        database::{DIRECTORY, Stamp},
        parse::{ALL_PACKAGES, parse_all_packages},
        status_file,
    },
    package_changes::AllPackages,
    package_state::PackageState,
};

/// Every package that dpkg knew at one moment, where that could be read without a process.
#[derive(Debug, Default)]
pub(super) struct Listing(Option<(Stamp, AllPackages)>);

impl Listing {
    /// Reads it.
    pub(super) fn read() -> Self {
        let directory = Path::new(DIRECTORY);
        // Before the packages: what dpkg writes meanwhile makes the next stamp another one.
        let stamp = Stamp::of(directory);
        Self(stamp.and_then(|stamp| Some((stamp, status_file::all_packages(directory)?))))
    }

    /// What there is now, for whoever holds dpkg's lock: it holds unless dpkg has written since.
    pub(super) fn now(self) -> Result<AllPackages> {
        match self.0 {
            Some((stamp, packages)) if Stamp::of(Path::new(DIRECTORY)).as_ref() == Some(&stamp) => Ok(packages),
            _ => all_packages(),
        }
    }
}

/// Every package that dpkg knows.
pub(super) fn all_packages() -> Result<AllPackages> {
    if let Some(packages) = status_file::all_packages(Path::new(DIRECTORY)) {
        return Ok(packages);
    }
    let mut query = Command::new("dpkg-query");
    query.args(["--show", "--showformat", ALL_PACKAGES]).env("LC_ALL", "C.UTF-8").stdin(Stdio::null());
    let query = query.output().context("could not run `dpkg-query`")?;
    let errors = String::from_utf8_lossy(&query.stderr);
    ensure!(query.status.success(), "`dpkg-query` failed: {}", errors.trim().escape_debug());
    Ok(parse_all_packages(&String::from_utf8_lossy(&query.stdout)))
}

/// Whether an interrupted run has left something to repair.
pub(super) fn is_something_half_done(packages: &AllPackages) -> bool {
    packages.values().any(|(_, state)| matches!(state, PackageState::Broken(_)))
}
