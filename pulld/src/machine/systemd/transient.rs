//! Commands in transient services.

use std::{
    fmt,
    io::{PipeReader, PipeWriter},
    os::fd::AsFd,
    time::Duration,
};

use anyhow::{Context, Result, bail};
use futures_util::StreamExt;
use tokio::time::{Instant, timeout};
use zbus::{Fd, OwnedObjectPath, Variant};

use super::{
    super::unit_state::JobResult,
    bus::{JobEnds, ManagerProxy, QUERY_TIMEOUT, connect, job_ends},
    unit,
};

/// The time between two queries of a transient unit, should the bus that would have signalled its end go away.
const POLL_INTERVAL: Duration = Duration::from_secs(2);

/// A command that systemd runs in a service of its own, which outlives whoever started it.
#[derive(Debug)]
pub(crate) struct Transient {
    /// Name of the unit.
    pub(crate) unit: String,
    /// What it is, for people who list units.
    pub(crate) description: &'static str,
    /// Program and arguments.
    pub(crate) command: Vec<String>,
    /// How long it may run: then systemd kills all of its processes.
    pub(crate) timeout: Duration,
    /// Where its input comes from: a pipe, or nowhere.
    pub(crate) input: Option<PipeReader>,
    /// Where its output goes: a pipe, or the journal.
    pub(crate) output: Option<PipeWriter>,
    /// What it may use.
    pub(crate) limits: Limits,
    /// What stopping it does.
    pub(crate) stop: Stop,
}

/// What a transient service may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Limits {
    /// All that the machine has.
    None,
    /// As much memory, in bytes, and as many processes and threads; no swap space.
    AtMost {
        /// `MemoryMax=`
        memory: u64,
        /// `TasksMax=`
        tasks: u64,
    },
}

/// What stopping a transient service does, by hand or at a shutdown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stop {
    /// It waits for the end of the command, at most for the service's timeout.
    WaitForEnd,
    /// It kills the command after two seconds.
    Kill,
}

/// The name of a transient service that nothing runs under, and who listens to systemd for the ends of jobs.
pub(crate) struct Idle {
    manager: ManagerProxy<'static>,
    ends: JobEnds,
}

impl Idle {
    /// Waits until nothing runs in a service of that name any more.
    pub(crate) async fn wait(name: &str, deadline: Instant) -> Result<Self> {
        let connection = connect().await?;
        let manager = ManagerProxy::new(&connection).await?;
        let (ends, inactive) = tokio::join!(job_ends(&connection, name), wait_inactive_by(&manager, name, deadline));
        inactive?;
        Ok(Self { ends: ends?, manager })
    }

    /// Starts a command in its service.
    pub(crate) async fn start(self, transient: &Transient) -> Result<Running> {
        let properties = properties(transient);
        let started = self.manager.start_transient_unit(&transient.unit, "fail", &properties, &[]);
        let job = timeout(QUERY_TIMEOUT, started).await;
        let job = job.with_context(|| format!("timed out starting `{}`", transient.unit))?;
        let job = job.with_context(|| format!("systemd could not start `{}`", transient.unit))?;
        let deadline = Instant::now() + transient.timeout + QUERY_TIMEOUT;
        Ok(Running { manager: self.manager, ends: self.ends, unit: transient.unit.clone(), job, deadline })
    }
}

/// A command that was started in a service of its own.
pub(crate) struct Running {
    manager: ManagerProxy<'static>,
    ends: JobEnds,
    unit: String,
    job: OwnedObjectPath,
    /// When systemd has killed it.
    deadline: Instant,
}

impl fmt::Debug for Running {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Running").field("unit", &self.unit).finish_non_exhaustive()
    }
}

impl Running {
    /// Waits for its end, which is `true` if it exited with 0.
    pub(crate) async fn end(mut self) -> Result<bool> {
        let mut was_over = false;
        loop {
            let signal = timeout(POLL_INTERVAL, self.ends.next()).await;
            if let Ok(Some(signal)) = &signal {
                let ended = signal.args().context("invalid signal from systemd")?;
                if ended.job == self.job {
                    let done = JobResult::from(ended.result.clone()) == JobResult::Done;
                    if !done {
                        // Who stops it by hand, or shuts down, takes its job away before it has ended.
                        wait_inactive_by(&self.manager, &self.unit, self.deadline).await?;
                    }
                    return Ok(done);
                }
                continue;
            }
            // There was no signal for a while, or the bus went away: then the unit itself is queried, over a new connection.
            if let Ok(false) = is_running(&self.unit).await {
                // It may have ended right now, and the signal is on its way.
                if was_over {
                    // systemd forgets a unit of this kind when it ends, its result too.
                    bail!("lost track of `{}`: its result is unknown", self.unit);
                }
                was_over = true;
            }
            if Instant::now() > self.deadline {
                bail!("`{}` is still running though its time limit has passed", self.unit);
            }
            if matches!(signal, Ok(None)) {
                tokio::time::sleep(POLL_INTERVAL).await;
            }
        }
    }
}

/// Runs a command in a transient service and waits for its end, which is `true` if it exited with 0.
///
/// Should a service of that name be running already, its end is waited for first.
pub(crate) async fn run(transient: &Transient) -> Result<bool> {
    let idle = Idle::wait(&transient.unit, Instant::now() + transient.timeout + QUERY_TIMEOUT).await?;
    idle.start(transient).await?.end().await
}

/// Waits until a unit is not running any more.
pub(crate) async fn wait_inactive(name: &str, deadline: Instant) -> Result<()> {
    let connection = connect().await?;
    wait_inactive_by(&ManagerProxy::new(&connection).await?, name, deadline).await
}

async fn is_running(name: &str) -> Result<bool> {
    let connection = connect().await?;
    unit::is_running(&ManagerProxy::new(&connection).await?, name).await
}

async fn wait_inactive_by(manager: &ManagerProxy<'_>, name: &str, deadline: Instant) -> Result<()> {
    while unit::is_running(manager, name).await? {
        if Instant::now() > deadline {
            bail!("timed out waiting for the end of `{name}`");
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    Ok(())
}

fn properties(transient: &Transient) -> Vec<(&'static str, Variant<'_>)> {
    let program = transient.command[0].clone();
    let command: Vec<(String, Vec<String>, bool)> = vec![(program, transient.command.clone(), false)];
    let timeout = u64::try_from(transient.timeout.as_micros()).unwrap_or(u64::MAX);
    let mut properties = vec![
        ("Description", Variant::from(transient.description)),
        ("Type", Variant::from("oneshot")),
        ("ExecStart", Variant::from(command)),
        ("TimeoutStartUSec", Variant::from(timeout)),
        // That the kernel kills a process for its memory is for the program to see, not a reason to stop the service.
        ("OOMPolicy", Variant::from("continue")),
        ("CollectMode", Variant::from("inactive-or-failed")),
        // People look for pulld's messages in the journal.
        ("SyslogIdentifier", Variant::from("pulld")),
        // A maintainer script that prints `<0>` must not reach every terminal.
        ("SyslogLevelPrefix", Variant::from(false)),
    ];
    if transient.stop == Stop::WaitForEnd {
        // A shutdown waits for the end rather than cutting it off: SIGCONT harms nobody, SIGKILL comes at the limit.
        properties.push(("KillMode", Variant::from("mixed")));
        properties.push(("KillSignal", Variant::from(18_i32)));
        properties.push(("TimeoutStopUSec", Variant::from(timeout)));
    } else {
        properties.push(("TimeoutStopUSec", Variant::from(2_000_000_u64)));
    }
    if let Some(input) = &transient.input {
        properties.push(("StandardInputFileDescriptor", Variant::from(Fd::from(input.as_fd()))));
    } else {
        properties.push(("StandardInput", Variant::from("null")));
    }
    if let Some(output) = &transient.output {
        for stream in ["StandardOutputFileDescriptor", "StandardErrorFileDescriptor"] {
            properties.push((stream, Variant::from(Fd::from(output.as_fd()))));
        }
    }
    if let Limits::AtMost { memory, tasks } = transient.limits {
        properties.push(("MemoryMax", Variant::from(memory)));
        properties.push(("MemorySwapMax", Variant::from(0_u64)));
        properties.push(("TasksMax", Variant::from(tasks)));
    }
    properties
}
