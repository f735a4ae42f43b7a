//! The runner: carries out one order with dpkg, in a systemd service of its own.
//!
//! Started by the agent ([`super::dpkg::Dpkg`]) as `pulld transact`, and needing nobody from then on: the agent
//! may be restarted or killed meanwhile, and reads the result when it is back. What it may have left half-done when it
//! was killed itself, the next order repairs: half-installed packages need installing again, `dpkg --configure -a`
//! alone doesn't mend them.

use std::{
    collections::VecDeque,
    fs::{File, OpenOptions},
    io::Read,
    os::unix::process::CommandExt,
    path::Path,
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Arc, Mutex, PoisonError, mpsc::Receiver},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use rustix::process::{Flock, FlockType, Pid, Signal};

use super::dpkg_request::{DpkgEnd, DpkgRequest, DpkgResult, TRANSACTION_UNIT, load_request, save_result};

/// dpkg's frontend lock (dpkg(1), `DPKG_FRONTEND_LOCKED`): apt and unattended-upgrades hold it while they work.
const LOCK: &str = "/var/lib/dpkg/lock-frontend";
/// How often the lock is tried; dpkg itself doesn't wait at all.
const TRY: Duration = Duration::from_millis(200);
/// How often dpkg is run when something kills it.
const ATTEMPTS: u32 = 3;
/// The longest that dpkg's last words are waited for once it has ended.
const REST: Duration = Duration::from_secs(1);
/// Most bytes of output that are kept, from its end: a script may print a gigabyte.
const OUTPUT: usize = 16 << 10;

/// Carries out the order in `directory`, which may install packages of the cache beside it.
pub(crate) fn run(directory: &Path) -> Result<()> {
    let request = load_request(directory)?.context("there is no order to carry out")?;
    let result = match check(&request, &directory.with_file_name("cache")) {
        Ok(()) => carry_out(&request),
        Err(error) => DpkgResult::failed(format!("{error:#}")),
    };
    save_result(directory, &result)?;
    if request.restart_agent && result.end == DpkgEnd::Exited(0) {
        restart_agent()?;
    }
    Ok(())
}

/// An order names verified packages by path and others by name: nothing that could be another file or an option.
fn check(request: &DpkgRequest, cache: &Path) -> Result<()> {
    for deb in &request.install {
        ensure!(is_plain_file_below(deb, cache), "`{}` isn't a file of the cache", deb.display());
    }
    for package in &request.remove {
        let good = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "+-.".contains(c);
        let begins = package.starts_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit());
        ensure!(begins && package.chars().all(good), "`{}` isn't a package name", package.escape_debug());
    }
    Ok(())
}

fn carry_out(request: &DpkgRequest) -> DpkgResult {
    let deadline = Instant::now() + request.timeout;
    let _lock = match lock(deadline) {
        Ok(lock) => lock,
        Err(error) => return DpkgResult::failed(format!("{error:#}")),
    };
    let output = Output::default();
    let mut failure = String::new();
    for _ in 0..ATTEMPTS {
        match attempt(request, &output, deadline) {
            Ok(Ended::Exited(code)) => return DpkgResult { end: DpkgEnd::Exited(code), output: output.text() },
            Ok(Ended::Killed(status)) => failure = format!("dpkg was killed {ATTEMPTS} times: {status}"),
            Err(error) => return DpkgResult { output: output.text(), ..DpkgResult::failed(format!("{error:#}")) },
        }
    }
    DpkgResult { output: output.text(), ..DpkgResult::failed(failure) }
}

/// How a run of dpkg ended.
enum Ended {
    /// By itself, with this exit status.
    Exited(i32),
    /// By a signal that isn't ours: a person's, or the kernel's that ran out of memory. No fault of the packages.
    Killed(ExitStatus),
}

/// Runs the commands of an order, and repairs what something that was cut off earlier has left half-done.
fn attempt(request: &DpkgRequest, output: &Output, deadline: Instant) -> Result<Ended> {
    let mut exit = 0;
    // Asked before dpkg works: a package of this very order that fails is for its caller to judge, not to repair.
    let half_done = is_something_half_done();
    for arguments in commands(request) {
        match dpkg(&arguments, output, deadline)? {
            Ended::Exited(code) => exit = exit.max(code),
            killed @ Ended::Killed(_) => return Ok(killed),
        }
    }
    // Not before: it may be a script of the very package that the order replaces that hangs or fails. Best effort:
    // what counts is whether ours got in.
    if half_done && is_something_half_done() {
        let _ = dpkg(&words(&["--configure", "-a", "--force-confdef", "--force-confold"]), output, deadline);
    }
    Ok(Ended::Exited(exit))
}

/// The dpkg commands of an order.
fn commands(request: &DpkgRequest) -> Vec<Vec<String>> {
    let mut commands = Vec::new();
    if !request.remove.is_empty() {
        // dpkg wants a package that was cut off while unpacking installed again before it removes it. Of a first
        // install there is nothing sound to install.
        commands.push([words(&["--remove", "--force-remove-reinstreq", "--"]), request.remove.clone()].concat());
    }
    if !request.install.is_empty() {
        // All in one call: faster, and packages of one order may depend on each other. A conffile that an admin edited
        // is kept, without a question.
        let options = words(&["--install", "--force-confdef", "--force-confold", "--abort-after=1000", "--"]);
        let debs = request.install.iter().map(|deb| deb.display().to_string());
        commands.push(options.into_iter().chain(debs).collect());
    }
    commands
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

fn is_something_half_done() -> bool {
    let audit = Command::new("dpkg").arg("--audit").env("LC_ALL", "C.UTF-8").stdin(Stdio::null()).output();
    audit.is_ok_and(|audit| !audit.stdout.is_empty())
}

/// Runs dpkg to its end, or kills it and everything it started at the deadline.
fn dpkg(arguments: &[String], output: &Output, deadline: Instant) -> Result<Ended> {
    let (reader, writer) = std::io::pipe().context("could not make a pipe")?;
    let child = Command::new("dpkg")
        .args(arguments)
        .env_clear()
        .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
        .env("HOME", "/root")
        .env("LC_ALL", "C.UTF-8")
        .env("DEBIAN_FRONTEND", "noninteractive")
        .env("DPKG_FRONTEND_LOCKED", "1")
        // Maintainer scripts of our packages leave restarts to the agent while this is set.
        .env("PUSH_TRANSACTION", "1")
        .stdin(Stdio::null())
        .stdout(writer.try_clone()?)
        .stderr(writer)
        .process_group(0)
        .spawn()
        .context("could not run dpkg")?;
    let rest = output.follow(reader);
    let ended = wait(child, deadline);
    // The end of what it printed is on its way through the pipe. A daemon that holds the pipe open isn't waited for.
    let _ = rest.recv_timeout(REST);
    ended
}

fn wait(mut child: Child, deadline: Instant) -> Result<Ended> {
    let mut pause = Duration::from_millis(2);
    loop {
        if let Some(status) = child.try_wait().context("could not wait for dpkg")? {
            let Some(code) = status.code() else {
                // Its script may run on: it must not get in the way of the next attempt's.
                kill_all(&child);
                return Ok(Ended::Killed(status));
            };
            return Ok(Ended::Exited(code));
        }
        if Instant::now() > deadline {
            kill_all(&child);
            let _ = child.wait();
            anyhow::bail!("it took longer than the time limit (`transaction_timeout`) and was killed");
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(50));
    }
}

/// Kills dpkg, its process group, and whatever else runs in this service: a maintainer script may have left its group.
fn kill_all(child: &Child) {
    if let Some(group) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) {
        let _ = rustix::process::kill_process_group(group, Signal::KILL);
    }
    let own = rustix::process::getpid();
    for pid in cgroup_processes().into_iter().filter(|pid| *pid != own) {
        let _ = rustix::process::kill_process(pid, Signal::KILL);
    }
}

/// The processes of this process's own cgroup (cgroups(7)), empty when it isn't the transaction's service's.
fn cgroup_processes() -> Vec<Pid> {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let memberships = read("/proc/self/cgroup");
    let ours = memberships.lines().find_map(|line| {
        let (controllers, path) = line.split_once(':')?.1.split_once(':')?;
        let root = match controllers {
            "" => "/sys/fs/cgroup",
            "name=systemd" => "/sys/fs/cgroup/systemd",
            _ => return None,
        };
        path.ends_with(TRANSACTION_UNIT).then(|| format!("{root}{path}/cgroup.procs"))
    });
    let listing = ours.map(|path| read(&path)).unwrap_or_default();
    listing.lines().filter_map(|line| line.parse().ok().and_then(Pid::from_raw)).collect()
}

/// Takes dpkg's frontend lock, waiting for whoever holds it until the deadline.
fn lock(deadline: Instant) -> Result<File> {
    let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(LOCK);
    let file = file.with_context(|| format!("could not open `{LOCK}`"))?;
    loop {
        match rustix::fs::fcntl_lock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(file),
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::ACCESS) => {}
            Err(error) => return Err(error).with_context(|| format!("could not lock `{LOCK}`")),
        }
        if Instant::now() > deadline {
            anyhow::bail!("dpkg is in use by {}, and was the whole time that was waited", holder(&file));
        }
        std::thread::sleep(TRY);
    }
}

/// Who holds the lock, for people.
fn holder(file: &File) -> String {
    let asked = rustix::process::fcntl_getlk(file, &Flock::from(FlockType::WriteLock));
    let Some(pid) = asked.ok().flatten().and_then(|lock| lock.pid) else {
        return "another program".to_owned();
    };
    let pid = pid.as_raw_nonzero();
    let command = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    format!("`{}` (pid {pid})", command.trim().escape_debug())
}

/// The end of what dpkg and its scripts printed.
#[derive(Clone, Default)]
struct Output(Arc<Mutex<VecDeque<u8>>>);

impl Output {
    /// Reads a pipe in the background until it is closed, of which the receiver tells. That may be never: a daemon
    /// that a script started can hold it open.
    fn follow(&self, mut pipe: std::io::PipeReader) -> Receiver<()> {
        let output = self.clone();
        let (closed, rest) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            let mut chunk = [0; 4096];
            while let Ok(length @ 1..) = pipe.read(&mut chunk) {
                let mut kept = output.0.lock().unwrap_or_else(PoisonError::into_inner);
                kept.extend(&chunk[..length]);
                let surplus = kept.len().saturating_sub(OUTPUT);
                kept.drain(..surplus);
            }
            let _ = closed.send(());
        });
        rest
    }

    fn text(&self) -> String {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let bytes: Vec<u8> = kept.iter().copied().collect();
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

/// Restarts the agent, whose own package was installed. Nobody waits for it here: it will be the new one that looks.
fn restart_agent() -> Result<()> {
    for arguments in [&["daemon-reload"][..], &["restart", "--no-block", "pulld.service"]] {
        let status = Command::new("systemctl").args(arguments).stdin(Stdio::null()).status();
        let status = status.context("could not run systemctl")?;
        ensure!(status.success(), "`systemctl {}` ended with {status}", arguments.join(" "));
    }
    Ok(())
}

/// Whether a path is a plain file below a directory, reached through no link and no `..`.
fn is_plain_file_below(path: &Path, directory: &Path) -> bool {
    let (Ok(real), Ok(root)) = (path.canonicalize(), directory.canonicalize()) else { return false };
    let below = path.strip_prefix(directory).is_ok_and(|below| root.join(below) == real);
    below && real.symlink_metadata().is_ok_and(|found| found.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_files_of_the_cache_may_be_ordered() {
        let directory = tempfile::tempdir().unwrap();
        let cache = directory.path().join("cache");
        std::fs::create_dir_all(cache.join("web")).unwrap();
        std::fs::write(cache.join("web/a.deb"), "").unwrap();
        std::fs::write(directory.path().join("b.deb"), "").unwrap();
        std::os::unix::fs::symlink(directory.path().join("b.deb"), cache.join("web/link.deb")).unwrap();
        assert!(is_plain_file_below(&cache.join("web/a.deb"), &cache));
        for other in ["web", "web/none.deb", "web/link.deb", "../b.deb", "web/../../b.deb"] {
            assert!(!is_plain_file_below(&cache.join(other), &cache), "{other}");
        }
        assert!(!is_plain_file_below(Path::new("web/a.deb"), &cache));
    }
}
