//! `pulld pull`: has the agent pull now.

use std::{process::ExitCode, time::Duration};

use anyhow::Result;

use crate::{
    config::duration,
    service::control::{self, ControlResponse},
};

/// Arguments of `pulld pull`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Exit codes: 0 the server is as its document asks, 1 something failed.\n\nExamples:\n  pulld pull\n  \
                        pulld pull --no-wait\n  pulld pull --timeout 2m"
)]
pub(crate) struct Arguments {
    /// Only ask, don't wait for the end.
    #[arg(long)]
    no_wait: bool,

    /// How long to wait for the end; the agent goes on in any case.
    #[arg(long, default_value = "1h", value_name = "DURATION", value_parser = parse_duration)]
    timeout: Duration,
}

fn parse_duration(text: &str) -> Result<Duration, String> {
    duration::parse(text).ok_or_else(|| "write a duration as `90s` or `5m`".to_owned())
}

pub(crate) fn run(context: &super::Context, arguments: &Arguments) -> Result<ExitCode> {
    let socket = context.paths.socket();
    let pull = control::pull(&socket, !arguments.no_wait, arguments.timeout);
    let cycle = match super::runtime()?.block_on(pull)? {
        ControlResponse::Accepted => return Ok(ExitCode::SUCCESS),
        ControlResponse::Ended(cycle) => cycle,
    };
    for line in &cycle.lines {
        println!("{}", super::safe(line));
    }
    println!("{}", super::safe(&cycle.summary));
    Ok(if cycle.ok { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
