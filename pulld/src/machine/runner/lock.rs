//! dpkg's frontend lock, for which dpkg itself does not wait.

use std::{
    fs::{File, OpenOptions},
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use rustix::process::{Flock, FlockType};

/// dpkg's frontend lock (dpkg(1), `DPKG_FRONTEND_LOCKED`): apt and unattended-upgrades hold it while they work.
const LOCK: &str = "/var/lib/dpkg/lock-frontend";

/// The time between two attempts to take the lock.
const INTERVAL: Duration = Duration::from_millis(200);

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
            anyhow::bail!("timed out waiting for the dpkg lock; lock holder: {}", holder(&file));
        }
        std::thread::sleep(INTERVAL);
    }
}

/// Who holds the lock, for people.
fn holder(file: &File) -> String {
    let found = rustix::process::fcntl_getlk(file, &Flock::from(FlockType::WriteLock));
    let Some(pid) = found.ok().flatten().and_then(|lock| lock.pid) else {
        return "another program".to_owned();
    };
    let pid = pid.as_raw_nonzero();
    let command = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    format!("`{}` (pid {pid})", command.trim().escape_debug())
}
