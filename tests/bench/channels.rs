//! A round of `push watch` over many channels and servers to which nothing has happened, and one that writes many servers.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::SystemTime,
};

use anyhow::{Context, Error, Result, ensure};
use bucket::{AppName, Bucket, BucketOptions, BucketUrl, ReleaseMetadata, ReleaseName, ServerDocument, SourceFile};
use futures_util::{StreamExt, TryStreamExt, stream};
use harness::TempDir;

use crate::{
    line::{git, land},
    measure::{Run, median, run},
    web::status,
};

const CHANNELS: usize = 100;
const SERVERS: usize = 1000;
const REPOSITORIES: usize = 10;
const COMMITS: usize = 1000;
/// Of each app.
const RELEASES: usize = 100;
/// Followers of a channel that moves.
const FOLLOWERS: usize = 200;
const ROUNDS: usize = 5;
/// Objects that are written at the same time.
const AT_ONCE: usize = 16;
const QUIET_TARGET_S: f64 = 2.0;
const QUIET_TARGET_MB: u64 = 100;
const WRITTEN_TARGET_S: f64 = 5.0;

pub(crate) fn bench(push: &Path) -> Result<()> {
    println!("a round over {CHANNELS} channels in {REPOSITORIES} repositories and {SERVERS} servers, file://");
    let quiet = Fleet::new(push, CHANNELS, SERVERS, RELEASES)?;
    ensure!(quiet.round()?.wall > quiet.fetch()?, "a round takes no time");
    quiet.report()?;
    // That its followers run it is noted once.
    quiet.round()?;
    let before = written(&quiet.path("bucket"))?;
    let rounds = (0..ROUNDS).map(|_| quiet.round()).collect::<Result<Vec<Run>>>()?;
    ensure!(written(&quiet.path("bucket"))? == before, "a quiet round writes");
    let seconds = |runs: &[Run]| median(runs.iter().map(|run| run.wall.as_secs_f64()).collect());
    let fetches = (0..ROUNDS).map(|_| Ok(quiet.fetch()?.as_secs_f64())).collect::<Result<_>>()?;
    let (took, floor) = (seconds(&rounds), median(fetches));
    let peak = rounds.iter().map(|run| run.peak).max().unwrap_or_default() >> 20;
    let over = if took > QUIET_TARGET_S || peak > QUIET_TARGET_MB { "  over the target" } else { "" };
    println!("  quiet        {took:>7.2} s, {:>5.2} × {REPOSITORIES} bare fetches, {peak} MB{over}", took / floor);

    let mut written = Vec::new();
    for _ in 0..ROUNDS {
        written.push(Fleet::new(push, 1, FOLLOWERS, 1)?.round()?);
    }
    let took = seconds(&written);
    let over = if took > WRITTEN_TARGET_S { "  over the target" } else { "" };
    println!("  {FOLLOWERS} followers{took:>7.2} s, the first copy of the repository too{over}");
    println!(
        "  targets      {QUIET_TARGET_S:.0} s and {QUIET_TARGET_MB} MB for a quiet round, {WRITTEN_TARGET_S:.0} s for {FOLLOWERS} followers"
    );
    Ok(())
}

/// Servers that each follow one of several channels, in a directory.
struct Fleet {
    directory: TempDir,
    push: PathBuf,
    /// What each server will have once its channel's release is there.
    servers: BTreeMap<String, ReleaseName>,
}

impl Fleet {
    /// Each channel is of an app of its own.
    fn new(push: &Path, channels: usize, servers: usize, releases: usize) -> Result<Self> {
        let mut fleet = Self { directory: TempDir::new()?, push: push.to_owned(), servers: BTreeMap::new() };
        let repositories = REPOSITORIES.min(channels);
        let mut lines = Vec::new();
        for n in 0..repositories {
            let repository = fleet.repository(n);
            git(&["init", "--quiet", "--bare", "--initial-branch=main"], &repository, "")?;
            land(&repository, COMMITS)?;
            let listed = Command::new("git").arg("--git-dir").arg(&repository).args(["rev-list", "main"]).output()?;
            let commits: Vec<String> = String::from_utf8(listed.stdout)?.lines().map(ToOwned::to_owned).collect();
            ensure!(commits.len() == COMMITS, "the branch has {} commits", commits.len());
            lines.push(commits);
        }
        let mut rules = String::from("{ Channels: [\n");
        for n in 0..channels {
            let repository = fleet.repository(n % repositories);
            writeln!(rules, "{{ App: \"app-{n}\", Repo: \"file://{}\", Servers: [\"*\"] }},", repository.display())?;
        }
        fs::write(fleet.path("rules"), rules + "] }")?;
        fs::create_dir(fleet.path("bucket"))?;
        let newest_first = |n: usize| lines[n % repositories].iter().take(releases).map(move |commit| name(n, commit));
        let names = (0..channels).map(|n| newest_first(n).collect()).collect::<Result<Vec<Vec<ReleaseName>>>>()?;
        let newest = (0..servers).map(|n| (format!("server-{n:04}"), names[n % channels][0].clone()));
        fleet.servers = newest.collect();
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
        runtime.block_on(fleet.seed(&names.concat()))?;
        Ok(fleet)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn repository(&self, n: usize) -> PathBuf {
        self.path(&format!("{n}.git"))
    }

    fn url(&self) -> BucketUrl {
        BucketUrl::File(self.path("bucket"))
    }

    /// Releases, and servers that wait for one.
    async fn seed(&self, releases: &[ReleaseName]) -> Result<()> {
        let bucket = Bucket::open(&self.url(), &BucketOptions::default()).await?;
        bucket.mark().await?;
        fs::write(self.path("deb"), "deb")?;
        let deb = SourceFile::read(&self.path("deb"))?;
        let upload = async |name: &ReleaseName| {
            bucket.upload_release(name, &deb, &metadata(name)?, &|_| ()).await.map(drop).context("could not upload")
        };
        stream::iter(releases).map(upload).buffer_unordered(AT_ONCE).try_collect::<()>().await?;
        let write = async |(server, release): (&String, &ReleaseName)| {
            let waits = ServerDocument::parse(format!("[\"{}/\"]", release.app()).as_bytes()).map_err(Error::msg)?;
            bucket.write_server_document(&server.parse()?, &waits, None).await?;
            anyhow::Ok(())
        };
        stream::iter(&self.servers).map(write).buffer_unordered(AT_ONCE).try_collect::<()>().await
    }

    /// Each server reports that it has what its document names.
    fn report(&self) -> Result<()> {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
        let report = async {
            let bucket = Bucket::open(&self.url(), &BucketOptions::default()).await?;
            for (n, (server, release)) in self.servers.iter().enumerate() {
                let read = bucket.server_document(&server.parse()?).await?;
                let (_, document) = read.with_context(|| format!("`{server}` has no document"))?;
                ensure!(document.releases().eq([release]), "`{server}` was not pushed to");
                bucket.write_status(&status(server, n, false, &document)?, None).await?;
            }
            Ok(())
        };
        runtime.block_on(report)
    }

    fn round(&self) -> Result<Run> {
        let mut command = Command::new(&self.push);
        command.args(["watch", "--once", "--bucket", &self.url().to_string(), "--config"]).arg(self.path("rules"));
        run(command.arg("--mirrors").arg(self.path("mirrors")))
    }

    /// How long git alone takes to see that nothing has landed.
    fn fetch(&self) -> Result<std::time::Duration> {
        let begun = std::time::Instant::now();
        for mirror in fs::read_dir(self.path("mirrors"))? {
            let mirror = mirror?.path();
            if mirror.extension().is_some_and(|ending| ending == "git") {
                git(&["fetch", "--quiet"], &mirror, "")?;
            }
        }
        Ok(begun.elapsed())
    }
}

pub(crate) fn name(app: usize, commit: &str) -> Result<ReleaseName> {
    Ok(format!("app-{app}/app-{app}:dev@build-1:2026-11-20T19:00:00Z:{commit}.deb").parse()?)
}

pub(crate) fn metadata(name: &ReleaseName) -> Result<ReleaseMetadata> {
    let app: &AppName = name.app();
    Ok(ReleaseMetadata {
        dirty: false,
        note: "fix the login of customers with two accounts".to_owned(),
        services: vec![format!("{app}.service")],
        sha256: [0; 32].into(),
        size: 3,
        package: app.as_str().parse()?,
        version: "1.0".to_owned(),
        architecture: "all".parse()?,
        repo: "https://git.example/app.git".to_owned(),
        branch: "main".to_owned(),
        made_by: None,
    })
}

/// When each object was written.
fn written(directory: &Path) -> Result<BTreeMap<PathBuf, SystemTime>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let at = entry.metadata()?;
        if at.is_dir() {
            found.extend(written(&entry.path())?);
        } else {
            found.insert(entry.path(), at.modified()?);
        }
    }
    Ok(found)
}
