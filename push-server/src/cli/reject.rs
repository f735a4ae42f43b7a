//! `push reject` and `push unreject`: a release that nobody may push any more.

use std::pin::pin;

use anyhow::{Context as _, Result, bail};
use bucket::{AppName, Bucket, ImageSummary, ReleaseName};
use clap::Args;
use console::{UsageError, count, note, print_json, safe};
use fleet::{
    guard::{may_reject, reject, unreject},
    identity::{Identity, Origin},
    lookup::ensure_app,
    server::{self, Server},
};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use serde_json::json;

use super::{
    command::{Command, operator_name},
    deploy::{app_and_commit, of_commit, parse_release},
};

/// Servers that are read at the same time.
const AT_ONCE: usize = 16;

/// Reject a release: nobody deploys it, rolls back to it or retries it any more
///
/// Servers that run it keep running it; they are named. Nothing chooses a rejected release by itself, and --force does not
/// help. Takes the role `deployer` for the app on every server that has it.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  push reject web@417ac97 -m 'CVE-2026-1234'
  push unreject web@417ac97")]
pub(crate) struct Reject {
    /// Release to reject: APP@COMMIT or a release name
    #[arg(value_name = "RELEASE")]
    release: String,
    /// Why, for everybody who would push it
    #[arg(short = 'm', long, value_name = "REASON")]
    reason: String,
}

/// Take back the rejection of a release
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  push unreject web@417ac97")]
pub(crate) struct Unreject {
    /// Rejected release: APP@COMMIT or a release name
    #[arg(value_name = "RELEASE")]
    release: String,
}

impl Reject {
    pub(crate) async fn run(self, command: &Command) -> Result<bool> {
        let Decided { who, releases, having } = Decided::on(command, &self.release).await?;
        for release in &releases {
            reject(&command.bucket, &who, release, &self.reason).await?;
        }
        let running = having.iter().filter(|server| releases.iter().any(|release| server.has(release)));
        let running: Vec<&str> = running.map(|server| server.name.as_str()).collect();
        if command.json {
            print_json(&json!({ "releases": releases, "rejected": true, "servers": running }))?;
            return Ok(true);
        }
        for release in &releases {
            note(format_args!("rejected `{}`: {}", release.stem(), safe(&self.reason)));
        }
        if !running.is_empty() {
            note(format_args!("still on {}: {}", count(running.len(), "server"), running.join(", ")));
        }
        Ok(true)
    }
}

impl Unreject {
    pub(crate) async fn run(self, command: &Command) -> Result<bool> {
        let Decided { releases, .. } = Decided::on(command, &self.release).await?;
        for release in &releases {
            unreject(&command.bucket, release).await?;
        }
        if command.json {
            print_json(&json!({ "releases": releases, "rejected": false }))?;
        } else {
            for release in &releases {
                note(format_args!("`{}` is no longer rejected", release.stem()));
            }
        }
        Ok(true)
    }
}

/// Releases of one app that somebody may decide about.
struct Decided {
    who: Identity,
    releases: Vec<ReleaseName>,
    /// The servers that should have or do have its app.
    having: Vec<Server>,
}

impl Decided {
    /// Those that an argument names, if the policy allows that.
    async fn on(command: &Command, text: &str) -> Result<Self> {
        let who = Identity { name: operator_name(), origin: Origin::Local };
        let releases = find(command, text).await?;
        let app = releases.first().context("it names a release")?.app();
        let having = having(command, app).await?;
        may_reject(&command.policy, &who, app, having.iter().map(|server| &server.name))?;
        Ok(Self { who, releases, having })
    }
}

/// What an argument names: the release of a commit, and its container image, whichever there is. One that is gone from the bucket
/// can be named in full.
async fn find(command: &Command, text: &str) -> Result<Vec<ReleaseName>> {
    if let Some(name) = parse_release(text) {
        return Ok(vec![name]);
    }
    let Ok((app, Some(commit))) = app_and_commit(text) else {
        bail!(UsageError::new(format!("`{text}` names no release: use APP@COMMIT or a release name")))
    };
    let (release, image) =
        tokio::try_join!(of_commit(&command.bucket, &app, commit), image(&command.bucket, &app, commit))?;
    let found: Vec<ReleaseName> = release.map(|release| release.name).into_iter().chain(image).collect();
    if found.is_empty() {
        if pin!(command.bucket.images(&app)).next().await.is_none() {
            ensure_app(&command.bucket, &app).await?;
        }
        bail!("`{app}` has neither a release nor an image of a commit that begins with `{commit}`");
    }
    Ok(found)
}

/// The image of an app that is recorded of a commit that begins so, as channels name it.
async fn image(bucket: &Bucket, app: &AppName, commit: &str) -> Result<Option<ReleaseName>> {
    let begins = |image: &ImageSummary| std::future::ready(image.commit.as_str().starts_with(commit));
    let mut found: Vec<ImageSummary> = bucket
        .images(app)
        .try_filter(begins)
        .try_collect()
        .await
        .with_context(|| format!("could not list the images of `{app}`"))?;
    if let [one, other, ..] = &found[..] {
        bail!("`{app}@{commit}` is ambiguous, it matches the images of `{}` and `{}`", one.commit, other.commit);
    }
    let Some(ImageSummary { commit, image, .. }) = found.pop() else { return Ok(None) };
    let image = image.with_context(|| format!("the record of the image of `{app}` of `{commit}` cannot be read"))?;
    Ok(Some(image.release()?))
}

/// The servers that should have or do have an app.
async fn having(command: &Command, app: &AppName) -> Result<Vec<Server>> {
    let names = server::names(&command.bucket).await?;
    let servers = stream::iter(&names).map(|name| server::read(&command.bucket, name)).buffered(AT_ONCE);
    let has = |server: &Server| server.desired(app).is_some() || server.reported(app.as_str()).is_some();
    Ok(servers.filter(|server| std::future::ready(has(server))).collect().await)
}
