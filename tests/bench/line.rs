//! The order of commits on a long branch: read as a whole, and what landed since, against bare git.

use std::{
    fmt::Write as _,
    io::Write as _,
    path::Path,
    process::{Command, Stdio},
    time::Instant,
};

use anyhow::{Context, Result, ensure};
use fleet::channel::repo::RepoUrl;
use harness::TempDir;
use push_server::watch::mirror::Mirrors;

use crate::measure::{all_cpu, median};

const COMMITS: usize = 100_000;
/// How many land between two rounds.
const NEW: usize = 10;
const ROUNDS: usize = 5;
const WHOLE_TARGET_S: f64 = 1.0;
const NEW_TARGET_MS: f64 = 50.0;

pub(crate) fn bench() -> Result<()> {
    println!("a line of {COMMITS} commits, file://");
    let directory = TempDir::new()?;
    let repository = directory.path().join("web.git");
    git(&["init", "--quiet", "--bare", "--initial-branch=main"], &repository, "")?;
    land(&repository, COMMITS)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(read(directory.path(), &repository))
}

async fn read(directory: &Path, repository: &Path) -> Result<()> {
    let url: RepoUrl = format!("file://{}", repository.display()).parse()?;
    let branch = "main".parse()?;
    let mut whole = Vec::new();
    let mut newer = Vec::new();
    let mut bare = Vec::new();
    for round in 0..ROUNDS {
        let mirrors = Mirrors::new(directory.join("mirrors"));
        let mirror = mirrors.fetch(&url).await?;
        let before = all_cpu()?;
        let line = mirror.line(&branch).await?.context("the branch is gone")?;
        whole.push(all_cpu()?.saturating_sub(before).as_secs_f64());
        ensure!(line.len() == COMMITS + round * NEW, "the line has {} commits", line.len());
        land(repository, NEW)?;
        let mirror = mirrors.fetch(&url).await?;
        let started = Instant::now();
        let longer = mirror.line(&branch).await?.context("the branch is gone")?;
        newer.push(started.elapsed().as_secs_f64() * 1000.0);
        ensure!(longer.len() == line.len() + NEW, "the line has {} commits", longer.len());
        let before = all_cpu()?;
        git(&["rev-list", "--first-parent", "--reverse", "main"], repository, "")?;
        bare.push(all_cpu()?.saturating_sub(before).as_secs_f64());
    }
    let over = |is_over: bool| if is_over { "  over the target" } else { "" };
    let (whole, newer, bare) = (median(whole), median(newer), median(bare));
    println!(
        "  whole        {whole:>7.2} s of processor time, {:>5.2} × bare `git rev-list`{}",
        whole / bare,
        over(whole > WHOLE_TARGET_S)
    );
    println!("  {NEW} new       {newer:>7.2} ms{}", over(newer > NEW_TARGET_MS));
    println!("  targets      {WHOLE_TARGET_S:.0} s for the whole, {NEW_TARGET_MS:.0} ms for what is new");
    Ok(())
}

/// Lands commits on the branch.
pub(crate) fn land(repository: &Path, count: usize) -> Result<()> {
    let is_new = !repository.join("objects/pack").read_dir()?.any(|_| true);
    let mut commits = String::new();
    for number in 0..count {
        let from = if number == 0 && !is_new { "from refs/heads/main^0\n" } else { "" };
        write!(commits, "commit refs/heads/main\ncommitter x <x@push.example> {number} +0000\ndata 2\nx\n{from}\n")?;
    }
    git(&["-c", "fastimport.unpackLimit=0", "fast-import", "--quiet"], repository, &commits)
}

pub(crate) fn git(arguments: &[&str], repository: &Path, input: &str) -> Result<()> {
    let mut git = Command::new("git");
    git.arg("--git-dir").arg(repository).args(arguments).stdin(Stdio::piped()).stdout(Stdio::null());
    let mut child = git.spawn().context("could not run git")?;
    child.stdin.take().context("git has no input")?.write_all(input.as_bytes())?;
    ensure!(child.wait()?.success(), "git {arguments:?} failed");
    Ok(())
}
