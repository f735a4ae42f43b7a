//! From a deb in the bucket to an active unit: pulld against the bare commands, each in a container of its own. In one, the
//! agent would also have to find out what was done by hand.

use std::{fs, path::Path, process::Command, time::Duration};

use anyhow::{Context, Result, ensure};
use bucket::ReleaseName;
use harness::{Machine, Repo, Scenario};

use crate::{
    journal::{self, Journal},
    measure::median,
};

/// Bytes that don't compress in the package.
const PAYLOAD: u64 = 10_000_000;
/// How often each way is gone.
const ROUNDS: usize = 7;

pub(crate) fn bench() -> Result<()> {
    println!("\nfrom a 10 MB deb in the bucket to an active unit, in two containers by turns");
    let scenario = Scenario::new()?.unjudged();
    // Nothing but `pulld pull` wakes it.
    let config = "poll = \"1d\"\nhealth_window = \"500ms\"\n";
    let server = scenario.server_options("bench-1")?.file("/etc/pulld/pulld.d/60-bench.toml", config).boot()?;
    let bare_server = scenario.server("bench-2")?;
    bare_server.sh("systemctl stop pulld")?;
    let repo = Repo::new(&scenario.path("payload"))?;
    write_project(&repo)?;

    let (mut pulled, mut ours, mut bare) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..=ROUNDS {
        let release = next(&scenario, &repo)?;
        scenario.deploy(&release, &server)?;
        let woken = journal::now()?;
        let by_pull = active_after(&server, "pulld pull")?;
        let before_dpkg = Journal::since(&server, woken)?.dpkg_began;
        let release = next(&scenario, &repo)?;
        let deb = format!("/srv/push/debs/{release}");
        let by_hand = active_after(
            &bare_server,
            &format!("PUSH_TRANSACTION=1 dpkg -i '{deb}' && systemctl daemon-reload && systemctl restart payload"),
        )?;
        // The first of each meets cold caches.
        if round > 0 {
            pulled.push(by_pull);
            ours.push(before_dpkg);
            bare.push(by_hand);
        }
    }
    let (pulled, ours, bare) = (median(pulled), median(ours), median(bare));
    println!("  dpkg -i, daemon-reload, restart      {:>7.0} ms", bare * 1000.0);
    println!("  pulld, from waking                   {:>7.0} ms  {:>5.2} × bare", pulled * 1000.0, pulled / bare);
    println!("  of that before dpkg starts           {:>7.1} ms  (target: at most 40)", ours * 1000.0);
    Ok(())
}

/// Seconds from now until the unit that a command restarts is active. The container has this machine's clock.
fn active_after(server: &Machine, command: &str) -> Result<f64> {
    let before = monotonic();
    server.run_with(command, b"", Duration::from_mins(2))?.ok()?;
    let active = server.sh("systemctl show --value --property ActiveEnterTimestampMonotonic payload")?;
    let active = Duration::from_micros(active.trim().parse().context("systemd gave no time")?);
    let took = active.checked_sub(before).with_context(|| format!("`{command}` restarted nothing"))?;
    Ok(took.as_secs_f64())
}

fn monotonic() -> Duration {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    Duration::new(now.tv_sec.unsigned_abs(), u32::try_from(now.tv_nsec).unwrap_or(0))
}

/// Another release of another ten megabytes.
pub(crate) fn next(scenario: &Scenario, repo: &Repo) -> Result<ReleaseName> {
    noise(&repo.directory().join("payload"))?;
    repo.commit("other bytes")?;
    repo.release(scenario.target(), "other bytes")
}

fn noise(path: &Path) -> Result<()> {
    let mut dd = Command::new("dd");
    dd.args(["if=/dev/urandom", "bs=100k", "status=none"]).arg(format!("count={}", PAYLOAD / 100_000));
    let status = dd.arg(format!("of={}", path.display())).status()?;
    ensure!(status.success() && fs::metadata(path)?.len() > PAYLOAD, "dd ended with {status}");
    Ok(())
}

/// A project of a unit and ten megabytes.
pub(crate) fn write_project(repo: &Repo) -> Result<()> {
    repo.write(
        "payload.service",
        "[Unit]\nDescription=Ten megabytes and a process\n\n[Service]\nExecStart=/bin/sleep infinity\n\n\
         [Install]\nWantedBy=multi-user.target\n",
    )?;
    repo.write(
        "release.toml",
        r#"schema = 1
[defaults]
maintainer = "Bench <bench@example.com>"
[package.payload]
description = "Ten megabytes and a process"
arch = "all"
contents = [{ src = "payload", dst = "/usr/lib/payload/payload" }]
[[package.payload.unit]]
file = "payload.service"
"#,
    )
}
