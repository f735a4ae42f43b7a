//! Tries of changes: making an overlay, looking at what is ahead, and sweeping away what is left.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, ensure};
use bucket::{Bucket, BucketOptions, BucketUrl, ReleaseMetadata, ReleaseName, SourceFile};
use harness::{
    TempDir,
    gcs::{FakeGcs, Fault, Kind},
};
use jiff::SignedDuration;
use serde_json::json;

use crate::{
    channels::{metadata, name},
    line::git,
    measure::{Run, median, run},
};

const COMMIT: &str = "7e0ff6059e653eb75a36efb621d0fd66d1ced433";
const APPS: usize = 20;
const SIZE: usize = 10 << 20;
const AHEAD: usize = 200;
/// How long the storage takes for one change.
const FAR: std::time::Duration = std::time::Duration::from_millis(50);
const SWEPT: usize = 10_000;
const ROUNDS: usize = 5;
const OVERLAY_TARGET: (f64, u64) = (2.0, 64);
const SHOW_TARGET_S: f64 = 2.0;
const SWEEP_TARGET_S: f64 = 60.0;

pub(crate) fn bench(release: &Path) -> Result<()> {
    println!("\ntries of changes");
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let project = Project::new(release)?;
    runtime.block_on(project.fill())?;
    let runs = (0..ROUNDS).map(|_| project.overlay()).collect::<Result<Vec<Run>>>()?;
    let took = median(runs.iter().map(|run| run.wall.as_secs_f64()).collect());
    let peak = runs.iter().map(|run| run.peak).max().unwrap_or_default() >> 20;
    let (seconds, megabytes) = OVERLAY_TARGET;
    let over = if took > seconds || peak > megabytes { "  over the target" } else { "" };
    println!("  overlay      {took:>7.2} s for {APPS} packages of {} MB on one disk, {peak} MB{over}", SIZE >> 20);

    let storage = Storage::new(release)?;
    let took = storage.show()?.wall.as_secs_f64();
    let over = if took > SHOW_TARGET_S { "  over the target" } else { "" };
    println!("  change show  {took:>7.2} s with {AHEAD} ahead, each {FAR:?} away{over}");
    let took = storage.sweep()?.wall.as_secs_f64();
    let over = if took > SWEEP_TARGET_S { "  over the target" } else { "" };
    println!("  sweep        {took:>7.2} s for {SWEPT} candidates{over}");
    println!(
        "  targets      {seconds:.0} s and {megabytes} MB for an overlay, {SHOW_TARGET_S:.0} s for `change show`, {SWEEP_TARGET_S:.0} s for a sweep"
    );
    Ok(())
}

/// A repository with a candidate bucket.
fn repository(directory: &Path, candidates: &str) -> Result<()> {
    fs::create_dir(directory)?;
    git(&["init", "--quiet", "--initial-branch=main"], &directory.join(".git"), "")?;
    let manifest = format!(
        "schema = 1\n[candidates]\nbucket = \"{candidates}\"\n[package.web]\ndescription = \"Web\"\n\
         maintainer = \"A <a@example.org>\"\narch = \"all\"\n"
    );
    fs::write(directory.join("release.toml"), manifest).context("could not write release.toml")?;
    let git = |arguments: &[&str]| {
        let mut git = Command::new("git");
        git.arg("-C").arg(directory).args(["-c", "user.name=Dev", "-c", "user.email=dev@example.org"]).args(arguments);
        run(&mut git).map(drop)
    };
    git(&["add", "release.toml"])?;
    git(&["commit", "--quiet", "-m", "work"])
}

/// What is recorded of a change that needs these, and has this candidate.
fn change(number: usize, needs: &[String], candidates: &[serde_json::Value]) -> String {
    json!({
        "schema": 1, "project": "web", "change": number.to_string(), "patchset": 1, "commit": COMMIT, "tree": COMMIT,
        "branch": "main", "needs": needs, "state": "open", "candidates": candidates,
        "updated": "2026-11-20T19:00:00Z", "by": "dev@ci",
    })
    .to_string()
}

/// Production and a candidate bucket in directories.
struct Project {
    directory: TempDir,
    release: PathBuf,
}

impl Project {
    fn new(release: &Path) -> Result<Self> {
        let project = Self { directory: TempDir::new()?, release: release.to_owned() };
        for name in ["production", "ci", "ci/changes", "ci/changes/web"] {
            fs::create_dir(project.path(name))?;
        }
        repository(&project.path("repo"), &format!("file://{}", project.path("ci").display()))?;
        Ok(project)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Releases of the size that is measured, and a change.
    async fn fill(&self) -> Result<()> {
        let url = BucketUrl::File(self.path("production"));
        let bucket = Bucket::open(&url, &BucketOptions::default()).await?;
        bucket.mark().await?;
        for app in 0..APPS {
            let bytes = u8::try_from(app).unwrap_or_default();
            fs::write(self.path("deb"), vec![bytes; SIZE])?;
            let deb = SourceFile::read(&self.path("deb"))?;
            let release: ReleaseName = name(app, COMMIT)?;
            let facts = ReleaseMetadata { sha256: deb.sha256.clone(), size: deb.size, ..metadata(&release)? };
            bucket.upload_release(&release, &deb, &facts, &|_| ()).await?;
        }
        fs::write(self.path("ci/changes/web/1.json"), change(1, &[], &[])).context("could not write a change")
    }

    /// Makes the overlay, and removes it.
    fn overlay(&self) -> Result<Run> {
        let out = self.path("overlay");
        let mut start = self.command();
        start.args(["buildset", "start", "--change", "web/1", "--out"]).arg(&out);
        let taken = run(&mut start)?;
        let packages = fs::read_dir(out.join("debs"))?.count();
        ensure!(packages == APPS, "the overlay has {packages} packages");
        run(self.command().args(["buildset", "stop"]).arg(&out))?;
        Ok(taken)
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.release);
        command.arg("-C").arg(self.path("repo"));
        command.env("PUSH_BUCKET", format!("file://{}", self.path("production").display())).env("PUSH_TARGET", "main");
        command
    }
}

/// Both buckets in a fake of Google's storage.
struct Storage {
    gcs: FakeGcs,
    directory: TempDir,
    release: PathBuf,
}

impl Storage {
    fn new(release: &Path) -> Result<Self> {
        let storage = Self { gcs: FakeGcs::start("acme"), directory: TempDir::new()?, release: release.to_owned() };
        storage.gcs.make_bucket("acme-ci");
        repository(&storage.directory.path().join("repo"), "gs://acme-ci")?;
        Ok(storage)
    }

    /// Shows a change that needs as many as may be ahead of one.
    fn show(&self) -> Result<Run> {
        let needs: Vec<String> = (1..=AHEAD).map(|number| format!("web/{number}")).collect();
        self.gcs.put("acme-ci", "changes/web/0.json", change(0, &needs, &[]));
        for number in 1..=AHEAD {
            self.gcs.put("acme-ci", &format!("changes/web/{number}.json"), change(number, &[], &[]));
        }
        self.gcs.fail(Kind::Get, "changes/", Fault::Slow(FAR));
        let shown = run(self.command().args(["change", "show", "web/0"]))?;
        let read = self.gcs.count(Kind::Get);
        self.gcs.heal();
        ensure!(read == AHEAD + 1, "{read} changes were read");
        Ok(shown)
    }

    /// Sweeps away candidates of as many changes.
    fn sweep(&self) -> Result<Run> {
        for number in 0..SWEPT {
            let release = name(number % APPS, COMMIT)?;
            self.gcs.put("acme-ci", &format!("builds/web/{number}/b/{release}"), "deb");
        }
        self.gcs.set_clock_ahead(SignedDuration::from_hours(25));
        let swept = run(self.command().arg("sweep"))?;
        let deleted = self.gcs.count(Kind::Delete);
        ensure!(deleted == SWEPT, "{deleted} candidates were deleted");
        Ok(swept)
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.release);
        command.arg("-C").arg(self.directory.path().join("repo")).env("PUSH_BUCKET", "gs://acme");
        command.env("PUSH_GCS_ENDPOINT", &self.gcs.url).env("PUSH_GCS_CREDENTIALS", "anonymous");
        command
    }
}
