//! systemd as the agent sees it: what it is asked, and the plain values it answers with.

use std::time::Duration;

use anyhow::Result;
use bucket::Timestamp;
use serde::{Deserialize, Serialize};

/// systemd's manager, as the agent sees it. Every call has a time limit of its own.
pub(crate) trait ServiceManager {
    /// Makes systemd read the unit files anew.
    fn daemon_reload(&self) -> impl Future<Output = Result<()>>;

    /// How a unit is; one that doesn't exist has the load state `not-found`.
    fn unit(&self, name: &str) -> impl Future<Output = Result<UnitState>>;

    /// Restarts (or starts) a unit and waits for the job's end, at most `timeout`.
    fn restart(&self, name: &str, timeout: Duration) -> impl Future<Output = Result<JobResult>>;

    /// Reloads a unit, or restarts it if it can't reload, and waits for the job's end, at most `timeout`.
    fn reload(&self, name: &str, timeout: Duration) -> impl Future<Output = Result<JobResult>>;

    /// Runs a release's own check command in a transient service, at most `timeout`; `Err` text says why it is unhealthy.
    fn check(&self, command: &[String], timeout: Duration) -> impl Future<Output = Result<Result<(), String>>>;
}

/// How a unit is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct UnitState {
    /// `LoadState`: `loaded`, `not-found`, `masked`, `error`, `bad-setting`.
    pub(crate) load: String,
    /// `ActiveState`: `active`, `inactive`, `failed`, `activating`, `deactivating`, `reloading`.
    pub(crate) active: String,
    /// `SubState`: `running`, `auto-restart`, `exited`, `waiting`, …
    pub(crate) sub: String,
    /// `UnitFileState`: `enabled`, `disabled`, `static`, `masked`, …; empty when there is no unit file.
    pub(crate) file_state: String,
    /// `Result` of a service: `success`, `exit-code`, `start-limit-hit`, …; empty for other units.
    pub(crate) result: String,
    /// `Type` of a service: `notify`, `simple`, `oneshot`, …; empty for other units.
    pub(crate) service_type: String,
    /// `NRestarts` of a service: restarts by systemd itself since it was last started.
    pub(crate) restarts: u32,
    /// `InvocationID`, 32 hex digits; empty when it isn't running.
    pub(crate) invocation: String,
    /// `ActiveEnterTimestamp` or `InactiveEnterTimestamp`, whichever is the later.
    pub(crate) since: Option<Timestamp>,
}

/// How a job on a unit ended: `done`, `failed`, `canceled`, `timeout`, `dependency`, `skipped`, … (systemd's own words).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct JobResult(pub String);
