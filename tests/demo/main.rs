//! A complete demonstration on two disposable servers: release, deploy, break, roll back. Run by `make demo`.
//!
//! Everything is real: the programs, git, dpkg, systemd and D-Bus. The bucket is a directory.
//! The web app then stays up until Ctrl-C; with `DEMO_EXIT=1` the demo exits at once.
//! Exits with status 1 if a step failed, and leaves nothing behind either way.

mod stage;
mod web;

use std::{
    fs,
    path::Path,
    process::ExitCode,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use bucket::{AppState, ReleaseName};
use harness::{Machine, Programs, Repo, Scenario, clean_up_when_interrupted, quote};

use crate::{stage::Stage, web::Web};

/// The example that is released.
const EXAMPLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/hello");

/// Where it serves HTTP, on every server's own loopback.
const PORT: u16 = 8080;

fn main() -> ExitCode {
    let stage = Stage::new();
    match clean_up_when_interrupted().and_then(|()| play(&stage)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            stage.failed(&error);
            ExitCode::FAILURE
        }
    }
}

fn play(stage: &Stage) -> Result<()> {
    stage.title("Push: deployment by pull, on two disposable servers");

    stage.act("Boot two servers: Debian with its own systemd, and pulld as in the base image");
    let (scenario, servers) =
        stage.work("booting web-1 and web-2 (the first run creates their Debian root filesystem)", || {
            let scenario = Scenario::new()?.unjudged();
            let servers = boot(&scenario)?;
            Ok((scenario, servers))
        })?;
    stage.work("waiting for the first report of each agent", || {
        servers.iter().try_for_each(|server| scenario.wait_for_agent(server))
    })?;
    stage.say("The bucket is a directory. It is the only thing that the servers and this terminal share:");
    stage.command(&format!("export PUSH_BUCKET={}", quote(&scenario.target().url)));

    stage.act("As a developer, release `hello` from a git repository");
    let repo = Repo::new(&scenario.path("hello"))?;
    copy(Path::new(EXAMPLE), repo.directory())?;
    repo.commit("hello")?;
    let first = release(stage, &scenario, &repo, "the first version")?;

    stage.act("As an operator, deploy it to both servers (nothing connects to a server; each agent pulls)");
    let pushed = push(stage, &scenario, &["deploy", "hello", "web-1", "web-2", "-m", "first install"])?;
    let greeting = converge(stage, &scenario, &servers, &first, pushed)?;

    stage.act("Deploy a release that installs successfully and then crashes");
    break_it(&repo)?;
    repo.commit("a mistake")?;
    let broken = release(stage, &scenario, &repo, "a mistake")?;
    let pushed = push(stage, &scenario, &["deploy", "hello", "web-1", "web-2", "-m", "new version"])?;
    go_back(stage, &scenario, &servers, (&first, &broken), &greeting, pushed)?;

    stage.act("Check the result");
    push(stage, &scenario, &["status"])?;
    push(stage, &scenario, &["history", "web-1"])?;
    stage.say("On the server itself:");
    stage.command("pulld status   # on web-1");
    stage.quote(&servers[0].run("pulld status")?.stdout);

    stage.act("Open the web app");
    let web = Web::start(stage, &scenario)?;
    stage.work("starting the web app", || {
        servers[0]
            .wait_until("the page shows web-2", Duration::from_secs(10), |_| Ok(web.shows("web-2")?.then_some(())))
    })?;
    stage.say("Both agents picked up the first release, restarted the service, and checked that it stays up.");
    stage
        .say("Each agent rolled back the broken release automatically, and does not retry it until another is pushed.");
    stage.say("README.md explains how to use Push, ARCHITECTURE.md how it works; `make test` runs all tests.");
    stage.say("");
    if std::env::var_os("DEMO_EXIT").is_some_and(|value| value == "1") {
        stage.say("The demo is finished; servers and bucket are deleted.");
        return Ok(());
    }
    stage.say(&format!("Open {} and roll back `hello` on web-2: both servers are still running.", web.opened()));
    stage.say("Or try this in another terminal:");
    for line in next_commands(&scenario, &servers[0])? {
        stage.command(&line);
    }
    stage.say("Press Ctrl-C to stop; nothing is left behind.");
    web.wait()
}

/// What a reader would try next, as lines to paste.
fn next_commands(scenario: &Scenario, server: &Machine) -> Result<[String; 3]> {
    let push = quote(&Programs::get()?.push().to_string_lossy());
    let bucket = quote(&scenario.target().url);
    let name = server.name();
    // Whoever ran this with sudo isn't root over there.
    let as_root = if std::env::var_os("SUDO_USER").is_some() { "sudo " } else { "" };
    Ok([
        format!("{as_root}{push} --bucket {bucket} rollback hello {name} -m 'back to what worked' --wait"),
        format!("{as_root}{push} --bucket {bucket} status {name}"),
        format!("{as_root}{}", server.typed("pulld status")?),
    ])
}

/// The mistake: the program ends where it should begin to serve.
fn break_it(repo: &Repo) -> Result<()> {
    let program = fs::read_to_string(repo.directory().join("hello"))?;
    let place = "$SIG{PIPE} = 'IGNORE';\n";
    ensure!(program.contains(place), "the example has changed: `{place}` is no longer in it");
    repo.write("hello", &program.replace(place, &format!("{place}die \"hello: this version has a mistake\\n\";\n")))?;
    repo.write("version", "2\n")
}

fn boot(scenario: &Scenario) -> Result<Vec<Machine>> {
    let options = ["web-1", "web-2"].map(|name| scenario.server_options(name));
    thread::scope(|scope| {
        let booting: Vec<_> = options.into_iter().map(|options| scope.spawn(|| options?.boot())).collect();
        booting.into_iter().map(|boot| boot.join().expect("booting doesn't panic")).collect()
    })
}

/// Releases what is committed, as a developer would.
fn release(stage: &Stage, scenario: &Scenario, repo: &Repo, note: &str) -> Result<ReleaseName> {
    stage.command(&format!("release -m \"{note}\""));
    let started = Instant::now();
    let release = repo.release(scenario.target(), note)?;
    stage.quote(release.as_str());
    stage.done("built and uploaded", started.elapsed());
    Ok(release)
}

/// Runs `push` as an operator would, and returns when it was done.
fn push(stage: &Stage, scenario: &Scenario, arguments: &[&str]) -> Result<Instant> {
    let shown: Vec<_> = arguments
        .iter()
        .map(|word| if word.contains(' ') { format!("\"{word}\"") } else { (*word).to_owned() })
        .collect();
    stage.command(&format!("push {}", shown.join(" ")));
    let output = scenario.push(arguments)?;
    stage.quote(&output.stderr);
    stage.quote(&output.stdout);
    output.ok()?;
    Ok(Instant::now())
}

/// Waits until both servers run `release`, and gives what it says over HTTP.
fn converge(
    stage: &Stage,
    scenario: &Scenario,
    servers: &[Machine],
    release: &ReleaseName,
    pushed: Instant,
) -> Result<String> {
    let mut greetings = Vec::new();
    for server in servers {
        let greeting = stage.work(&format!("{} pulls, installs and starts the release", server.name()), || {
            server.wait_until("hello answers", Duration::from_mins(1), |server| {
                let response = server.http(PORT, "/")?;
                ensure!(response.status == 200, "it says {response:?}");
                Ok(Some(response.body))
            })
        })?;
        stage.timing(&format!("{} serves {:?}", server.name(), greeting.trim()), pushed.elapsed());
        greetings.push(greeting);
    }
    for server in servers {
        stage.work(&format!("{} runs the health gate", server.name()), || {
            scenario.wait_until_converged(server, release)
        })?;
        stage.timing(&format!("{} reports the release healthy", server.name()), pushed.elapsed());
    }
    greetings.into_iter().next().context("there are servers")
}

/// Waits until both servers rolled back the broken release and run the previous one.
fn go_back(
    stage: &Stage,
    scenario: &Scenario,
    servers: &[Machine],
    (good, broken): (&ReleaseName, &ReleaseName),
    greeting: &str,
    pushed: Instant,
) -> Result<()> {
    for server in servers {
        let app = stage
            .work(&format!("{} installs the release, detects the crash, and rolls back", server.name()), || {
                scenario.wait_for_app(server, broken, AppState::Quarantined)
            })?;
        ensure!(
            app.installed.as_ref() == Some(good),
            "`{}` has {:?} instead of the previous release",
            server.name(),
            app.installed
        );
        let body = server.wait_until("hello answers again", Duration::from_secs(10), |server| {
            Ok(Some(server.http(PORT, "/")?.body))
        })?;
        ensure!(body == greeting, "`{}` says {body:?} instead of {greeting:?}", server.name());
        stage.timing(&format!("{} serves {:?} again", server.name(), body.trim()), pushed.elapsed());
        stage.quote(&app.reason.unwrap_or_default());
    }
    Ok(())
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from).with_context(|| format!("could not read `{}`", from.display()))? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), &target).with_context(|| format!("could not copy `{}`", entry.path().display()))?;
        }
    }
    Ok(())
}
