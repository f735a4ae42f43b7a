//! `push undo`: what a push changed is restored, on all its servers or on some.

use anyhow::Result;
use bucket::{PushId, PushKind, ServerName};
use clap::Args;
use fleet::{account, proposed::undo};

use super::{
    command::Command,
    pending::{DeployOptions, PendingPush, carry_out},
};

/// Undo a push: restore on each server what ran there before it
///
/// A server that somebody has pushed that app to since is left alone, and said.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  push undo k3v9w1c7m2xq -m 'too slow'
  push undo k3v9w1c7m2xq web-1 web-2 --wait")]
pub(crate) struct Undo {
    /// ID of the push, as `push pushes` and `push history` show it
    id: PushId,
    /// Servers to undo it on; default: all servers of the push
    #[arg(value_name = "SERVER")]
    servers: Vec<ServerName>,
    #[command(flatten)]
    options: DeployOptions,
}

impl Undo {
    pub(crate) async fn run(self, command: &Command) -> Result<bool> {
        let bucket = &command.bucket;
        let account = account::read(bucket, &self.id).await?;
        let proposed = undo(bucket, &account, &self.servers).await?;
        let pending = proposed.into_iter().map(|proposed| PendingPush::of(proposed, &PushKind::Undo)).collect();
        carry_out(command, &self.options, Some(&self.id), pending).await
    }
}
