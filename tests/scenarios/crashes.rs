//! The agent, dpkg or the whole machine dies in the middle; what comes after finishes the work.

use std::time::Duration;

use anyhow::Result;
use harness::{Machine, Scenario, Version};

use crate::{PORT, says};

/// A maintainer script that stops here for as long as `/run/hold` is there, and says so by `/run/held`.
const HOLD: &str = "if [ -e /run/hold ]; then : > /run/held; while [ -e /run/hold ]; do sleep 0.05; done; fi\n";

/// A server with `web 1`, on which dpkg stands still in the middle of upgrading to `two`.
fn held(scenario: &Scenario, version: &Version) -> Result<(Machine, bucket::ReleaseName)> {
    let server = scenario.server("web-1")?;
    let web = scenario.service("web", PORT)?;
    let one = web.release(scenario.target(), &Version::new("1"))?;
    scenario.install(&one, &server)?;
    server.write("/run/hold", "")?;
    let two = web.release(scenario.target(), version)?;
    scenario.deploy(&two, &server)?;
    server.wait_until("dpkg is in the middle", Duration::from_mins(1), |server| {
        Ok(server.run("test -e /run/held")?.success().then_some(()))
    })?;
    Ok((server, two))
}

fn nothing_is_half_done(server: &Machine) -> Result<()> {
    let broken = server.sh("dpkg-query -W -f '${db:Status-Abbrev} ${Package}\\n' | grep -v '^ii ' || true")?;
    assert_eq!(broken, "");
    assert_eq!(server.sh("dpkg --audit")?, "");
    Ok(())
}

#[test]
fn an_agent_killed_while_dpkg_unpacks_converges() -> Result<()> {
    let scenario = Scenario::new()?;
    let (server, two) = held(&scenario, &Version::new("2").preinst(HOLD))?;
    server.sh("systemctl kill --kill-whom=main --signal=KILL pulld")?;
    server.sh("rm /run/hold")?;
    scenario.wait_until_converged(&server, &two)?;
    says(&server, PORT, "web 2")?;
    nothing_is_half_done(&server)
}

#[test]
fn an_agent_killed_while_dpkg_configures_converges() -> Result<()> {
    let scenario = Scenario::new()?;
    let (server, two) = held(&scenario, &Version::new("2").postinst(HOLD))?;
    server.sh("systemctl kill --kill-whom=main --signal=KILL pulld")?;
    server.sh("rm /run/hold")?;
    scenario.wait_until_converged(&server, &two)?;
    says(&server, PORT, "web 2")?;
    nothing_is_half_done(&server)
}

#[test]
fn dpkg_and_agent_killed_together_converge() -> Result<()> {
    let scenario = Scenario::new()?;
    let (server, two) = held(&scenario, &Version::new("2").preinst(HOLD))?;
    // By its lock, held by whoever is dpkg now, and everything under it.
    server.sh("systemctl kill --kill-whom=main --signal=KILL pulld; kill -KILL $(pidof dpkg); rm /run/hold")?;
    scenario.wait_until_converged(&server, &two)?;
    says(&server, PORT, "web 2")?;
    nothing_is_half_done(&server)
}

#[test]
fn a_server_whose_power_is_cut_while_dpkg_unpacks_converges() -> Result<()> {
    let scenario = Scenario::new()?;
    let (mut server, two) = held(&scenario, &Version::new("2").preinst(HOLD))?;
    server.reboot()?;
    scenario.wait_until_converged(&server, &two)?;
    says(&server, PORT, "web 2")?;
    nothing_is_half_done(&server)
}

#[test]
fn a_server_whose_power_is_cut_while_dpkg_configures_converges() -> Result<()> {
    let scenario = Scenario::new()?;
    let (mut server, two) = held(&scenario, &Version::new("2").postinst(HOLD))?;
    server.reboot()?;
    scenario.wait_until_converged(&server, &two)?;
    says(&server, PORT, "web 2")?;
    nothing_is_half_done(&server)
}
