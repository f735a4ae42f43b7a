//! A dpkg run that the agent requests, and its result: files in a directory that the agent and the runner share.
//!
//! ```text
//! DIR/order.json    what to do, written before the service is started
//! DIR/result.json   how it ended, written as the last thing (but for restarting the agent)
//! ```

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use crate::state::persist;

/// The service that carries out dpkg runs.
pub(crate) const TRANSACTION_UNIT: &str = "pulld-transaction.service";

/// Most bytes of a request or a result that are read.
const LIMIT: u64 = 1 << 20;

/// What pulld asks dpkg to do in one go, carried out by a systemd service of its own: see [`crate::machine::runner`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct DpkgRequest {
    /// Packages to install or to go back to: verified `.deb`s on this machine's disk, by absolute path.
    pub(crate) install: Vec<PathBuf>,
    /// Packages to remove, conffiles kept.
    pub(crate) remove: Vec<String>,
    /// Restart pulld itself as the very last thing: its own package is in `install`.
    pub(crate) restart_agent: bool,
    /// The longest dpkg may take with all of it, lock included; then its whole process group is killed.
    pub(crate) timeout: Duration,
}

/// How an order ended. What got installed is asked of dpkg, never concluded from this.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct DpkgResult {
    /// dpkg's exit status; `None` when it was killed or never ran.
    pub(crate) exit: Option<i32>,
    /// Why it never ran, or how it was killed: who holds the lock, the time limit, a signal.
    #[serde(rename = "trouble")]
    pub(crate) failure: Option<String>,
    /// The end of what dpkg and the maintainer scripts printed, made valid UTF-8, at most 16 KiB.
    pub(crate) output: String,
}

/// Writes an order where the runner looks for it.
pub(crate) fn save_request(directory: &Path, request: &DpkgRequest) -> Result<()> {
    persist::write(&directory.join("order.json"), &serde_json::to_vec_pretty(request)?)
}

/// The order that was last written, if it can be understood.
pub(crate) fn load_request(directory: &Path) -> Result<Option<DpkgRequest>> {
    let content = persist::read(&directory.join("order.json"), LIMIT)?;
    content.map(|content| serde_json::from_slice(&content).context("the order can't be understood")).transpose()
}

/// Writes a result, as the last thing the runner does.
pub(crate) fn save_result(directory: &Path, result: &DpkgResult) -> Result<()> {
    persist::write(&directory.join("result.json"), &serde_json::to_vec_pretty(result)?)
}

/// The result of the last order, if it has one that can be understood.
pub(crate) fn load_result(directory: &Path) -> Result<Option<DpkgResult>> {
    let content = persist::read(&directory.join("result.json"), LIMIT)?;
    Ok(content.and_then(|content| serde_json::from_slice(&content).ok()))
}

/// Forgets the last order and its result.
pub(crate) fn forget(directory: &Path) -> Result<()> {
    persist::remove(&directory.join("result.json"))?;
    persist::remove(&directory.join("order.json"))
}
