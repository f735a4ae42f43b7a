//! The rollback target of pulld itself, in files that `pulld-rescue.service` reads when no pulld runs any more.
//!
//! - `pulld.deb`: the verified package of the last pulld that passed its health gate
//! - `armed`: exists until a new pulld has passed its health gate; without it the rescue does nothing
//! - `rescued`: left by the rescue after it installed `pulld.deb`, with a sentence for people

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};

use crate::state::persist;

/// Most bytes of the marker that are read.
const MAX_SIZE: u64 = 64 << 10;

/// The directory of the rescue.
#[derive(Debug, Clone)]
pub(crate) struct Rescue {
    directory: PathBuf,
}

impl Rescue {
    /// The rescue in `directory`.
    pub(crate) fn new(directory: PathBuf) -> Self {
        Self { directory }
    }

    /// Keeps a verified `.deb` as the one to restore.
    pub(crate) fn keep(&self, deb: &Path) -> Result<()> {
        let failed = || format!("could not keep `{}` for the rescue", deb.display());
        fs::create_dir_all(&self.directory).with_context(failed)?;
        let new = self.directory.join(".new-pulld.deb");
        persist::remove(&new)?;
        // A second name for the same bytes is enough, and survives the cache being cleared.
        if between_fail_points!(fs::hard_link(deb, &new), "rescue.keep").is_err() {
            fs::copy(deb, &new).with_context(failed)?;
            fs::File::open(&new).and_then(|file| file.sync_all()).with_context(failed)?;
        }
        persist::rename(&new, &self.directory.join("pulld.deb"))
    }

    /// Lets the rescue act from now on.
    pub(crate) fn arm(&self) -> Result<()> {
        persist::write(&self.armed(), b"")
    }

    /// Whether the rescue may act.
    pub(crate) fn is_armed(&self) -> bool {
        self.armed().exists()
    }

    /// Keeps the rescue from acting, and forgets that it did.
    pub(crate) fn disarm(&self) -> Result<()> {
        persist::remove(&self.armed())?;
        persist::remove(&self.rescued())
    }

    /// What the rescue left behind if it acted, safe to show.
    pub(crate) fn left_behind(&self) -> Result<Option<String>> {
        let content = persist::read(&self.rescued(), MAX_SIZE)?;
        Ok(content.map(|content| String::from_utf8_lossy(&content).trim().escape_debug().to_string()))
    }

    fn armed(&self) -> PathBuf {
        self.directory.join("armed")
    }

    fn rescued(&self) -> PathBuf {
        self.directory.join("rescued")
    }
}
