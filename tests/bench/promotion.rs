//! Promoting a package of 1 GB: what it takes beside the storage's own time, and what is sent.

use std::{
    fs::{self, File},
    path::Path,
    process::{Command, Stdio},
    time::Instant,
};

use anyhow::{Context, Result, ensure};
use harness::{
    Repo, Target, TempDir,
    gcs::{FakeGcs, Kind},
};

const BYTES: u64 = 1_000_000_000;
const TARGET_S: f64 = 1.0;

pub(crate) fn bench(release: &Path) -> Result<()> {
    println!("promoting a package of 1 GB");
    on_disk(release)?;
    in_a_cloud(release)?;
    println!("  target       {TARGET_S:.0} s and the storage's own time, and no upload");
    Ok(())
}

/// A directory as the bucket, where the storage's own time is that of the same copy by cp(1), synced.
fn on_disk(release: &Path) -> Result<()> {
    let directory = TempDir::new()?;
    let bucket = directory.path().join("bucket");
    for name in ["bucket", "ci"] {
        fs::create_dir(directory.path().join(name))?;
    }
    let target = Target { url: format!("file://{}", bucket.display()), endpoint: None };
    let change = Change::gated(release, &directory, target, &format!("file://{}/ci", directory.path().display()))?;
    let (candidate, copy) = (bucket.join(&change.path), directory.path().join("copy"));
    let begun = Instant::now();
    let copied = Command::new("cp").arg("--reflink=auto").args([&candidate, &copy]).status()?;
    ensure!(copied.success(), "cp ended with {copied}");
    File::open(&copy)?.sync_all()?;
    let storage = begun.elapsed().as_secs_f64();
    fs::remove_file(copy)?;
    let took = change.promote()?;
    let over = if took - storage > TARGET_S { "  over the target" } else { "" };
    println!("  on disk      {took:>7.2} s, and cp of the same file {storage:.2} s{over}");
    Ok(())
}

/// The fake of Google's storage, whose own time is that of its answer to the request for the copy.
fn in_a_cloud(release: &Path) -> Result<()> {
    let (directory, gcs) = (TempDir::new()?, FakeGcs::start("bench"));
    gcs.make_bucket("bench-ci");
    let target = Target { url: "gs://bench".to_owned(), endpoint: Some(gcs.url.clone()) };
    let change = Change::gated(release, &directory, target, "gs://bench-ci")?;
    let before = gcs.requests().len();
    let took = change.promote()?;
    let mut sent = gcs.requests().split_off(before);
    sent.retain(|request| request.bucket == "bench");
    let is_upload = |kind| matches!(kind, Kind::Insert | Kind::Chunk);
    let uploads = sent.iter().filter(|request| is_upload(request.kind)).count();
    let times = sent.iter().zip(sent.iter().skip(1));
    let copying = times.filter(|(request, _)| request.kind == Kind::Rewrite);
    let storage: f64 = copying.map(|(copy, next)| next.at.duration_since(copy.at).as_secs_f64()).sum();
    let over = if took - storage > TARGET_S || uploads > 0 { "  over the target" } else { "" };
    let requests = sent.len();
    println!(
        "  in a cloud   {took:>7.2} s, of which the copy {storage:.2} s; {requests} requests, {uploads} uploads{over}"
    );
    Ok(())
}

/// A change that was built to be promoted, and merged.
struct Change<'a> {
    release: &'a Path,
    repo: Repo,
    target: Target,
    /// Where its candidate lies.
    path: String,
}

impl<'a> Change<'a> {
    fn gated(release: &'a Path, directory: &TempDir, target: Target, candidates: &str) -> Result<Self> {
        let repo = Repo::new(&directory.path().join("repo"))?;
        repo.write(".gitignore", "/dist/\n/large\n")?;
        let build = format!("head -c {BYTES} /dev/urandom > large");
        repo.write(
            "release.toml",
            &format!(
                "schema = 1\n[candidates]\nbucket = \"{candidates}\"\n[package.web]\ndescription = \"web\"\n\
                 maintainer = \"A <a@example.org>\"\narch = \"all\"\nbuild = [\"sh\", \"-c\", \"{build}\"]\n\
                 contents = [{{ src = \"large\", dst = \"/srv/large\" }}]\n"
            ),
        )?;
        repo.commit("work")?;
        let mut change = Self { release, repo, target, path: String::new() };
        change.run(&["change", "open", "web/1"])?;
        let gated = change.run(&["candidate", "-m", "large", "--change", "web/1", "--gate", "--json"])?;
        let gated: serde_json::Value = serde_json::from_str(&gated)?;
        gated[0]["path"].as_str().context("a path")?.clone_into(&mut change.path);
        change.run(&["change", "merged", "web/1"])?;
        Ok(change)
    }

    /// How long the promotion takes, in seconds.
    fn promote(&self) -> Result<f64> {
        let begun = Instant::now();
        self.run(&["promote", "--change", "web/1"])?;
        Ok(begun.elapsed().as_secs_f64())
    }

    fn run(&self, arguments: &[&str]) -> Result<String> {
        let mut release = Command::new(self.release);
        self.target.apply(&mut release);
        release.env("PUSH_TARGET", "main");
        let output = release.arg("-C").arg(self.repo.directory()).args(arguments).stderr(Stdio::inherit()).output()?;
        ensure!(output.status.success(), "release {} ended with {}", arguments.join(" "), output.status);
        Ok(String::from_utf8(output.stdout)?)
    }
}
