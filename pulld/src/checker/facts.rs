//! What is known of a server, as whoever asks for a check has found it out.

use anyhow::{Context, Result};
use bucket::{OwnedUnit, ReleaseName};
use serde::de::DeserializeOwned;

use crate::state::{pauses::Pauses, quarantine::Quarantine};

/// What dpkg says.
#[derive(Debug, Clone, Default)]
pub struct Dpkg {
    /// Every package that it knows.
    pub packages: Vec<Package>,
    /// What `dpkg --audit` prints: nothing, if all is well.
    pub audit: String,
    /// The packages that were installed before the agent began, and came from no release.
    pub foreign: Vec<String>,
}

/// A package that dpkg knows.
#[derive(Debug, Clone)]
pub struct Package {
    /// Its name.
    pub name: String,
    /// `db:Status-Abbrev`, as in `ii`.
    pub status: String,
    /// The release that it came from.
    pub release: Option<ReleaseName>,
    /// The units that it owns.
    pub units: Vec<OwnedUnit>,
    /// When dpkg unpacked it, on the clock of [`Unit::started`]; `None` if that was before anything of it could start.
    pub unpacked: Option<u64>,
}

/// What systemd says of a unit.
#[derive(Debug, Clone)]
pub struct Unit {
    /// `ActiveState`.
    pub active: String,
    /// Whether systemd knows no file of it (`LoadState` is `not-found`).
    pub is_gone: bool,
    /// When its main process started, in microseconds on any clock; `None` if it has none.
    pub started: Option<u64>,
    /// The file of the program that this process runs, as in `/proc/PID/exe`; `None` where that isn't known.
    pub program: Option<String>,
}

/// What the agent keeps on disk.
#[derive(Debug, Default)]
pub struct Record {
    pub(super) transaction: Option<String>,
    pub(super) quarantine: Quarantine,
    pub(super) pauses: Pauses,
}

impl Record {
    /// From the contents of the agent's files, `None` for one that does not exist.
    ///
    /// # Errors
    /// When the quarantine or the pauses are not as the agent writes them.
    pub fn parse(transaction: Option<String>, quarantine: Option<&str>, pauses: Option<&str>) -> Result<Self> {
        let quarantine = parse(quarantine).context("invalid quarantine")?;
        Ok(Self { transaction, quarantine, pauses: parse(pauses).context("invalid pauses")? })
    }
}

fn parse<T: DeserializeOwned + Default>(content: Option<&str>) -> Result<T> {
    content.map_or_else(|| Ok(T::default()), |content| Ok(serde_json::from_str(content)?))
}
