//! The agent is a release like any other, and comes through its own update.

use anyhow::Result;
use bucket::AppState;
use harness::{AgentRepo, Scenario, Version};

use crate::{PORT, says};

#[test]
fn the_agent_updates_itself() -> Result<()> {
    let scenario = Scenario::new()?;
    let server = scenario.server("web-1")?;
    let web = scenario.service("web", PORT)?;
    let agent = AgentRepo::new(&scenario.path("pulld"))?;
    let before = server.sh("systemctl show --value -p MainPID pulld")?;
    let new = agent.release(scenario.target(), "newer")?;
    scenario.install(&new, &server)?;
    assert_ne!(server.sh("systemctl show --value -p MainPID pulld")?, before, "another process runs");
    assert_eq!(server.sh("dpkg-query -W -f '${Push-Release}' pulld")?, new.stem());
    assert_eq!(server.sh("systemctl is-active pulld")?, "active");
    // The new one does the work.
    let one = web.release(scenario.target(), &Version::new("1"))?;
    scenario.install(&one, &server)?;
    says(&server, PORT, "web 1")
}

#[test]
fn an_agent_that_can_not_start_is_rescued() -> Result<()> {
    let scenario = Scenario::new()?;
    let server = scenario.server("web-1")?;
    let web = scenario.service("web", PORT)?;
    let agent = AgentRepo::new(&scenario.path("pulld"))?;
    // One from the bucket first: there must be a package to go back to.
    let good = agent.release(scenario.target(), "good")?;
    scenario.install(&good, &server)?;
    agent.replace_program("#!/bin/sh\necho 'this pulld is broken' >&2\nexit 1\n")?;
    let broken = agent.release(scenario.target(), "broken")?;
    scenario.deploy(&broken, &server)?;
    let app = scenario.wait_for_app(&server, &broken, AppState::Quarantined)?;
    assert_eq!(app.installed.as_ref(), Some(&good));
    assert_eq!(server.sh("dpkg-query -W -f '${Push-Release}' pulld")?, good.stem());
    let one = web.release(scenario.target(), &Version::new("1"))?;
    scenario.install(&one, &server)?;
    says(&server, PORT, "web 1")
}

#[test]
fn a_reload_pulls_at_once_on_a_minimal_debian() -> Result<()> {
    let scenario = Scenario::new()?;
    let slow = "poll = \"24h\"\n";
    let server = scenario.server_options("web-1")?.file("/etc/pulld/pulld.d/60-slow.toml", slow).boot()?;
    let web = scenario.service("web", PORT)?;
    let one = web.release(scenario.target(), &Version::new("1"))?;
    scenario.wait_for_agent(&server)?;
    assert!(server.run("ls /bin/kill")?.stderr.contains("No such file"), "the package procps is absent");
    scenario.deploy(&one, &server)?;
    server.sh("systemctl reload pulld")?;
    scenario.wait_until_converged(&server, &one)?;
    assert_eq!(server.sh("systemctl show --value -p NRestarts pulld")?, "0");
    says(&server, PORT, "web 1")
}
