//! What keeps a mirror whole when a process that writes it is killed: the lock, and what is removed before the next fetch.

use std::{
    fs::{self, File, OpenOptions},
    io,
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
    time::Duration,
};

use backon::{ConstantBuilder, Retryable as _};
use rustix::{
    fs::{FlockOperation, flock},
    io::Errno,
};
use tokio::time::Instant;

/// How long after a look whether the lock is free the next one is.
const PAUSE: Duration = Duration::from_millis(20);

/// The right to write a mirror, until it is dropped. A git that has it as its input keeps it if this process is killed.
pub(super) struct Lock(File);

impl Lock {
    /// Waits until nobody else has it.
    ///
    /// # Errors
    /// `WouldBlock` if somebody still has it at the deadline.
    pub(super) async fn take(path: &Path, deadline: Instant) -> io::Result<Self> {
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)?;
        let lock = || async { flock(&file, FlockOperation::NonBlockingLockExclusive) };
        let pauses = ConstantBuilder::new().with_delay(PAUSE).without_max_times();
        let is_held = |errno: &Errno| [Errno::WOULDBLOCK, Errno::INTR].contains(errno);
        lock.retry(pauses).when(|errno| is_held(errno) && Instant::now() < deadline).await?;
        Ok(Self(file))
    }

    /// The file, which is empty.
    pub(super) fn file(&self) -> &File {
        &self.0
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Whatever a helper of git has inherited.
        let _ = flock(&self.0, FlockOperation::Unlock);
    }
}

/// Removes what a git that was killed left behind: locks, which would keep the next one from writing, and what it had
/// received of a pack, which nobody else would ever remove. Only for who has the [`Lock`].
pub(super) fn remove_leftovers(mirror: &Path) -> io::Result<()> {
    let is_lock = |name: &str| name.strip_suffix(".lock").is_some();
    let is_part = |name: &str| name.starts_with("tmp_") || name.starts_with(".tmp-");
    remove(mirror, &is_lock, false)?;
    for (below, goes_deeper) in [("refs", true), ("reftable", true), ("objects", false), ("objects/info", true)] {
        // A part of a branch's name never ends with `.lock` (git-check-ref-format(1)).
        remove(&mirror.join(below), &is_lock, goes_deeper)?;
    }
    remove(&mirror.join("objects/pack"), &|name| is_lock(name) || is_part(name), false)
}

fn remove(directory: &Path, is_left: &dyn Fn(&str) -> bool, goes_deeper: bool) -> io::Result<()> {
    let entries = match fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    for entry in entries {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            if goes_deeper {
                remove(&entry.path(), is_left, true)?;
            }
        } else if entry.file_name().to_str().is_some_and(is_left) {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_left_is_removed() {
        let mirror = tempfile::tempdir().unwrap();
        let left = ["HEAD.lock", "refs/heads/a/b.lock", "objects/maintenance.lock", "objects/pack/tmp_pack_x"];
        let kept = ["HEAD", "refs/heads/tmp_pack_x", "refs/heads/a/c", "objects/pack/pack-x.pack", "objects/ab/tmp_x"];
        for path in left.iter().chain(&kept) {
            let path = mirror.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "").unwrap();
        }
        remove_leftovers(mirror.path()).unwrap();
        assert!(left.iter().all(|path| !mirror.path().join(path).exists()));
        assert!(kept.iter().all(|path| mirror.path().join(path).exists()));
    }

    #[tokio::test]
    async fn a_lock_is_waited_for_until_the_deadline() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("lock");
        let lock = Lock::take(&path, Instant::now()).await.unwrap();
        let refused = Lock::take(&path, Instant::now() + PAUSE).await.err().unwrap();
        assert_eq!(refused.kind(), io::ErrorKind::WouldBlock);
        drop(lock);
        Lock::take(&path, Instant::now()).await.unwrap();
    }
}
