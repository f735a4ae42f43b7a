//! One dpkg process, with everything it starts: run to its end, or killed at the deadline.

use std::{
    os::unix::process::CommandExt,
    process::{Child, Command, ExitStatus, Stdio},
    sync::mpsc::channel,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use rustix::{
    io::retry_on_intr,
    process::{Pid, Signal, WaitId, WaitIdOptions, waitid},
};

use super::{
    super::dpkg_request::TRANSACTION_UNIT,
    output::Output,
    unpacked::{self, Unpacked},
};

/// Time limit for reading the last of dpkg's output once it has ended.
const OUTPUT_TIMEOUT: Duration = Duration::from_secs(1);

/// How a run of dpkg ended.
pub(super) enum Ended {
    /// By itself, with this exit status.
    Exited(i32),
    /// By a signal of somebody else: a person, or the kernel that ran out of memory. The packages did not cause it.
    Killed(ExitStatus),
}

/// Runs dpkg to its end, or kills it and everything it started at the deadline.
pub(super) fn dpkg(arguments: &[String], output: &Output, unpacked: &Unpacked, deadline: Instant) -> Result<Ended> {
    fail_point!("runner.dpkg({}).begin", arguments[0]);
    let (reader, writer) = std::io::pipe().context("could not make a pipe")?;
    let (status, reported) = unpacked.listen()?;
    output.say(&format!("running `dpkg {}`", arguments.join(" ")));
    let child = Command::new("dpkg")
        .args(unpacked::options(&status))
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
    drop(status);
    let rest = output.follow(reader);
    let ended = wait(child, deadline);
    // The end of what it printed is on its way through the pipe. A daemon that holds the pipe open isn't waited for.
    let _ = rest.recv_timeout(OUTPUT_TIMEOUT);
    let _ = reported.recv_timeout(OUTPUT_TIMEOUT);
    fail_point!("runner.dpkg({}).end", arguments[0]);
    ended
}

fn wait(mut child: Child, deadline: Instant) -> Result<Ended> {
    let process = i32::try_from(child.id()).ok().and_then(Pid::from_raw).context("dpkg has no process ID")?;
    let (ended, end) = channel();
    // It only looks: the process keeps its number until it is waited for below, so that no other one is killed.
    std::thread::spawn(move || {
        let look = || waitid(WaitId::Pid(process), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT);
        let _ = ended.send(retry_on_intr(look));
    });
    let Ok(looked) = end.recv_timeout(deadline.saturating_duration_since(Instant::now())) else {
        kill_all(process);
        let _ = child.wait();
        anyhow::bail!("dpkg exceeded its time limit (`transaction_timeout`) and was killed");
    };
    if looked.context("could not wait for dpkg")?.is_some_and(|status| !status.exited()) {
        // Its script may run on: it must not get in the way of the next attempt's.
        kill_all(process);
    }
    let status = child.wait().context("could not wait for dpkg")?;
    Ok(status.code().map_or(Ended::Killed(status), Ended::Exited))
}

/// Kills dpkg, its process group, and whatever else runs in this service: a maintainer script may have left its group.
fn kill_all(dpkg: Pid) {
    let _ = rustix::process::kill_process_group(dpkg, Signal::KILL);
    let own = rustix::process::getpid();
    for pid in cgroup_processes().into_iter().filter(|pid| *pid != own) {
        let _ = rustix::process::kill_process(pid, Signal::KILL);
    }
}

/// The processes of this process's own cgroup (cgroups(7)), none when that is not the transaction service's.
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
