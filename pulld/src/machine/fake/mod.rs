//! A machine in memory: dpkg and systemd as the agent sees them, which outlive any number of agents.

mod deb;
mod dpkg;
mod facts;
mod systemd;
mod units;

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
    rc::Rc,
    time::Duration,
};

use bucket::{ReleaseName, Timestamp};
use tokio::{sync::Notify, time::Instant};

use crate::failure::ProcessEnd;

use super::{
    baseline::Baseline,
    dpkg_lock::LockHolder,
    dpkg_request::{DpkgRequest, DpkgResult},
    package_manager::InstalledPackage,
    package_state::PackageState,
    service_manager::LastWords,
    unit_state::{LoadState, UnitState},
};

pub(crate) use self::{
    deb::{Behaviour, Deb, inspect, release},
    units::{exited, running, unit_state},
};

/// The machine; each clone is the same one.
#[derive(Debug, Clone, Default)]
pub(crate) struct World(Rc<RefCell<State>>);

#[derive(Debug, Default)]
struct State {
    packages: BTreeMap<String, (InstalledPackage, Behaviour)>,
    units: BTreeMap<String, Unit>,
    /// The result of a dpkg run that nobody has taken.
    unclaimed: Option<DpkgResult>,
    /// What there was before the first run of a transaction, as named there, whose changes nobody has noted.
    baseline: Option<Baseline>,
    /// What dpkg is in the middle of.
    under_way: Option<DpkgRequest>,
    /// Whether something stands by for a request.
    stands_by: bool,
    /// Every call so far, named like its fail points.
    calls: Vec<String>,
    dpkg_runs: Vec<Vec<String>>,
    /// When packages were unpacked in this boot.
    unpacked: BTreeMap<String, u64>,
    restarts: Vec<String>,
    disabled: Vec<String>,
    invocations: u32,
    lock_held: bool,
    /// When dpkg says that packages were last unpacked.
    changed_at: Option<Timestamp>,
    /// Releases that behave well whatever their `.deb` says.
    mended: BTreeSet<ReleaseName>,
    /// Releases that crash whatever their `.deb` says.
    spoiled: BTreeSet<ReleaseName>,
    lock_holder: Option<LockHolder>,
    /// From which dpkg run on the disk is read-only.
    read_only_from: Option<usize>,
    /// From which dpkg run on dpkg is not run, because the disk is seen to be read-only before.
    refused_from: Option<usize>,
    /// Packages whose scripts don't let them be removed.
    unremovable: BTreeSet<String>,
    dpkg_takes: Duration,
    files: Files,
    last_words: LastWords,
    agent_restarts: u32,
    killed: Rc<Notify>,
    boots: u32,
    /// The clock of this boot: it goes on whenever somebody looks at it.
    clock: u64,
}

/// The files of packages compared with what was shipped, by package.
#[derive(Debug, Default)]
struct Files {
    /// What differs.
    changed: BTreeMap<String, Vec<String>>,
    /// What is known to differ, of those that nobody touched since.
    known: BTreeMap<String, Vec<String>>,
    /// The packages whose files were all read, in order.
    read: Vec<String>,
    comparison_takes: Duration,
    /// Why none can be read, if that is so.
    unreadable: Option<String>,
}

#[derive(Debug, Clone)]
struct Unit {
    state: UnitState,
    crashes_at: Option<Instant>,
    /// The release whose program runs.
    runs: Option<ReleaseName>,
}

impl World {
    /// What is installed, by package: the release's minute, and whether dpkg is content.
    pub(crate) fn installed(&self, package: &str) -> Option<(ReleaseName, bool)> {
        let state = self.0.borrow();
        let (package, _) = state.packages.get(package)?;
        Some((package.release.clone()?, package.state == PackageState::Installed))
    }

    /// Every dpkg run so far: the file names and packages in it.
    pub(crate) fn dpkg_runs(&self) -> Vec<Vec<String>> {
        self.0.borrow().dpkg_runs.clone()
    }

    /// Every unit that was restarted, in order.
    pub(crate) fn restarts(&self) -> Vec<String> {
        self.0.borrow().restarts.clone()
    }

    /// Every unit that was disabled, in order.
    pub(crate) fn disabled(&self) -> Vec<String> {
        self.0.borrow().disabled.clone()
    }

    /// Starts an instance of a template by hand.
    pub(crate) fn start_instance(&self, name: &str) {
        let unit = Unit { state: running("by hand"), crashes_at: None, runs: None };
        self.0.borrow_mut().units.insert(name.to_owned(), unit);
    }

    /// How often a dpkg run restarted the agent.
    pub(crate) fn agent_restarts(&self) -> u32 {
        self.0.borrow().agent_restarts
    }

    /// The release whose program a unit runs, whatever is installed by now.
    pub(crate) fn runs(&self, name: &str) -> Option<ReleaseName> {
        self.0.borrow().units.get(name)?.runs.clone()
    }

    /// Whether something stands by for a request that has not come.
    pub(crate) fn stands_by(&self) -> bool {
        self.0.borrow().stands_by
    }

    /// Every call of the two traits so far, as it is called in fail points.
    pub(crate) fn calls(&self) -> Vec<String> {
        self.0.borrow().calls.clone()
    }

    /// All of it but the calls, to see whether it changed.
    pub(crate) fn shown(&self) -> String {
        let State { packages, units, dpkg_runs, unclaimed, baseline, restarts, disabled, .. } = &*self.0.borrow();
        format!("{packages:?}{units:?}{dpkg_runs:?}{unclaimed:?}{baseline:?}{restarts:?}{disabled:?}")
    }

    /// The agent has died, and dpkg goes on without it.
    pub(crate) fn let_dpkg_end(&self) {
        let mut state = self.0.borrow_mut();
        if let Some(request) = state.under_way.take() {
            state.unclaimed = Some(state.carry_out(&request));
        }
    }

    /// dpkg is killed with all that it had started: what it was to remove is gone, what it was to install is half-installed,
    /// and what it was to restore is not.
    pub(crate) fn kill_dpkg(&self) {
        let mut state = self.0.borrow_mut();
        let Some(request) = state.under_way.take() else { return };
        state.remove(&request.remove, false);
        for path in &request.install {
            let deb: Deb = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
            if deb.behaviour.takes_away() {
                state.packages.remove("nginx");
            }
            state.drop_units(&deb);
            let half = InstalledPackage {
                package: deb.package.clone(),
                version: "1".to_owned(),
                on_hold: false,
                state: PackageState::Broken("iHR".to_owned()),
                release: Some(deb.release),
                units: deb.units,
            };
            state.packages.insert(deb.package, (half, deb.behaviour));
        }
    }

    /// The machine boots after its power was cut: what is installed is started, by another name of each unit's process. No
    /// result of a dpkg run outlives that.
    pub(crate) fn boot(&self) {
        self.kill_dpkg();
        let mut state = self.0.borrow_mut();
        state.unclaimed = None;
        (state.boots, state.clock) = (state.boots + 1, 0);
        state.units.retain(|_, unit| unit.state.load != LoadState::NotFound);
        state.unpacked.clear();
        state.units.values_mut().for_each(|unit| unit.state = unit_state("inactive", "dead"));
        state.units.values_mut().for_each(|unit| unit.crashes_at = None);
        let restarts = state.restarts.clone();
        for name in state.units.keys().cloned().collect::<Vec<_>>() {
            state.restart(&name);
        }
        // The boot's own starts are none of the agent's.
        state.restarts = restarts;
    }

    /// Notified when systemd ends the agent's process.
    pub(crate) fn killed(&self) -> Rc<Notify> {
        self.0.borrow().killed.clone()
    }

    /// Lets somebody else hold dpkg's lock for good, or let go of it.
    pub(crate) fn hold_lock(&self, held: bool) {
        self.0.borrow_mut().lock_held = held;
    }

    /// Lets a process hold dpkg's lock, for which dpkg runs wait, or let go of it.
    pub(crate) fn hold_lock_by(&self, holder: Option<(i32, &str)>) {
        let holder = holder.map(|(process, program)| LockHolder { process, program: program.to_owned() });
        self.0.borrow_mut().lock_holder = holder;
    }

    /// Makes the disk read-only after so many more dpkg runs; `None` makes it writable again.
    pub(crate) fn make_read_only_after(&self, runs: Option<usize>) {
        let mut state = self.0.borrow_mut();
        state.read_only_from = runs.map(|runs| state.dpkg_runs.len() + runs);
    }

    /// Has a read-only disk keep dpkg from being run after so many more runs; `None` makes it writable again.
    pub(crate) fn refuse_dpkg_after(&self, runs: Option<usize>) {
        let mut state = self.0.borrow_mut();
        state.refused_from = runs.map(|runs| state.dpkg_runs.len() + runs);
    }

    /// Has a script of a package fail when it is to be removed, or no longer.
    pub(crate) fn keep_from_removal(&self, name: &str, kept: bool) {
        let unremovable = &mut self.0.borrow_mut().unremovable;
        let _ = if kept { unremovable.insert(name.to_owned()) } else { unremovable.remove(name) };
    }

    /// How long every dpkg run, and every query of what could meet a dependency, takes from now on.
    pub(crate) fn slow_dpkg_down(&self, takes: Duration) {
        self.0.borrow_mut().dpkg_takes = takes;
    }

    /// How long it takes to compare the files of a package from now on.
    pub(crate) fn slow_comparison_down(&self, takes: Duration) {
        self.0.borrow_mut().files.comparison_takes = takes;
    }

    /// Lets files of a package differ from what was shipped, in the words of `changed_files`, or be as they were shipped.
    pub(crate) fn edit_files(&self, package: &str, changed: &[&str]) {
        let files = &mut self.0.borrow_mut().files;
        files.known.remove(package);
        files.changed.insert(package.to_owned(), changed.iter().map(|file| (*file).to_owned()).collect());
    }

    /// No file can be read from now on, for a reason, or all can.
    pub(crate) fn make_unreadable(&self, reason: Option<&str>) {
        self.0.borrow_mut().files.unreadable = reason.map(str::to_owned);
    }

    /// The packages of which every file was read and compared, in order.
    pub(crate) fn files_read(&self) -> Vec<String> {
        self.0.borrow().files.read.clone()
    }

    fn called(&self, call: &str) {
        self.0.borrow_mut().calls.push(call.to_owned());
    }

    async fn take_time(&self) {
        let takes = self.0.borrow().dpkg_takes;
        if !takes.is_zero() {
            tokio::time::sleep(takes).await;
        }
    }

    /// What the journal has of every unit from now on: these lines, and that its main process ended with `status`.
    pub(crate) fn write_journal(&self, lines: &[&str], status: i32) {
        let lines = lines.iter().map(|line| (*line).to_owned()).collect();
        self.0.borrow_mut().last_words = LastWords { lines, end: Some(ProcessEnd::Exited(status)) };
    }

    /// Puts a package there that no release made.
    pub(crate) fn put_foreign(&self, name: &str) {
        let package = InstalledPackage {
            package: name.to_owned(),
            version: "0".to_owned(),
            state: PackageState::Installed,
            on_hold: false,
            release: None,
            units: vec![],
        };
        self.0.borrow_mut().packages.insert(name.to_owned(), (package, Behaviour::Good));
    }

    /// Breaks a package as a killed dpkg would.
    pub(crate) fn break_package(&self, name: &str) {
        if let Some((package, _)) = self.0.borrow_mut().packages.get_mut(name) {
            package.state = PackageState::Broken("iHR".to_owned());
        }
    }

    /// Leaves a package as a dpkg that was killed while its `postinst` ran would: the next run completes it.
    pub(crate) fn half_configure(&self, name: &str) {
        if let Some((package, _)) = self.0.borrow_mut().packages.get_mut(name) {
            package.state = PackageState::Broken("iF".to_owned());
        }
    }

    /// Takes a package away, as a script of another one would.
    pub(crate) fn take_away(&self, name: &str) {
        self.0.borrow_mut().packages.remove(name);
    }

    /// dpkg is done with a package that it was in the middle of.
    pub(crate) fn finish_package(&self, name: &str) {
        if let Some((package, _)) = self.0.borrow_mut().packages.get_mut(name) {
            package.state = PackageState::Installed;
        }
    }

    /// What kept a release from working is gone: from its next installation on it is good.
    pub(crate) fn mend(&self, release: &ReleaseName) {
        self.0.borrow_mut().mended.insert(release.clone());
    }

    /// From its next installation on a release crashes: something that it needs is gone.
    pub(crate) fn spoil(&self, release: &ReleaseName) {
        self.0.borrow_mut().spoiled.insert(release.clone());
    }

    /// Puts a package on hold as `apt-mark hold` does, or ends that.
    pub(crate) fn set_on_hold(&self, name: &str, on_hold: bool) {
        if let Some((package, _)) = self.0.borrow_mut().packages.get_mut(name) {
            package.on_hold = on_hold;
        }
    }

    /// Whether a package is on hold.
    pub(crate) fn is_on_hold(&self, name: &str) -> bool {
        self.0.borrow().packages.get(name).is_some_and(|(package, _)| package.on_hold)
    }

    /// Puts another release of an app in the place of what is installed, by hand, at a time that dpkg keeps.
    pub(crate) fn install_by_hand(&self, release: &ReleaseName, at: Timestamp) {
        let mut state = self.0.borrow_mut();
        state.changed_at = Some(at);
        if let Some((package, _)) = state.packages.get_mut(release.app().as_str()) {
            package.release = Some(release.clone());
        }
    }

    /// A unit dies so often, and systemd starts it again each time.
    pub(crate) fn die(&self, name: &str, times: u32) {
        let mut state = self.0.borrow_mut();
        state.invocations += times;
        let (invocation, started) = (format!("{:032x}", state.invocations), Some(state.tick()));
        let new = Unit { state: running(&invocation), crashes_at: None, runs: None };
        let unit = state.units.entry(name.to_owned()).or_insert(new);
        let restarts = unit.state.restarts + times;
        unit.state = UnitState { restarts, started, ..running(&invocation) };
    }

    /// Stops a unit by hand.
    pub(crate) fn stop(&self, name: &str) {
        let mut state = self.0.borrow_mut();
        let unit = state.units.get_mut(name).unwrap();
        unit.state = unit_state("inactive", "dead");
        unit.crashes_at = None;
    }

    /// The active state of a unit.
    pub(crate) fn active(&self, name: &str) -> String {
        self.0.borrow().unit(name).active.into()
    }
}

impl State {
    /// This moment, on the clock of this boot.
    fn tick(&mut self) -> u64 {
        self.clock += 1;
        self.clock
    }
}
