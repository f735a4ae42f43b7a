//! Releases that did not stay up on this server, and are not retried until its document changes.
//!
//! Deleting the file does no harm: such a release is installed once more, and rolled back once more.

use std::path::Path;

use anyhow::Result;
use bucket::{AppName, Generation, ReleaseName, Timestamp};
use serde::{Deserialize, Serialize};

use crate::{service::events, state::persist};

/// Most bytes of the file that are read.
const LIMIT: u64 = 4 << 20;

/// The quarantined releases of this machine.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Quarantine {
    entries: Vec<Quarantined>,
}

/// A release that is not retried.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Quarantined {
    /// The release.
    pub(crate) release: ReleaseName,
    /// Why it could not stay, in a sentence.
    pub(crate) reason: String,
    /// The document that asked for it; another one lifts the quarantine.
    pub(crate) generation: Generation,
    /// Whether the rollback failed as well, or was not possible, so that manual intervention is required.
    pub(crate) degraded: bool,
    /// When it was quarantined, by this machine's clock.
    pub(crate) since: Timestamp,
}

impl Quarantine {
    /// What is on disk; an empty one when that cannot be read.
    pub(crate) fn load(path: &Path) -> Self {
        let content = persist::read(path, LIMIT).and_then(|content| match content {
            Some(content) => Ok(serde_json::from_slice(&content)?),
            None => Ok(Self::default()),
        });
        content.unwrap_or_else(|error| {
            tracing::warn!(message_id = events::STATE_LOST, path = %path.display(), "could not read the quarantine, its releases may be retried: {error:#}");
            Self::default()
        })
    }

    /// Writes it to disk.
    pub(crate) fn save(&self, path: &Path) -> Result<()> {
        persist::write(path, &serde_json::to_vec_pretty(self)?)
    }

    /// Why `release` is not retried while the document has `generation`.
    pub(crate) fn holds(&self, release: &ReleaseName, generation: Generation) -> Option<&Quarantined> {
        self.entries.iter().find(|entry| entry.release == *release && entry.generation == generation)
    }

    /// Adds a release, in place of what was known of its app.
    pub(crate) fn add(&mut self, entry: Quarantined) {
        self.lift(entry.release.app());
        self.entries.push(entry);
    }

    /// Forgets what is known of an app.
    pub(crate) fn lift(&mut self, app: &AppName) {
        self.entries.retain(|entry| entry.release.app() != app);
    }
}
