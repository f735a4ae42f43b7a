//! The web app as a service of systemd, as its package brings it.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bucket::ServerState;
use harness::{Programs, Scenario, Version};

/// Where `push serve` listens unless told otherwise.
const PORT: u16 = 8000;

#[test]
fn the_web_app_serves_under_its_unit_shows_what_happens_to_a_server_and_ends_when_told() -> Result<()> {
    let scenario = Scenario::new()?;
    let unit = include_str!("../../systemd/push-server.service");
    let programs = Programs::get()?.push();
    let directory = programs.parent().context("a program is in a directory")?;
    let server = scenario
        .server_options("web-1")?
        .share(directory, "/opt/push")
        .file("/etc/systemd/system/push-server.service", &unit.replace("/usr/bin/push", "/opt/push/push"))
        .file("/etc/default/push-server", "PUSH_BUCKET=file:///srv/push\nPUSH_SERVE_OPTIONS=--refresh 1s\n")
        .boot()?;
    scenario.wait_for_agent(&server)?;
    server.sh("systemctl start push-server")?;
    server.wait_until("the page shows this very server", Duration::from_secs(30), |server| {
        let page = server.http(PORT, "/servers")?;
        ensure!(page.status == 200, "it answers {page:?}");
        Ok(page.body.contains("/servers/web-1").then_some(()))
    })?;
    // Whoever may push from this machine is told by a file and not by the journal.
    let token = server.sh("cat /run/push-server/token")?;
    assert_eq!(server.sh("stat --dereference --format %a /run/push-server/token")?.trim(), "600");
    ensure!(!server.sh("journalctl --unit push-server")?.contains(token.trim()), "the token is in the journal");
    let web = scenario.service("web", crate::PORT)?;
    let one = web.release(scenario.target(), &Version::new("1"))?;
    let two = web.release(scenario.target(), &Version::new("2"))?;
    scenario.install(&two, &server)?;
    server.sh(&format!("dpkg --install '/srv/push/debs/{one}'"))?;
    // The report from before says the same of the app.
    scenario.wait_for_status(&server, "what was done by hand is put right", |status| {
        (status.events.len() == 1 && status.state == ServerState::Converged).then_some(())
    })?;
    for restarts in 1..=3 {
        server.sh("systemctl kill --signal KILL web.service")?;
        scenario.wait_for_status(&server, "systemd starts it again", |status| {
            (status.apps.iter().flat_map(|app| &app.units).any(|unit| unit.restarts == restarts)).then_some(())
        })?;
    }
    server.wait_until("the page says what happened and what is wrong", Duration::from_secs(30), |server| {
        let page = server.http(PORT, "/servers/web-1")?.body;
        let told = ["web</code> was changed by hand to ", "restarted it 3 times in the last hour", "unstable"];
        Ok(told.iter().all(|told| page.contains(told)).then_some(()))
    })?;
    server.sh("systemctl stop push-server")?;
    assert_eq!(server.sh("systemctl show --value --property Result push-server")?.trim(), "success");
    Ok(())
}
