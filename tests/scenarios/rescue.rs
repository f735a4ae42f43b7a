//! New pullds that never get to say that they are well: each is replaced by the one before, whatever is wrong with it.

use std::time::Duration;

use anyhow::{Context, Result};
use bucket::{AppState, ReleaseName};
use harness::{AgentRepo, Machine, Scenario};

use crate::install_extra;

/// Where the agent configures itself for these stories.
const TIMES: &str = "/etc/pulld/pulld.d/60-rescue.toml";

/// Ready at once, and gone a second later.
const CRASHES: &str = r#"#!/usr/bin/perl
use Socket;
socket(my $socket, AF_UNIX, SOCK_DGRAM, 0) or die;
send($socket, "READY=1", 0, pack_sockaddr_un($ENV{NOTIFY_SOCKET})) or die;
sleep 1;
exit 1;
"#;

/// A package that brings nothing but a program: neither unit files nor anything else of pulld's.
const ONE_SCRIPT: &str = r#"schema = 1
[package.pulld]
description = "one script"
maintainer = "Tests <tests@push.example>"
arch = "all"
contents = [{ src = "script", dst = "/usr/bin/pulld", mode = "0755" }]
"#;

/// A server with a pulld from the bucket: there must be one to restore. A new one has its health window and `rescue_after`.
fn server(scenario: &Scenario, agent: &AgentRepo, rescue_after: &str) -> Result<(Machine, ReleaseName)> {
    let server = scenario.server("web-1")?;
    let good = agent.release(scenario.target(), "good")?;
    scenario.install(&good, &server)?;
    server.write(TIMES, &format!("rescue_after = \"{rescue_after}\"\n"))?;
    Ok((server, good))
}

/// The server has the good release again, runs it, reports why, and nothing is left of the rescue, which nobody helped.
fn is_restored(scenario: &Scenario, server: &Machine, good: &ReleaseName, bad: &ReleaseName, why: &str) -> Result<()> {
    has_again(scenario, server, good, bad, why)?;
    nothing_is_left(server)
}

/// The server has the good release again, runs it, and reports why.
fn has_again(scenario: &Scenario, server: &Machine, good: &ReleaseName, bad: &ReleaseName, why: &str) -> Result<()> {
    let app = scenario.wait_for_app(server, bad, AppState::Quarantined)?;
    assert_eq!(app.installed.as_ref(), Some(good));
    let reason = app.reason.context("the report says why")?;
    assert!(reason.contains(why), "{reason}");
    assert_eq!(
        server.sh("dpkg-query -W -f '${db:Status-Abbrev}${Push-Release}' pulld")?,
        format!("ii {}", good.stem())
    );
    assert_eq!(server.sh("dpkg --audit")?, "");
    let running =
        "pid=$(systemctl show --value -p MainPID pulld); readlink /proc/$pid/exe; tr '\\0' '\\n' </proc/$pid/cmdline";
    assert_eq!(server.sh(running)?, "/usr/bin/pulld\n/usr/bin/pulld\nrun");
    Ok(())
}

fn no_rescue_is_left(server: &Machine) -> Result<()> {
    server.wait_until("nothing is left of the rescue", Duration::from_secs(10), |server| {
        let left = server.sh("ls -A /var/lib/pulld/rescue; find /etc/systemd/system -name 'pulld-rescue*'")?;
        anyhow::ensure!(left.is_empty(), "{left}");
        Ok(Some(()))
    })
}

/// The units and files of a rescue are removed when the new pulld, or the restored one, has started.
pub(crate) fn nothing_is_left(server: &Machine) -> Result<()> {
    no_rescue_is_left(server)?;
    let journal = server.journal("pulld")?;
    anyhow::ensure!(!journal.contains("by hand"), "nobody but the agent and its rescue did anything: {journal}");
    Ok(())
}

#[test]
fn an_agent_that_hangs_is_replaced_also_after_a_power_cut_and_so_is_one_that_is_a_mere_script() -> Result<()> {
    let scenario = Scenario::new()?;
    let agent = AgentRepo::new(&scenario.path("pulld"))?;
    let (mut server, good) = server(&scenario, &agent, "4s")?;
    agent.replace_program("#!/bin/sh\nexec sleep infinity\n")?;
    let hangs = agent.release(scenario.target(), "hangs")?;
    scenario.deploy(&hangs, &server)?;
    server.wait_until("the new one hangs", Duration::from_secs(30), |server| {
        let pid = server.sh("systemctl show --value -p MainPID pulld")?;
        Ok((server.sh(&format!("cat /proc/{pid}/comm"))? == "sleep").then_some(()))
    })?;
    server.reboot()?;
    is_restored(&scenario, &server, &good, &hangs, "had not passed its health gate")?;

    server.write(TIMES, "rescue_after = \"1s\"\n")?;
    agent.write("script", "#!/bin/sh\nexit 0\n")?;
    agent.write("release.toml", ONE_SCRIPT)?;
    let script = agent.release(scenario.target(), "one script")?;
    scenario.deploy(&script, &server)?;
    is_restored(&scenario, &server, &good, &script, "had not passed its health gate")
}

#[test]
fn an_agent_that_exits_before_it_is_ready_is_replaced_and_so_is_one_that_crashes_when_it_is() -> Result<()> {
    let scenario = Scenario::new()?;
    let agent = AgentRepo::new(&scenario.path("pulld"))?;
    let (server, good) = server(&scenario, &agent, "1s")?;
    for (note, program) in [("exits", "#!/bin/sh\nsleep 2\nexit 1\n"), ("crashes", CRASHES)] {
        agent.replace_program(program)?;
        let bad = agent.release(scenario.target(), note)?;
        scenario.deploy(&bad, &server)?;
        is_restored(&scenario, &server, &good, &bad, "had not passed its health gate")?;
    }
    Ok(())
}

#[test]
fn an_agent_for_another_machine_is_replaced_and_so_is_one_that_can_not_read_its_configuration() -> Result<()> {
    let scenario = Scenario::new()?;
    let agent = AgentRepo::new(&scenario.path("pulld"))?;
    let (server, good) = server(&scenario, &agent, "1s")?;
    let program = agent.program()?;
    // Its head is enough, with another `e_machine` (elf(5)): a mainframe's.
    let mut foreign = program[..4096].to_vec();
    foreign[18] = 22;
    agent.replace_program(&foreign)?;
    let bad = agent.release(scenario.target(), "for another machine")?;
    scenario.deploy(&bad, &server)?;
    is_restored(&scenario, &server, &good, &bad, "had not passed its health gate")?;

    agent.replace_program(&program)?;
    agent.add("strict.toml", "keep_releases = 0\n", "/usr/lib/pulld/pulld.d/10-strict.toml")?;
    let bad = agent.release(scenario.target(), "stricter")?;
    scenario.deploy(&bad, &server)?;
    is_restored(&scenario, &server, &good, &bad, "rejected its configuration")
}

#[test]
fn what_the_rescue_takes_away_is_told_by_name() -> Result<()> {
    let scenario = Scenario::new()?;
    let agent = AgentRepo::new(&scenario.path("pulld"))?;
    agent.replaces("extra")?;
    let (server, good) = server(&scenario, &agent, "1s")?;
    install_extra(&server, "--force-conflicts")?;
    agent.write("script", "#!/bin/sh\nexit 0\n")?;
    agent.write("release.toml", ONE_SCRIPT)?;
    let script = agent.release(scenario.target(), "one script")?;
    scenario.deploy(&script, &server)?;
    let app = scenario.wait_for_app(&server, &script, AppState::Degraded)?;
    assert_eq!(app.installed.as_ref(), Some(&good));
    let reason = app.reason.context("the report says why")?;
    for said in ["had not passed its health gate", "`extra` 3 was removed"] {
        assert!(reason.contains(said), "{reason}");
    }
    nothing_is_left(&server)
}

/// A server with a new pulld that hangs, and twenty seconds until the rescue begins.
fn with_one_that_hangs(scenario: &Scenario, agent: &AgentRepo) -> Result<(Machine, ReleaseName, ReleaseName)> {
    let (server, good) = server(scenario, agent, "20s")?;
    agent.replace_program("#!/bin/sh\nexec sleep infinity\n")?;
    let hangs = agent.release(scenario.target(), "hangs")?;
    scenario.deploy(&hangs, &server)?;
    server.wait_until("the new one hangs", Duration::from_secs(30), |server| {
        Ok((server.sh(&format!("cat /proc/{}/comm", process(server)?))? == "sleep").then_some(()))
    })?;
    Ok((server, good, hangs))
}

fn process(server: &Machine) -> Result<String> {
    server.sh("systemctl show --value -p MainPID pulld")
}

/// The rescue tries again and again, and leaves what runs alone, which it says once: with these words.
fn is_left_alone(server: &Machine, why: &str) -> Result<()> {
    let before = process(server)?;
    server.wait_until("the rescue has tried twice", Duration::from_mins(2), |server| {
        let ended = server.sh("systemctl show --value -p NRestarts pulld-rescue.service")?;
        Ok((ended.parse::<u32>()? >= 2).then_some(()))
    })?;
    assert_eq!(process(server)?, before, "it was not restarted");
    let journal = server.sh("journalctl -u pulld-rescue.service -o cat")?;
    assert_eq!(journal.matches("the previous one cannot be restored").count(), 1, "{journal}");
    let status = server.run("/var/lib/pulld/rescue/pulld status")?;
    let told = status.stdout.lines().find(|line| line.contains("the previous one cannot be restored"));
    assert!(told.is_some_and(|told| told.contains(why)), "{status}");
    Ok(())
}

#[test]
fn a_rescue_where_dpkg_cannot_write_leaves_the_pulld_that_runs_alone_and_goes_on_when_it_can() -> Result<()> {
    let scenario = Scenario::new()?;
    let agent = AgentRepo::new(&scenario.path("pulld"))?;
    let (server, good, hangs) = with_one_that_hangs(&scenario, &agent)?;
    server.sh("mount --bind /usr /usr && mount -o remount,bind,ro /usr")?;
    is_left_alone(&server, "`/usr` is a read-only file system")?;
    assert_eq!(server.sh("dpkg --audit")?, "");
    server.sh("mount -o remount,bind,rw /usr")?;
    is_restored(&scenario, &server, &good, &hangs, "had not passed its health gate")
}

#[test]
fn a_rescue_whose_package_is_damaged_leaves_the_pulld_that_runs_alone_and_says_so() -> Result<()> {
    let scenario = Scenario::new()?;
    let agent = AgentRepo::new(&scenario.path("pulld"))?;
    let (server, good, hangs) = with_one_that_hangs(&scenario, &agent)?;
    // Another file: the cache has the sound one under a name of its own.
    server.sh("cd /var/lib/pulld/rescue && mv pulld.deb sound.deb && echo damaged >pulld.deb")?;
    is_left_alone(&server, "expected `")?;
    // As that says.
    server.sh("cd /var/lib/pulld/rescue && dpkg --install sound.deb && rm sound.deb")?;
    has_again(&scenario, &server, &good, &hangs, "the previous one cannot be restored")?;
    no_rescue_is_left(&server)
}
