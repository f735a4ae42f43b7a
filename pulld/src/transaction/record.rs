//! The record of the work under way, so that a process that dies at any moment is followed by one that knows.
//!
//! It is written before each phase begins, whole or not at all. What got installed is never read from it but asked
//! of dpkg: without the record nothing is wrong, only the way back is no longer known.

use std::path::{Path, PathBuf};

use anyhow::Result;
use bucket::{AppName, Generation, ReleaseName, Timestamp};
use serde::{Deserialize, Serialize};

use crate::{decide::units::UnitBefore, machine::OWN_PACKAGE, service::events, state::persist};

/// Most bytes of a record that are read.
const LIMIT: u64 = 16 << 20;

/// The shape of the record that this program writes. Another one's is left to dpkg's word.
const SCHEMA: u32 = 1;

/// How often a transaction is resumed before it goes back, and again before going back is given up.
pub(crate) const MAX_RESUMPTIONS: u32 = 5;

/// Work on several apps that began together.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Transaction {
    schema: u32,
    /// When it began, by this machine's clock.
    pub(crate) started: Timestamp,
    /// The document that asked for it.
    pub(crate) generation: Option<Generation>,
    /// How far it is.
    pub(crate) phase: Phase,
    /// How often a new process found it unfinished in the phase it is in.
    pub(crate) resumptions: u32,
    /// The process that sent the order for pulld's own package: only another one can be the new pulld.
    pub(crate) sent_by: Option<String>,
    /// What it changes.
    #[serde(rename = "changes")]
    pub(crate) updates: Vec<AppUpdate>,
}

/// How far a transaction is. Each phase can be begun again from its start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Phase {
    /// dpkg installs and removes.
    Installing,
    /// Units are restarted.
    Restarting,
    /// Units are watched.
    Gating,
    /// dpkg puts back what was there, for the apps that didn't stay up.
    RollingBack,
    /// The units of what was put back are restarted and watched.
    #[serde(rename = "gating-back")]
    CheckingRollback,
    /// pulld replaces itself; the new process proves itself.
    UpdatingAgent,
    /// Every change has its outcome.
    Done,
}

/// What happens to one app.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct AppUpdate {
    /// The app.
    pub(crate) app: AppName,
    /// The package that is installed or removed.
    pub(crate) package: String,
    /// What the package shall become.
    pub(crate) target: Target,
    /// The package of the app before, if there was one. Not always of the same name.
    pub(crate) before: Option<Before>,
    /// Whether the package was there before, from wherever.
    pub(crate) first: bool,
    /// How to undo it.
    #[serde(rename = "way_back")]
    pub(crate) rollback_target: RollbackTarget,
    /// The release's own check command.
    pub(crate) check: Option<Vec<String>>,
    /// The units of the release and of the one before, as they were before anything changed.
    pub(crate) units: Vec<UnitBefore>,
    /// Whether dpkg changed anything of it by the time it went back.
    pub(crate) replaced: bool,
    /// Why it can't stay, from the moment that is known.
    #[serde(rename = "trouble")]
    pub(crate) failure: Option<Failure>,
    /// How it ended, from the moment that is known.
    pub(crate) outcome: Option<Outcome>,
}

/// What a package shall become.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Target {
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
pub(crate) struct Before {
    /// Its name.
    pub(crate) package: String,
    /// The release it came from.
    pub(crate) release: ReleaseName,
}

/// How to undo a change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum RollbackTarget {
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

/// Why a change can't stay.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Failure {
    /// In a sentence.
    pub(crate) reason: String,
    /// Whether it is the release's fault: then it is quarantined.
    #[serde(rename = "blamed")]
    pub(crate) release_at_fault: bool,
}

/// How a change ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Outcome {
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
    pub(crate) fn new(started: Timestamp, generation: Option<Generation>, updates: Vec<AppUpdate>) -> Self {
        Self { schema: SCHEMA, started, generation, phase: Phase::Installing, resumptions: 0, sent_by: None, updates }
    }

    /// The record on disk, if there is one that can be understood. One that can't is put aside, and dpkg is asked.
    pub(crate) fn load(path: &Path) -> Option<Self> {
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
    pub(crate) fn save(&self, path: &Path) -> Result<()> {
        persist::write(path, &serde_json::to_vec(self)?)
    }

    /// Goes on to `phase` and writes that down.
    pub(crate) fn enter(&mut self, phase: Phase, path: &Path) -> Result<()> {
        self.phase = phase;
        self.resumptions = 0;
        self.save(path)
    }

    /// The changes of other apps than pulld itself.
    pub(crate) fn others(&self) -> impl Iterator<Item = &AppUpdate> {
        self.updates.iter().filter(|update| !update.is_own())
    }

    /// The same, to be changed.
    pub(crate) fn others_mut(&mut self) -> impl Iterator<Item = &mut AppUpdate> {
        self.updates.iter_mut().filter(|update| !update.is_own())
    }

    /// The change of pulld itself, if there is one that has no outcome yet.
    pub(crate) fn own_mut(&mut self) -> Option<&mut AppUpdate> {
        self.updates.iter_mut().find(|update| update.is_own() && update.outcome.is_none())
    }
}

impl AppUpdate {
    /// Whether it is pulld itself that changes.
    pub(crate) fn is_own(&self) -> bool {
        self.package == OWN_PACKAGE
    }

    /// The release that it brings; `None` for a removal.
    pub(crate) fn release(&self) -> Option<&ReleaseName> {
        match &self.target {
            Target::Release { release, .. } => Some(release),
            Target::Removed { .. } => None,
        }
    }

    /// What it is called in sentences: its release without directory, or the package that goes.
    pub(crate) fn title(&self) -> &str {
        self.release().map_or(&self.package, ReleaseName::stem)
    }

    /// Says that it can't stay; the first reason counts.
    pub(crate) fn fail(&mut self, reason: impl Into<String>, release_at_fault: bool) {
        self.failure.get_or_insert(Failure { reason: reason.into(), release_at_fault });
    }

    /// Whether it still goes forward.
    pub(crate) fn is_ok(&self) -> bool {
        self.failure.is_none() && self.outcome.is_none()
    }

    /// Whether it has to be undone.
    pub(crate) fn has_failed(&self) -> bool {
        self.failure.is_some() && self.outcome.is_none()
    }
}
