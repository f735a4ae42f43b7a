//! What the machine has: packages from dpkg, units from systemd, and files that differ from their packages.

use std::{collections::BTreeMap, time::Duration};

use anyhow::{Context, Result};
use futures_util::{StreamExt, stream};
use tokio::time::Instant;

use crate::{
    machine::{
        Compare, InstalledPackage, OWN_PACKAGE, PackageManager, PackageState, ServiceManager, UnitState, instances,
    },
    service::liveness::Liveness,
};

/// How often every file is compared with its package.
const FILE_CHECK: Duration = Duration::from_hours(1);

/// Time for comparing the files of one package.
const FILE_CHECK_TIMEOUT: Duration = Duration::from_mins(5);

/// How many units systemd is queried about at a time.
const AT_ONCE: usize = 8;

/// What dpkg has of releases, and of pulld however it was installed.
pub(super) async fn installed(packages: &impl PackageManager, liveness: &Liveness) -> Result<Vec<InstalledPackage>> {
    liveness.within(Duration::ZERO);
    packages.packages(&[OWN_PACKAGE.to_owned()]).await.context("could not query dpkg for the installed packages")
}

/// The state of every unit of the installed releases, by name. A unit that systemd says nothing about is left out.
pub(super) async fn units(
    services: &impl ServiceManager,
    installed: &[InstalledPackage],
) -> BTreeMap<String, UnitState> {
    let owned = || installed.iter().flat_map(|package| &package.units);
    let mut units = instances(services, owned()).await.unwrap_or_else(|error| {
        tracing::debug!("{error:#}");
        BTreeMap::new()
    });
    let asked = owned().filter(|unit| !unit.name.is_template()).map(async |unit| {
        let state = services.unit(unit.name.as_str()).await;
        state.map(|state| (unit.name.to_string(), state)).inspect_err(
            |error| tracing::debug!(unit = %unit.name, "could not query systemd about `{}`: {error:#}", unit.name),
        )
    });
    let answers = stream::iter(asked).buffered(AT_ONCE).filter_map(async |answer| answer.ok());
    units.extend(answers.collect::<Vec<_>>().await);
    units
}

/// Files that differ from what their packages shipped, as last compared.
#[derive(Debug, Default)]
pub(super) struct ChangedFiles {
    by_package: BTreeMap<String, Vec<String>>,
    checked: Option<Instant>,
}

impl ChangedFiles {
    /// The differences by package, in the words of [`PackageManager::changed_files`].
    pub(super) fn by_package(&self) -> &BTreeMap<String, Vec<String>> {
        &self.by_package
    }

    /// Forgets a package that was installed anew or removed.
    pub(super) fn forget(&mut self, package: &str) {
        self.by_package.remove(package);
    }

    /// Compares files with their packages: at the start and once per hour all of them, on request those that were touched.
    pub(super) async fn check(
        &mut self,
        packages: &impl PackageManager,
        installed: &[InstalledPackage],
        requested: bool,
        liveness: &Liveness,
    ) {
        let is_due = self.checked.is_none_or(|checked| checked.elapsed() >= FILE_CHECK);
        if !requested && !is_due {
            return;
        }
        let compare = if is_due { Compare::All } else { Compare::Touched };
        self.by_package.clear();
        let is_whole = |package: &&InstalledPackage| package.state == PackageState::Installed;
        for package in installed.iter().filter(|package| package.release.is_some()).filter(is_whole) {
            liveness.within(FILE_CHECK_TIMEOUT);
            let name = &package.package;
            match packages.changed_files(name, compare).await {
                Ok(changed) => drop(self.by_package.insert(name.clone(), changed)),
                Err(error) => tracing::debug!(package = %name, "could not compare the files of `{name}`: {error:#}"),
            }
        }
        if is_due {
            self.checked = Some(Instant::now());
        }
    }
}
