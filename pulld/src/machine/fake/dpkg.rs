//! dpkg in memory.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Result, bail};
use bucket::{OwnedUnit, Timestamp};

use crate::failure::DpkgEnd;

use super::{
    super::{
        baseline::Baseline,
        dpkg_lock::LockHolder,
        dpkg_request::{DpkgRequest, DpkgResult},
        package_changes::{AllPackages, PackageChange},
        package_manager::{AvailablePackage, Compare, InstalledPackage, PackageManager},
        package_state::PackageState,
        unit_state::{LoadState, UnitState},
    },
    Behaviour, Deb, Files, State, Unit, World, unit_state,
};

impl PackageManager for World {
    async fn packages(&self, also: &[String]) -> Result<Vec<InstalledPackage>> {
        self.called("packages.packages");
        let state = self.0.borrow();
        let known = state.packages.values().map(|(package, _)| package.clone());
        let is_told = |package: &InstalledPackage| {
            package.release.is_some() || package.on_hold || also.contains(&package.package)
        };
        Ok(known.filter(is_told).collect())
    }

    async fn architecture(&self) -> Result<String> {
        self.called("packages.architecture");
        Ok("amd64".to_owned())
    }

    async fn available(&self) -> Result<Vec<AvailablePackage>> {
        self.called("packages.available");
        self.take_time().await;
        let available = |name: &String| AvailablePackage {
            package: name.clone(),
            version: "1".to_owned(),
            provides: String::new(),
        };
        Ok(self.0.borrow().packages.keys().map(available).collect())
    }

    async fn changed_files(&self, package: &str, compare: Compare) -> Result<Vec<String>> {
        self.called(&format!("packages.changed_files({package})"));
        let (known, takes) = {
            let files = &mut self.0.borrow_mut().files;
            if compare == Compare::Unpacked {
                files.known.insert(package.to_owned(), vec![]);
            }
            (files.known.get(package).cloned(), files.comparison_takes)
        };
        if let Some(known) = known.filter(|_| compare != Compare::All) {
            return Ok(known);
        }
        if !takes.is_zero() {
            tokio::time::sleep(takes).await;
        }
        let files = &mut self.0.borrow_mut().files;
        match files.unreadable.clone() {
            Some(reason) => bail!(reason),
            None => Ok(files.read(package)),
        }
    }

    fn changed_at(&self, package: &str) -> Option<Timestamp> {
        self.called(&format!("packages.changed_at({package})"));
        self.0.borrow().changed_at
    }

    async fn stand_by(&self, _timeout: Duration) {
        self.called("packages.stand_by");
        self.0.borrow_mut().stands_by = true;
    }

    fn foresee(&self, _deb: &Path) {
        self.called("packages.foresee");
    }

    fn stand_down(&self) {
        self.called("packages.stand_down");
        self.0.borrow_mut().stands_by = false;
    }

    async fn execute(&self, request: &DpkgRequest) -> Result<DpkgResult> {
        self.called("packages.execute");
        self.0.borrow_mut().stands_by = false;
        while self.0.borrow().lock_holder.is_some() {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        if !self.0.borrow().lock_held {
            self.0.borrow_mut().begin_baseline(request);
        }
        self.0.borrow_mut().under_way = Some(request.clone());
        fail_point!("dpkg.begin");
        self.take_time().await;
        let result = self.0.borrow_mut().carry_out(request);
        self.0.borrow_mut().under_way = None;
        self.0.borrow_mut().unclaimed = Some(result.clone());
        fail_point!("dpkg.end");
        if request.restart_agent && result.end == DpkgEnd::Exited(0) {
            let killed = self.killed();
            self.0.borrow_mut().agent_restarts += 1;
            killed.notify_one();
            std::future::pending::<()>().await;
        }
        self.0.borrow_mut().unclaimed = None;
        Ok(result)
    }

    async fn resume(&self) -> Result<Option<DpkgResult>> {
        self.called("packages.resume");
        Ok(self.0.borrow_mut().unclaimed.take())
    }

    async fn unnoted_changes(&self, request: &DpkgRequest) -> Result<Vec<PackageChange>> {
        self.called("packages.unnoted_changes");
        let state = self.0.borrow();
        Ok(state.changes_since(&state.all_packages(), request))
    }

    fn forget_changes(&self) -> Result<()> {
        self.called("packages.forget_changes");
        self.0.borrow_mut().baseline = None;
        Ok(())
    }

    fn lock_holder(&self) -> Option<LockHolder> {
        self.called("packages.lock_holder");
        self.0.borrow().lock_holder.clone()
    }
}

impl Files {
    /// Compares all files of a package.
    fn read(&mut self, package: &str) -> Vec<String> {
        self.read.push(package.to_owned());
        let changed = self.changed.get(package).cloned().unwrap_or_default();
        self.known.insert(package.to_owned(), changed.clone());
        changed
    }
}

impl State {
    pub(super) fn carry_out(&mut self, request: &DpkgRequest) -> DpkgResult {
        let is_compared = !self.lock_held;
        let (half_configured, began) = (self.half_configured(), self.all_packages());
        let result = self.run_dpkg(request);
        if is_compared {
            self.configure(&half_configured);
        }
        DpkgResult { changes: is_compared.then(|| self.changes_since(&began, request)), ..result }
    }

    /// As the runner does: what there was before an interrupted run of the same transaction counts.
    fn begin_baseline(&mut self, request: &DpkgRequest) {
        let of = request.transaction.clone().unwrap_or_default();
        if !self.baseline.as_ref().is_some_and(|earlier| earlier.is_of(&of)) {
            self.baseline = Some(Baseline::new(&of, &self.all_packages(), vec![]));
        }
    }

    /// The packages of no release that an interrupted run has left half-configured.
    fn half_configured(&self) -> Vec<String> {
        let is_half = |package: &InstalledPackage| {
            package.release.is_none() && package.state == PackageState::Broken("iF".to_owned())
        };
        let half = self.packages.values().filter(|(package, _)| is_half(package));
        half.map(|(package, _)| package.package.clone()).collect()
    }

    /// As the runner does with what was left half-done.
    fn configure(&mut self, names: &[String]) {
        for name in names {
            if let Some((package, _)) = self.packages.get_mut(name) {
                package.state = PackageState::Installed;
            }
        }
    }

    /// What changed, with the time since when where that was before the last run `began`.
    fn changes_since(&self, began: &AllPackages, request: &DpkgRequest) -> Vec<PackageChange> {
        let is_its = |baseline: &&Baseline| request.transaction.as_ref().is_none_or(|now| baseline.is_of(now));
        let baseline = self.baseline.as_ref().filter(is_its);
        baseline.map(|before| before.changes(began, &self.all_packages(), &request.planned)).unwrap_or_default()
    }

    fn all_packages(&self) -> AllPackages {
        let packages = self.packages.values();
        packages.map(|(found, _)| (found.package.clone(), (found.version.clone(), found.state.clone()))).collect()
    }

    /// A package takes the place of the one before: systemd keeps what runs though its file is gone.
    pub(super) fn drop_units(&mut self, deb: &Deb) {
        let before = self.packages.get(&deb.package).map(|(before, _)| before.units.clone()).unwrap_or_default();
        for gone in before.iter().filter(|old| deb.units.iter().all(|new| new.name != old.name)) {
            if let Some(unit) = self.units.get_mut(gone.name.as_str()) {
                unit.state.load = LoadState::NotFound;
            }
        }
    }

    fn run_dpkg(&mut self, request: &DpkgRequest) -> DpkgResult {
        let run = self.dpkg_runs.len();
        let names = request.install.iter().map(|path| path.display().to_string()).chain(request.remove.iter().cloned());
        self.dpkg_runs.push(names.collect());
        if self.lock_held {
            return DpkgResult::locked_out("timed out waiting for the dpkg lock; lock holder: `apt` (process 1)");
        }
        if self.refused_from.is_some_and(|from| self.dpkg_runs.len() > from) {
            return DpkgResult::failed("dpkg was not run: `/usr` is a read-only file system");
        }
        let mut result = DpkgResult { end: DpkgEnd::Exited(0), ..DpkgResult::failed("") };
        let is_read_only = self.read_only_from.is_some_and(|from| self.dpkg_runs.len() > from);
        if let Some(output) = self.remove(&request.remove, is_read_only) {
            (result.end, result.output) = (DpkgEnd::Exited(1), output);
        }
        let restored: Vec<&PathBuf> =
            request.restore.iter().filter(|(name, _)| !self.packages.contains_key(*name)).map(|(_, deb)| deb).collect();
        self.dpkg_runs[run].extend(restored.iter().map(|path| path.display().to_string()));
        for path in request.install.iter().chain(restored) {
            let mut deb: Deb = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
            if self.mended.contains(&deb.release) {
                deb.behaviour = Behaviour::Good;
            }
            if self.spoiled.contains(&deb.release) {
                deb.behaviour = Behaviour::Crashes;
            }
            if is_read_only {
                result.end = DpkgEnd::Exited(1);
                let path = path.display();
                result.output = format!(
                    "dpkg: error processing archive {path} (--install):\n unable to create '/f.dpkg-new': Read-only file system\n"
                );
                if let Some((package, _)) = self.packages.get_mut(&deb.package) {
                    package.state = PackageState::Broken("iHR".to_owned());
                }
                continue;
            }
            if deb.behaviour.takes_away() {
                self.packages.remove("nginx");
            }
            let state = match deb.behaviour {
                Behaviour::Refused => {
                    result.end = DpkgEnd::Exited(1);
                    result.output = format!("dpkg: error processing archive {}\n refused", path.display());
                    continue;
                }
                Behaviour::Breaks | Behaviour::TakesAwayAndBreaks => {
                    result.end = DpkgEnd::Exited(1);
                    PackageState::Broken("iF".to_owned())
                }
                Behaviour::IsAnother => {
                    if let Some((nginx, _)) = self.packages.get_mut("nginx") {
                        nginx.version = "2".to_owned();
                    }
                    continue;
                }
                Behaviour::Good
                | Behaviour::TakesAway
                | Behaviour::Crashes
                | Behaviour::DoesNotStart
                | Behaviour::CheckFails => PackageState::Installed,
            };
            self.drop_units(&deb);
            for unit in deb.units.iter().filter(|unit| !unit.name.is_template()) {
                if let Some(known) = self.units.get_mut(unit.name.as_str()) {
                    known.state.load = LoadState::Loaded;
                }
                let new = Unit { state: unit_state("inactive", "dead"), crashes_at: None, runs: None };
                self.units.entry(unit.name.to_string()).or_insert(new);
            }
            let package = InstalledPackage {
                package: deb.package.clone(),
                version: "1".to_owned(),
                state,
                // As dpkg does: whoever installs a package wants it.
                on_hold: false,
                release: Some(deb.release),
                units: deb.units,
            };
            let unpacked = self.tick();
            result.unpacked.insert(deb.package.clone(), unpacked);
            self.unpacked.insert(deb.package.clone(), unpacked);
            self.packages.insert(deb.package, (package, deb.behaviour));
        }
        result
    }

    /// Removes packages, which comes first. Gives what dpkg says of those that stay.
    pub(super) fn remove(&mut self, names: &[String], is_read_only: bool) -> Option<String> {
        let mut output = None;
        for name in names {
            let Some((package, _)) = self.packages.get_mut(name) else { continue };
            if is_read_only || self.unremovable.contains(name) {
                let why = if is_read_only { "Read-only file system" } else { "prerm: no" };
                output = Some(format!("dpkg: error processing package {name} (--remove):\n {why}\n"));
                continue;
            }
            let units = std::mem::take(&mut package.units);
            self.packages.remove(name);
            for unit in &units {
                let is_it = |other: &OwnedUnit| other.name == unit.name;
                match self.units.get_mut(unit.name.as_str()) {
                    // The other package's file had been replaced, and is gone with this one's.
                    Some(known) if self.packages.values().any(|(other, _)| other.units.iter().any(is_it)) => {
                        let state = UnitState { load: LoadState::NotFound, ..unit_state("inactive", "dead") };
                        *known = Unit { state, crashes_at: None, runs: None };
                    }
                    _ => drop(self.units.remove(unit.name.as_str())),
                }
            }
        }
        output
    }
}
