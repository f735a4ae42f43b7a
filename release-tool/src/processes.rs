//! The processes that stages of a run, or the command of a buildset, started: found, daemons too, and ended.
//!
//! While a run or a buildset lasts, whoever loses its parent becomes a child of this process (prctl(2),
//! `PR_SET_CHILD_SUBREAPER`), so that all that it started are its descendants. What a run left behind that was killed is known by
//! its home, or by where it works, which is in that run's own directory, as that of no other run is, or by when it began, as that
//! run has noted each second ([`Noting`]). Nothing is known by its number alone, and signals go to a process that is held by a descriptor (`pidfd_open(2)`).

use std::{
    collections::BTreeSet,
    fs::{self, OpenOptions},
    io::{ErrorKind, Read as _, Write as _},
    os::unix::ffi::OsStrExt as _,
    path::{Path, PathBuf},
    sync::{
        Mutex, PoisonError,
        mpsc::{self, RecvTimeoutError, Sender},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use anyhow::{Context as _, Result};
use rustix::{
    io::Errno,
    process::{Pid, PidfdFlags, Signal, WaitOptions, getpid, pidfd_open, pidfd_send_signal, set_child_subreaper, wait},
};
use tokio::time::{Instant, sleep};

use crate::shared_files::open_to_read;

/// How long a process of a stage that was asked to end may take.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);
/// How long one that was killed may be seen yet.
const GONE: Duration = Duration::from_secs(10);
/// How often something that is to happen soon is looked for.
pub(crate) const PAUSE: Duration = Duration::from_millis(20);

/// How often it is looked again for what begins while others are ended.
const LOOKS: usize = 20;
/// The file in the directory of a run that says what it has started.
const NOTED: &str = "processes";
/// How often that is noted.
const BETWEEN_NOTES: Duration = Duration::from_secs(1);
/// Most that is read of it, in bytes: about 50,000 processes.
const MAX_NOTED: u64 = 1 << 20;

/// A process, as proc(5) tells of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Process {
    /// Its number.
    pub(crate) id: i32,
    parent: i32,
    group: i32,
    /// When it began, in ticks since the machine did: no two of one number have the same.
    began: u64,
    /// It has ended, and nobody has asked for its status yet.
    is_zombie: bool,
}

/// From now on what loses its parent is a child of this process.
pub(crate) fn adopt_orphans() -> Result<()> {
    set_child_subreaper(Some(getpid())).context("could not make this process the one that orphans become children of")
}

/// All that this process started, and what that started.
pub(crate) fn descendants() -> Vec<Process> {
    below(&all(), vec![getpid().as_raw_pid()])
}

/// What these processes have started, and what that started.
fn below(all: &[Process], mut parents: Vec<i32>) -> Vec<Process> {
    let mut found: Vec<Process> = Vec::new();
    while let Some(parent) = parents.pop() {
        for process in all.iter().filter(|process| process.parent == parent) {
            parents.push(process.id);
            found.push(*process);
        }
    }
    found
}

/// Of all that this process started, what is in a process group, and what has its home below a directory or works there.
pub(crate) fn of_stage(group: Option<i32>, directory: &Path) -> Vec<Process> {
    let mut found = descendants();
    found.retain(|process| {
        let is_below = lives_below(process.id, directory) || works_below(process.id, directory);
        group == Some(process.group) || is_below
    });
    found
}

/// What a run that was killed has left running: what has its home below its directory or works there, what it has noted, and
/// whatever was started by something that was found here once.
pub(crate) fn of_killed(directory: &Path) -> impl Fn() -> Vec<Process> {
    let (known, ours) = (Mutex::new(noted(directory)), getpid().as_raw_pid());
    let directory = directory.to_owned();
    move || {
        let all = all();
        let mut known = known.lock().unwrap_or_else(PoisonError::into_inner);
        let is_left = |process: &&Process| {
            let is_below = || lives_below(process.id, &directory) || works_below(process.id, &directory);
            process.id != ours && (known.contains(&(process.id, process.began)) || is_below())
        };
        let mut left: Vec<Process> = all.iter().filter(is_left).copied().collect();
        for begun in below(&all, left.iter().map(|process| process.id).collect()) {
            if begun.id != ours && !left.contains(&begun) {
                left.push(begun);
            }
        }
        known.extend(left.iter().map(|process| (process.id, process.began)));
        left
    }
}

/// What notes in the directory of a run, again and again, what this process has started, which lives on if this is killed.
#[derive(Debug)]
pub(crate) struct Noting {
    /// Its end ends the thread.
    end: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Noting {
    /// From now on, by a thread.
    pub(crate) fn begin(directory: PathBuf) -> Self {
        let (end, ended) = mpsc::channel();
        let thread = thread::spawn(move || {
            let mut before = None;
            loop {
                let ids: Vec<(i32, u64)> = descendants().iter().map(|process| (process.id, process.began)).collect();
                if before.as_ref() != Some(&ids) {
                    // What can't be written can't be found by the next run, and is no reason to end this one.
                    let _ = note(&directory, &ids);
                    before = Some(ids);
                }
                if ended.recv_timeout(BETWEEN_NOTES) == Err(RecvTimeoutError::Disconnected) {
                    return;
                }
            }
        });
        Self { end: Some(end), thread: Some(thread) }
    }
}

impl Drop for Noting {
    /// Nothing is written any more after this.
    fn drop(&mut self) {
        drop(self.end.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn note(directory: &Path, ids: &[(i32, u64)]) -> std::io::Result<()> {
    let lines: Vec<String> = ids.iter().map(|(id, began)| format!("{id} {began}\n")).collect();
    let new = directory.join(format!("{NOTED}.new"));
    // A stage may have made something of that name, which would keep whoever opens it waiting.
    match fs::remove_file(&new) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).open(&new)?;
    file.write_all((boot()? + &lines.concat()).as_bytes())?;
    fs::rename(new, directory.join(NOTED))
}

/// What a run has noted, if the machine has not been started since.
fn noted(directory: &Path) -> BTreeSet<(i32, u64)> {
    // Nor does what a stage has made there instead keep the next run waiting.
    let Ok(file) = open_to_read(&directory.join(NOTED)) else { return BTreeSet::new() };
    let mut text = String::new();
    let (Ok(_), Ok(boot)) = (file.take(MAX_NOTED).read_to_string(&mut text), boot()) else { return BTreeSet::new() };
    let Some(lines) = text.strip_prefix(&boot) else { return BTreeSet::new() };
    let parse = |line: &str| {
        let (id, began) = line.split_once(' ')?;
        Some((id.parse().ok()?, began.parse().ok()?))
    };
    lines.lines().filter_map(parse).collect()
}

/// Which start of the machine this is, as a line (random(4), `boot_id`).
fn boot() -> std::io::Result<String> {
    fs::read_to_string("/proc/sys/kernel/random/boot_id")
}

/// Ends all that `find` finds, whatever it does about it: asks first, then kills. `false` if some are there even then.
pub(crate) async fn end(find: impl Fn() -> Vec<Process>) -> bool {
    end_within(PATIENCE, find).await
}

async fn end_within(patience: Duration, find: impl Fn() -> Vec<Process>) -> bool {
    are_gone(&find, Signal::TERM, patience).await || are_gone(&find, Signal::KILL, GONE).await
}

/// Signals all that `find` finds until there are none, for a while; whether there are none.
async fn are_gone(find: impl Fn() -> Vec<Process>, signal: Signal, patience: Duration) -> bool {
    let until = Instant::now() + patience;
    let mut asked: Vec<Process> = Vec::new();
    loop {
        let there: Vec<Process> = find().into_iter().filter(|process| !process.is_zombie).collect();
        if there.is_empty() || Instant::now() >= until {
            return there.is_empty();
        }
        for process in &there {
            // Once is enough to be asked; whoever is killed may start nothing any more.
            if signal == Signal::KILL || !asked.iter().any(|known| known.is(process)) {
                asked.push(*process);
                send(process, signal);
            }
        }
        sleep(PAUSE).await;
    }
}

/// Ends all that this process started, which may take so long about it before it is killed. Nobody else may be waiting for one of
/// them.
///
/// One look may miss what begins meanwhile; but whatever loses its parent is a child of this process, and that there is none any
/// more the kernel says for certain (`waitpid(2)`, `ECHILD`). `false` if some are there even then.
pub(crate) async fn end_all(patience: Duration) -> bool {
    end_within(patience, descendants).await;
    for _ in 0..LOOKS {
        if has_no_child() {
            return true;
        }
        // Whoever begins again when it is asked to end is asked no more.
        are_gone(descendants, Signal::KILL, GONE).await;
    }
    has_no_child()
}

/// Takes the status of all children that have ended; whether there are no others.
fn has_no_child() -> bool {
    loop {
        match wait(WaitOptions::NOHANG) {
            Ok(Some(_)) | Err(Errno::INTR) => {}
            Ok(None) => return false,
            Err(_) => return true,
        }
    }
}

impl Process {
    fn is(&self, other: &Self) -> bool {
        (self.id, self.began) == (other.id, other.began)
    }
}

/// Signals a process, if it is still the one that was found.
fn send(process: &Process, signal: Signal) {
    let Some(pid) = Pid::from_raw(process.id) else { return };
    let Ok(held) = pidfd_open(pid, PidfdFlags::empty()) else { return };
    if read(process.id).is_some_and(|now| now.is(process)) {
        // It may have ended at this moment.
        let _ = pidfd_send_signal(held, signal);
    }
}

/// All processes that can be seen.
fn all() -> Vec<Process> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    entries.flatten().filter_map(|entry| read(entry.file_name().to_str()?.parse().ok()?)).collect()
}

fn read(id: i32) -> Option<Process> {
    let process = parse(&fs::read_to_string(format!("/proc/{id}/stat")).ok()?)?;
    // Of a process whose first thread has ended, others may go on.
    Some(Process { is_zombie: process.is_zombie && !has_living_thread(id), ..process })
}

fn has_living_thread(id: i32) -> bool {
    let Ok(threads) = fs::read_dir(format!("/proc/{id}/task")) else { return false };
    let stats = threads.flatten().filter_map(|thread| fs::read_to_string(thread.path().join("stat")).ok());
    stats.filter_map(|stat| parse(&stat)).any(|thread| !thread.is_zombie)
}

/// What `/proc/PID/stat` says.
fn parse(stat: &str) -> Option<Process> {
    let (id, rest) = stat.split_once(" (")?;
    // A program's name may have anything in it.
    let (_, fields) = rest.rsplit_once(") ")?;
    let fields: Vec<&str> = fields.split_whitespace().collect();
    let number = |nth: usize| fields.get(nth)?.parse().ok();
    Some(Process {
        id: id.parse().ok()?,
        parent: number(1)?,
        group: number(2)?,
        began: fields.get(19)?.parse().ok()?,
        is_zombie: matches!(fields.first(), Some(&("Z" | "X"))),
    })
}

/// Whether a process works below a directory.
fn works_below(id: i32, directory: &Path) -> bool {
    fs::read_link(format!("/proc/{id}/cwd")).is_ok_and(|at| at.starts_with(directory))
}

/// Whether a process has its home below a directory, as far as this one may know.
fn lives_below(id: i32, directory: &Path) -> bool {
    fs::read(format!("/proc/{id}/environ")).is_ok_and(|environment| has_home_below(&environment, directory))
}

fn has_home_below(environment: &[u8], directory: &Path) -> bool {
    let homes = environment.split(|byte| *byte == 0).filter_map(|variable| variable.strip_prefix(b"HOME="));
    homes.map(|home| Path::new(std::ffi::OsStr::from_bytes(home))).any(|home| home.starts_with(directory))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_proc_says_of_a_process_is_read_whatever_its_name() {
        let stat = "42 (a) b) S 7 41 41 0 -1 4194304 1 2 3 4 5 6 7 8 20 0 1 0 98765 123 4\n";
        let expected = Process { id: 42, parent: 7, group: 41, began: 98765, is_zombie: false };
        assert_eq!(parse(stat), Some(expected));
        assert!(parse("1 (x) Z 0 1 1 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 5 0").is_some_and(|process| process.is_zombie));
        for wrong in ["", "42 (x) S 1", "x (x) S 7 41 41 0 -1 4194304 1 2 3 4 5 6 7 8 20 0 1 0 98765"] {
            assert_eq!(parse(wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn whose_a_process_is_is_told_by_its_home() {
        let below = |environment: &[u8]| has_home_below(environment, Path::new("/tmp/push-run-a"));
        assert!(below(b"A=b\0HOME=/tmp/push-run-a/home\0C=d"));
        assert!(!below(b"A=HOME=/tmp/push-run-a/home\0HOME=/tmp/push-run-ab\0"));
        assert!(!below(b""));
    }
}
