//! `pulld resume`: has the agent take care again of an app that was rolled back here.

use std::{process::ExitCode, time::Duration};

use anyhow::Result;
use bucket::AppName;
use console::duration;

use crate::service::instructions::Instruction;

use super::retry::instruct;

/// Arguments of `pulld resume`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Exit status: 0 the server matches its document; 1 something failed, or the app is not paused\n\n\
                  Example:\n  pulld resume web"
)]
pub(crate) struct Arguments {
    /// App to install again as the server document says
    app: AppName,

    /// Maximum time to wait for the end; the agent continues in any case
    #[arg(long, default_value = "1h", value_name = "DURATION", value_parser = duration::parse)]
    timeout: Duration,
}

pub(crate) fn run(context: &super::Context, arguments: Arguments) -> Result<ExitCode> {
    instruct(context, Instruction::Resume { app: arguments.app }, arguments.timeout)
}
