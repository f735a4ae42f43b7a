//! `push retry`: the same release once more, on servers whose agents gave it up.

use anyhow::{Result, bail};
use bucket::{AppName, PushId, PushKind};
use clap::Args;
use console::UsageError;
use fleet::{
    account,
    proposed::{retry, retry_on},
};

use super::{
    command::Command,
    pending::{DeployOptions, PendingPush, carry_out},
    targets::Targets,
};

/// Retry the current release of an app on servers where it failed or was rolled back
///
/// The release stays the same: each agent tries it once more, and forgets that it was rolled back there.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  push retry web web-1 -m 'the disk was full' --wait
  push retry --push k3v9w1c7m2xq")]
pub(crate) struct Retry {
    /// App to retry
    #[arg(required_unless_present = "push", conflicts_with = "push")]
    app: Option<AppName>,
    /// Servers to retry it on: by name, or all that a filter matches (`app:web state:failed`); `-` reads them from stdin
    #[arg(required_unless_present = "push", value_name = "SERVER|FILTER")]
    servers: Vec<String>,
    /// Retry where the release of this push failed or was rolled back
    #[arg(long, value_name = "ID")]
    push: Option<PushId>,
    #[command(flatten)]
    options: DeployOptions,
}

impl Retry {
    pub(crate) async fn run(self, command: &Command) -> Result<bool> {
        let bucket = &command.bucket;
        let proposed = match (&self.push, &self.app) {
            (Some(id), _) => retry(bucket, &account::read(bucket, id).await?).await?,
            (None, Some(app)) => {
                let chosen = Targets::parse(&self.servers)?.read(command).await?.into_iter();
                // Of a filter nobody meant each server that it matches.
                let meant = chosen.filter(|chosen| chosen.is_named || chosen.server.desired(app).is_some());
                retry_on(bucket, app, meant.map(|chosen| chosen.server)).await
            }
            (None, None) => bail!(UsageError::new("no app specified: name an app and servers, or a push with --push")),
        };
        let pending = proposed.into_iter().map(|proposed| PendingPush::of(proposed, &PushKind::Retry)).collect();
        carry_out(command, &self.options, self.push.as_ref(), pending).await
    }
}
