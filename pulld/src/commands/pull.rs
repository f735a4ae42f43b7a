//! `pulld pull`: triggers a pull of the agent.

use std::{process::ExitCode, time::Duration};

use anyhow::{Result, bail};
use console::{Threads, block_on, cut_lines, duration, print_line};

use crate::service::control::{self, ControlResponse, CycleReport};

/// Most characters of what happened to one app that are shown.
const MAX_LINE: usize = 3000;

/// Arguments of `pulld pull`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Exit status: 0 the server matches its document; 1 something failed\n\nExamples:\n  pulld pull\n  \
                        pulld pull --no-wait\n  pulld pull --timeout 2m"
)]
pub(crate) struct Arguments {
    /// Trigger the pull without waiting for its end
    #[arg(long)]
    no_wait: bool,

    /// Maximum time to wait for the end; the pull continues in any case
    #[arg(long, default_value = "1h", value_name = "DURATION", value_parser = duration::parse)]
    timeout: Duration,
}

pub(crate) fn run(context: &super::Context, arguments: &Arguments) -> Result<ExitCode> {
    let socket = context.paths.socket();
    let pull = control::pull(&socket, !arguments.no_wait, arguments.timeout);
    let cycle = match block_on(Threads::One, pull)? {
        ControlResponse::Accepted => return Ok(ExitCode::SUCCESS),
        ControlResponse::Ended(cycle) => cycle,
        ControlResponse::Answered(_) => bail!("the agent gave another answer than was asked"),
    };
    show(&cycle)?;
    Ok(if cycle.ok { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Prints how a cycle ended.
pub(super) fn show(cycle: &CycleReport) -> Result<()> {
    for line in cycle.lines.iter().chain([&cycle.summary]) {
        print_line(cut_lines(line, MAX_LINE).join("\n  "))?;
    }
    Ok(())
}
