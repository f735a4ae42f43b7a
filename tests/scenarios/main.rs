//! Whole stories, on real dpkg, systemd and D-Bus, through the real programs. Test names are facts.

mod agent;
mod app;
mod channels;
mod crash_points;
mod crashes;
mod dpkg_runs;
mod examples;
mod faults;
mod hands;
mod health;
mod installing;
mod kinds;
mod losses;
mod machines;
mod migrating;
mod obstacles;
mod power_cuts;
mod releases;
mod renamed;
mod reports;
mod rescue;
mod retries;
mod rollouts;
mod trials;
mod trying;
mod units;
mod watcher;
mod web;

use anyhow::{Context, Result, ensure};
use harness::Machine;

/// Where the services of these stories listen, each machine on its own loopback.
const PORT: u16 = 8080;

/// What the service on `port` says, as in "web 2"; it may still be starting. And which program its unit runs, by its
/// process: what answers may be another one that has the port.
fn says(machine: &Machine, port: u16, expected: &str) -> Result<()> {
    let (app, version) = expected.split_once(' ').context("an app and its version")?;
    says_by(machine, port, expected, &format!("/usr/lib/{app}/serve {version}"))
}

/// The same of a service whose program is another one.
fn says_by(machine: &Machine, port: u16, expected: &str, program: &str) -> Result<()> {
    let answer = format!("{expected}\n");
    let (app, _) = expected.split_once(' ').context("an app and its version")?;
    let program = format!("/usr/bin/perl /usr/bin/perl {program}");
    machine.wait_until(&format!("port {port} says {expected:?}"), std::time::Duration::from_secs(10), |machine| {
        let response = machine.http(port, "/")?;
        ensure!(response.status == 200 && response.body == answer, "it says {response:?}");
        let runs = app::runs(machine, &format!("{app}.service"))?;
        ensure!(runs == program, "`{runs}` runs, and not `{program}`");
        Ok(Some(()))
    })
}

/// Has a package `extra` that no release made.
fn install_extra(machine: &Machine, flags: &str) -> Result<()> {
    let control = "Package: extra\nVersion: 3\nArchitecture: all\nMaintainer: A <a@example.com>\nDescription: x\n";
    machine.write("/tmp/extra/DEBIAN/control", control)?;
    machine.sh(&format!("dpkg-deb --build /tmp/extra /tmp/extra.deb && dpkg --install {flags} /tmp/extra.deb"))?;
    Ok(())
}

/// How often dpkg has unpacked a package here, by its own log.
fn unpacked(machine: &Machine, package: &str) -> Result<usize> {
    let log = machine.sh(&format!("grep -cE ' (install|upgrade) {package}:' /var/log/dpkg.log || true"))?;
    Ok(log.trim().parse()?)
}
