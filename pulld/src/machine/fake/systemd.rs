//! systemd in memory.

use std::time::Duration;

use anyhow::Result;
use bucket::{Probe, Timestamp, UnitName};
use tokio::time::Instant;

use crate::failure::{CheckEnd, CheckFault};

use super::{
    super::{
        package_manager::InstalledPackage,
        service_manager::{CheckResult, LastWords, ServiceManager},
        unit_state::{ActiveState, JobResult, LoadState, SubState, UnitState},
    },
    Behaviour, State, World, exited, running, unit_state,
};

impl ServiceManager for World {
    fn boot(&self) -> Result<String> {
        Ok(format!("boot-{}", self.0.borrow().boots))
    }

    async fn daemon_reload(&self) -> Result<()> {
        self.called("services.daemon_reload");
        Ok(())
    }

    async fn unit(&self, name: &str) -> Result<UnitState> {
        self.called(&format!("services.unit({name})"));
        anyhow::ensure!(!name.contains("@."), "systemd knows no state of the template `{name}`");
        Ok(self.0.borrow().unit(name))
    }

    async fn last_words(&self, name: &str, _since: Timestamp, _except: Option<&str>) -> LastWords {
        self.called(&format!("services.last_words({name})"));
        self.0.borrow().last_words.clone()
    }

    async fn restart(&self, name: &str, _timeout: Duration) -> Result<JobResult> {
        self.called(&format!("services.restart({name})"));
        Ok(self.0.borrow_mut().restart(name))
    }

    async fn reload(&self, name: &str, _timeout: Duration) -> Result<JobResult> {
        self.called(&format!("services.reload({name})"));
        Ok(self.0.borrow_mut().restart(name))
    }

    async fn instances(&self, template: &UnitName) -> Result<Vec<UnitName>> {
        self.called(&format!("services.instances({template})"));
        let state = self.0.borrow();
        let names = state.units.keys().filter_map(|name| name.parse::<UnitName>().ok());
        Ok(names.filter(|name| name.template().as_ref() == Some(template)).collect())
    }

    async fn stop(&self, name: &str, _timeout: Duration) -> Result<JobResult> {
        self.called(&format!("services.stop({name})"));
        if let Some(unit) = self.0.borrow_mut().units.get_mut(name) {
            unit.state = UnitState { load: unit.state.load.clone(), ..unit_state("inactive", "dead") };
            unit.crashes_at = None;
        }
        Ok(JobResult::Done)
    }

    async fn disable(&self, name: &str) -> Result<()> {
        self.called(&format!("services.disable({name})"));
        self.0.borrow_mut().disabled.push(name.to_owned());
        Ok(())
    }

    async fn reset_failed(&self, name: &str) {
        self.called(&format!("services.reset_failed({name})"));
        if let Some(unit) = self.0.borrow_mut().units.get_mut(name)
            && unit.state.active == ActiveState::Failed
        {
            unit.state = UnitState { load: unit.state.load.clone(), ..unit_state("inactive", "dead") };
        }
    }

    async fn check(&self, app: &str, probe: &Probe, _timeout: Duration) -> Result<CheckResult> {
        self.called(&format!("services.check({app})"));
        let how = CheckEnd::CommandFailed { late: None, output: String::new() };
        Ok(CheckResult::Failed(CheckFault { check: probe.to_string(), how }))
    }
}

impl State {
    pub(super) fn unit(&self, name: &str) -> UnitState {
        let Some(unit) = self.units.get(name) else {
            return UnitState { load: LoadState::NotFound, ..unit_state("inactive", "dead") };
        };
        if unit.crashes_at.is_some_and(|at| Instant::now() >= at) {
            let invocation = unit.state.invocation.clone();
            let load = unit.state.load.clone();
            return UnitState { load, restarts: 1, invocation, ..unit_state("activating", "auto-restart") };
        }
        unit.state.clone()
    }

    pub(super) fn restart(&mut self, name: &str) -> JobResult {
        self.restarts.push(name.to_owned());
        self.start(name)
    }

    pub(super) fn start(&mut self, name: &str) -> JobResult {
        let owns = |package: &InstalledPackage| package.units.iter().any(|unit| unit.name.as_str() == name);
        let owner = self.packages.values().find(|(package, _)| owns(package));
        let (behaviour, release) =
            (owner.map(|(_, behaviour)| *behaviour), owner.and_then(|(package, _)| package.release.clone()));
        self.invocations += 1;
        let (invocation, started) = (format!("{:032x}", self.invocations), Some(self.tick()));
        let before = self.unit(name);
        let Some(unit) = self.units.get_mut(name) else { return JobResult::Failed };
        unit.crashes_at = None;
        unit.runs = release;
        if behaviour == Some(Behaviour::DoesNotStart) {
            unit.state = UnitState { invocation, ..exited(203) };
            return JobResult::Failed;
        }
        // systemd goes on counting where it was about to restart the unit itself.
        let restarts = if before.sub == SubState::AutoRestart { before.restarts } else { 0 };
        unit.state = UnitState { restarts, started, ..running(&invocation) };
        unit.crashes_at = (behaviour == Some(Behaviour::Crashes)).then(|| Instant::now() + Duration::from_secs(3));
        JobResult::Done
    }
}
