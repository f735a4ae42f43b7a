//! What lies below a directory, reached without following a symbolic link.

use std::{io::ErrorKind, os::fd::OwnedFd};

use rustix::fs::{Mode, OFlags, fstat, mkdirat, openat};

/// How a directory is opened.
pub(super) const DIRECTORY: OFlags = OFlags::DIRECTORY.union(OFlags::RDONLY).union(OFlags::CLOEXEC);

/// Opens what lies at a path below a directory, segment by segment, so that no symbolic link is followed on the way.
///
/// Not openat2(2), which does this in one call: seccomp filters deny it, those of containers and systemd's
/// `RestrictSUIDSGID=` among them.
pub(super) fn open_beneath(root: &OwnedFd, path: &str, flags: OFlags) -> Result<OwnedFd, std::io::Error> {
    let (parents, name) = split(path);
    let mut parent = root.try_clone()?;
    for segment in parents.split('/').filter(|segment| !segment.is_empty()) {
        parent = open_in(&parent, segment, DIRECTORY)?;
    }
    open_in(&parent, name, flags)
}

/// Opens what lies in a directory by that name.
pub(super) fn open_in(directory: &OwnedFd, name: &str, flags: OFlags) -> Result<OwnedFd, std::io::Error> {
    if name == ".." {
        return Err(ErrorKind::NotFound.into());
    }
    openat(directory, name, flags | OFlags::NOFOLLOW, Mode::from_raw_mode(0o644)).map_err(Into::into)
}

/// Whether an error says that there is no such object. A symbolic link isn't one either.
pub(super) fn is_absent(error: &std::io::Error) -> bool {
    use rustix::io::Errno;
    let errno = Errno::from_io_error(error);
    error.kind() == ErrorKind::NotFound
        || matches!(errno, Some(Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::NAMETOOLONG))
}

/// Opens a directory of the bucket, made as needed, each new one durable in its parent.
pub(super) fn make_directories(root: &OwnedFd, path: &str) -> Result<OwnedFd, std::io::Error> {
    let mut parent = open_beneath(root, ".", DIRECTORY)?;
    for segment in path.split('/').filter(|segment| !segment.is_empty()) {
        parent = match open_beneath(&parent, segment, DIRECTORY) {
            Err(e) if e.kind() == ErrorKind::NotFound => {
                match mkdirat(&parent, segment, Mode::from_raw_mode(0o755)) {
                    // Somebody else made it just now.
                    Ok(()) | Err(rustix::io::Errno::EXIST) => {}
                    Err(e) => return Err(e.into()),
                }
                rustix::fs::fsync(&parent)?;
                let made = open_beneath(&parent, segment, DIRECTORY)?;
                inherit_mode(&made, &parent, 0o7777);
                made
            }
            opened => opened?,
        };
    }
    Ok(parent)
}

/// Gives what was made in a directory that directory's mode, so that whoever may write there may go on writing there.
/// Best effort: it is refused where somebody else made it, who has done it then.
pub(super) fn inherit_mode(made: &OwnedFd, parent: &OwnedFd, mask: u32) {
    if let (Ok(found), Ok(wanted)) = (fstat(made), fstat(parent)) {
        let wanted = wanted.st_mode & mask;
        if found.st_mode & 0o7777 != wanted {
            let _ = rustix::fs::fchmod(made, Mode::from_raw_mode(wanted));
        }
    }
}

/// A path's directory and its last segment.
pub(super) fn split(path: &str) -> (&str, &str) {
    path.rsplit_once('/').unwrap_or(("", path))
}
