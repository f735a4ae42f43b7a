//! The lock by which writers exclude each other.

use std::{fs::File, os::fd::OwnedFd, time::Duration};

use backon::{BlockingRetryable, ConstantBuilder};
use rustix::fs::{FlockOperation, OFlags, flock};

use super::{
    beneath::{inherit_mode, make_directories, open_beneath},
    failure::{failed, unavailable},
    metadata::OURS,
};
use crate::{Error, ObjectPath};

/// The file that is locked. Its own time is the last generation given out.
pub(super) const LOCK: &str = ".push/lock";

/// How long a writer waits before it tries again; the lock is held for a few renames.
const LOCK_PAUSE: Duration = Duration::from_millis(5);
/// How often a writer tries: 30 s in all. A program that was stopped may hold the lock for ever.
const MAX_LOCK_ATTEMPTS: usize = 6000;

/// Waits until nobody else writes. The lock goes with the file that is returned, or with the process.
pub(super) fn lock(root: &OwnedFd, path: &ObjectPath) -> Result<File, Error> {
    let fail = |e: rustix::io::Errno| failed("write", path.as_str(), &e.into());
    make_directories(root, OURS).map_err(|e| failed("write", path.as_str(), &e))?;
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::CLOEXEC;
    let lock = open_beneath(root, LOCK, flags).map_err(|e| failed("write", path.as_str(), &e))?;
    inherit_mode(&lock, root, 0o666);
    let taken = (|| flock(&lock, FlockOperation::NonBlockingLockExclusive))
        .retry(ConstantBuilder::default().with_delay(LOCK_PAUSE).with_max_times(MAX_LOCK_ATTEMPTS))
        .when(|errno| matches!(*errno, rustix::io::Errno::WOULDBLOCK | rustix::io::Errno::INTR))
        .call();
    match taken {
        Ok(()) => Ok(lock.into()),
        Err(rustix::io::Errno::WOULDBLOCK) => {
            let timeout = LOCK_PAUSE * u32::try_from(MAX_LOCK_ATTEMPTS).unwrap_or(u32::MAX);
            let reason =
                format!("timed out after {timeout:?} waiting for the bucket lock `{LOCK}`, held by another process");
            Err(unavailable("write", path.as_str(), &reason))
        }
        Err(errno) => Err(fail(errno)),
    }
}
