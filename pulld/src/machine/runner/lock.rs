//! dpkg's frontend lock, for which dpkg itself does not wait.

use std::{
    fmt,
    fs::{File, OpenOptions},
    time::{Duration, Instant},
};

use anyhow::{Context, Result};

use super::super::dpkg_lock::{LOCK, LockHolder};

/// The time between two attempts to take the lock.
const INTERVAL: Duration = Duration::from_millis(200);

/// That another program holds dpkg's lock for longer than may be waited.
#[derive(Debug)]
pub(super) struct LockedOut {
    holder: String,
}

impl fmt::Display for LockedOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "timed out waiting for the dpkg lock; lock holder: {}", self.holder)
    }
}

impl std::error::Error for LockedOut {}

/// Takes dpkg's frontend lock, waiting for whoever holds it until the deadline.
pub(super) fn lock(deadline: Instant) -> Result<File> {
    let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(LOCK);
    let file = file.with_context(|| format!("could not open `{LOCK}`"))?;
    loop {
        match rustix::fs::fcntl_lock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(file),
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::ACCESS) => {}
            Err(error) => return Err(error).with_context(|| format!("could not lock `{LOCK}`")),
        }
        if Instant::now() > deadline {
            let holder = LockHolder::of(&file).map_or("another program".to_owned(), |holder| holder.to_string());
            return Err(LockedOut { holder }.into());
        }
        std::thread::sleep(INTERVAL);
    }
}
