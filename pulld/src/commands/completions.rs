//! `pulld completions`: a completion script for a shell.

use std::process::ExitCode;

use clap::CommandFactory;

/// Arguments of `pulld completions`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  pulld completions bash > /usr/share/bash-completion/completions/pulld")]
pub(crate) struct Arguments {
    /// Which shell.
    shell: clap_complete::Shell,
}

pub(crate) fn run(arguments: &Arguments) -> ExitCode {
    clap_complete::generate(arguments.shell, &mut super::Arguments::command(), "pulld", &mut std::io::stdout());
    ExitCode::SUCCESS
}
