//! `pulld check-config`: reads the configuration and prints the resulting settings.

use std::process::ExitCode;

use anyhow::{Result, anyhow};
use console::{Threads, block_on, note, print_line, safe, warning};

/// Arguments of `pulld check-config`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Exit status: 0 valid; 1 invalid, or contains unknown keys\n\n\
                        A bucket directory that does not exist is a warning: it may be mounted later")]
pub(crate) struct Arguments {}

pub(crate) fn run(context: &super::Context, _arguments: &Arguments) -> Result<ExitCode> {
    let loaded = context.load()?;
    let settings = &loaded.settings;
    for file in &loaded.files {
        note(format_args!("read `{}`", file.display()));
    }
    let credentials = &settings.bucket_options.credentials;
    let check = async { credentials.check().map_err(|reason| anyhow!("invalid `gcs_credentials`: {reason}")) };
    block_on(Threads::One, check)?;
    for line in settings.lines() {
        print_line(safe(&line))?;
    }
    loaded.warnings.iter().cloned().chain(settings.missing()).for_each(warning);
    Ok(if loaded.warnings.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
