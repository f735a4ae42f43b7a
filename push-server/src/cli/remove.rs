//! `push remove`: an app is taken off servers.

use anyhow::{Result, bail};
use bucket::{AppName, PushKind};
use clap::Args;
use console::{count, note};
use fleet::{
    lookup::{ensure_app, ensure_known},
    operation::JustRead,
    plan::Proposal,
    proposed::removal,
    server::Server,
};
use futures_util::{StreamExt, stream};

use super::{
    command::{AT_ONCE, Command},
    pending::{DeployOptions, PendingPush, carry_out},
    targets::Targets,
};

/// Take an app off servers: their documents no longer name it
///
/// The package stays installed, and its units keep running, until the agent's `prune` removes the package (off by default).
/// `push undo` puts the app back.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  push remove web web-1 -m 'moved to web-2'
  push remove web group:stage --dry-run
  push remove web 'app:web state:orphan' --wait")]
pub(crate) struct Remove {
    /// App to take off
    app: AppName,
    /// Servers to take it off: by name, or all that a filter matches (`group:prod`, `app:web state:failed`); `-` reads them
    /// from stdin
    #[arg(required = true, value_name = "SERVER|FILTER")]
    servers: Vec<String>,
    #[command(flatten)]
    options: DeployOptions,
}

impl Remove {
    pub(crate) async fn run(self, command: &Command) -> Result<bool> {
        let chosen = Targets::parse(&self.servers)?.read(command).await?.into_iter();
        // Of a filter nobody meant each server that it matches.
        let meant = chosen.filter(|chosen| chosen.is_named || chosen.server.desired(&self.app).is_some());
        let pending = stream::iter(meant).map(async |chosen| {
            let proposal = self.one(command, &chosen.server).await;
            PendingPush { server: chosen.server.name, proposal, kind: PushKind::Remove }
        });
        let pending: Vec<PendingPush> = pending.buffered(AT_ONCE).collect().await;
        let servers = pending.iter().filter(|pending| pending.proposal.is_ok()).count();
        let succeeded = carry_out(command, &self.options, None, pending).await?;
        if servers > 0 && !command.json {
            note(format_args!(
                "note: `{}` stays installed and keeps running on {} until the agent's `prune` removes the package, or \
                 somebody does",
                self.app,
                count(servers, "server")
            ));
        }
        Ok(succeeded)
    }

    async fn one(&self, command: &Command, server: &Server) -> Result<(Proposal, JustRead)> {
        let found = removal(server, &self.app, command.now())?;
        if found.0.from.is_none() {
            ensure_known(&command.bucket, server).await?;
            ensure_app(&command.bucket, &self.app).await?;
            bail!("the document of `{}` does not name `{}`: nothing to remove", server.name, self.app);
        }
        Ok(found)
    }
}
