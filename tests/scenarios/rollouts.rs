//! Pushes in waves, on servers with real agents.

use std::{
    fs,
    process::{Child, Command, Stdio},
};

use anyhow::{Context, Result};
use bucket::{AppState, ReleaseName};
use harness::{Machine, Programs, Scenario};
use serde_json::Value;

use crate::{
    app::{App, runs, work},
    unpacked,
};

/// Version 2 does not stay up where a person has prepared for that.
const WORK: &str = "#!/usr/bin/perl\nexit 3 if $ARGV[0] eq '2' && -e '/etc/web.breaks';\nsleep;\n";

/// Three servers with the first version of an app.
struct Fleet<'a> {
    scenario: &'a Scenario,
    web: App<'a>,
    servers: [Machine; 3],
    one: ReleaseName,
}

impl<'a> Fleet<'a> {
    fn boot(scenario: &'a Scenario) -> Result<Self> {
        let web = App::with_program(scenario, "web", WORK)?;
        let one = release(&web, 1)?;
        let servers = [scenario.server("web-1")?, scenario.server("web-2")?, scenario.server("web-3")?];
        for server in &servers {
            scenario.deploy(&one, server)?;
        }
        for server in &servers {
            scenario.wait_until_converged(server, &one)?;
        }
        Ok(Self { scenario, web, servers, one })
    }

    /// The version that runs on each server, by the command line of its process.
    fn run(&self) -> Result<[String; 3]> {
        let [first, second, third] = &self.servers;
        Ok([runs(first, "web.service")?, runs(second, "web.service")?, runs(third, "web.service")?])
    }

    fn document(&self, server: &str) -> Result<Vec<u8>> {
        Ok(fs::read(self.scenario.object(&format!("server/{server}.json")))?)
    }

    /// Waits until a server's document names a release.
    fn wait_until_written(&self, server: &Machine, release: &ReleaseName) -> Result<()> {
        server.wait_until("the document names the release", PATIENCE, |server| {
            let document = String::from_utf8(self.document(server.name())?)?;
            Ok(document.contains(release.as_str()).then_some(()))
        })
    }

    /// The only rollout that is not over.
    fn rollout(&self) -> Result<String> {
        let listed: Value = serde_json::from_str(&self.scenario.push(&["rollout", "list", "--json"])?.ok()?)?;
        let rollouts = listed["rollouts"].as_array().context("a list")?;
        let id = rollouts[0]["id"].as_str().context("it has an ID")?;
        Ok(id.to_owned())
    }

    /// A process that carries a rollout on, and writes what it waits for into that file.
    fn driver(&self, id: &str, told: &str) -> Result<Child> {
        let mut push = Command::new(Programs::get()?.push());
        push.args(["rollout", "wait", id]).stdin(Stdio::null()).stdout(Stdio::null());
        self.scenario.target().apply(&mut push);
        Ok(push.stderr(fs::File::create(self.scenario.path(told))?).spawn()?)
    }

    /// A `push serve` of the bucket, which carries rollouts on until it is killed.
    fn web_app(&self) -> Result<WebApp> {
        let mut push = Command::new(Programs::get()?.push());
        push.args(["serve", "--listen", "127.0.0.1:0", "--refresh", "1s"]).stdin(Stdio::null()).stdout(Stdio::null());
        self.scenario.target().apply(&mut push);
        Ok(WebApp(push.stderr(fs::File::create(self.scenario.path("serve"))?).spawn()?))
    }

    fn told(&self, told: &str) -> Result<String> {
        Ok(fs::read_to_string(self.scenario.path(told))?)
    }
}

/// A running web app, which is killed when this is dropped.
struct WebApp(Child);

impl Drop for WebApp {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Longest time until a driver has written or said something.
const PATIENCE: std::time::Duration = std::time::Duration::from_mins(1);

fn release(web: &App, version: u8) -> Result<ReleaseName> {
    let unit = format!(
        "[Unit]\nDescription=web\n[Service]\nExecStart=/usr/lib/web/work {version}\n[Install]\nWantedBy=multi-user.target\n"
    );
    web.release("", &[("web.service", &unit)])
}

fn all(versions: [u8; 3]) -> [String; 3] {
    versions.map(|version| work("web", &version.to_string()))
}

#[test]
fn a_release_that_dies_in_the_second_wave_never_reaches_the_third_and_is_undone() -> Result<()> {
    let scenario = Scenario::new()?;
    let fleet = Fleet::boot(&scenario)?;
    let [first, second, third] = &fleet.servers;
    second.sh("touch /etc/web.breaks")?;
    let two = release(&fleet.web, 2)?;
    let before = fleet.document("web-3")?;
    let waves = ["--waves", "1,1,rest", "--settle", "2s", "-m", "login fix", "--wait"];
    let ended = scenario.push(&[&["deploy", two.as_str(), "app:web"][..], &waves].concat())?;
    assert!(!ended.success() && ended.stdout.contains("has stopped: 1 server failed: web-2"), "{ended}");
    assert_eq!(fleet.run()?, all([2, 1, 1]));
    scenario.wait_for_app(second, &two, AppState::Quarantined)?;
    let seen = |server: &Machine| server.sh(&format!("journalctl -u pulld | grep -c '{}' || true", two.stem()));
    assert_eq!((fleet.document("web-3")?, seen(third)?.as_str(), unpacked(third, "web")?), (before.clone(), "0", 1));
    assert_ne!(seen(first)?, "0", "the journals of those that had it tell of it");

    let id = fleet.rollout()?;
    let undone = scenario.push(&["rollout", "undo", &id, "-m", "it dies", "--wait"])?.ok()?;
    assert!(undone.contains("is undone"), "{undone}");
    for server in [first, second] {
        scenario.wait_until_converged(server, &fleet.one)?;
    }
    assert_eq!(fleet.run()?, all([1, 1, 1]));
    assert_eq!((fleet.document("web-3")?, seen(third)?.as_str()), (before, "0"));
    Ok(())
}

#[test]
fn another_driver_goes_on_where_one_was_killed_and_held_servers_wait_until_their_holds_end() -> Result<()> {
    let scenario = Scenario::new()?;
    let fleet = Fleet::boot(&scenario)?;
    let [first, second, third] = &fleet.servers;
    let three = release(&fleet.web, 3)?;
    let waves = ["--waves", "1,rest", "--settle", "4s", "--max-down", "3"];
    scenario.push(&[&["deploy", three.as_str(), "app:web"][..], &waves].concat())?.ok()?;
    let id = fleet.rollout()?;

    let mut killed = fleet.driver(&id, "first")?;
    fleet.wait_until_written(first, &three)?;
    killed.kill()?;
    killed.wait()?;
    scenario.wait_until_converged(first, &three)?;
    assert_eq!(fleet.run()?, all([3, 1, 1]), "nothing happens while nobody drives it");

    scenario.push(&["hold", "web-2", "-m", "debugging"])?.ok()?;
    scenario.push(&["hold", "web-3", "--app", "web", "--for", "20s", "-m", "load test"])?.ok()?;
    let on_hold = |server: &Machine, expected: bool| {
        server.wait_until("`pulld status` shows the hold while it is in force", PATIENCE, |server| {
            let shown = server.sh("pulld status")?;
            Ok((shown.contains("on hold: only ") == expected).then_some(shown))
        })
    };
    let shown = on_hold(second, true)?;
    assert!(shown.contains(" pushes to this server until ") && shown.contains(": debugging"), "{shown}");
    assert!(on_hold(third, true)?.contains(" pushes `web` until "));

    let mut driver = fleet.driver(&id, "second")?;
    second.wait_until("the driver names who is on hold", PATIENCE, |_| {
        Ok(fleet.told("second")?.contains("waiting for web-2, web-3, on hold").then_some(()))
    })?;
    assert_eq!(fleet.run()?, all([3, 1, 1]));
    // One ends by itself.
    fleet.wait_until_written(third, &three)?;
    scenario.wait_until_converged(third, &three)?;
    on_hold(third, false)?;
    assert_eq!(fleet.run()?, all([3, 1, 3]));
    // The other one, a person ends.
    scenario.push(&["resume", "web-2"])?.ok()?;
    assert!(driver.wait()?.success(), "{}", fleet.told("second")?);
    scenario.wait_until_converged(second, &three)?;
    on_hold(second, false)?;
    assert_eq!(fleet.run()?, all([3, 3, 3]));
    Ok(())
}

#[test]
fn the_web_app_is_killed_between_two_waves_and_carries_the_rollout_on_when_it_is_back() -> Result<()> {
    let scenario = Scenario::new()?;
    let fleet = Fleet::boot(&scenario)?;
    let [first, second, third] = &fleet.servers;
    let two = release(&fleet.web, 2)?;
    let web_app = fleet.web_app()?;
    let waves = ["--waves", "1,1,rest", "--settle", "5s"];
    scenario.push(&[&["deploy", two.as_str(), "app:web"][..], &waves].concat())?.ok()?;
    let id = fleet.rollout()?;
    fleet.wait_until_written(first, &two)?;
    // It has yet to settle.
    drop(web_app);
    scenario.wait_until_converged(first, &two)?;
    assert_eq!(fleet.run()?, all([2, 1, 1]));

    let _web_app = fleet.web_app()?;
    scenario.wait_until_converged(second, &two)?;
    scenario.wait_until_converged(third, &two)?;
    first.wait_until("the rollout is done", PATIENCE, |_| {
        let shown: Value = serde_json::from_str(&scenario.push(&["rollout", "show", &id, "--json"])?.ok()?)?;
        Ok((shown["stage"] == "done").then_some(()))
    })?;
    assert_eq!(fleet.run()?, all([2, 2, 2]));
    for server in &fleet.servers {
        assert_eq!(unpacked(server, "web")?, 2, "`{}` got each release once", server.name());
    }
    Ok(())
}
