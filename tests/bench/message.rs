//! From the upload of a release, its own time too, to the document of its follower, by a message to `push watch`.

use std::{
    fs,
    path::Path,
    process::{Child, Command, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use bucket::{Announcement, Bucket, BucketOptions, BucketUrl, Credentials, ReleaseName, SourceFile};
use harness::{TempDir, gcs::FakeGcs, pubsub::FakePubSub};

use crate::{
    channels::{metadata, name},
    line::{git, land},
    measure::median,
};

const COMMITS: usize = 1000;
const TIMES: usize = 20;
const TARGET_S: f64 = 2.0;
/// How often the document is looked at.
const LOOK: Duration = Duration::from_millis(5);
/// The longest that one may take.
const LONGEST: Duration = Duration::from_mins(1);

pub(crate) fn bench(push: &Path) -> Result<()> {
    println!("from an upload to the document of a follower, by a message");
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let mut took = runtime.block_on(measure(push))?;
    took.sort_by(f64::total_cmp);
    let slow = took[TIMES * 95 / 100 - 1];
    let over = if slow > TARGET_S { "  over the target" } else { "" };
    println!("  written      {:>7.2} s, 95 of 100 within {slow:.2} s{over}", median(took));
    println!("  target       {TARGET_S:.0} s for 95 of 100");
    Ok(())
}

/// The watcher; it is killed with this.
struct Watcher(Child);

impl Drop for Watcher {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

async fn measure(push: &Path) -> Result<Vec<f64>> {
    let (directory, gcs, pubsub) = (TempDir::new()?, FakeGcs::start("bench"), FakePubSub::start());
    let path = |name: &str| directory.path().join(name);
    let repository = path("app.git");
    git(&["init", "--quiet", "--bare", "--initial-branch=main"], &repository, "")?;
    land(&repository, COMMITS)?;
    let rules =
        format!("{{ Channels: [{{ App: \"app-0\", Repo: \"file://{}\", Servers: [\"*\"] }}] }}", repository.display());
    fs::write(path("rules"), rules)?;
    fs::write(path("deb"), "deb")?;
    gcs.put("bench", "server/web-1.json", "[\"app-0/\"]");
    let credentials = Credentials::Anonymous;
    let options = BucketOptions { endpoint: Some(gcs.url.parse()?), credentials, ..BucketOptions::default() };
    let bucket = Bucket::open(&BucketUrl::Gcs("bench".to_owned()), &options).await?;
    let mut watch = Command::new(push);
    watch.args(["watch", "--bucket", "gs://bench", "--poll", "1h", "--subscription", FakePubSub::SUBSCRIPTION]);
    watch.arg("--config").arg(path("rules")).arg("--mirrors").arg(path("mirrors"));
    watch.env("PUSH_GCS_ENDPOINT", &gcs.url).env("PUSH_GCS_CREDENTIALS", "anonymous");
    watch.env("PUBSUB_EMULATOR_HOST", pubsub.host()).stdout(Stdio::null());
    let _watcher = Watcher(watch.spawn().context("could not run `push watch`")?);
    let mut took = Vec::new();
    // The first is written by the round that every watcher begins with, or after it.
    for n in 0..=TIMES {
        land(&repository, 1)?;
        let tip = Command::new("git").arg("--git-dir").arg(&repository).args(["rev-parse", "main"]).output()?;
        let release: ReleaseName = name(0, String::from_utf8(tip.stdout)?.trim())?;
        let deb = SourceFile::read(&path("deb"))?;
        let begun = Instant::now();
        bucket.upload_release(&release, &deb, &metadata(&release)?, &|_| ()).await?;
        pubsub.publish(&Announcement::of_upload(release.app()), &[]);
        let document = "server/web-1.json".parse()?;
        loop {
            let found = bucket.get(&document, 10_000).await?.context("the document is gone")?;
            if String::from_utf8_lossy(&found.content).contains(release.stem()) {
                break;
            }
            ensure!(begun.elapsed() < LONGEST, "`{release}` is not written after {LONGEST:?}");
            sleep(LOOK);
        }
        if n > 0 {
            took.push(begun.elapsed().as_secs_f64());
        }
    }
    Ok(took)
}
