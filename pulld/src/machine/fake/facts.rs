//! What the checker is told of the machine in memory.

use std::collections::BTreeMap;

use crate::checker::{Dpkg, Package, Unit};

use super::{
    super::{package_manager::InstalledPackage, package_state::PackageState, unit_state::LoadState},
    State, World,
};

impl World {
    /// What dpkg and systemd say, whatever the agent was told.
    pub(crate) fn facts(&self) -> (Dpkg, BTreeMap<String, Unit>) {
        let state = self.0.borrow();
        let packages = state.packages.values().map(|(package, _)| state.package(package)).collect();
        let came_from_no_release = state.packages.values().filter(|(package, _)| package.release.is_none());
        let foreign = came_from_no_release.map(|(package, _)| package.package.clone()).collect();
        let units = state.units.keys().map(|name| (name.clone(), state.unit_fact(name))).collect();
        (Dpkg { packages, audit: String::new(), foreign }, units)
    }
}

impl State {
    fn package(&self, known: &InstalledPackage) -> Package {
        let status = match &known.state {
            PackageState::Installed => "ii",
            PackageState::Absent => "rc",
            PackageState::Broken(status) => status,
        };
        // What is wanted of it comes first.
        let status = if known.on_hold { status.replacen('i', "h", 1) } else { status.to_owned() };
        Package {
            name: known.package.clone(),
            status,
            release: known.release.clone(),
            units: known.units.clone(),
            unpacked: self.unpacked.get(&known.package).copied(),
        }
    }

    fn unit_fact(&self, name: &str) -> Unit {
        let state = self.unit(name);
        let runs = self.units.get(name).and_then(|unit| unit.runs.as_ref());
        let is_installed = self.packages.values().any(|(package, _)| package.release.as_ref() == runs);
        let program = runs.map(|release| format!("{release}{}", if is_installed { "" } else { " (deleted)" }));
        let (active, is_gone) = (state.active.as_str().to_owned(), state.load == LoadState::NotFound);
        Unit { active, is_gone, started: state.started, program }
    }
}
