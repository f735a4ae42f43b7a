//! `push reject` and `push unreject`: a release that nobody may push any more.

use anyhow::{Result, ensure};
use bucket::{AppName, ReleaseName};
use clap::Args;
use console::{UsageError, count, note, print_json, safe};
use fleet::{
    guard::{may_reject, reject, unreject},
    identity::{Identity, Origin},
    server::{self, Server},
};
use futures_util::{StreamExt, stream};
use serde_json::json;

use super::{
    command::{Command, operator_name},
    deploy::{choose, parse_release},
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
        let Decided { who, release, having } = Decided::on(command, &self.release).await?;
        reject(&command.bucket, &who, &release, &self.reason).await?;
        let running = having.iter().filter(|server| server.has(&release));
        let running: Vec<&str> = running.map(|server| server.name.as_str()).collect();
        if command.json {
            print_json(&json!({ "release": release, "rejected": true, "servers": running }))?;
            return Ok(true);
        }
        note(format_args!("rejected `{}`: {}", release.stem(), safe(&self.reason)));
        if !running.is_empty() {
            note(format_args!("still on {}: {}", count(running.len(), "server"), running.join(", ")));
        }
        Ok(true)
    }
}

impl Unreject {
    pub(crate) async fn run(self, command: &Command) -> Result<bool> {
        let Decided { release, .. } = Decided::on(command, &self.release).await?;
        unreject(&command.bucket, &release).await?;
        if command.json {
            print_json(&json!({ "release": release, "rejected": false }))?;
        } else {
            note(format_args!("`{}` is no longer rejected", release.stem()));
        }
        Ok(true)
    }
}

/// A release that somebody may decide about.
struct Decided {
    who: Identity,
    release: ReleaseName,
    /// The servers that should have or do have its app.
    having: Vec<Server>,
}

impl Decided {
    /// The one that an argument names, if the policy allows that.
    async fn on(command: &Command, text: &str) -> Result<Self> {
        let who = Identity { name: operator_name(), origin: Origin::Local };
        let release = find(command, text).await?;
        let having = having(command, release.app()).await?;
        may_reject(&command.policy, &who, release.app(), having.iter().map(|server| &server.name))?;
        Ok(Self { who, release, having })
    }
}

/// The release that an argument names. One that is gone from the bucket can be named in full.
async fn find(command: &Command, text: &str) -> Result<ReleaseName> {
    if let Some(name) = parse_release(text) {
        return Ok(name);
    }
    ensure!(
        text.contains('@'),
        UsageError::new(format!("`{text}` names no release: use APP@COMMIT or a release name"))
    );
    Ok(choose(&command.bucket, text).await?.name)
}

/// The servers that should have or do have an app.
async fn having(command: &Command, app: &AppName) -> Result<Vec<Server>> {
    let names = server::names(&command.bucket).await?;
    let servers = stream::iter(&names).map(|name| server::read(&command.bucket, name)).buffered(AT_ONCE);
    let has = |server: &Server| server.desired(app).is_some() || server.reported(app.as_str()).is_some();
    Ok(servers.filter(|server| std::future::ready(has(server))).collect().await)
}
