//! Where a run works: a directory of its own below the temporary one, locked as long as the run lasts. One whose lock is free is
//! of a run that was killed: the next run ends what is left running of it, and removes it. A link beside the logs of the checkout
//! leads to it, for a next run whose temporary directory is another.

use std::{
    ffi::OsString,
    fs::{self, DirBuilder, File, OpenOptions},
    io::ErrorKind,
    os::unix::{
        ffi::OsStringExt as _,
        fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, symlink},
    },
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};
use bucket::BuildId;
use console::{note, warning};
use rustix::{
    fs::OFlags,
    mount::{UnmountFlags, unmount},
    process::geteuid,
};

use crate::processes::{self, Noting};

/// What the directory of a run is called, before its own word.
const PREFIX: &str = "push-run-";
/// The file in it that says that it is to stay.
const KEPT: &str = "kept";
/// How often another name is tried.
const TRIES: usize = 10;

/// The directory of a run, which ends with it.
#[derive(Debug)]
pub(crate) struct Work {
    path: PathBuf,
    /// What leads there.
    link: PathBuf,
    /// Whether it was removed, or is to stay.
    is_over: bool,
    /// What says in it what this process has started.
    noting: Option<Noting>,
    /// Locked, and released by the end of this process, whatever that is.
    _lock: File,
}

impl Drop for Work {
    /// Of a run that never began, or broke off.
    fn drop(&mut self) {
        drop(self.noting.take());
        if !self.is_over
            && let Err(error) = remove(&self.path).and_then(|()| unlink(&self.link))
        {
            warning(format_args!("{error:#}"));
        }
    }
}

impl Work {
    /// A new one, to which a link leads in this directory.
    pub(super) fn begin(links: &Path) -> Result<Self> {
        fs::create_dir_all(links).with_context(|| format!("could not create the directory `{}`", links.display()))?;
        let temporary = std::env::temp_dir().canonicalize().context("could not find the temporary directory")?;
        for _ in 0..TRIES {
            let name = format!("{PREFIX}{}", BuildId::random());
            let (path, link) = (temporary.join(&name), links.join(&name));
            let made = DirBuilder::new().mode(0o700).create(&path);
            made.with_context(|| format!("could not create the directory `{}`", path.display()))?;
            // Between these two lines another run may take it for that of a dead one, and remove it.
            match opened(&path) {
                Ok(lock) if lock.try_lock().is_ok() && is_there(&path, &lock) => {
                    let noting = Some(Noting::begin(path.clone()));
                    let work = Self { path, link, is_over: false, noting, _lock: lock };
                    let linked = symlink(&work.path, &work.link);
                    linked.with_context(|| format!("could not create `{}`", work.link.display()))?;
                    return Ok(work);
                }
                _ => {}
            }
        }
        bail!("could not make a directory to work in below `{}`: others removed it {TRIES} times", temporary.display())
    }

    /// The directory.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Leaves it, also by runs to come.
    pub(super) fn keep(mut self) -> Result<()> {
        let kept = self.path.join(KEPT);
        fs::write(&kept, "").with_context(|| format!("could not create `{}`", kept.display()))?;
        self.is_over = true;
        Ok(())
    }

    /// Removes it, once nothing of the run is left.
    pub(super) fn end(mut self) -> Result<()> {
        self.is_over = true;
        drop(self.noting.take());
        remove(&self.path)?;
        unlink(&self.link)
    }
}

/// Removes what leads to a directory that is gone.
fn unlink(link: &Path) -> Result<()> {
    match fs::remove_file(link) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(error).with_context(|| format!("could not remove `{}`", link.display()))
        }
        _ => Ok(()),
    }
}

/// Clears up what is left of runs of this user that were killed: of those below the temporary directory, and of those to which a
/// link leads in this directory.
pub(crate) async fn clear_dead(links: Option<&Path>) {
    let named = |directory: &Path| {
        let entries = fs::read_dir(directory).into_iter().flatten().flatten();
        let found: Vec<PathBuf> = entries.map(|entry| entry.path()).filter(|path| is_of_run(path)).collect();
        found
    };
    for path in std::env::temp_dir().canonicalize().map(|temporary| named(&temporary)).unwrap_or_default() {
        clear(&path).await;
    }
    for link in links.map(named).unwrap_or_default() {
        // Whatever else a checkout has there leads to nothing of a run.
        let Some(path) = fs::read_link(&link).ok().filter(|path| path.file_name() == link.file_name()) else {
            continue;
        };
        clear(&path).await;
        if path.symlink_metadata().is_err()
            && let Err(error) = unlink(&link)
        {
            warning(format_args!("{error:#}"));
        }
    }
}

fn is_of_run(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(PREFIX))
}

/// Clears up a directory, if it is that of a run of this user that was killed.
async fn clear(path: &Path) {
    let Ok(lock) = opened(path) else { return };
    let is_ours = lock.metadata().is_ok_and(|metadata| metadata.uid() == geteuid().as_raw());
    if !is_ours || path.join(KEPT).exists() || lock.try_lock().is_err() || !is_there(path, &lock) {
        return;
    }
    let shown = path.display();
    note(format_args!("a run was killed before it could clear up: ending what is left of it, and removing `{shown}`"));
    if !processes::end(processes::of_killed(path)).await {
        warning(format_args!("processes of the run that worked in `{shown}` could not be ended"));
    }
    if let Err(error) = remove(path) {
        warning(format_args!("{error:#}"));
    }
}

/// A directory, never one that a link leads to.
fn opened(path: &Path) -> std::io::Result<File> {
    let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW;
    OpenOptions::new().read(true).custom_flags(flags.bits().cast_signed()).open(path)
}

/// Whether a path leads to this directory.
fn is_there(path: &Path, directory: &File) -> bool {
    let of = |metadata: fs::Metadata| (metadata.dev(), metadata.ino());
    path.symlink_metadata().is_ok_and(|there| directory.metadata().is_ok_and(|held| of(there) == of(held)))
}

/// Removes a directory, also when something in it may not be written to. What is mounted in it is unmounted, and never removed.
fn remove(path: &Path) -> Result<()> {
    let mounts = fs::read("/proc/self/mountinfo").context("could not read what is mounted")?;
    // The last one may lie in one before.
    for mount in mounts_below(&mounts, path).iter().rev() {
        let shown = mount.display();
        unmount(mount, UnmountFlags::DETACH).with_context(|| {
            format!(
                "something is mounted at `{shown}`: unmount it and remove the directory of the run, `{}`",
                path.display()
            )
        })?;
    }
    let removed = match fs::remove_dir_all(path) {
        Err(error) if error.kind() == ErrorKind::PermissionDenied => {
            allow(path);
            fs::remove_dir_all(path)
        }
        done => done,
    };
    removed.with_context(|| format!("could not remove the directory of a run, `{}`", path.display()))
}

/// What is mounted below a directory, in the order in which it was (`proc_pid_mountinfo(5)`).
fn mounts_below(mounts: &[u8], path: &Path) -> Vec<PathBuf> {
    let lines = mounts.split(|byte| *byte == b'\n');
    let points = lines.filter_map(|line| line.split(|byte| *byte == b' ').nth(4)).map(unescaped);
    points.filter(|point| point.starts_with(path)).collect()
}

/// Blanks, tabs, line ends and backslashes stand there as `\` and three octal digits.
fn unescaped(point: &[u8]) -> PathBuf {
    let (mut plain, mut rest) = (Vec::new(), point);
    while let Some((first, after)) = rest.split_first() {
        let octal = after.get(..3).filter(|_| *first == b'\\').and_then(|digits| std::str::from_utf8(digits).ok());
        let byte = octal.and_then(|digits| u8::from_str_radix(digits, 8).ok());
        plain.push(byte.unwrap_or(*first));
        rest = if byte.is_some() { &after[3..] } else { after };
    }
    PathBuf::from(OsString::from_vec(plain))
}

/// Lets the owner write in all directories below one, as build tools leave some that nobody may.
fn allow(directory: &Path) {
    use std::os::unix::fs::PermissionsExt as _;
    let _ = fs::set_permissions(directory, fs::Permissions::from_mode(0o700));
    let Ok(entries) = fs::read_dir(directory) else { return };
    for entry in entries.flatten().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())) {
        allow(&entry.path());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_mounted_below_a_directory_is_found_by_its_whole_name() {
        let mounts = b"21 1 8:1 / / rw - ext4 /dev/a rw\n\
            30 21 8:1 /x /tmp/run/a\\040b rw - ext4 /dev/a rw\n\
            31 21 8:1 /x /tmp/run rw - ext4 /dev/a rw\n\
            32 21 8:1 /x /tmp/runs/c rw - ext4 /dev/a rw\n";
        let expected = [PathBuf::from("/tmp/run/a b"), PathBuf::from("/tmp/run")];
        assert_eq!(mounts_below(mounts, Path::new("/tmp/run")), expected);
    }
}
