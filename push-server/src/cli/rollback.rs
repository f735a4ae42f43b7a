//! `push rollback`: what a server had before.

use anyhow::{Context as _, Result};
use bucket::{AppName, Bucket, PushKind, ServerName};
use clap::Args;

use super::{
    Command,
    deploy::{How, Work, carry_out, look, unique},
};
use fleet::{operation, plan::Proposal};

/// Goes back to what each server had before.
///
/// That is a release of its own for each server, from the history of pushes to it; twice goes back twice.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  push rollback web web-1 -m 'too slow'
  push rollback web web-1 web-2 --wait")]
pub(crate) struct Rollback {
    /// Which app.
    app: AppName,
    /// Where.
    #[arg(required = true, value_name = "SERVER")]
    servers: Vec<ServerName>,
    #[command(flatten)]
    how: How,
}

impl Rollback {
    pub(crate) async fn run(self, command: &Command) -> Result<bool> {
        let mut works = Vec::new();
        for server in unique(self.servers) {
            let proposal = back(&command.bucket, &self.app, &server).await;
            works.push(Work { server, proposal, kind: PushKind::Rollback });
        }
        carry_out(command, &self.how, works).await
    }
}

async fn back(bucket: &Bucket, app: &AppName, server: &ServerName) -> Result<Proposal> {
    let before = operation::before(bucket, app, server).await?;
    let release = operation::find(bucket, &before).await.context("could not go back")?;
    let mut proposal = look(bucket, server, &release).await?;
    // That it is older is the point.
    proposal.warnings.retain(|warning| !warning.starts_with("it is older"));
    Ok(proposal)
}
