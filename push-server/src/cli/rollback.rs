//! `push rollback`: the previous release of each server.

use anyhow::{Context as _, Result};
use bucket::{AppName, Bucket, PushKind, ServerName};
use clap::Args;
use fleet::{
    operation::{self, JustRead},
    plan::Proposal,
    server,
};

use super::{
    command::Command,
    pending::{DeployOptions, PendingPush, carry_out, proposal, unique},
};

/// Roll back each server to its previous release
///
/// Each server has its own previous release, taken from its push history; a second rollback goes one release further
/// back.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  push rollback web web-1 -m 'too slow'
  push rollback web web-1 web-2 --wait")]
pub(crate) struct Rollback {
    /// App to roll back
    app: AppName,
    /// Servers to roll back
    #[arg(required = true, value_name = "SERVER")]
    servers: Vec<ServerName>,
    #[command(flatten)]
    options: DeployOptions,
}

impl Rollback {
    pub(crate) async fn run(self, command: &Command) -> Result<bool> {
        let mut pending = Vec::new();
        for server in unique(self.servers) {
            let proposal = previous(&command.bucket, &self.app, &server).await;
            pending.push(PendingPush { server, proposal, kind: PushKind::Rollback });
        }
        carry_out(command, &self.options, pending).await
    }
}

async fn previous(bucket: &Bucket, app: &AppName, server: &ServerName) -> Result<(Proposal, JustRead)> {
    let before = operation::before(bucket, app, server).await?;
    let release = operation::find(bucket, &before).await.context("could not roll back")?;
    proposal(&server::read(bucket, server).await, &release, &PushKind::Rollback)
}
