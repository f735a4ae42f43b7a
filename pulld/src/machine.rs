//! The two boundaries of the agent: dpkg, which knows what is installed, and systemd, which runs it.
//!
//! Two traits, each with one real implementation ([`crate::dpkg::Dpkg`], [`crate::systemd::Systemd`]) and one in
//! memory for tests. Everything the agent decides is decided from the plain values below.

use std::{path::PathBuf, time::Duration};

use anyhow::Result;
use bucket::{ReleaseName, Timestamp};
use serde::{Deserialize, Serialize};

/// A package that dpkg has, or had, on this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InstalledPackage {
    /// Its Debian package name, without architecture qualifier.
    pub package: String,
    /// Its Debian version; empty when it is only known by its leftover conffiles.
    pub version: String,
    /// What dpkg thinks of it.
    pub state: PackageState,
    /// The release it came from; `None` for packages that Push didn't make.
    pub release: Option<ReleaseName>,
    /// The units it owns, from `Push-Units:`.
    pub units: Vec<OwnedUnit>,
}

/// What dpkg thinks of a package (dpkg-query(1), `db:Status-Abbrev`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PackageState {
    /// `ii`, or `hi` when a person put it on hold: unpacked and configured.
    Installed,
    /// `rc`, `un`, `pn`: not there, perhaps with conffiles left.
    Absent,
    /// Anything else, as dpkg writes it: half-installed, half-configured, needs reinstallation, triggers pending.
    Broken(String),
}

/// A systemd unit that a release owns, as one element of `Push-Units:`, written `web.service=restart`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OwnedUnit {
    /// Its name, as in `web.service`.
    pub name: String,
    /// What happens to it when its release is installed.
    pub action: UnitAction,
}

/// What happens to a unit after its release was installed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum UnitAction {
    /// `restart`: started on the first install, restarted on every other.
    Restart,
    /// `reload`: started on the first install, reloaded (or restarted, if it can't reload) on every other.
    Reload,
    /// `start`: started on the first install and if it isn't running, else left alone.
    Start,
    /// `none`: never touched; something else starts it, as a timer does.
    None,
}

/// What pulld asks dpkg to do in one go, carried out by a systemd service of its own: see [`crate::transact`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Order {
    /// Packages to install or to go back to: verified `.deb`s on this machine's disk, by absolute path.
    pub install: Vec<PathBuf>,
    /// Packages to remove, conffiles kept.
    pub remove: Vec<String>,
    /// Restart pulld itself as the very last thing: its own package is in `install`.
    pub restart_agent: bool,
    /// The longest dpkg may take with all of it, lock included; then its whole process group is killed.
    pub timeout: Duration,
}

/// How an order ended. What got installed is asked of dpkg, never concluded from this.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrderResult {
    /// dpkg's exit status; `None` when it was killed or never ran.
    pub exit: Option<i32>,
    /// Why it never ran, or how it was killed: who holds the lock, the time limit, a signal.
    pub trouble: Option<String>,
    /// The end of what dpkg and the maintainer scripts printed, made valid UTF-8, at most 16 KiB.
    pub output: String,
}

/// What a `.deb` says of itself, read without dpkg from the verified file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DebInfo {
    /// `Package`
    pub package: String,
    /// `Version`
    pub version: String,
    /// `Architecture`
    pub architecture: String,
    /// `Push-Release`
    pub release: Option<ReleaseName>,
    /// `Push-Units`
    pub units: Vec<OwnedUnit>,
    /// `Push-Check`: a command line, split on spaces, that must exit 0 before the release counts as healthy.
    pub check: Option<Vec<String>>,
    /// `Installed-Size`, in bytes.
    pub installed_size: u64,
    /// `Depends` and `Pre-Depends`, as written.
    pub depends: Vec<String>,
}

/// dpkg, as the agent sees it.
pub trait PackageManager {
    /// Every package that has a `Push-Release:`, and every one named in `also`, if dpkg knows it.
    fn packages(&self, also: &[String]) -> impl Future<Output = Result<Vec<InstalledPackage>>>;

    /// Why the package in `deb` can't be installed here: wrong architecture, unmet `Depends`, each a sentence.
    /// `together` are the other packages of the same order: they may satisfy its dependencies.
    fn obstacles(&self, deb: &DebInfo, together: &[DebInfo]) -> impl Future<Output = Result<Vec<String>>>;

    /// Files of a package that differ from what it brought (dpkg(1) `--verify`), conffiles left out, as paths.
    fn changed_files(&self, package: &str) -> impl Future<Output = Result<Vec<String>>>;

    /// Carries out an order in a service of its own and waits for its end.
    ///
    /// The service outlives the agent: an agent that is restarted meanwhile calls [`PackageManager::resume`].
    /// With `restart_agent` it normally doesn't return: systemd restarts this process first.
    fn execute(&self, order: &Order) -> impl Future<Output = Result<OrderResult>>;

    /// Waits for the end of an order that is still being carried out, or gives the result of one that ended
    /// while nobody waited; `None` when neither is there: it was never started, or was cut off by a crash.
    fn resume(&self) -> impl Future<Output = Result<Option<OrderResult>>>;
}

/// How a unit is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnitState {
    /// `LoadState`: `loaded`, `not-found`, `masked`, `error`, `bad-setting`.
    pub load: String,
    /// `ActiveState`: `active`, `inactive`, `failed`, `activating`, `deactivating`, `reloading`.
    pub active: String,
    /// `SubState`: `running`, `auto-restart`, `exited`, `waiting`, …
    pub sub: String,
    /// `UnitFileState`: `enabled`, `disabled`, `static`, `masked`, …; empty when there is no unit file.
    pub file_state: String,
    /// `Result` of a service: `success`, `exit-code`, `start-limit-hit`, …; empty for other units.
    pub result: String,
    /// `Type` of a service: `notify`, `simple`, `oneshot`, …; empty for other units.
    pub service_type: String,
    /// `NRestarts` of a service: restarts by systemd itself since it was last started.
    pub restarts: u32,
    /// `InvocationID`, 32 hex digits; empty when it isn't running.
    pub invocation: String,
    /// `ActiveEnterTimestamp` or `InactiveEnterTimestamp`, whichever is the later.
    pub since: Option<Timestamp>,
}

/// How a job on a unit ended: `done`, `failed`, `canceled`, `timeout`, `dependency`, `skipped`, … (systemd's own words).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobResult(pub String);

/// systemd's manager, as the agent sees it. Every call has a time limit of its own.
pub trait ServiceManager {
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
