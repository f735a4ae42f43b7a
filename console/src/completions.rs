//! Shell completions, a subcommand of each program.

use anyhow::{Context as _, Result};
use clap::{Args, CommandFactory};
use clap_complete::Shell;

use crate::print;

/// Arguments of `completions`.
#[derive(Debug, Clone, Copy, Args)]
pub struct Completions {
    /// Shell to complete for
    shell: Shell,
}

impl Completions {
    /// Prints the completion script of the program whose arguments are `Program`.
    ///
    /// # Errors
    /// When standard output can't be written. A closed pipe is no error.
    pub fn run<Program: CommandFactory>(self) -> Result<()> {
        print(&script::<Program>(self.shell)?)
    }
}

fn script<Program: CommandFactory>(shell: Shell) -> Result<String> {
    let mut command = Program::command();
    let name = command.get_name().to_owned();
    // Not written to stdout directly: clap panics when that fails.
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut command, name, &mut script);
    String::from_utf8(script).context("the completion script isn't UTF-8")
}

#[cfg(test)]
mod tests {
    use clap::{Parser, ValueEnum as _};

    use super::*;

    #[derive(Parser)]
    #[command(name = "example")]
    struct Example {
        #[command(flatten)]
        _completions: Completions,
    }

    #[test]
    fn every_shell_gets_a_script_for_the_program() {
        for shell in Shell::value_variants() {
            assert!(script::<Example>(*shell).unwrap().contains("example"), "{shell}");
        }
    }
}
