//! dpkg's frontend lock, and who holds it.

use std::{fmt, fs::File};

use rustix::process::{Flock, FlockType};

/// dpkg's frontend lock (dpkg(1), `DPKG_FRONTEND_LOCKED`): apt and unattended-upgrades hold it while they work.
pub(crate) const LOCK: &str = "/var/lib/dpkg/lock-frontend";

/// A process that holds dpkg's lock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LockHolder {
    /// Its process id.
    pub(crate) process: i32,
    /// The name of its program, at most 15 characters of it; empty when it has just ended.
    pub(crate) program: String,
}

impl LockHolder {
    /// The process that keeps this one from locking a file, if there is one that this machine can name.
    pub(super) fn of(file: &File) -> Option<Self> {
        let found = rustix::process::fcntl_getlk(file, &Flock::from(FlockType::WriteLock));
        let process = found.ok().flatten()?.pid?.as_raw_nonzero().get();
        let program = std::fs::read_to_string(format!("/proc/{process}/comm")).unwrap_or_default();
        Some(Self { process, program: program.trim().to_owned() })
    }

    /// Whether the process is one of a service of that name.
    pub(super) fn is_of(&self, unit: &str) -> bool {
        let groups = std::fs::read_to_string(format!("/proc/{}/cgroup", self.process)).unwrap_or_default();
        groups.lines().any(|line| line.rsplit('/').next() == Some(unit))
    }
}

impl fmt::Display for LockHolder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` (process {})", self.program.escape_debug(), self.process)
    }
}
