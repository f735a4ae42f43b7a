//! `push deploy`: an operator chooses a release for servers.

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use bucket::{AppName, Bucket, PushKind, Release, ReleaseName, ServerName};
use clap::Args;
use console::UsageError;
use fleet::{
    lookup::{ensure_app, ensure_server},
    operation::{JustRead, find},
    plan::{Objection, Proposal},
    server,
};
use futures_util::{StreamExt, stream};

use super::{
    command::Command,
    pending::{DeployOptions, PendingPush, carry_out, proposal, unique},
};

/// Servers that are read at the same time.
const AT_ONCE: usize = 16;

/// Deploy a release to servers
///
/// APP alone means its newest clean release; a dirty release must be named in full.
/// A name that may be misspelt needs --force: that of a server that has never reported and has no document, or of an
/// app that a server with other apps does not have yet.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  push deploy web web-1 web-2 -m 'login fix'
  push deploy web:dev@build-1:2026-11-20T19:05:02Z:7e0ff6059e653eb75a36efb621d0fd66d1ced433 web-1
  push deploy web@7e0ff60 web-1 --dry-run
  push deploy api web-1 --force --wait")]
pub(crate) struct Deploy {
    /// Release to deploy: an app, a release name (with or without directory and .deb), or APP@COMMIT
    #[arg(value_name = "APP|RELEASE")]
    release: String,
    /// Servers to deploy to
    #[arg(required = true, value_name = "SERVER")]
    servers: Vec<ServerName>,
    #[command(flatten)]
    options: DeployOptions,
    /// Deploy also to servers that have other apps but not this one, and to servers that have never reported
    #[arg(long)]
    force: bool,
}

impl Deploy {
    pub(crate) async fn run(self, command: &Command) -> Result<bool> {
        let bucket = &command.bucket;
        // Side by side: over a long way each answer takes its time.
        let servers = stream::iter(unique(self.servers)).map(async |name| server::read(bucket, &name).await);
        let (release, servers) =
            tokio::join!(choose(bucket, &self.release), servers.buffered(AT_ONCE).collect::<Vec<_>>());
        let release = release?;
        let mut pending = Vec::new();
        for server in servers {
            let proposal = match proposal(&server, &release, &PushKind::Deploy) {
                Ok(proposal) if !self.force => unobjected(bucket, proposal).await,
                other => other,
            };
            pending.push(PendingPush { server: server.name, proposal, kind: PushKind::Deploy });
        }
        carry_out(command, &self.options, pending).await
    }
}

/// A proposal, unless there is an objection to it.
async fn unobjected(bucket: &Bucket, found: (Proposal, JustRead)) -> Result<(Proposal, JustRead)> {
    match &found.0.objection {
        None => Ok(found),
        Some(Objection::NewServer(server)) => {
            ensure_server(bucket, server)
                .await
                .map_err(|error| anyhow!("{error:#} (use --force to deploy to a new server)"))?;
            Ok(found)
        }
        Some(objection @ Objection::NewApp(..)) => bail!("{objection}; use --force to deploy anyway"),
    }
}

/// The release that an argument names: an app's newest clean one, one by name, or one by app and commit.
async fn choose(bucket: &Bucket, text: &str) -> Result<Release> {
    if let Some(name) = parse_release(text) {
        return find(bucket, &name).await;
    }
    let (app, commit) = text.split_once('@').map_or((text, None), |(app, commit)| (app, Some(commit)));
    let app: AppName =
        app.parse().map_err(|error| UsageError::new(format!("`{text}` is neither an app nor a release: {error}")))?;
    if let Some(commit) = commit {
        let hex = |c: char| c.is_ascii_digit() || ('a'..='f').contains(&c);
        ensure!(
            commit.len() >= 4 && commit.chars().all(hex),
            UsageError::new(format!("`{commit}` is not a commit prefix: use at least 4 hex digits"))
        );
    }
    let releases =
        bucket.newest_releases(&app, 1000).await.with_context(|| format!("could not list the releases of `{app}`"))?;
    if releases.is_empty() {
        ensure_app(bucket, &app).await?;
    }
    let mut matching = releases.into_iter().filter(|release| match commit {
        Some(commit) => release.name.commit().as_str().starts_with(commit),
        None => release.metadata.as_ref().is_ok_and(|metadata| !metadata.dirty),
    });
    match (matching.next(), commit) {
        (Some(release), None) => Ok(release),
        (Some(release), Some(commit)) => match matching.next() {
            Some(other) => bail!(
                "`{app}@{commit}` is ambiguous, it matches `{}` and `{}`: use the full release name",
                release.name.stem(),
                other.name.stem()
            ),
            None => Ok(release),
        },
        (None, Some(commit)) => bail!(
            "`{app}` has no release of a commit that begins with `{commit}`; `push list {app}` lists the releases"
        ),
        (None, None) => {
            bail!(
                "`{app}` has no clean release; `push list {app}` lists the releases, and a dirty one can be named in full"
            )
        }
    }
}

fn parse_release(text: &str) -> Option<ReleaseName> {
    text.parse().ok().or_else(|| ReleaseName::from_stem(text.strip_suffix(".deb").unwrap_or(text)).ok())
}
