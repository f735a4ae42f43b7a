//! How a service's main process ended, in the words of systemd.exec(5) and signal(7).

use std::fmt;

use serde::{Deserialize, Serialize};

/// The exit statuses that systemd itself uses for what kept it from running a program (systemd.exec(5)), from 200 on.
/// Empty names are of none.
const SYSTEMD: [&str; 45] = [
    "CHDIR",
    "NICE",
    "FDS",
    "EXEC",
    "MEMORY",
    "LIMITS",
    "OOM_ADJUST",
    "SIGNAL_MASK",
    "STDIN",
    "STDOUT",
    "CHROOT",
    "IOPRIO",
    "TIMERSLACK",
    "SECUREBITS",
    "SETSCHEDULER",
    "CPUAFFINITY",
    "GROUP",
    "USER",
    "CAPABILITIES",
    "CGROUP",
    "SETSID",
    "CONFIRM",
    "STDERR",
    "",
    "PAM",
    "NETWORK",
    "NAMESPACE",
    "NO_NEW_PRIVILEGES",
    "SECCOMP",
    "SELINUX_CONTEXT",
    "PERSONALITY",
    "APPARMOR",
    "ADDRESS_FAMILIES",
    "RUNTIME_DIRECTORY",
    "",
    "CHOWN",
    "SMACK_PROCESS_LABEL",
    "KEYRING",
    "STATE_DIRECTORY",
    "CACHE_DIRECTORY",
    "LOGS_DIRECTORY",
    "CONFIGURATION_DIRECTORY",
    "NUMA_POLICY",
    "CREDENTIALS",
    "BPF",
];

/// The first of them.
const FIRST_OF_SYSTEMD: i32 = 200;

/// Signals by number, from 1 on, as on every architecture that Debian releases for but MIPS.
const SIGNALS: [&str; 31] = [
    "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2", "PIPE", "ALRM", "TERM",
    "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG", "XCPU", "XFSZ", "VTALRM", "PROF", "WINCH", "IO",
    "PWR", "SYS",
];

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum ProcessEnd {
    /// It exited with this status.
    Exited(i32),
    /// This signal killed it.
    Killed(i32),
    /// This signal killed it, and it left a core dump.
    Dumped(i32),
}

impl ProcessEnd {
    /// From `ExecMainCode` and `ExecMainStatus`, which are `si_code` and `si_status` of waitid(2); `None` while it runs.
    pub(crate) fn of(code: i32, status: i32) -> Option<Self> {
        match code {
            1 => Some(Self::Exited(status)),
            2 => Some(Self::Killed(status)),
            3 => Some(Self::Dumped(status)),
            _ => None,
        }
    }
}

impl fmt::Display for ProcessEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exited(status) => match named(&SYSTEMD, status - FIRST_OF_SYSTEMD) {
                Some(name) => write!(f, "exit status {status}/{name}"),
                None => write!(f, "exit status {status}"),
            },
            Self::Killed(signal) | Self::Dumped(signal) => {
                match named(&SIGNALS, signal - 1) {
                    Some(name) => write!(f, "killed by SIG{name}")?,
                    None => write!(f, "killed by signal {signal}")?,
                }
                if matches!(self, Self::Dumped(_)) { f.write_str(" (core dumped)") } else { Ok(()) }
            }
        }
    }
}

fn named(names: &[&'static str], place: i32) -> Option<&'static str> {
    let name = names.get(usize::try_from(place).ok()?)?;
    (!name.is_empty()).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_is_told_as_systemd_names_it() {
        for (code, status, expected) in [
            (1, 3, "exit status 3"),
            (1, 199, "exit status 199"),
            (1, 200, "exit status 200/CHDIR"),
            (1, 203, "exit status 203/EXEC"),
            (1, 217, "exit status 217/USER"),
            (1, 223, "exit status 223"),
            (1, 234, "exit status 234"),
            (1, 243, "exit status 243/CREDENTIALS"),
            (1, 255, "exit status 255"),
            (2, 9, "killed by SIGKILL"),
            (2, 15, "killed by SIGTERM"),
            (2, 31, "killed by SIGSYS"),
            (2, 34, "killed by signal 34"),
            (3, 11, "killed by SIGSEGV (core dumped)"),
        ] {
            assert_eq!(ProcessEnd::of(code, status).unwrap().to_string(), expected);
        }
        assert_eq!(ProcessEnd::of(0, 0), None, "it runs");
    }
}
