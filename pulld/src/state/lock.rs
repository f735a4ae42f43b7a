//! One agent for each machine, and for each `--root`.
//!
//! The lock is an flock(2) on a file that only root can open, so that no other user can hold it. Such a lock belongs to
//! the file, not to its name: after the name is deleted, another agent would make a new file and lock that. So whoever
//! has locked the file also asks the kernel for its locks (`/proc/locks`), and which of their processes has a lock of
//! this name open, deleted or not. Nothing else would do: a directory that cannot be deleted can be locked by
//! everybody, and so can a name of an abstract socket, which besides is another one in each network namespace.

use std::{
    collections::BTreeSet,
    fs::{self, File, OpenOptions},
    io::{Read, Seek, Write},
    os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt},
    path::Path,
};

use anyhow::{Context, Result, bail};
use rustix::fs::{FlockOperation, flock};

/// Held as long as it lives; the kernel lets go of it however the process ends.
#[derive(Debug)]
pub(crate) struct Lock {
    _file: File,
}

/// Takes the lock at `path`.
///
/// # Errors
/// When another agent has it, also one whose lock file was deleted; the message names its process.
pub(crate) fn take(path: &Path) -> Result<Lock> {
    let failed = || format!("could not take the lock `{}`", path.display());
    if let Some(directory) = path.parent() {
        fs::create_dir_all(directory).with_context(failed)?;
    }
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
        .with_context(failed)?;
    // Versions before this one made it readable by everybody.
    file.set_permissions(fs::Permissions::from_mode(0o600)).with_context(failed)?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(rustix::io::Errno::WOULDBLOCK) => {
            let mut pid = String::new();
            let _ = (&mut file).take(20).read_to_string(&mut pid);
            let pid = pid.trim();
            let pid = if !pid.is_empty() && pid.bytes().all(|b| b.is_ascii_digit()) { pid } else { "unknown" };
            bail!("another pulld is already running as process {pid}, which holds `{}`", path.display());
        }
        Err(error) => return Err(error).with_context(failed),
    }
    if let Some(pid) = holder_of_a_deleted(path, &file).with_context(failed)? {
        bail!(
            "another pulld is already running as process {pid}, although its lock `{}` was deleted: \
             end that process first, for example with `systemctl restart pulld`",
            path.display()
        );
    }
    file.set_len(0).with_context(failed)?;
    file.rewind().with_context(failed)?;
    writeln!(file, "{}", std::process::id()).with_context(failed)?;
    Ok(Lock { _file: file })
}

/// The process that holds the lock on another file that has, or had, the name `path`. Not only of other processes: two
/// agents in one, as in tests, are two all the same.
fn holder_of_a_deleted(path: &Path, own: &File) -> Result<Option<u32>> {
    let name = path.canonicalize()?.into_os_string();
    let mut deleted = name.clone();
    deleted.push(" (deleted)");
    // systemd mounts a service's directories for it alone. With the directory goes the mount, and all of the name before it.
    let mut detached = std::ffi::OsString::from("/");
    detached.push(path.file_name().unwrap_or_default());
    detached.push(" (deleted)");
    let own = own.metadata()?;
    let is_other = |file: &fs::Metadata| (file.dev(), file.ino()) != (own.dev(), own.ino()) && file.uid() == own.uid();
    for pid in processes_with_locks(&fs::read_to_string("/proc/locks")?) {
        let is_agent = || fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|comm| comm.trim() == "pulld");
        // A process that has just ended has no open files.
        let Ok(open) = fs::read_dir(format!("/proc/{pid}/fd")) else { continue };
        for file in open.flatten().map(|entry| entry.path()) {
            let Ok(target) = fs::read_link(&file) else { continue };
            let target = target.as_os_str();
            let has_the_name = target == name || target == deleted || (target == detached && is_agent());
            if has_the_name && fs::metadata(&file).is_ok_and(|file| is_other(&file)) {
                return Ok(Some(pid));
            }
        }
    }
    Ok(None)
}

/// The processes that hold an flock(2), from `/proc/locks` (proc(5)): `1: FLOCK ADVISORY WRITE 4711 00:1a:42 0 EOF`.
fn processes_with_locks(locks: &str) -> BTreeSet<u32> {
    let words = locks.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let held = words.filter(|words| words.get(1) == Some(&"FLOCK"));
    held.filter_map(|words| words.get(4)?.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    /// Takes a lock that was let go of. A process that another test is just starting has this one's open files until it
    /// runs its program.
    fn take_when_free(path: &Path) {
        let deadline = Instant::now() + Duration::from_secs(10);
        while let Err(error) = take(path) {
            assert!(Instant::now() < deadline, "{error:#}");
            std::thread::yield_now();
        }
    }

    #[test]
    fn a_second_agent_is_told_who_holds_the_lock() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("run/lock");
        let first = take(&path).unwrap();
        let error = take(&path).unwrap_err().to_string();
        assert!(error.contains(&std::process::id().to_string()), "{error}");
        drop(first);
        take_when_free(&path);
    }

    #[test]
    fn deleting_the_file_does_not_let_a_second_agent_in() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("run/lock");
        let first = take(&path).unwrap();
        for deleted in [path.as_path(), path.parent().unwrap()] {
            if deleted.is_dir() { fs::remove_dir_all(deleted) } else { fs::remove_file(deleted) }.unwrap();
            let error = take(&path).unwrap_err().to_string();
            assert!(error.contains(&format!("as process {},", std::process::id())), "{error}");
        }
        let elsewhere = tempfile::tempdir().unwrap();
        take(&elsewhere.path().join("run/lock")).expect("another root has an agent of its own");
        drop(first);
        take_when_free(&path);
    }

    #[test]
    fn only_its_owner_can_open_the_lock() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("lock");
        fs::write(&path, "").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        let _lock = take(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
    }

    #[test]
    fn holders_are_read_as_the_kernel_lists_them() {
        let locks = "1: POSIX  ADVISORY  WRITE 1201 00:19:1094 0 EOF\n\
                     2: FLOCK  ADVISORY  WRITE 4711 00:1a:42 0 EOF\n\
                     2: -> FLOCK  ADVISORY  WRITE 99 00:1a:42 0 EOF\n\
                     3: FLOCK  ADVISORY  READ 12 fe:01:7 0 EOF\n";
        assert_eq!(processes_with_locks(locks), BTreeSet::from([12, 4711]));
    }
}
