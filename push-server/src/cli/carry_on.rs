//! `push continue` and `push stop`: what becomes of a push whose process was killed.

use anyhow::Result;
use bucket::PushId;
use clap::Args;
use console::{count, note, print_json, print_line};
use fleet::{account, redo, rollout::decide::Decision};
use serde_json::json;

use super::{
    command::Command,
    pending::{DeployOptions, operator, operator_identity},
    rollout::decide_as,
};

/// Continue a push that was cut off: write the rows that nobody has written
///
/// A push in waves that has stopped goes on as by `push rollout continue`.
#[derive(Debug, Args)]
pub(crate) struct Continue {
    /// ID of the push
    id: PushId,
    #[command(flatten)]
    options: DeployOptions,
}

impl Continue {
    pub(crate) async fn run(self, command: &Command) -> Result<bool> {
        let account = account::read(&command.bucket, &self.id).await?;
        if account.push.rollout && !self.options.is_dry_run() {
            return decide_as(command, &self.options, &self.id, Decision::Continue).await;
        }
        let mut operator = operator(command, &self.options)?;
        if operator.reason.is_empty() {
            operator.reason.clone_from(&account.push.why);
        }
        if self.options.is_dry_run() {
            for row in account.unwritten() {
                print_line(format_args!("{}: would be pushed", row.row.server))?;
            }
            return Ok(true);
        }
        let results = redo::carry_on_with(&command.bucket, &operator, &account, |_, _| ()).await?;
        let mut succeeded = true;
        for result in &results {
            let server = &result.intent.server;
            match &result.result {
                Ok(_) if command.json => {}
                Ok(_) => match &result.intent.to {
                    Some(to) => print_line(format_args!("{server}: pushed: {}", to.stem()))?,
                    None => print_line(format_args!("{server}: removed: {}", result.intent.app))?,
                },
                Err(error) => {
                    succeeded = false;
                    note(format_args!("{server}: error: {error}"));
                }
            }
            for warning in &result.incomplete {
                note(format_args!("{server}: warning: {warning}"));
            }
        }
        if command.json {
            let rows = results.iter().map(|result| {
                let error = result.result.as_ref().err().map(|error| console::safe(&error.to_string()));
                json!({ "server": result.intent.server, "generation": result.result.as_ref().ok(), "error": error })
            });
            print_json(&json!({ "push": self.id, "rows": rows.collect::<Vec<_>>() }))?;
        }
        Ok(succeeded)
    }
}

/// Stop a push: what it has not written stays as it is
///
/// A push whose process was killed is over after that. One that is still under way stops within seconds.
#[derive(Debug, Args)]
pub(crate) struct Stop {
    /// ID of the push
    id: PushId,
}

impl Stop {
    pub(crate) async fn run(self, command: &Command) -> Result<bool> {
        let account = account::read(&command.bucket, &self.id).await?;
        let left = redo::stop(&command.bucket, &account, &command.policy, &operator_identity()).await?;
        if command.json {
            print_json(&json!({ "push": self.id, "unwritten": left }))?;
        } else {
            print_line(format_args!("push {} is stopped; {} not written", self.id, count(left, "server")))?;
        }
        Ok(true)
    }
}
