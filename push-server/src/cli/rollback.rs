//! `push rollback`: the previous release of each server.

use anyhow::Result;
use bucket::{AppName, PushKind};
use clap::Args;
use fleet::{proposed::proposal, rollback::previous_on, server::Server};
use futures_util::{StreamExt, stream};

use super::{
    command::{AT_ONCE, Command},
    pending::{DeployOptions, PendingPush, carry_out},
    targets::Targets,
};

/// Roll back each server to its previous release
///
/// Each server has its own previous release: the last one of its push history that stayed up there; a second rollback
/// goes one release further back. If the current release never ran, the one that is installed is restored.
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
        let chosen = Targets::parse(&self.servers)?.read(command).await?.into_iter();
        // Of a filter nobody meant each server that it matches.
        let meant = chosen.filter(|chosen| chosen.is_named || chosen.server.desired(&self.app).is_some());
        let pending = stream::iter(meant).map(async |chosen| self.one(command, chosen.server).await);
        let pending = pending.buffered(AT_ONCE).collect().await;
        carry_out(command, &self.options, None, pending).await
    }

    async fn one(&self, command: &Command, server: Server) -> PendingPush {
        let release = previous_on(&command.bucket, &self.app, &server).await;
        let proposal = release.and_then(|release| proposal(&server, &release, &PushKind::Rollback, command.now()));
        PendingPush { server: server.name, proposal, kind: PushKind::Rollback }
    }
}
