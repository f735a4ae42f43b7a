//! From a poke to an active unit: where the time goes, by what the fakes and the journal saw.
//!
//! The container has this machine's clock, and nothing looks into it while the agent works: what asks there takes a share of
//! the processors that are measured. dpkg's own service and the restart count as dpkg's and systemd's, although the
//! start of our runner and a few questions of ours to systemd are in them; what comes before is all ours.

use std::time::Instant;

use anyhow::{Context, Result};
use bucket::ReleaseName;
use harness::{
    Machine, Repo, Scenario,
    gcs::{Kind, Request},
    metadata::FakeMetadata,
};

use crate::{
    deploy::{next, write_project},
    journal::{self, Journal},
    measure::median,
};

/// How often it is woken.
const ROUNDS: usize = 7;
/// Where the agent's own service is told of the fake metadata server.
const DROP_IN: &str = "/etc/systemd/system/pulld.service.d/60-bench.conf";

/// When each thing happened, in seconds after the poke.
struct Moments {
    asked: f64,
    download: f64,
    journal: Journal,
}

pub(crate) fn bench() -> Result<()> {
    println!("\nfrom a poke to an active unit: a 10 MB deb in a gs:// bucket on loopback, in a container");
    let scenario = Scenario::over_gcs()?.unjudged();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let metadata = runtime.block_on(FakeMetadata::start());
    let port: u16 = metadata.host().rsplit_once(':').context("the fake has a port")?.1.parse()?;
    let config = "poll = \"1d\"\nhealth_window = \"500ms\"\nmetadata = \"on\"\n";
    let environment = format!("[Service]\nEnvironment=GCE_METADATA_HOST={}\n", metadata.host());
    let server = scenario.server_options("bench-1")?.reach(port);
    let server = server.file("/etc/pulld/pulld.d/60-bench.toml", config).file(DROP_IN, &environment).boot()?;
    let repo = Repo::new(&scenario.path("payload"))?;
    write_project(&repo)?;
    let mut rounds = Vec::new();
    for round in 0..=ROUNDS {
        let release = next(&scenario, &repo)?;
        scenario.deploy(&release, &server)?;
        runtime.block_on(metadata.until(|seen| seen.hanging == 1));
        let moments = wake(&scenario, &server, &metadata, &release)?;
        // The first meets cold caches.
        if round > 0 {
            rounds.push(moments);
        }
    }
    tell(&rounds);
    let pid: u32 = server.sh("systemctl show --value --property MainPID pulld")?.trim().parse()?;
    let status = server.read(&format!("/proc/{pid}/status"))?;
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("the agent is gone")?;
    let resident: f64 = resident.trim().trim_end_matches(" kB").parse()?;
    println!("  memory     {:.1} MB resident, with the watch running and after all that", resident * 1024.0 / 1e6);
    Ok(())
}

fn tell(rounds: &[Moments]) {
    let middle = |of: fn(&Moments) -> f64| median(rounds.iter().map(of).collect()) * 1000.0;
    let rows: [(&str, f64); 6] = [
        ("poke → document asked for", middle(|m| m.asked)),
        ("document → download begins", middle(|m| m.download - m.asked)),
        ("10 MB downloaded and verified", middle(|m| m.journal.installing - m.download)),
        ("order → dpkg starts", middle(|m| m.journal.dpkg_began - m.journal.installing)),
        ("dpkg, in its service", middle(|m| m.journal.dpkg_ended - m.journal.dpkg_began)),
        ("daemon-reload, restart, active", middle(|m| m.journal.active - m.journal.dpkg_ended)),
    ];
    let whole = middle(|m| m.journal.active);
    for (name, took) in rows {
        println!("  {name:<32} {took:>6.1} ms  {:>4.0} %", took / whole * 100.0);
    }
    let ours = middle(|m| m.journal.dpkg_began);
    println!("  {:<32} {whole:>6.1} ms", "all");
    println!("  {:<32} {ours:>6.1} ms  (target: at most 40)", "before dpkg and systemd");
}

/// Pokes the agent, and finds out when what happened.
fn wake(scenario: &Scenario, server: &Machine, metadata: &FakeMetadata, release: &ReleaseName) -> Result<Moments> {
    let seen = scenario.requests().len();
    let (poked, by_clock) = (Instant::now(), journal::now()?);
    metadata.set("pushrev", release.stem());
    scenario.wait_until_converged(server, release)?;
    let requests = scenario.requests().split_off(seen);
    let after = |fits: &dyn Fn(&Request) -> bool| {
        let found = requests.iter().find(|request| fits(request)).map(|request| request.at - poked);
        found.map(|took| took.as_secs_f64())
    };
    let document = format!("server/{}.json", server.name());
    Ok(Moments {
        asked: after(&|request| request.object == document).context("the document was never asked for")?,
        download: after(&|request| request.kind == Kind::Get && request.object.starts_with("debs/"))
            .context("nothing was downloaded")?,
        journal: Journal::since(server, by_clock)?,
    })
}
