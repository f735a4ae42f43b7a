//! What restores the previous pulld when a new one does not pass its health gate: files that need nothing of the new
//! one's package.
//!
//! - `armed`: exists from before dpkg installs a new pulld until that has passed its health gate; without it the rescue
//!   does nothing. What it says: [`Armed`]
//! - `pulld.deb`: the verified package of the pulld that armed it
//! - `pulld`: the program of that pulld, which carries out the rescue
//! - `rescued`: left by the rescue for the restored pulld, with a sentence for people
//! - `before.json`: what dpkg had when the rescue began
//! - `unplanned`: what else its dpkg runs changed, in clauses; there only if something did
//! - `unable`: why the previous pulld cannot be restored, in a sentence; there only while it can't

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result};
use bucket::{Generation, ReleaseName, Sha256};
use serde::{Deserialize, Serialize};

use super::persist;

/// Most bytes of `armed` and of `rescued` that are read.
const MAX_SIZE: u64 = 64 << 10;

/// The files of the rescue, in a directory of their own.
#[derive(Debug, Clone)]
pub(crate) struct Rescue {
    directory: PathBuf,
}

/// What the rescue has to know. An earlier pulld left the file empty.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Armed {
    /// The release that has to pass its health gate.
    pub(crate) release: Option<ReleaseName>,
    /// The server document that asked for it.
    pub(crate) generation: Option<Generation>,
    /// The release that is restored.
    pub(crate) previous: Option<ReleaseName>,
    /// The SHA-256 of its package, `pulld.deb`.
    pub(crate) sha256: Option<Sha256>,
    /// How long after its installation the new pulld may take.
    pub(crate) within: Duration,
}

impl Default for Armed {
    fn default() -> Self {
        let within = Duration::from_secs(130);
        Self { release: None, generation: None, previous: None, sha256: None, within }
    }
}

impl Rescue {
    /// The rescue in `directory`.
    pub(crate) fn new(directory: PathBuf) -> Self {
        Self { directory }
    }

    /// Lets the rescue act from now on: it will restore `deb`.
    pub(crate) fn arm(&self, armed: &Armed, deb: &Path) -> Result<()> {
        if !self.is_armed() {
            // Of an earlier update, should that have been interrupted before it was all removed.
            persist::remove(&self.program())?;
            self.forget_rescue()?;
        }
        self.keep(deb)?;
        persist::write(&self.armed_file(), &serde_json::to_vec_pretty(armed)?)
    }

    /// Keeps the package: a second name for the same bytes is enough, and survives the cache being cleared.
    fn keep(&self, deb: &Path) -> Result<()> {
        let failed = || format!("could not keep `{}` for the rescue", deb.display());
        persist::create_directory(&self.directory)?;
        let new = self.directory.join(".new-pulld.deb");
        persist::remove(&new)?;
        if between_fail_points!(fs::hard_link(deb, &new), "rescue.keep").is_err() {
            fs::copy(deb, &new).with_context(failed)?;
            fs::File::open(&new).and_then(|file| file.sync_all()).with_context(failed)?;
        }
        persist::rename(&new, &self.deb())
    }

    /// Keeps the program that carries out the rescue, unless there is one: that is of the pulld that armed it first, and
    /// `program` may be the new one already.
    pub(crate) fn keep_program(&self, program: &Path) -> Result<()> {
        if self.program().exists() {
            return Ok(());
        }
        let failed = || format!("could not keep `{}` for the rescue", program.display());
        let new = self.directory.join(".new-pulld");
        between_fail_points!(fs::copy(program, &new), "rescue.keep_program").with_context(failed)?;
        fs::set_permissions(&new, fs::Permissions::from_mode(0o755)).with_context(failed)?;
        fs::File::open(&new).and_then(|file| file.sync_all()).with_context(failed)?;
        persist::rename(&new, &self.program())
    }

    /// What the rescue was told, if it may act.
    pub(crate) fn armed(&self) -> Result<Option<Armed>> {
        let content = persist::read(&self.armed_file(), MAX_SIZE)?;
        Ok(content.map(|content| serde_json::from_slice(&content).unwrap_or_default()))
    }

    /// Whether the rescue may act.
    pub(crate) fn is_armed(&self) -> bool {
        self.armed_file().exists()
    }

    /// Keeps the rescue from acting, and forgets that it did.
    pub(crate) fn disarm(&self) -> Result<()> {
        persist::remove(&self.armed_file())?;
        self.forget_rescue()?;
        persist::remove(&self.deb())
    }

    /// Forgets that the rescue acted.
    fn forget_rescue(&self) -> Result<()> {
        persist::remove(&self.rescued())?;
        persist::remove(&self.unplanned_file())?;
        persist::remove(&self.unable_file())?;
        persist::remove(&self.baseline())
    }

    /// Says that the rescue acts, and why.
    pub(crate) fn note(&self, sentence: &str) -> Result<()> {
        persist::write(&self.rescued(), sentence.as_bytes())
    }

    /// What the rescue left behind if it acted, safe to show.
    pub(crate) fn left_behind(&self) -> Result<Option<String>> {
        read_shown(&self.rescued())
    }

    /// Says what else the rescue has changed, in clauses; without any, that it was nothing.
    pub(crate) fn note_unplanned(&self, clauses: &str) -> Result<()> {
        write_or_remove(&self.unplanned_file(), Some(clauses).filter(|clauses| !clauses.is_empty()))
    }

    /// What else the rescue has changed, if it did, in clauses and safe to show.
    pub(crate) fn unplanned(&self) -> Result<Option<String>> {
        read_shown(&self.unplanned_file())
    }

    /// Says why the previous pulld cannot be restored; without a sentence, that it can.
    pub(crate) fn note_unable(&self, sentence: Option<&str>) -> Result<()> {
        write_or_remove(&self.unable_file(), sentence)
    }

    /// Whether that is what was said last.
    pub(crate) fn is_noted(&self, sentence: Option<&str>) -> bool {
        persist::read(&self.unable_file(), MAX_SIZE).is_ok_and(|noted| noted.as_deref() == sentence.map(str::as_bytes))
    }

    /// Why the previous pulld cannot be restored though it should be, if that is so and can be read; safe to show.
    pub(crate) fn unable(&self) -> Option<String> {
        // One that was disarmed at that very moment has nothing to restore.
        if self.is_armed() { read_shown(&self.unable_file()).ok().flatten() } else { None }
    }

    /// What dpkg had when the rescue began.
    pub(crate) fn baseline(&self) -> PathBuf {
        self.directory.join("before.json")
    }

    /// The package that it restores.
    pub(crate) fn deb(&self) -> PathBuf {
        self.directory.join("pulld.deb")
    }

    /// The program that carries it out.
    pub(crate) fn program(&self) -> PathBuf {
        self.directory.join("pulld")
    }

    fn armed_file(&self) -> PathBuf {
        self.directory.join("armed")
    }

    fn rescued(&self) -> PathBuf {
        self.directory.join("rescued")
    }

    fn unable_file(&self) -> PathBuf {
        self.directory.join("unable")
    }

    fn unplanned_file(&self) -> PathBuf {
        self.directory.join("unplanned")
    }
}

/// Writes a file, or removes it if there is nothing to say.
fn write_or_remove(file: &Path, text: Option<&str>) -> Result<()> {
    match text {
        Some(text) => persist::write(file, text.as_bytes()),
        None => persist::remove(file),
    }
}

/// A text for people, if there is one, safe to show.
fn read_shown(path: &Path) -> Result<Option<String>> {
    let content = persist::read(path, MAX_SIZE)?;
    Ok(content.map(|content| String::from_utf8_lossy(&content).trim().escape_debug().to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_program_that_armed_it_stays_until_it_is_disarmed() {
        let directory = tempfile::tempdir().unwrap();
        let put = |name: &str, content: &str| {
            let path = directory.path().join(name);
            fs::write(&path, content).unwrap();
            path
        };
        let (old, new, deb) = (put("old", "old"), put("new", "new"), put("x.deb", "deb"));
        let rescue = Rescue::new(directory.path().join("rescue"));
        let kept = || fs::read_to_string(rescue.program()).unwrap();
        rescue.arm(&Armed::default(), &deb).unwrap();
        rescue.keep_program(&old).unwrap();
        // An interrupted update begins again, and by then `/usr/bin/pulld` may be the new one.
        rescue.arm(&Armed::default(), &deb).unwrap();
        rescue.keep_program(&new).unwrap();
        assert_eq!(kept(), "old");
        rescue.note_unplanned("`nginx` was\u{1b} removed").unwrap();
        assert_eq!(rescue.unplanned().unwrap().unwrap(), "`nginx` was\\u{1b} removed");
        rescue.disarm().unwrap();
        assert!(!rescue.deb().exists() && rescue.unplanned().unwrap().is_none());
        rescue.arm(&Armed::default(), &deb).unwrap();
        rescue.keep_program(&new).unwrap();
        assert_eq!(kept(), "new", "the next update is guarded by the pulld that begins it");
    }

    #[test]
    fn what_an_earlier_pulld_armed_is_armed() {
        let directory = tempfile::tempdir().unwrap();
        let rescue = Rescue::new(directory.path().to_owned());
        assert_eq!(rescue.armed().unwrap(), None);
        fs::write(directory.path().join("armed"), "").unwrap();
        assert_eq!(rescue.armed().unwrap(), Some(Armed::default()));
        fs::write(directory.path().join("armed"), r#"{"of":"a later one"}"#).unwrap();
        assert_eq!(rescue.armed().unwrap(), Some(Armed::default()));
    }
}
