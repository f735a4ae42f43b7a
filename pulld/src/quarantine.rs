//! Releases that didn't stay up here, and aren't retried until the server document changes.
//!
//! Deleting the file does no harm: such a release is tried once more, and goes back once more.

use std::path::Path;

use anyhow::Result;
use bucket::{AppName, Generation, ReleaseName, Timestamp};
use serde::{Deserialize, Serialize};

use crate::{events, persist};

/// Most bytes of the file that are read.
const LIMIT: u64 = 4 << 20;

/// The quarantined releases of this machine.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Quarantine {
    entries: Vec<Quarantined>,
}

/// A release that isn't retried.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Quarantined {
    /// Which.
    pub release: ReleaseName,
    /// Why, in a sentence.
    pub reason: String,
    /// The document that asked for it; another one lifts the quarantine.
    pub generation: Generation,
    /// Whether going back failed as well, so that a person is needed.
    pub degraded: bool,
    /// Since when.
    pub since: Timestamp,
}

impl Quarantine {
    /// What is on disk; nothing when that can't be read.
    pub fn load(path: &Path) -> Self {
        let content = persist::read(path, LIMIT).and_then(|content| match content {
            Some(content) => Ok(serde_json::from_slice(&content)?),
            None => Ok(Self::default()),
        });
        content.unwrap_or_else(|error| {
            tracing::warn!(message_id = events::STATE_LOST, path = %path.display(), "quarantine forgotten: {error:#}");
            Self::default()
        })
    }

    /// Writes it to disk.
    pub fn save(&self, path: &Path) -> Result<()> {
        persist::write(path, &serde_json::to_vec_pretty(self)?)
    }

    /// Why `release` isn't retried under the document `generation`.
    pub fn holds(&self, release: &ReleaseName, generation: Generation) -> Option<&Quarantined> {
        self.entries.iter().find(|entry| entry.release == *release && entry.generation == generation)
    }

    /// Adds a release, in place of what was known of its app.
    pub fn add(&mut self, entry: Quarantined) {
        self.lift(entry.release.app());
        self.entries.push(entry);
    }

    /// Forgets what is known of an app.
    pub fn lift(&mut self, app: &AppName) {
        self.entries.retain(|entry| entry.release.app() != app);
    }
}
