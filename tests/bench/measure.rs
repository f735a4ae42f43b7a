//! Running a command and taking its measure; medians and ratios of several runs.

use std::{
    fmt::Write as _,
    fs,
    path::Path,
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};

/// What one run of a command took.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Run {
    pub(crate) wall: Duration,
    /// Processor time of it and its children, user and system.
    pub(crate) cpu: Duration,
    /// The most memory that it and what it started held together, in bytes.
    pub(crate) peak: u64,
}

/// Runs a command to its end, its output thrown away.
pub(crate) fn run(command: &mut Command) -> Result<Run> {
    let shown = format!("{command:?}");
    let cpu_before = children_cpu()?;
    let started = Instant::now();
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .with_context(|| format!("could not run {shown}"))?;
    let mut peak = 0;
    let status = loop {
        // The kernel keeps the high-water mark, so that a sample misses only what the last moments added.
        peak = peak.max(family_peak(child.id()));
        match child.try_wait()? {
            Some(status) => break status,
            None => thread::sleep(Duration::from_millis(2)),
        }
    };
    let wall = started.elapsed();
    ensure!(status.success(), "{shown} ended with {status}");
    Ok(Run { wall, cpu: children_cpu()?.saturating_sub(cpu_before), peak })
}

/// The high-water marks of a process and of all that it started and that still run, added up.
fn family_peak(pid: u32) -> u64 {
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    let children = children.split_whitespace().filter_map(|child| child.parse().ok());
    memory(pid, "VmHWM:").unwrap_or(0) + children.map(family_peak).sum::<u64>()
}

/// A line of `/proc/PID/status` in bytes (`proc_pid_status(5)`): `VmHWM:`, `VmRSS:`.
pub(crate) fn memory(pid: u32, key: &str) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(key))?;
    Some(line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok()? * 1024)
}

/// Processor time of a process, in clock ticks of 1/100 s (`proc_pid_stat(5)`, `utime` and `stime`).
pub(crate) fn ticks(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, after_name) = stat.rsplit_once(')')?;
    let fields: Vec<&str> = after_name.split_whitespace().collect();
    Some(fields.get(11)?.parse::<u64>().ok()? + fields.get(12)?.parse::<u64>().ok()?)
}

/// Processor time of this process, and of all its children waited for so far.
pub(crate) fn all_cpu() -> Result<Duration> {
    let own = ticks(std::process::id()).context("/proc/self/stat has no times")?;
    Ok(Duration::from_millis(own * 10) + children_cpu()?)
}

/// Processor time of all children waited for so far (`proc_pid_stat(5)`, `cutime` and `cstime`).
fn children_cpu() -> Result<Duration> {
    let stat = fs::read_to_string("/proc/self/stat")?;
    let (_, after_name) = stat.rsplit_once(')').context("/proc/self/stat has no name")?;
    let fields: Vec<&str> = after_name.split_whitespace().collect();
    let ticks: u64 = fields[13].parse::<u64>()? + fields[14].parse::<u64>()?;
    Ok(Duration::from_millis(ticks * 10))
}

/// The middle of some figures.
pub(crate) fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}

/// Bytes below a directory, links not followed.
pub(crate) fn tree_size(directory: &Path) -> Result<(u64, u64)> {
    let (mut bytes, mut files) = (0, 0);
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let found = entry.metadata()?;
        if found.is_dir() {
            let below = tree_size(&entry.path())?;
            (bytes, files) = (bytes + below.0, files + below.1);
        } else {
            (bytes, files) = (bytes + found.len(), files + 1);
        }
    }
    Ok((bytes, files))
}

/// The most memory that any of these runs held, as the end of a line.
fn peak(runs: &[Run]) -> String {
    format!("  {:>5} MB peak", runs.iter().map(|run| run.peak).max().unwrap_or(0) >> 20)
}

/// One line of a table of runs, against the floor's median wall time, with the most memory that any of them held.
pub(crate) fn row(name: &str, runs: &[Run], size: u64, floor: Option<f64>) -> String {
    let wall = median(runs.iter().map(|run| run.wall.as_secs_f64()).collect());
    let cpu = median(runs.iter().map(|run| run.cpu.as_secs_f64()).collect());
    let mut line = format!("  {name:<28} {wall:>7.2} s wall  {cpu:>7.2} s cpu  {:>4} MB out", size >> 20);
    if let Some(floor) = floor {
        let _ = write!(line, "  {:>5.2} × floor", wall / floor);
    }
    line + &peak(runs)
}
