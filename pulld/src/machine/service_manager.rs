//! systemd as the agent sees it: its queries and jobs, and the plain values that they give.

use std::time::Duration;

use anyhow::Result;
use bucket::{Probe, Timestamp, UnitName};

use crate::failure::{CheckFault, ProcessEnd};

use super::unit_state::{JobResult, UnitState};

/// The service of the agent itself.
pub(crate) const OWN_UNIT: &str = "pulld.service";

/// How many units systemd is queried about at a time. Each query has a connection of its own, and the bus gives root's
/// processes a limited number.
pub(crate) const UNITS_AT_ONCE: usize = 8;

/// systemd's manager, as the agent sees it. Every call has a time limit of its own.
pub(crate) trait ServiceManager {
    /// Identifies this boot of the machine: the clock of [`UnitState::started`] begins anew with each.
    fn boot(&self) -> Result<String>;

    /// Makes systemd read the unit files anew.
    fn daemon_reload(&self) -> impl Future<Output = Result<()>>;

    /// How a unit is; one that doesn't exist has the load state `not-found`.
    fn unit(&self, name: &str) -> impl Future<Output = Result<UnitState>>;

    /// What the journal has of a unit `since` then, `except` of one invocation. Nothing where that can't be read in a few
    /// seconds: it helps a person, and nothing depends on it.
    fn last_words(&self, name: &str, since: Timestamp, except: Option<&str>) -> impl Future<Output = LastWords>;

    /// Restarts (or starts) a unit and waits for the job's end, at most `timeout`.
    fn restart(&self, name: &str, timeout: Duration) -> impl Future<Output = Result<JobResult>>;

    /// Reloads a unit, or restarts it if it can't reload, and waits for the job's end, at most `timeout`.
    fn reload(&self, name: &str, timeout: Duration) -> impl Future<Output = Result<JobResult>>;

    /// The instances of a template that are loaded: those that run, have failed, are enabled, or that another unit names.
    fn instances(&self, template: &UnitName) -> impl Future<Output = Result<Vec<UnitName>>>;

    /// Stops a unit and waits for the job's end, at most `timeout`.
    fn stop(&self, name: &str, timeout: Duration) -> impl Future<Output = Result<JobResult>>;

    /// Disables a unit, also one whose file is gone, as if it had never been enabled.
    fn disable(&self, name: &str) -> impl Future<Output = Result<()>>;

    /// Forgets that a unit failed; one that systemd doesn't know has nothing to forget.
    fn reset_failed(&self, name: &str) -> impl Future<Output = ()>;

    /// Tries the own check of an app's release once, for at most `timeout`; a command in a service of its own.
    fn check(&self, app: &str, probe: &Probe, timeout: Duration) -> impl Future<Output = Result<CheckResult>>;
}

/// What the journal has of a unit.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct LastWords {
    /// The last lines that it wrote, oldest first, as it wrote them.
    pub(crate) lines: Vec<String>,
    /// How its main process last ended: systemd itself forgets that when it starts the next one.
    pub(crate) end: Option<ProcessEnd>,
}

/// How a release's own check ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum CheckResult {
    /// It was answered, or exited with 0, in time.
    Passed,
    /// It did not.
    Failed(CheckFault),
}
