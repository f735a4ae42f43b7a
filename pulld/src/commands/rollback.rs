//! `pulld rollback`: has the agent go back to an earlier release from the cache of this server.

use std::{process::ExitCode, time::Duration};

use anyhow::Result;
use bucket::{AppName, NameError, ReleaseName};
use clap::builder::NonEmptyStringValueParser;
use console::{Person, cut, duration, one_line};

use crate::service::instructions::{Instruction, Rollback};

use super::retry::instruct;

/// Most characters of a reason: it is shown with the app's state.
const MAX_WHY: usize = 500;

/// Arguments of `pulld rollback`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "For a server that has to go back at once, or whose bucket does not answer: everything comes from the \
                  cache. Where the bucket answers, `push rollback` changes the server document instead.\n\nThe release \
                  has to pass the same health gate as any other. The agent then leaves the app alone until its entry in \
                  the server document changes, the time of --for has passed, or `pulld resume APP`.\n\nExit status: 0 \
                  the earlier release is installed and healthy; 1 it is not\n\nExamples:\n  pulld rollback web -m \
                  \"orders are lost\"\n  pulld rollback web -m \"orders are lost\" --for 2h"
)]
pub(crate) struct Arguments {
    /// App to roll back
    app: AppName,

    /// Why, for the people who read the status
    #[arg(short = 'm', long = "message", value_name = "WHY", value_parser = NonEmptyStringValueParser::new())]
    why: String,

    /// Release to go back to, from the cache, instead of the one that ran before
    #[arg(long, value_name = "RELEASE", value_parser = parse_release)]
    to: Option<ReleaseName>,

    /// Leave the app alone for this long at most, as in 2h
    #[arg(long = "for", value_name = "DURATION", value_parser = duration::parse)]
    period: Option<Duration>,

    /// Maximum time to wait for the end; the rollback continues in any case
    #[arg(long, default_value = "1h", value_name = "DURATION", value_parser = duration::parse)]
    timeout: Duration,
}

pub(crate) fn run(context: &super::Context, arguments: Arguments) -> Result<ExitCode> {
    let rollback = Rollback {
        app: arguments.app,
        to: arguments.to,
        who: Person::find(|key| std::env::var(key).ok()).user,
        why: cut(&one_line(&arguments.why), MAX_WHY),
        seconds: arguments.period.map(|period| period.as_secs()),
    };
    instruct(context, Instruction::Rollback(rollback), arguments.timeout)
}

/// A release by its whole name or by its ID.
fn parse_release(text: &str) -> Result<ReleaseName, NameError> {
    if text.contains('/') { text.parse() } else { ReleaseName::from_stem(text) }
}
