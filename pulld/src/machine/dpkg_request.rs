//! A dpkg run that the agent requests, and its result: files in a directory that the agent and the runner share.
//!
//! ```text
//! DIR/order.json    the request, written before the input of the service is closed
//! DIR/result.json   its result, written as the last thing (but for restarting the agent)
//! DIR/before.json   every package as it was before the first run whose changes nobody has noted: see [`super::baseline`]
//! ```
//!
//! The first two don't outlive the boot, in which the service runs: they are not synced, and the result of another boot is
//! none. What must survive a power cut is in the record of the transaction, and dpkg is asked what it has done.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use crate::{failure::DpkgEnd, state::persist};

use super::{clock, package_changes::PackageChange};

/// The service that carries out dpkg runs.
pub(crate) const TRANSACTION_UNIT: &str = "pulld-transaction.service";

/// Most bytes of a request or a result that are read.
const MAX_SIZE: u64 = 1 << 20;

/// What dpkg shall do in one run, carried out by a systemd service of its own: see [`crate::machine::runner`].
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct DpkgRequest {
    /// Packages to install, or to roll back to: verified `.deb`s on this machine's disk, by absolute path.
    pub(crate) install: Vec<PathBuf>,
    /// Packages to remove; their conffiles stay.
    pub(crate) remove: Vec<String>,
    /// By the name of a package to remove, a verified `.deb` to install again once that is gone, or half-installed: it may have
    /// taken files over from this one's package (deb-control(5), `Replaces`), which dpkg deletes with it. An earlier runner
    /// doesn't.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) restore: BTreeMap<String, PathBuf>,
    /// Restart pulld itself as the very last thing: its own package is in `install`.
    pub(crate) restart_agent: bool,
    /// Time limit for all of it, including the wait for the dpkg lock; then its whole process group is killed.
    pub(crate) timeout: Duration,
    /// The transaction that it is a part of: what an interrupted run of that one changed is told with its own changes.
    #[serde(default)]
    pub(crate) transaction: Option<String>,
    /// The packages that the transaction is about: another one that changes is told.
    #[serde(default)]
    pub(crate) planned: Vec<String>,
}

impl DpkgRequest {
    /// Every `.deb` that dpkg may read for it.
    pub(crate) fn debs(&self) -> impl Iterator<Item = &PathBuf> {
        self.install.iter().chain(self.restore.values())
    }
}

/// How a dpkg run ended. What got installed is queried from dpkg, never concluded from this.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "StoredResult", into = "StoredResult")]
pub(crate) struct DpkgResult {
    /// Whether dpkg ended by itself.
    pub(crate) end: DpkgEnd,
    /// The end of what dpkg and the maintainer scripts printed, made valid UTF-8, at most 16 KiB.
    pub(crate) output: String,
    /// When dpkg had unpacked packages, by name, as far as that is known: whatever started later started from what is in
    /// them. In microseconds on the clock of the boot in which it ran.
    pub(crate) unpacked: BTreeMap<String, u64>,
    /// What changed that was not planned, at most 20 packages; an earlier pulld's runner tells of planned ones too. `None`
    /// when that was not compared, as when dpkg never ran: an interrupted run before this one may have changed something.
    pub(crate) changes: Option<Vec<PackageChange>>,
    /// Whether dpkg never ran because another program held its lock all the time.
    pub(crate) is_locked_out: bool,
}

/// A result as it is stored: an older or a newer pulld may read it.
#[derive(Serialize, Deserialize)]
struct StoredResult {
    /// The boot of the request; earlier versions didn't say so, and synced it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    boot: Option<String>,
    exit: Option<i32>,
    trouble: Option<String>,
    output: String,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    unpacked: BTreeMap<String, u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    changes: Option<Vec<PackageChange>>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    locked_out: bool,
}

impl From<StoredResult> for DpkgResult {
    fn from(stored: StoredResult) -> Self {
        let StoredResult { boot: _, exit, trouble, output, unpacked, changes, locked_out } = stored;
        let end = match (exit, trouble) {
            (Some(status), _) => DpkgEnd::Exited(status),
            (None, Some(reason)) => DpkgEnd::Failed(reason),
            (None, None) => DpkgEnd::Failed("dpkg was killed".to_owned()),
        };
        Self { end, output, unpacked, changes, is_locked_out: locked_out }
    }
}

impl From<DpkgResult> for StoredResult {
    fn from(DpkgResult { end, output, unpacked, changes, is_locked_out }: DpkgResult) -> Self {
        let (exit, trouble) = match end {
            DpkgEnd::Exited(status) => (Some(status), None),
            DpkgEnd::Failed(reason) => (None, Some(reason)),
        };
        Self { boot: None, exit, trouble, output, unpacked, changes, locked_out: is_locked_out }
    }
}

impl DpkgResult {
    /// dpkg never ran, or was killed, before it printed anything.
    pub(crate) fn failed(reason: impl Into<String>) -> Self {
        let end = DpkgEnd::Failed(reason.into());
        Self { end, output: String::new(), unpacked: BTreeMap::new(), changes: None, is_locked_out: false }
    }

    /// dpkg never ran, because another program held its lock.
    pub(crate) fn locked_out(reason: impl Into<String>) -> Self {
        Self { is_locked_out: true, ..Self::failed(reason) }
    }
}

/// A request as it is stored: an older or a newer runner may read it.
#[derive(Serialize, Deserialize)]
struct StoredRequest {
    /// The boot, as the agent sees it. The runner, in a service of its own, may see another one in a container.
    #[serde(default)]
    boot: Option<String>,
    #[serde(flatten)]
    request: DpkgRequest,
}

/// The file with the baseline of the transaction whose requests are in `directory`.
pub(crate) fn baseline_file(directory: &Path) -> PathBuf {
    directory.join("before.json")
}

/// Writes a request to where the runner reads it.
pub(crate) fn save_request(directory: &Path, request: &DpkgRequest) -> Result<()> {
    let stored = StoredRequest { boot: Some(clock::boot()?), request: request.clone() };
    persist::write_for_this_boot(&directory.join("order.json"), &serde_json::to_vec_pretty(&stored)?)
}

/// The request that was last written, if there is one.
///
/// # Errors
/// When it is invalid: another version of pulld wrote it, perhaps.
pub(crate) fn load_request(directory: &Path) -> Result<Option<DpkgRequest>> {
    Ok(load_stored(directory)?.map(|stored| stored.request))
}

fn load_stored(directory: &Path) -> Result<Option<StoredRequest>> {
    let content = persist::read(&directory.join("order.json"), MAX_SIZE)?;
    content.map(|content| serde_json::from_slice(&content).context("invalid dpkg request")).transpose()
}

/// Writes a result, as the last thing the runner does.
pub(crate) fn save_result(directory: &Path, result: DpkgResult) -> Result<()> {
    let boot = load_stored(directory)?.and_then(|stored| stored.boot);
    let stored = StoredResult { boot, ..StoredResult::from(result) };
    persist::write_for_this_boot(&directory.join("result.json"), &serde_json::to_vec_pretty(&stored)?)
}

/// The result of the last request, if it has a valid one of this boot.
pub(crate) fn load_result(directory: &Path) -> Result<Option<DpkgResult>> {
    let content = persist::read(&directory.join("result.json"), MAX_SIZE)?;
    let stored = content.and_then(|content| serde_json::from_slice::<StoredResult>(&content).ok());
    let boot = clock::boot()?;
    let of_this_boot = stored.filter(|stored| stored.boot.as_ref().is_none_or(|written| *written == boot));
    Ok(of_this_boot.map(DpkgResult::from))
}

/// Deletes the last request and its result.
pub(crate) fn forget(directory: &Path) -> Result<()> {
    persist::remove_for_this_boot(&directory.join("result.json"))?;
    persist::remove_for_this_boot(&directory.join("order.json"))
}

#[cfg(test)]
mod tests {
    use bucket::Timestamp;

    use super::*;

    #[test]
    fn a_result_is_stored_as_earlier_versions_read_it() {
        let exited = DpkgResult { end: DpkgEnd::Exited(1), output: "x".into(), ..DpkgResult::failed("") };
        assert_eq!(serde_json::to_string(&exited).unwrap(), r#"{"exit":1,"trouble":null,"output":"x"}"#);
        let unpacked = [("web".to_owned(), 7)].into();
        let timed = DpkgResult { unpacked, ..exited.clone() };
        let change = PackageChange {
            package: "nginx".to_owned(),
            before: Some("1.22".to_owned()),
            after: None,
            since: Some(Timestamp::UNIX_EPOCH),
        };
        let changed = DpkgResult { changes: Some(vec![change]), ..exited.clone() };
        let unchanged = DpkgResult { changes: Some(vec![]), ..exited.clone() };
        for result in
            [exited, timed, changed, unchanged, DpkgResult::failed("no service"), DpkgResult::locked_out("apt")]
        {
            let stored = serde_json::to_string(&result).unwrap();
            assert_eq!(serde_json::from_str::<DpkgResult>(&stored).unwrap(), result);
        }
    }

    #[test]
    fn a_result_that_a_power_cut_brought_back_is_none() {
        let directory = tempfile::tempdir().unwrap();
        let timeout = Duration::ZERO;
        let (transaction, planned) = (Some("t".to_owned()), vec!["web".to_owned()]);
        let request = DpkgRequest {
            install: vec![],
            remove: planned.clone(),
            restore: [("web".to_owned(), "/web.deb".into())].into(),
            restart_agent: false,
            timeout,
            transaction,
            planned,
        };
        save_request(directory.path(), &request).unwrap();
        assert_eq!(load_request(directory.path()).unwrap(), Some(request));
        let result = DpkgResult { end: DpkgEnd::Exited(0), ..DpkgResult::failed("") };
        save_result(directory.path(), result.clone()).unwrap();
        assert_eq!(load_result(directory.path()).unwrap(), Some(result.clone()));
        let path = directory.path().join("result.json");
        let written = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, written.replace(&clock::boot().unwrap(), "another")).unwrap();
        assert_eq!(load_result(directory.path()).unwrap(), None);
        std::fs::write(&path, &written[..written.len() / 2]).unwrap();
        assert_eq!(load_result(directory.path()).unwrap(), None);
        std::fs::write(&path, r#"{"exit":0,"trouble":null,"output":""}"#).unwrap();
        assert_eq!(load_result(directory.path()).unwrap(), Some(result));
        forget(directory.path()).unwrap();
        assert_eq!(load_result(directory.path()).unwrap(), None);
    }
}
