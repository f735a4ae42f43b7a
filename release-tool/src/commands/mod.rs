//! The subcommands, one file each.

pub(crate) mod build;
pub(crate) mod check;
pub(crate) mod list;
pub(crate) mod publish;
pub(crate) mod upload;

use anyhow::Result;
use clap::Subcommand;

use crate::cli::{Cli, Options};

/// What `release` can do besides building and uploading in one go.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Build packages without uploading them, and print their paths
    Build(build::Build),
    /// Upload packages built by `release build`, and print the release names
    Upload(upload::Upload),
    /// List the releases of an app, newest first, or the apps that have any
    List(list::List),
    /// Check release.toml or built packages for errors
    Check(check::Check),
    /// Print a shell completion script
    #[command(after_help = "Example:\n  release completions bash > /etc/bash_completion.d/release")]
    Completions(console::Completions),
}

impl Command {
    pub(crate) fn run(self, options: &Options) -> Result<()> {
        match self {
            Self::Build(build) => build.run(options),
            Self::Upload(upload) => upload.run(options),
            Self::List(list) => list.run(options),
            Self::Check(check) => check.run(options),
            Self::Completions(completions) => completions.run::<Cli>(),
        }
    }
}
