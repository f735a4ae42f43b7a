//! Fills a bucket with a small fleet in every state there is, for looking at pages: `fleet file:///DIR`.
//!
//! Nothing behind it is real: no package, no machine. One server and one release have text in every field that means harm
//! where it isn't escaped; `fleet file:///DIR harmless` has none. `fleet file:///DIR empty` makes the bucket and leaves it empty;
//! `fleet file:///DIR report SERVER RELEASE STATE` lets the agent of one server say how the release is, and
//! `fleet file:///DIR cut-off RELEASE SERVER SERVER…` leaves a push as a process does that is killed after its first row.

mod runs;
mod statuses;

use std::{
    fs::File,
    path::{Path, PathBuf},
    process::ExitCode,
    time::SystemTime,
};

use anyhow::{Context, Result, bail};
use bucket::{
    AppState, Bucket, BucketOptions, BucketUrl, Generation, HistoryEntry, LastPush, MadeBy, Push, PushId, PushKind,
    PushRow, ReleaseMetadata, ReleaseName, ServerDocument, ServerName, Status, Timestamp,
};
use jiff::SignedDuration;

use statuses::{app, status};

/// Text that means harm wherever it isn't escaped.
pub(crate) const HOSTILE: &str =
    "</td><script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\">'\"&amp;\u{202e}drow";

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match run(&std::env::args().skip(1).collect::<Vec<_>>()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(arguments: &[String]) -> Result<()> {
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let Some((url, rest)) = words.split_first() else {
        bail!("give the bucket, as in `fleet file:///DIR`");
    };
    let url: BucketUrl = url.parse()?;
    let BucketUrl::File(directory) = &url else { bail!("`{url}` isn't a directory") };
    let bucket = Bucket::open(&url, &BucketOptions::default()).await?;
    match rest {
        [] => fill(&bucket, directory, HOSTILE).await,
        ["harmless"] => fill(&bucket, directory, "the new start page, to look at").await,
        ["empty"] => Ok(()),
        ["report", server, release, state] => report(&bucket, server, release, state).await,
        ["cut-off", release, servers @ ..] => cut_off(&bucket, release, servers).await,
        _ => bail!("`{}` isn't understood", rest.join(" ")),
    }
}

/// Lets the agent of a server say that it has `release`, or (rolled-back) that it went back from it.
async fn report(bucket: &Bucket, server: &str, release: &str, state: &str) -> Result<()> {
    let name: ServerName = server.parse()?;
    let release = ReleaseName::from_stem(release)?;
    let state: AppState = serde_json::from_value(state.into()).with_context(|| format!("`{state}` is no state"))?;
    let Some((generation, _)) = bucket.server_document(&name).await? else {
        bail!("`{name}` has no document");
    };
    let (seen, mut report) = match bucket.status(&name).await? {
        Some((seen, report)) => (Some(seen), report),
        None => (None, status(server, generation, Vec::new(), Timestamp::now())),
    };
    let before = report.apps.iter().find(|app| app.app == release.app().as_str()).and_then(|app| app.installed.clone());
    let installed = if state == AppState::Converged { Some(&release) } else { before.as_ref() };
    let ours = app(&release, installed, state, Timestamp::now());
    report.apps.retain(|app| app.app != ours.app);
    report.apps.push(ours);
    statuses::conclude(&mut report, generation, Timestamp::now());
    bucket.write_status(&report, seen).await?;
    Ok(())
}

/// Pushes a release to the first of some servers, nine minutes ago, and to none of the others.
async fn cut_off(bucket: &Bucket, release: &str, servers: &[&str]) -> Result<()> {
    let (release, time) = (ReleaseName::from_stem(release)?, Timestamp::now() - SignedDuration::from_mins(9));
    let mut push = Push {
        id: PushId::random(),
        time,
        app: Some(release.app().clone()),
        kind: PushKind::Deploy,
        of: None,
        rollout: false,
        who: "dev@build-1".to_owned(),
        why: "before the night".to_owned(),
        rows: Vec::new(),
        without_waves: false,
        channel: None,
    };
    let mut first = None;
    for server in servers {
        let server: ServerName = server.parse()?;
        let found = bucket.server_document(&server).await?;
        let (generation, document) = found.with_context(|| format!("`{server}` has no document"))?;
        let from = document.release_of(release.app()).cloned();
        push.rows.push(PushRow { server: server.clone(), from, to: Some(release.clone()) });
        first.get_or_insert((server, generation, document));
    }
    bucket.create_push(&push).await?;
    let (server, generation, mut document) = first.context("give a server")?;
    let Push { id, app, kind, who, why, rows, .. } = push;
    let told = LastPush {
        id,
        time,
        app: app.expect("of an app"),
        from: rows[0].from.clone(),
        to: Some(release.clone()),
        kind,
        who,
        why,
        generation: None,
        settle_seconds: None,
        recorded: false,
        without_waves: false,
        channel: None,
    };
    document.set(release);
    let metadata = document.metadata().clone().with_push(&told);
    bucket.write_server_document(&server, &document.with_metadata(metadata), Some(generation)).await?;
    Ok(())
}

struct Fleet<'a> {
    bucket: &'a Bucket,
    directory: PathBuf,
    now: Timestamp,
    serial: u8,
    /// What stands wherever somebody else's text can.
    hostile: String,
    /// Which run makes what is released next.
    made_by: Option<MadeBy>,
}

impl Fleet<'_> {
    fn ago(&self, minutes: i64) -> Timestamp {
        let time = self.now - SignedDuration::from_mins(minutes);
        Timestamp::from_second(time.as_second()).expect("it is a time already")
    }

    async fn release(&mut self, app: &str, who: &str, minutes: i64, dirty: bool, note: &str) -> Result<ReleaseName> {
        self.serial += 1;
        let time = self.ago(minutes).strftime("%Y-%m-%dT%H:%M:%SZ");
        let digits = (1..=5_u32).map(|n| {
            let mixed = u32::from(self.serial).wrapping_mul(0x9e37_79b9).wrapping_mul(2 * n + 1);
            format!("{:08x}", mixed ^ mixed.rotate_left(13))
        });
        let commit: String = digits.collect();
        let name: ReleaseName = format!("{app}/{app}:{who}:{time}:{commit}.deb").parse()?;
        let metadata = ReleaseMetadata {
            dirty,
            note: note.to_owned(),
            services: vec![format!("{app}.service")],
            sha256: [0; 32].into(),
            size: 3_141_592 + u64::from(self.serial) * 271_828,
            package: app.parse().unwrap(),
            version: format!("1.{}", self.serial),
            architecture: "amd64".parse().unwrap(),
            repo: format!("https://git.example/acme/{app}"),
            branch: if dirty { "try-it" } else { "main" }.to_owned(),
            made_by: self.made_by.take(),
        };
        let deb = tempfile::NamedTempFile::new()?;
        std::fs::write(deb.path(), vec![0_u8; 4096])?;
        self.bucket.upload_release(&name, &bucket::SourceFile::read(deb.path())?, &metadata, &|_| ()).await?;
        Ok(name)
    }

    async fn document(&self, server: &str, releases: &[&ReleaseName]) -> Result<Generation> {
        let mut document = ServerDocument::default();
        for release in releases {
            document.set((*release).clone());
        }
        Ok(self.bucket.write_server_document(&server.parse()?, &document, None).await?)
    }

    /// Writes an agent's report, as old as it says: how long an agent is silent goes by the bucket's time.
    async fn report(&self, report: &Status) -> Result<()> {
        self.bucket.write_status(report, None).await?;
        let file = File::options().write(true).open(self.directory.join(format!("status/{}.json", report.server)))?;
        Ok(file.set_modified(SystemTime::from(report.written))?)
    }

    async fn push(
        &self,
        server: &str,
        minutes: i64,
        change: (Option<&ReleaseName>, &ReleaseName),
        kind: PushKind,
        why: &str,
    ) -> Result<()> {
        let time = self.ago(minutes);
        let (from, to) = change;
        let entry = HistoryEntry {
            time,
            id: format!("{:016x}", time.as_second()),
            server: server.parse()?,
            app: Some(to.app().clone()),
            from: from.cloned(),
            to: Some(to.clone()),
            kind,
            who: if minutes % 2 == 0 { "dev@build-1" } else { "dev@laptop" }.to_owned(),
            why: why.to_owned(),
            generation: Generation(time.as_microsecond()),
            push: None,
            without_waves: false,
            channel: None,
        };
        Ok(self.bucket.append_history(&entry).await?)
    }
}

async fn fill(bucket: &Bucket, directory: &Path, hostile: &str) -> Result<()> {
    let mut fleet = Fleet {
        bucket,
        directory: directory.to_owned(),
        now: Timestamp::now(),
        serial: 0,
        hostile: hostile.to_owned(),
        made_by: None,
    };
    let web = [
        fleet.release("web", "dev@build-1", 60 * 24 * 9, false, "first public version").await?,
        fleet
            .release("web", "dev@laptop", 60 * 24 * 4, false, "faster start page: images are loaded when they are seen")
            .await?,
        fleet
            .release("web", "dev@build-1", 60 * 24 * 2, false, "fix the login page for people without a middle name")
            .await?,
        fleet.release("web", "dev@laptop", 60 * 5, true, "try the new cache").await?,
        {
            fleet.made_by = Some(runs::made_by()?);
            fleet.release("web", "dev@build-1", 47, false, "login by mail link").await?
        },
        fleet.release("web", "outsider@evil", 30, true, hostile).await?,
    ];
    let api = [
        fleet.release("api", "ci@build-3", 60 * 24 * 30, false, "v2 of the orders endpoint").await?,
        fleet.release("api", "ci@build-3", 60 * 26, false, "orders: answer within a second again").await?,
        fleet.release("api", "ci@build-3", 60 * 2, false, "orders: rounding").await?,
    ];
    let pulld = [
        fleet.release("pulld", "dev@build-1", 60 * 24 * 20, false, "0.1.0").await?,
        fleet.release("pulld", "dev@build-1", 60 * 24, false, "0.1.1: quieter journal").await?,
    ];
    let mail = fleet.release("mail-relay", "dev@laptop", 60 * 24 * 400, false, "postfix with our rules").await?;
    statuses::fill(&fleet, &web, &api, &pulld, &mail).await?;
    runs::fill(&fleet, &web[4], api[2].commit().as_str()).await?;
    fleet.push("web-1", 60 * 24 * 8, (None, &web[0]), PushKind::Deploy, "first install").await?;
    fleet.push("web-1", 60 * 24 * 3, (Some(&web[0]), &web[1]), PushKind::Deploy, "faster start page").await?;
    fleet.push("web-1", 60 * 24 + 1, (Some(&web[1]), &web[2]), PushKind::Deploy, "").await?;
    fleet.push("web-2", 60 * 24 + 1, (Some(&web[1]), &web[2]), PushKind::Deploy, "").await?;
    fleet
        .push("web-2", 41, (Some(&web[2]), &web[4]), PushKind::Deploy, "login by mail link, two servers first")
        .await?;
    fleet
        .push("web-3", 40, (Some(&web[2]), &web[4]), PushKind::Deploy, "login by mail link, two servers first")
        .await?;
    fleet.push("api-1", 60 * 25, (Some(&api[0]), &api[1]), PushKind::Deploy, "orders are slow").await?;
    fleet.push("api-2", 12, (Some(&api[2]), &api[1]), PushKind::Rollback, "rounding is wrong for yen").await?;
    fleet.push("web-stage", 26, (Some(&web[4]), &web[5]), PushKind::Deploy, hostile).await?;
    Ok(())
}
