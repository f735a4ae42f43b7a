//! `release completions`: what a shell needs to complete this command.

use anyhow::Result;
use clap::{Args, CommandFactory as _};
use clap_complete::Shell;

use crate::cli::Cli;

/// Arguments of `release completions`.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  release completions bash > /etc/bash_completion.d/release")]
pub(crate) struct Completions {
    /// The shell
    shell: Shell,
}

impl Completions {
    #[expect(clippy::unnecessary_wraps, reason = "all commands have the same shape")]
    pub(crate) fn run(self) -> Result<()> {
        clap_complete::generate(self.shell, &mut Cli::command(), "release", &mut std::io::stdout());
        Ok(())
    }
}
