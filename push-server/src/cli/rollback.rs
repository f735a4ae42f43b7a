//! `push rollback`: what a server had before.

use anyhow::{Context as _, Result, anyhow, bail};
use bucket::{AppName, Bucket, HistoryEntry, PushKind, ServerName};
use clap::Args;

use super::{
    Command,
    deploy::{How, Work, carry_out, find, look, unique},
};
use crate::{history::previous, plan::Proposal, push};

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
    let seen = push::read(bucket, server).await?;
    let Some(current) = seen.document.release_of(app) else {
        bail!("`{server}` doesn't have `{app}`: there is nothing to roll back");
    };
    let pushes = all_pushes(bucket, server).await?;
    let before = previous(&pushes, app, current).ok_or_else(|| {
        anyhow!(
            "the history knows of nothing that `{server}` had before `{}`; `push deploy` chooses any release",
            current.stem()
        )
    })?;
    let release = find(bucket, before).await.context("could not go back")?;
    let mut proposal = look(bucket, server, &release).await?;
    // That it is older is the point.
    proposal.warnings.retain(|warning| !warning.starts_with("it is older"));
    Ok(proposal)
}

async fn all_pushes(bucket: &Bucket, server: &ServerName) -> Result<Vec<HistoryEntry>> {
    /// As far back as anyone rolls back.
    const DEPTH: usize = 500;
    let newest = bucket.newest_history(server, DEPTH).await;
    let mut pushes = newest.with_context(|| format!("could not read the history of `{server}`"))?;
    pushes.reverse();
    Ok(pushes)
}
