//! The record of the work under way, so that a process that dies at any moment is followed by one that knows.
//!
//! It is written before each phase begins, whole or not at all. What got installed is never read from it but asked
//! of dpkg: without the record nothing is wrong, only the way back is no longer known.

use std::path::{Path, PathBuf};

use anyhow::Result;
use bucket::{AppName, Generation, ReleaseName, Timestamp};
use serde::{Deserialize, Serialize};

use crate::{
    events,
    machine::{OwnedUnit, UnitState},
    persist, plan,
};

/// Most bytes of a record that are read.
const LIMIT: u64 = 16 << 20;

/// The shape of the record that this program writes. Another one's is left to dpkg's word.
const SCHEMA: u32 = 1;

/// How often a transaction is resumed before it goes back, and again before going back is given up.
pub const MAX_RESUMPTIONS: u32 = 5;

/// Work on several apps that began together.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Transaction {
    schema: u32,
    /// When it began, by this machine's clock.
    pub started: Timestamp,
    /// The document that asked for it.
    pub generation: Option<Generation>,
    /// How far it is.
    pub phase: Phase,
    /// How often a new process found it unfinished in the phase it is in.
    pub resumptions: u32,
    /// The process that sent the order for pulld's own package: only another one can be the new pulld.
    pub sent_by: Option<String>,
    /// What it changes.
    pub changes: Vec<Change>,
}

/// How far a transaction is. Each phase can be begun again from its start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// dpkg installs and removes.
    Installing,
    /// Units are restarted.
    Restarting,
    /// Units are watched.
    Gating,
    /// dpkg puts back what was there, for the apps that didn't stay up.
    RollingBack,
    /// The units of what was put back are restarted and watched.
    GatingBack,
    /// pulld replaces itself; the new process proves itself.
    UpdatingAgent,
    /// Every change has its outcome.
    Done,
}

/// What happens to one app.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// The app.
    pub app: AppName,
    /// The package that is installed or removed.
    pub package: String,
    /// What the package shall become.
    pub target: Target,
    /// The package of the app before, if there was one. Not always of the same name.
    pub before: Option<Before>,
    /// Whether the package was there before, from wherever.
    pub first: bool,
    /// How to undo it.
    pub way_back: WayBack,
    /// The release's own check command.
    pub check: Option<Vec<String>>,
    /// The units of the release and of the one before, as they were before anything changed.
    pub units: Vec<UnitBefore>,
    /// Whether dpkg changed anything of it by the time it went back.
    pub replaced: bool,
    /// Why it can't stay, from the moment that is known.
    pub trouble: Option<Trouble>,
    /// How it ended, from the moment that is known.
    pub outcome: Option<Outcome>,
}

/// What a package shall become.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Target {
    /// This release, from this verified file.
    Release {
        /// Which.
        release: ReleaseName,
        /// The file.
        deb: PathBuf,
    },
    /// Gone.
    Removed {
        /// What it came from.
        release: ReleaseName,
    },
}

/// The package of an app before the transaction.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Before {
    /// Its name.
    pub package: String,
    /// The release it came from.
    pub release: ReleaseName,
}

/// How to undo a change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum WayBack {
    /// Install what was there, from this verified file.
    Deb(PathBuf),
    /// Remove the package: there was none.
    Remove,
    /// There is no way back.
    None {
        /// Why, in a sentence.
        reason: String,
    },
}

/// A unit before the transaction.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnitBefore {
    /// The unit. When both releases own it, as the new one wants it.
    pub unit: OwnedUnit,
    /// Whether the new release owns it; otherwise only the one before does.
    pub wanted: bool,
    /// How it was before anything changed.
    pub was: UnitState,
    /// Its invocation right before dpkg last ran: another one by then has restarted by itself.
    pub invocation: String,
    /// Its restarts by systemd right before dpkg last ran.
    pub restarts: u32,
}

/// Why a change can't stay.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trouble {
    /// In a sentence.
    pub reason: String,
    /// Whether it is the release's fault: then it is quarantined.
    pub blamed: bool,
}

/// How a change ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// It is in and stays up, or is removed as it should be.
    Done,
    /// What was there before runs again; the release is quarantined.
    RolledBack {
        /// Why.
        reason: String,
    },
    /// Nothing changed, through no fault of the release: it is tried again.
    Postponed {
        /// Why.
        reason: String,
    },
    /// Neither forward nor back worked: a person is needed.
    Degraded {
        /// Why.
        reason: String,
    },
}

impl Transaction {
    /// A new one, before anything has changed.
    pub fn new(started: Timestamp, generation: Option<Generation>, changes: Vec<Change>) -> Self {
        Self { schema: SCHEMA, started, generation, phase: Phase::Installing, resumptions: 0, sent_by: None, changes }
    }

    /// The record on disk, if there is one that can be understood. One that can't is put aside, and dpkg is asked.
    pub fn load(path: &Path) -> Option<Self> {
        let read = persist::read(path, LIMIT).and_then(|content| match content {
            None => Ok(None),
            Some(content) => {
                let record: Self = serde_json::from_slice(&content)?;
                anyhow::ensure!(record.schema == SCHEMA, "its schema is {}, not {SCHEMA}", record.schema);
                Ok(Some(record))
            }
        });
        read.unwrap_or_else(|error| {
            tracing::warn!(
                message_id = events::STATE_LOST,
                path = %path.display(),
                "the record of a transaction is unreadable, dpkg is asked instead: {error:#}"
            );
            if let Err(error) = persist::rename(path, &path.with_extension("json.unreadable")) {
                tracing::warn!(message_id = events::STATE_LOST, "{error:#}");
            }
            None
        })
    }

    /// Writes the record.
    pub fn save(&self, path: &Path) -> Result<()> {
        persist::write(path, &serde_json::to_vec(self)?)
    }

    /// Goes on to `phase` and writes that down.
    pub fn enter(&mut self, phase: Phase, path: &Path) -> Result<()> {
        self.phase = phase;
        self.resumptions = 0;
        self.save(path)
    }

    /// The changes of other apps than pulld itself.
    pub fn others(&self) -> impl Iterator<Item = &Change> {
        self.changes.iter().filter(|change| !change.is_own())
    }

    /// The same, to be changed.
    pub fn others_mut(&mut self) -> impl Iterator<Item = &mut Change> {
        self.changes.iter_mut().filter(|change| !change.is_own())
    }

    /// The change of pulld itself, if there is one that has no outcome yet.
    pub fn own_mut(&mut self) -> Option<&mut Change> {
        self.changes.iter_mut().find(|change| change.is_own() && change.outcome.is_none())
    }

    /// The files that it needs, forward and back.
    pub fn files(&self) -> impl Iterator<Item = &Path> {
        self.changes.iter().flat_map(|change| {
            let forward = match &change.target {
                Target::Release { deb, .. } => Some(deb.as_path()),
                Target::Removed { .. } => None,
            };
            let back = match &change.way_back {
                WayBack::Deb(deb) => Some(deb.as_path()),
                WayBack::Remove | WayBack::None { .. } => None,
            };
            [forward, back].into_iter().flatten()
        })
    }
}

impl Change {
    /// Whether it is pulld itself that changes.
    pub fn is_own(&self) -> bool {
        self.package == plan::OWN
    }

    /// The release that it brings; `None` for a removal.
    pub fn release(&self) -> Option<&ReleaseName> {
        match &self.target {
            Target::Release { release, .. } => Some(release),
            Target::Removed { .. } => None,
        }
    }

    /// What it is called in sentences: its release without directory, or the package that goes.
    pub fn title(&self) -> &str {
        self.release().map_or(&self.package, ReleaseName::stem)
    }

    /// Says that it can't stay; the first reason counts.
    pub fn fail(&mut self, reason: impl Into<String>, blamed: bool) {
        self.trouble.get_or_insert(Trouble { reason: reason.into(), blamed });
    }

    /// Whether it still goes forward.
    pub fn is_well(&self) -> bool {
        self.trouble.is_none() && self.outcome.is_none()
    }

    /// Whether it has to be undone.
    pub fn is_in_trouble(&self) -> bool {
        self.trouble.is_some() && self.outcome.is_none()
    }
}
