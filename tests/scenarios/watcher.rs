//! The watcher as a service of systemd, as its package brings it.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use harness::{Image, Machine, Programs, Scenario, Version};

/// Where it is told to listen.
const PORT: u16 = 8001;

const UNIT: &str = include_str!("../../systemd/push-watcher.service");

/// What it is told.
const SETTINGS: &str = "PUSH_BUCKET=file:///srv/push\nPUSH_CONFIG=/etc/push/skiapush.conf\nPUSH_USER=watcher\n\
                        PUSH_WATCH_OPTIONS=--poll 1s --listen 127.0.0.1:8001\n";

const RULES: &str = r#"{ Channels: [{ App: "web", Repo: "file:///srv/web", Servers: ["web-*"] }] }"#;

/// What a directory as a bucket takes: a user that may write there.
const DROP_IN: &str = "[Service]\nDynamicUser=no\nUser=root\nReadWritePaths=/srv/push\n";

/// How exposed a service is, by systemd-analyze(1): 0.0 to 10.0.
fn exposure(machine: &Machine, unit: &str) -> Result<f64> {
    let said = machine.sh(&format!("systemd-analyze security --no-pager {unit}.service | tail -n 1"))?;
    let (_, level) = said.split_once(": ").with_context(|| format!("systemd-analyze said {said:?}"))?;
    Ok(level.split_whitespace().next().context("no level")?.parse()?)
}

#[test]
fn what_lands_on_the_branch_goes_out_through_the_watchers_unit() -> Result<()> {
    let scenario = Scenario::new()?;
    let programs = Programs::get()?.push();
    let directory = programs.parent().context("a program is in a directory")?;
    let unit = |text: &str| text.replace("/usr/bin/push", "/opt/push/push");
    let web = scenario.service("web", crate::PORT)?;
    let one = web.release(scenario.target(), &Version::new("1"))?;
    scenario.push(&["deploy", &one.to_string(), "web-1", "--force", "-m", "first"])?.ok()?;
    let machine = Machine::options("ops-1", &Image::debian()?.with_debian_packages(&["git"])?)?
        .share(directory, "/opt/push")
        .share(&scenario.path("bucket"), "/srv/push")
        .share(&scenario.path("web"), "/srv/web")
        .file("/etc/systemd/system/push-server.service", &unit(include_str!("../../systemd/push-server.service")))
        .file("/etc/systemd/system/push-watcher.service", &unit(UNIT))
        .file("/etc/systemd/system/push-watcher.service.d/directory.conf", DROP_IN)
        .file("/etc/default/push-watcher", SETTINGS)
        .file("/etc/push/skiapush.conf", RULES)
        .boot()?;
    // It has told systemd that it is ready once this returns.
    machine.sh("systemctl start push-watcher")?;
    assert_eq!(machine.http(PORT, "/healthz")?.status, 200);
    let two = web.release(scenario.target(), &Version::new("2"))?;
    machine.wait_until("the follower's document names what landed", Duration::from_secs(30), |machine| {
        Ok(machine.read("/srv/push/server/web-1.json")?.contains(two.stem()).then_some(()))
    })?;
    let history = machine.sh("/opt/push/push history web-1 --bucket file:///srv/push")?;
    ensure!(history.contains("watcher@ops-1") && history.contains("channel prod: web 2"), "{history}");
    assert_eq!(machine.sh("stat --format %a /var/lib/push-watcher")?.trim(), "700");
    ensure!(!machine.sh("ls /var/lib/push-watcher/mirrors")?.trim().is_empty(), "its mirrors are elsewhere");
    machine.sh("systemctl stop push-watcher")?;
    assert_eq!(machine.sh("systemctl show --value --property Result push-watcher")?.trim(), "success");

    // As the package brings it, it is a user of its own, and no more exposed than the web app.
    machine.sh("rm -r /etc/systemd/system/push-watcher.service.d && systemctl daemon-reload")?;
    machine.sh("systemctl start push-watcher")?;
    assert_eq!(machine.http(PORT, "/healthz")?.status, 200);
    let user = machine.sh("stat --format %u /proc/$(systemctl show --value --property MainPID push-watcher)")?;
    ensure!(user.trim().parse::<u32>()? > 60_000, "it runs as {user}");
    let (watcher, app) = (exposure(&machine, "push-watcher")?, exposure(&machine, "push-server")?);
    ensure!(watcher <= app, "the watcher's unit is more exposed than the web app's: {watcher}, {app}");
    Ok(())
}
