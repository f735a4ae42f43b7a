//! `push rollback`: the previous release of each server.

use anyhow::{Context as _, Result};
use bucket::{AppName, Bucket, PushKind};
use clap::Args;
use fleet::{
    operation::{self, JustRead},
    plan::Proposal,
    server::Server,
};

use super::{
    command::Command,
    pending::{DeployOptions, PendingPush, carry_out, proposal},
    targets::{Chosen, Targets},
};

/// Roll back each server to its previous release
///
/// Each server has its own previous release, taken from its push history; a second rollback goes one release further
/// back.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  push rollback web web-1 -m 'too slow'
  push rollback web web-1 web-2 --wait
  push rollback web group:prod -m 'errors at login'")]
pub(crate) struct Rollback {
    /// App to roll back
    app: AppName,
    /// Servers to roll back: by name, or all that a filter matches (`group:prod`, `app:web state:unstable`); `-` reads them
    /// from stdin
    #[arg(required = true, value_name = "SERVER|FILTER")]
    servers: Vec<String>,
    #[command(flatten)]
    options: DeployOptions,
}

impl Rollback {
    pub(crate) async fn run(self, command: &Command) -> Result<bool> {
        let mut pending = Vec::new();
        for Chosen { server, is_named } in Targets::parse(&self.servers)?.read(command).await? {
            // Of a filter nobody meant each server that it matches.
            if is_named || server.desired(&self.app).is_some() {
                let proposal = previous(&command.bucket, &self.app, &server).await;
                pending.push(PendingPush { server: server.name, proposal, kind: PushKind::Rollback });
            }
        }
        carry_out(command, &self.options, pending).await
    }
}

async fn previous(bucket: &Bucket, app: &AppName, server: &Server) -> Result<(Proposal, JustRead)> {
    let before = operation::before(bucket, app, &server.name).await?;
    let release = operation::find(bucket, &before).await.context("could not roll back")?;
    proposal(server, &release, &PushKind::Rollback)
}
