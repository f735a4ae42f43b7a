//! `push halt`: nobody pushes anything forward until that is lifted.

use anyhow::Result;
use clap::Args;
use console::{note, print_json};
use fleet::{
    guard::{begin_halt, lift_halt, may_halt},
    identity::{Identity, Origin},
};
use serde_json::json;

use super::command::{Command, operator_name};

/// Halt all pushes, for everybody, until the halt is lifted
///
/// Nothing is deployed or retried anywhere meanwhile; undo and rollback work. A push that is under way stops within
/// seconds. Pages show who halted pushes, and why. Takes the role `admin`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  push halt -m 'database migration until 14:00'
  push halt --lift")]
pub(crate) struct HaltArguments {
    /// Why, for everybody who would push
    #[arg(short = 'm', long, value_name = "REASON", required_unless_present = "lift")]
    reason: Option<String>,
    /// Lift the halt
    #[arg(long, conflicts_with = "reason")]
    lift: bool,
}

impl HaltArguments {
    pub(crate) async fn run(self, command: &Command) -> Result<bool> {
        let who = Identity { name: operator_name(), origin: Origin::Local };
        may_halt(&command.policy, &who)?;
        if let Some(reason) = &self.reason {
            begin_halt(&command.bucket, &who, reason).await?;
            note("all pushes are halted; `push halt --lift` ends that");
        } else {
            let was_halted = lift_halt(&command.bucket).await?;
            note(if was_halted { "the halt is lifted" } else { "pushes were not halted" });
        }
        if command.json {
            print_json(&json!({ "halted": self.reason.is_some() }))?;
        }
        Ok(true)
    }
}
