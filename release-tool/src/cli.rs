//! The command line: what is typed, what is common to all commands, and how the program ends.

use std::{
    fmt,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context, Result};
use bucket::{Bucket, BucketOptions, BucketUrl};
use clap::{Args, Parser};

use crate::{
    commands::{Command, publish},
    manifest::Manifest,
};

const EXAMPLES: &str = "\
Examples:
  release -m \"fix the login\"            build and upload everything in release.toml
  release -m \"fix the login\" web        only the package `web`
  release build -m \"try it\" web         only build; the .deb is in dist/
  release upload dist/web:*.deb         upload what was built before
  release list web                      the releases of `web`, newest first
  release check                         look for mistakes before anything is built

The bucket is --bucket, or else PUSH_BUCKET, or else `[bucket] url` in release.toml.
Exit status: 0 done, 1 failed, 2 misused.";

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

/// What every command takes.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// The bucket
    #[arg(
        long,
        help = "The bucket: gs://NAME or file:///DIRECTORY",
        value_name = "URL",
        env = "PUSH_BUCKET",
        global = true
    )]
    pub(crate) bucket: Option<BucketUrl>,
    /// Do as if started in this directory, where release.toml is
    #[arg(short = 'C', value_name = "DIR", default_value = ".", global = true, hide_default_value = true)]
    pub(crate) directory: PathBuf,
    /// Where built packages go, relative to release.toml
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
        self.directory.canonicalize().with_context(|| format!("could not find the directory `{shown}`"))
    }

    /// Opens the bucket.
    pub(crate) async fn open_bucket(&self, manifest: Option<&Manifest>) -> Result<Bucket> {
        let from_file = || manifest.and_then(|manifest| manifest.bucket.clone());
        let Some(url) = self.bucket.clone().or_else(from_file) else {
            return Err(misuse(
                "which bucket? Give --bucket URL, set PUSH_BUCKET, or write into release.toml \
                 [bucket] url = \"gs://acme-push\"",
            ));
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

    /// Where built packages go.
    pub(crate) fn out(&self, directory: &Path) -> PathBuf {
        directory.join(&self.out)
    }
}

/// The command was typed wrongly: exit status 2.
#[derive(Debug)]
struct Misuse(String);

impl fmt::Display for Misuse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Misuse {}

/// An error that is the fault of how the command was called.
pub(crate) fn misuse(text: impl Into<String>) -> anyhow::Error {
    Misuse(text.into()).into()
}

/// Runs the command that was typed. Called by the binary.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let Err(error) = run(cli) else { return ExitCode::SUCCESS };
    let mut causes = error.chain();
    eprintln!("error: {}", causes.next().map(ToString::to_string).unwrap_or_default());
    for cause in causes {
        eprintln!("  because: {cause}");
    }
    if error.is::<Misuse>() { ExitCode::from(2) } else { ExitCode::FAILURE }
}

fn run(cli: Cli) -> Result<()> {
    let Cli { options, command, publish } = cli;
    match command {
        Some(_) if publish.is_given() => {
            Err(misuse("`release -m NOTE` builds and uploads by itself: give -m and packages after the command's name"))
        }
        Some(command) => command.run(&options),
        None => publish.run(&options),
    }
}

/// Runs something that talks to a bucket.
pub(crate) fn wait_for<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .context("could not start the runtime")?;
    runtime.block_on(work)
}
