//! A package on its way to its name: without any, where the system has such files, so that a build that is killed leaves
//! nothing behind. Elsewhere what it left is removed by a later build.

use std::{
    fs::{self, File, Permissions},
    io,
    os::{
        fd::{AsFd as _, AsRawFd as _},
        unix::fs::PermissionsExt as _,
    },
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result, bail};
use rustix::{
    fs::{AtFlags, CWD, Mode, OFlags, linkat, open},
    io::Errno,
};
use tempfile::TempPath;

use crate::tree::UNFINISHED;

/// A file that a killed build left is removed after this long: no build takes a day.
const ABANDONED: Duration = Duration::from_hours(24);

/// Makes a file that is either whole and called `path`, or not there at all; never one that was there before.
pub(super) fn create(path: &Path, write: impl FnOnce(&mut File) -> Result<()>) -> Result<()> {
    let shown = path.display();
    let directory = path.parent().context("the package's path has no directory")?;
    let failed = || format!("could not write `{shown}`");
    clear_abandoned(directory);
    let mut unfinished = Unfinished::new_in(directory).with_context(failed)?;
    write(&mut unfinished.file).with_context(failed)?;
    unfinished.file.set_permissions(Permissions::from_mode(0o644)).with_context(failed)?;
    unfinished.file.sync_all().with_context(failed)?;
    match unfinished.become_file(path) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            bail!(
                "`{shown}` already exists, and releases are never overwritten: another build in the same second has this name, build again"
            )
        }
        Err(error) => Err(error).with_context(failed),
    }
}

struct Unfinished {
    file: File,
    /// Its name, where it had to have one from the beginning.
    named: Option<TempPath>,
}

impl Unfinished {
    fn new_in(directory: &Path) -> io::Result<Self> {
        // Only O_TMPFILE makes files without a name that can be given one (open(2)).
        match open(directory, OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC, Mode::from_raw_mode(0o600)) {
            Ok(file) => Ok(Self { file: file.into(), named: None }),
            // No file system has to know it, and an old kernel takes it for a directory to be opened.
            Err(Errno::OPNOTSUPP | Errno::ISDIR | Errno::INVAL | Errno::NOSYS) => Self::with_name_in(directory),
            Err(error) => Err(error.into()),
        }
    }

    fn with_name_in(directory: &Path) -> io::Result<Self> {
        let (file, named) = tempfile::NamedTempFile::with_prefix_in(UNFINISHED, directory)?.into_parts();
        Ok(Self { file, named: Some(named) })
    }

    /// Gives it its name, which nothing may have yet.
    fn become_file(self, path: &Path) -> io::Result<()> {
        if let Some(named) = self.named {
            return named.persist_noclobber(path).map_err(|error| error.error);
        }
        match linkat(self.file.as_fd(), "", CWD, path, AtFlags::EMPTY_PATH) {
            // Only root could name a file by its descriptor before Linux 6.10.
            Err(Errno::NOENT | Errno::PERM) => {
                let descriptor = PathBuf::from(format!("/proc/self/fd/{}", self.file.as_raw_fd()));
                linkat(CWD, descriptor, CWD, path, AtFlags::SYMLINK_FOLLOW).map_err(Into::into)
            }
            linked => linked.map_err(Into::into),
        }
    }
}

/// Removes what builds that were killed left behind. Best effort: it is only disk space.
fn clear_abandoned(directory: &Path) {
    let Ok(entries) = fs::read_dir(directory) else { return };
    for entry in entries.flatten().filter(|entry| entry.file_name().to_string_lossy().starts_with(UNFINISHED)) {
        let age = entry.metadata().and_then(|found| found.modified()).ok().and_then(|time| time.elapsed().ok());
        if age.is_some_and(|age| age > ABANDONED) {
            let _ = fs::remove_file(entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{io::Write as _, time::SystemTime};

    use super::*;

    fn names(directory: &Path) -> Vec<String> {
        let entries = fs::read_dir(directory).unwrap().flatten();
        entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
    }

    #[test]
    fn what_failed_leaves_nothing_behind() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("x.deb");
        assert!(create(&path, |_| bail!("no")).is_err());
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
        create(&path, |_| Ok(())).unwrap();
        assert!(create(&path, |_| Ok(())).unwrap_err().to_string().contains("never overwritten"));
    }

    #[test]
    fn what_is_killed_leaves_nothing_behind() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("x.deb");
        create(&path, |file| {
            file.write_all(b"half of it")?;
            // Nobody would remove it if the process were killed now.
            assert_eq!(names(directory.path()), [""; 0]);
            Ok(())
        })
        .unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"half of it");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o644);
    }

    #[test]
    fn where_files_need_names_what_is_left_is_removed_a_day_later() {
        let directory = tempfile::tempdir().unwrap();
        for name in ["old", "new"] {
            let mut unfinished = Unfinished::with_name_in(directory.path()).unwrap();
            unfinished.file.write_all(name.as_bytes()).unwrap();
            if name == "old" {
                let age = ABANDONED + Duration::from_mins(1);
                unfinished.file.set_modified(SystemTime::now() - age).unwrap();
            }
            std::mem::forget(unfinished);
        }
        let mine = directory.path().join(".release-notes.d");
        fs::create_dir(&mine).unwrap();
        create(&directory.path().join("x.deb"), |_| Ok(())).unwrap();
        let left: Vec<String> = names(directory.path()).into_iter().filter(|name| name != ".release-notes.d").collect();
        assert_eq!(left.len(), 2, "{left:?}");
        let still = left.iter().find(|name| name.starts_with(UNFINISHED)).unwrap();
        assert_eq!(fs::read(directory.path().join(still)).unwrap(), b"new");
        assert!(mine.exists());

        let named = Unfinished::with_name_in(directory.path()).unwrap();
        assert!(named.become_file(&directory.path().join("x.deb")).is_err());
    }
}
