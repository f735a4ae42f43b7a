//! Running a command on an overlay: signals are passed on to it, and what it says is what it said.

use std::{ffi::OsString, os::unix::process::ExitStatusExt as _, path::Path};

use anyhow::{Context as _, Result};
use bucket::TryResult;
use rustix::process::{Pid, Signal, kill_process};
use tokio::{
    process::{Child, Command},
    signal::unix::{Signal as Incoming, SignalKind, signal},
};

/// What a shell adds to the number of the signal that ended a command.
const BY_SIGNAL: i32 = 128;

/// The signals that end a try, as long as it lasts: without this they would end this process and leave the overlay.
#[derive(Debug)]
pub(crate) struct Signals {
    interrupt: Option<Incoming>,
    quit: Option<Incoming>,
    terminate: Option<Incoming>,
    hang_up: Option<Incoming>,
}

impl Signals {
    /// Takes note of signals from now on, but for those that are ignored, as nohup(1) has it.
    pub(crate) fn listen() -> Result<Self> {
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        let listen = |kind: SignalKind| {
            if is_ignored(&status, kind.as_raw_value()) {
                return Ok(None);
            }
            signal(kind).map(Some).context("could not listen for signals")
        };
        Ok(Self {
            interrupt: listen(SignalKind::interrupt())?,
            quit: listen(SignalKind::quit())?,
            terminate: listen(SignalKind::terminate())?,
            hang_up: listen(SignalKind::hangup())?,
        })
    }

    /// Waits for the next one.
    pub(crate) async fn next(&mut self) -> Signal {
        tokio::select! {
            () = come(&mut self.interrupt) => Signal::INT,
            () = come(&mut self.quit) => Signal::QUIT,
            () = come(&mut self.terminate) => Signal::TERM,
            () = come(&mut self.hang_up) => Signal::HUP,
        }
    }
}

/// Waits for a signal; for ever, if it is ignored.
async fn come(incoming: &mut Option<Incoming>) {
    match incoming {
        Some(incoming) => drop(incoming.recv().await),
        None => std::future::pending().await,
    }
}

/// Whether a signal is ignored by what `/proc/PID/status` says (proc(5), `SigIgn`).
fn is_ignored(status: &str, signal: i32) -> bool {
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let ignored = ignored.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or_default();
    ignored >> (signal - 1) & 1 == 1
}

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ended {
    /// Its exit status, as a shell would have it.
    pub(crate) status: u8,
    /// What that says of what was tried.
    pub(crate) result: TryResult,
}

impl Ended {
    /// By a signal, before it said anything.
    pub(crate) fn by(signal: Signal) -> Self {
        Self::of(BY_SIGNAL + signal.as_raw(), true)
    }

    fn of(status: i32, is_interrupted: bool) -> Self {
        let result = match status {
            _ if is_interrupted => TryResult::Interrupted,
            0 => TryResult::Passed,
            _ => TryResult::Failed,
        };
        Self { status: u8::try_from(status).unwrap_or(u8::MAX), result }
    }
}

/// Runs a command with these variables, in a directory, to its end.
pub(crate) async fn run(
    command: &[OsString],
    variables: &[(&str, String)],
    directory: &Path,
    signals: &mut Signals,
) -> Result<Ended> {
    let (program, arguments) = command.split_first().context("there is no command to run")?;
    let mut command = Command::new(program);
    command.args(arguments).current_dir(directory).envs(variables.iter().map(|(key, value)| (*key, value)));
    let child = command.spawn();
    let mut child = child.with_context(|| format!("could not run `{}`", program.to_string_lossy().escape_debug()))?;
    let mut is_interrupted = false;
    loop {
        tokio::select! {
            status = child.wait() => {
                let status = status.context("could not wait for the command")?;
                let by_signal = status.signal().map(|signal| BY_SIGNAL + signal);
                return Ok(Ended::of(
                    status.code().or(by_signal).unwrap_or(BY_SIGNAL),
                    is_interrupted || by_signal.is_some(),
                ));
            }
            signal = signals.next() => {
                is_interrupted = true;
                pass_on(signal, &child);
            }
        }
    }
}

/// Passes a signal on, unless the command got it already: what is typed goes to all that runs on a terminal.
fn pass_on(signal: Signal, child: &Child) {
    let is_typed = matches!(signal, Signal::INT | Signal::QUIT) && is_in_foreground();
    let pid = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
    if let Some(pid) = pid.filter(|_| !is_typed) {
        // It may have ended at this moment.
        let _ = kill_process(pid, signal);
    }
}

/// Whether this process, and with it the command, is what a terminal sends signals to.
fn is_in_foreground() -> bool {
    std::fs::read_to_string("/proc/self/stat").is_ok_and(|stat| in_foreground(&stat))
}

/// The same of what `/proc/PID/stat` says of a process (proc(5)): its group is the one in the foreground of its terminal.
fn in_foreground(stat: &str) -> bool {
    // A program's name may have anything in it.
    let fields = stat.rsplit_once(')').map_or("", |(_, fields)| fields);
    let [_, _, group, _, _, foreground] = fields.split_whitespace().take(6).collect::<Vec<_>>()[..] else {
        return false;
    };
    group == foreground
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_terminal_sends_signals_to_is_told_by_its_group() {
        for (stat, expected) in [
            ("7 (release) S 5 7 5 34816 7 4194304 ", true),
            ("7 (a) b) 1 2 3) S 5 7 5 34816 7 4194304 ", true),
            ("7 (release) S 5 7 5 34816 9 4194304 ", false),
            ("7 (release) S 5 7 5 0 -1 4194304 ", false),
            ("7 (release) S", false),
            ("", false),
        ] {
            assert_eq!(in_foreground(stat), expected, "{stat:?}");
        }
    }

    #[test]
    fn what_is_ignored_is_told_by_its_bit() {
        let status = "Name:\trelease\nSigIgn:\t0000000000000001\nSigCgt:\t0000000000000002\n";
        assert!(is_ignored(status, 1) && !is_ignored(status, 2) && !is_ignored("", 1));
    }

    #[test]
    fn how_a_command_ended_is_told_as_a_shell_does() {
        let passed = Ended { status: 0, result: TryResult::Passed };
        assert_eq!(Ended::of(0, false), passed);
        assert_eq!(Ended::of(3, false), Ended { status: 3, result: TryResult::Failed });
        assert_eq!(Ended::of(0, true), Ended { status: 0, result: TryResult::Interrupted });
        assert_eq!(Ended::by(Signal::TERM), Ended { status: 143, result: TryResult::Interrupted });
    }
}
