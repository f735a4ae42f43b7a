//! An agent with nothing to do: what it asks of the bucket, and what it costs the machine.

use std::{
    collections::BTreeMap,
    fs,
    path::Path,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use harness::{TempDir, gcs::FakeGcs};

use crate::measure::{memory, ticks};

/// How long it is watched.
const WATCHED: Duration = Duration::from_mins(1);
/// How often it polls meanwhile: three hundred times as often as it normally does.
const POLL: u32 = 1;

pub(crate) fn bench(pulld: &Path) -> Result<()> {
    println!("an idle agent on a gs:// bucket, for a minute, polling every {POLL} s instead of every 300 s");
    let gcs = FakeGcs::start("bench");
    gcs.put("bench", "server/bench-1.json", "[]");
    let root = TempDir::new()?;
    let agent = Agent::start(pulld, root.path(), &gcs)?;
    wait_until_quiet(&gcs)?;

    let requests = gcs.requests().len();
    let cpu = ticks(agent.0.id()).context("the agent is gone")?;
    thread::sleep(WATCHED);
    let cpu = ticks(agent.0.id()).context("the agent is gone")? - cpu;
    let rss = memory(agent.0.id(), "VmRSS:").context("the agent is gone")?;
    let peak = memory(agent.0.id(), "VmHWM:").context("the agent is gone")?;

    let seen = gcs.requests().split_off(requests);
    let mut kinds: BTreeMap<String, usize> = BTreeMap::new();
    for request in &seen {
        *kinds.entry(format!("{:?} of {} → {}", request.kind, request.object, request.status)).or_default() += 1;
    }
    let polls = f64::from(u32::try_from(WATCHED.as_secs())? / POLL);
    println!("  requests   {:.2} for each poll", seen.len() as f64 / polls);
    for (kind, count) in kinds {
        println!("             {count:>4} {kind}");
    }
    println!("  memory     {:.1} MB resident, {:.1} MB at most", mb(rss), mb(peak));
    println!("  processor  {:.0} ms a minute, {:.2} ms for each poll", cpu as f64 * 10.0, cpu as f64 * 10.0 / polls);
    Ok(())
}

fn mb(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}

/// The first cycle reads everything and writes a report; idle begins with the first answer that nothing changed.
fn wait_until_quiet(gcs: &FakeGcs) -> Result<()> {
    let end = Instant::now() + Duration::from_secs(30);
    while !gcs.requests().iter().any(|request| request.status == 304) {
        ensure!(Instant::now() < end, "the agent doesn't come to rest: {:?}", gcs.requests());
        thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}

struct Agent(Child);

impl Agent {
    fn start(pulld: &Path, root: &Path, gcs: &FakeGcs) -> Result<Self> {
        let etc = root.join("etc/pulld");
        fs::create_dir_all(&etc)?;
        let config = format!(
            "bucket = \"gs://bench\"\nserver = \"bench-1\"\npoll = \"{POLL}s\"\njitter = \"0s\"\nmetadata = \"off\"\n\
             gcs_endpoint = \"{}\"\ngcs_credentials = \"anonymous\"\n",
            gcs.url
        );
        fs::write(etc.join("pulld.toml"), config)?;
        let mut command = Command::new(pulld);
        command.arg("--root").arg(root).arg("run");
        for key in ["PUSH_GCS_ENDPOINT", "PUSH_GCS_CREDENTIALS", "STORAGE_EMULATOR_HOST", "JOURNAL_STREAM"] {
            command.env_remove(key);
        }
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        Ok(Self(child.context("could not start pulld")?))
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
