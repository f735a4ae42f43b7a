//! The jobs, done with one tool, and what is to be seen afterwards.

use std::{
    fmt,
    slice::from_ref,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};

use crate::{
    stage::{Built, PORT, Server, Stage, run},
    tools::Tool,
};

/// How often the first job is done; its figure is the median.
const ROUNDS: usize = 9;
/// How often it is done over a long way, and on several servers at once.
const FEW_ROUNDS: usize = 5;
/// On how many.
const SEVERAL: usize = 4;
/// How long a server is given to come to rest by itself.
const REST: Duration = Duration::from_secs(20);

/// How long a program may take to answer once it was started.
const START: Duration = Duration::from_secs(5);

/// A line of the table.
pub(crate) struct Row {
    tool: Tool,
    act: Duration,
    several: Duration,
    far: Duration,
    back: Option<Duration>,
    crash: String,
    power_cut: String,
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let back = self.back.map_or_else(|| "not possible".to_owned(), |took| format!("{:.2} s", took.as_secs_f64()));
        let [act, several, far] = [self.act, self.several, self.far].map(|took| took.as_secs_f64());
        let (name, crash, power_cut) = (self.tool.name(), &self.crash, &self.power_cut);
        write!(f, "| {name} | {act:.2} s | {several:.2} s | {far:.2} s | {back} | {crash} | {power_cut} |")
    }
}

/// Does all of them; the first one on several servers at once, and on a stage where everything is `far` from everything, too.
pub(crate) fn all(stage: &Stage, far: &Stage, tool: Tool) -> Result<Row> {
    let (act, back) = act_and_go_back(stage, tool)?;
    let servers = (0..SEVERAL).map(|_| stage.server(tool)).collect::<Result<Vec<_>>>()?;
    let (several, _) = act_often(stage, tool, &servers, FEW_ROUNDS)?;
    drop(servers);
    let (far, _) = act_often(far, tool, &[far.server(tool)?], FEW_ROUNDS)?;
    Ok(Row { tool, act, several, far, back, crash: crash(stage, tool)?, power_cut: power_cut(stage, tool)? })
}

/// Brings one version after the other to servers: the median of how long that takes, and the last version but one.
fn act_often(stage: &Stage, tool: Tool, servers: &[Server], rounds: usize) -> Result<(Duration, Built)> {
    let mut last = install_first(stage, tool, servers)?;
    let mut before_it = last.clone();
    let mut figures = Vec::new();
    for _ in 0..rounds {
        let version = stage.build(|version| version)?;
        for server in servers {
            stage.wait_until_it_listens(server);
        }
        figures.push(act(stage, tool, servers, &version)?);
        servers.iter().try_for_each(|server| stage.wait_for_report(server, &version))?;
        before_it = std::mem::replace(&mut last, version);
    }
    figures.sort();
    Ok((figures[rounds / 2], before_it))
}

fn act_and_go_back(stage: &Stage, tool: Tool) -> Result<(Duration, Option<Duration>)> {
    let server = &stage.server(tool)?;
    let (act, previous) = act_often(stage, tool, from_ref(server), ROUNDS)?;
    let Some(command) = tool.go_back(&previous) else { return Ok((act, None)) };
    server.machine.cut_off();
    let started = Instant::now();
    server.machine.sh(&format!("({command}) > /root/typed.log 2>&1 &"))?;
    let came = answers(server, &previous, Duration::from_mins(1));
    let came = came.with_context(|| server.machine.read("/root/typed.log").unwrap_or_default())?;
    Ok((act, Some(came.duration_since(started))))
}

/// A first version, which is there before a job begins.
fn install_first(stage: &Stage, tool: Tool, servers: &[Server]) -> Result<Built> {
    let version = stage.build(|version| version)?;
    act(stage, tool, servers, &version)?;
    servers.iter().try_for_each(|server| stage.wait_for_report(server, &version))?;
    Ok(version)
}

/// Brings a version to servers, by one command: how long until the last of them answers.
fn act(stage: &Stage, tool: Tool, servers: &[Server], version: &Built) -> Result<Duration> {
    let command = tool.act(stage, servers, version)?;
    let started = Instant::now();
    thread::scope(|scope| {
        let running = scope.spawn(|| run(command, tool.name()));
        let limit = Duration::from_mins(1);
        // The first ones may have answered long before they are looked at: what counts is when all do.
        let came = servers.iter().try_fold(started, |_, server| answers(server, version, limit));
        let output = running.join().expect("running a command doesn't panic")?;
        let came = came.with_context(|| output.to_string())?;
        ensure!(output.success(), "{output}");
        Ok(came.duration_since(started))
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
    let good = install_first(stage, tool, from_ref(&server))?;
    let bad = stage.build(harness::Version::crashing)?;
    stage.wait_until_it_listens(&server);
    let mut command = tool.act(stage, from_ref(&server), &bad)?;
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
    install_first(stage, tool, from_ref(&server))?;
    // Slow once: the second time it is there already.
    let slow = "if [ ! -e /var/was-slow ]; then touch /var/was-slow; sync; sleep 30; fi\n";
    let version = stage.build(|version| version.postinst(slow))?;
    stage.wait_until_it_listens(&server);
    let command = tool.act(stage, from_ref(&server), &version)?;
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
    let next = run(tool.act(stage, from_ref(&server), &version)?, tool.name())?;
    let after = if becomes_whole(START)? { "the next command mends it" } else { "the next command does not mend it" };
    Ok(format!("half-configured; {after} (exit status {})", next.status))
}
