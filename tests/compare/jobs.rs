//! The jobs, done with one tool, and what is to be seen afterwards.

use std::{
    fmt, thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use harness::Output;

use crate::{
    stage::{Built, PORT, Server, Stage, run},
    tools::Tool,
};

/// How often the first job is done; its figure is the median.
const ROUNDS: usize = 9;
/// How often it is done over a long way.
const FAR_ROUNDS: usize = 5;
/// How long a server is given to come to rest by itself.
const REST: Duration = Duration::from_secs(20);

/// How long a program may take to answer once it was started.
const START: Duration = Duration::from_secs(5);

/// A line of the table.
pub(crate) struct Row {
    tool: Tool,
    act: Duration,
    far: Duration,
    back: Option<Duration>,
    crash: String,
    power_cut: String,
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let back = self.back.map_or_else(|| "not possible".to_owned(), |took| format!("{:.2} s", took.as_secs_f64()));
        let (name, act, far) = (self.tool.name(), self.act.as_secs_f64(), self.far.as_secs_f64());
        write!(f, "| {name} | {act:.2} s | {far:.2} s | {back} | {} | {} |", self.crash, self.power_cut)
    }
}

/// Does all of them; the first one on a stage where everything is `far` from everything, too.
pub(crate) fn all(stage: &Stage, far: &Stage, tool: Tool) -> Result<Row> {
    let (act, back) = act_and_go_back(stage, tool)?;
    let far = act_far(far, tool)?;
    Ok(Row { tool, act, far, back, crash: crash(stage, tool)?, power_cut: power_cut(stage, tool)? })
}

/// The first job alone.
fn act_far(stage: &Stage, tool: Tool) -> Result<Duration> {
    let server = stage.server(tool)?;
    install_first(stage, tool, &server)?;
    let mut figures = Vec::new();
    for _ in 0..FAR_ROUNDS {
        let version = stage.build(|version| version)?;
        stage.wait_until_it_listens(&server);
        figures.push(act(stage, tool, &server, &version)?.0);
        stage.wait_for_report(&server, &version)?;
    }
    figures.sort();
    Ok(figures[FAR_ROUNDS / 2])
}

fn act_and_go_back(stage: &Stage, tool: Tool) -> Result<(Duration, Option<Duration>)> {
    let server = stage.server(tool)?;
    let mut figures = Vec::new();
    let mut before = install_first(stage, tool, &server)?;
    let mut previous = before.clone();
    for _ in 0..ROUNDS {
        let version = stage.build(|version| version)?;
        stage.wait_until_it_listens(&server);
        figures.push(act(stage, tool, &server, &version)?.0);
        stage.wait_for_report(&server, &version)?;
        previous = std::mem::replace(&mut before, version);
    }
    figures.sort();
    let Some(command) = tool.go_back(&previous) else { return Ok((figures[ROUNDS / 2], None)) };
    server.machine.cut_off();
    let started = Instant::now();
    server.machine.sh(&format!("({command}) > /root/typed.log 2>&1 &"))?;
    let came = answers(&server, &previous, Duration::from_mins(1));
    let came = came.with_context(|| server.machine.read("/root/typed.log").unwrap_or_default())?;
    Ok((figures[ROUNDS / 2], Some(came.duration_since(started))))
}

/// A first version, which is there before a job begins.
fn install_first(stage: &Stage, tool: Tool, server: &Server) -> Result<Built> {
    let version = stage.build(|version| version)?;
    act(stage, tool, server, &version)?;
    stage.wait_for_report(server, &version)?;
    Ok(version)
}

/// Brings a version to a server: how long until it answers, and how the command ended.
fn act(stage: &Stage, tool: Tool, server: &Server, version: &Built) -> Result<(Duration, Output)> {
    let command = tool.act(stage, server, version)?;
    let started = Instant::now();
    thread::scope(|scope| {
        let running = scope.spawn(|| run(command, tool.name()));
        let came = answers(server, version, Duration::from_mins(1));
        let output = running.join().expect("running a command doesn't panic")?;
        let came = came.with_context(|| output.to_string())?;
        ensure!(output.success(), "{output}");
        Ok((came.duration_since(started), output))
    })
}

/// When a version answers.
fn answers(server: &Server, version: &Built, limit: Duration) -> Result<Instant> {
    server.machine.wait_until(&version.answer, limit, |_| {
        Ok((what_runs(server).as_ref() == Some(&version.answer)).then(Instant::now))
    })
}

/// What answers on a server now.
fn what_runs(server: &Server) -> Option<String> {
    server.machine.http(PORT, "/").ok().map(|response| response.body.trim().to_owned())
}

/// A release that crashes at once.
fn crash(stage: &Stage, tool: Tool) -> Result<String> {
    let server = stage.server(tool)?;
    let good = install_first(stage, tool, &server)?;
    let bad = stage.build(harness::Version::crashing)?;
    stage.wait_until_it_listens(&server);
    let mut command = tool.act(stage, &server, &bad)?;
    if tool == Tool::Push {
        command.arg("--wait");
    }
    let output = run(command, tool.name())?;
    stage.wait_for_report(&server, &bad)?;
    let deadline = Instant::now() + REST;
    // A unit that systemd goes on starting is at rest when it has failed for good.
    let rest = "systemctl is-failed --quiet web || systemctl is-active --quiet web";
    while !server.machine.run(rest)?.success() && Instant::now() < deadline {
        thread::sleep(Duration::from_millis(50));
    }
    let now = what_runs(&server);
    let runs = if now.as_ref() == Some(&good.answer) { "the version before runs" } else { "nothing runs" };
    Ok(format!("says {}, {runs}", if output.success() { "success" } else { "failure" }))
}

/// The power is cut while dpkg configures the package.
fn power_cut(stage: &Stage, tool: Tool) -> Result<String> {
    let mut server = stage.server(tool)?;
    install_first(stage, tool, &server)?;
    // Slow once: the second time it is there already.
    let slow = "if [ ! -e /var/was-slow ]; then touch /var/was-slow; sync; sleep 30; fi\n";
    let version = stage.build(|version| version.postinst(slow))?;
    stage.wait_until_it_listens(&server);
    let command = tool.act(stage, &server, &version)?;
    thread::scope(|scope| -> Result<()> {
        let running = scope.spawn(|| run(command, tool.name()));
        let began = server.machine.wait_until("dpkg runs the script", Duration::from_mins(1), |machine| {
            Ok(machine.run("test -e /var/was-slow")?.success().then_some(()))
        });
        server.machine.kill()?;
        // However it ended: its server is gone.
        drop(running.join());
        began
    })?;
    server.machine.start()?;
    let started = Instant::now();
    let whole = |server: &Server| -> Result<bool> {
        let audit = server.machine.run("dpkg --audit")?;
        Ok(audit.stdout.is_empty() && what_runs(server).as_ref() == Some(&version.answer))
    };
    let becomes_whole = |limit: Duration| -> Result<bool> {
        let deadline = Instant::now() + limit;
        loop {
            match whole(&server)? {
                false if Instant::now() < deadline => thread::sleep(Duration::from_millis(50)),
                whole => return Ok(whole),
            }
        }
    };
    if becomes_whole(REST)? {
        return Ok(format!("heals itself in {:.1} s", started.elapsed().as_secs_f64()));
    }
    let next = run(tool.act(stage, &server, &version)?, tool.name())?;
    let after = if becomes_whole(START)? { "the next command mends it" } else { "the next command does not mend it" };
    Ok(format!("half-configured; {after} (exit status {})", next.status))
}
