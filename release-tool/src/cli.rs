//! The command line: arguments and options common to all commands, and the start of the program.

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context, Result};
use bucket::{Bucket, BucketOptions, BucketUrl};
use clap::{Args, Parser};
use console::{Threads, UsageError};

use crate::{
    commands::{Command, publish},
    manifest::Manifest,
};

const EXAMPLES: &str = "\
Examples:
  release -m \"fix the login\"            build and upload everything in release.toml
  release -m \"fix the login\" web        build and upload only the package `web`
  release build -m \"try it\" web         build only; the .deb is in dist/
  release upload dist/web:*.deb         upload a package built before
  release list web                      list the releases of `web`, newest first
  release check                         find errors before building

The bucket is taken from --bucket, else PUSH_BUCKET, else `[bucket] url` in release.toml.
Exit status: 0 success; 1 failure; 2 usage error";

/// Build immutable .deb releases from a git repository and upload them to the bucket.
#[derive(Debug, Parser)]
#[command(name = "release", version, after_help = EXAMPLES, disable_help_subcommand = true)]
pub struct Cli {
    #[command(flatten)]
    options: Options,
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    publish: publish::Publish,
}

/// Options of every command.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Bucket
    #[arg(
        long,
        help = "Bucket: gs://NAME or file:///DIRECTORY",
        value_name = "URL",
        env = "PUSH_BUCKET",
        global = true
    )]
    pub(crate) bucket: Option<BucketUrl>,
    /// Run in this directory, which contains release.toml [default: the current one]
    #[arg(short = 'C', value_name = "DIR", default_value = ".", global = true, hide_default_value = true)]
    pub(crate) directory: PathBuf,
    /// Directory for built packages, relative to release.toml
    #[arg(long, value_name = "DIR", default_value = "dist", global = true)]
    pub(crate) out: PathBuf,
    /// Print results as JSON
    #[arg(long, global = true)]
    pub(crate) json: bool,
}

impl Options {
    /// The directory of `release.toml`, absolute and without links: what git calls it.
    pub(crate) fn directory(&self) -> Result<PathBuf> {
        let shown = self.directory.display();
        self.directory.canonicalize().with_context(|| format!("directory not found: `{shown}`"))
    }

    /// Opens the bucket that the command line, the environment or `manifest` names, in this order.
    pub(crate) async fn open_bucket(&self, manifest: Option<&Manifest>) -> Result<Bucket> {
        let from_file = || manifest.and_then(|manifest| manifest.bucket.clone());
        let Some(url) = self.bucket.clone().or_else(from_file) else {
            return Err(UsageError::new(
                "no bucket specified: use --bucket URL, set PUSH_BUCKET, or add to release.toml: \
                 [bucket] url = \"gs://acme-push\"",
            )
            .into());
        };
        let options = BucketOptions::from_env(|key| std::env::var(key).ok())?;
        Bucket::open(&url, &options).await.with_context(|| format!("could not open the bucket `{url}`"))
    }

    /// Like [`Options::open_bucket`], with the `release.toml` of the directory if there is one.
    pub(crate) async fn find_bucket(&self) -> Result<Bucket> {
        // A broken release.toml is no reason not to list another bucket.
        let manifest = if self.bucket.is_some() { None } else { Manifest::read_if_there(&self.directory()?)? };
        self.open_bucket(manifest.as_ref()).await
    }

    /// The directory for built packages, for a project in `directory`.
    pub(crate) fn out(&self, directory: &Path) -> PathBuf {
        directory.join(&self.out)
    }
}

/// Runs the command that was typed. Called by the binary.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    console::run(|| run(cli))
}

fn run(cli: Cli) -> Result<()> {
    let Cli { options, command, publish } = cli;
    match command {
        Some(_) if publish.is_given() => {
            let text = "-m and package names must follow the subcommand, as in `release build -m NOTE web`";
            Err(UsageError::new(text).into())
        }
        Some(command) => command.run(&options),
        None => publish.run(&options),
    }
}

/// Waits for something that talks to a bucket.
pub(crate) fn wait_for<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    console::block_on(Threads::Two, work)
}
