//! `push undo`: what a push changed is restored, on all its servers or on some.

use anyhow::Result;
use bucket::{PushId, PushKind, ServerName};
use clap::Args;
use console::print_line;
use fleet::{account, proposed::undo, redo, retire::restore, rollout::decide::Decision};

use super::{
    command::Command,
    pending::{DeployOptions, PendingPush, carry_out, operator},
    retire::show,
    rollout::decide_as,
};

/// Undo a push: restore on each server what ran there before it
///
/// A server that somebody has pushed that app to since is left alone, and said. Of a push that retired servers, the documents
/// are restored as they were. A push in waves is undone as by `push rollout undo`: the newest wave first, and within its budget.
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
        if account.push.app.is_none() {
            let operator = operator(command, &self.options)?;
            let rows = redo::rows_of(&account, &self.servers)?;
            if self.options.is_dry_run() {
                for row in rows {
                    print_line(format_args!("{}: would be restored", row.server.name))?;
                }
                return Ok(true);
            }
            return show(command, &restore(bucket, &operator, &account, &rows).await?, "restored");
        }
        // One in waves is undone as a whole, within its budget.
        if account.push.rollout && self.servers.is_empty() && !self.options.is_dry_run() {
            return decide_as(command, &self.options, &self.id, Decision::Undo).await;
        }
        let proposed = undo(bucket, &account, &self.servers).await?;
        let pending = proposed.into_iter().map(|proposed| PendingPush::of(proposed, &PushKind::Undo)).collect();
        carry_out(command, &self.options, Some(&self.id), pending).await
    }
}
