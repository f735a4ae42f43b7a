//! `pulld retry`: has the agent try again what failed or was rolled back.

use std::{process::ExitCode, time::Duration};

use anyhow::Result;
use bucket::AppName;
use console::{Threads, block_on, duration, note};

use crate::service::{control, instructions::Instruction};

/// Arguments of `pulld retry`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "A release that was rolled back here is not tried again until the app's entry in the server document \
                  changes, or until this command.\n\nExit status: 0 the server matches its document; 1 something \
                  failed, or there is nothing to retry\n\nExample:\n  pulld retry web"
)]
pub(crate) struct Arguments {
    /// App to try again
    app: AppName,

    /// Maximum time to wait for the end; the attempt continues in any case
    #[arg(long, default_value = "1h", value_name = "DURATION", value_parser = duration::parse)]
    timeout: Duration,
}

pub(crate) fn run(context: &super::Context, arguments: Arguments) -> Result<ExitCode> {
    let instruction = Instruction::Retry { app: arguments.app };
    instruct(context, instruction, arguments.timeout)
}

/// Has the agent carry out an instruction, and prints what it says and how it ended.
pub(super) fn instruct(context: &super::Context, instruction: Instruction, timeout: Duration) -> Result<ExitCode> {
    let socket = context.paths.socket();
    let (sentence, cycle) = block_on(Threads::One, control::instruct(&socket, instruction, timeout))?;
    note(sentence);
    super::pull::show(&cycle)?;
    Ok(if cycle.ok { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
