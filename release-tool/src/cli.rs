//! The command line, and the start of the program.

use std::process::ExitCode;

use anyhow::Result;
use clap::{CommandFactory as _, Parser, Subcommand};
use console::UsageError;

use crate::{
    commands::{
        adopt, announce, build, buildset, candidate, change, check, diff, init, list, plan, promote, publish,
        reference, registry, run, schema, show, sweep, upload,
    },
    options::Options,
};

const EXAMPLES: &str = "\
Examples:
  release init                          write a release.toml to begin with
  release check                         find errors before building
  release plan                          show what would be in each package, and what changed
  release -m \"fix the login\"            build and upload everything in release.toml
  release -m \"fix the login\" web        build and upload only the package `web`
  release build -m \"try it\" web         build only; the .deb is in dist/
  release upload dist/web:*.deb         upload a package built before
  release list web                      list the releases of `web`, newest first
  release diff OLD web                  show what changes from a release to the newest of `web`
  release run -m \"fix the login\"        build, test and release as .pipeline/config.yaml says
  release reference | less              read about every key of release.toml

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

/// What `release` can do besides building and uploading in one go.
#[derive(Debug, Subcommand)]
enum Command {
    /// Write a release.toml from what the directory shows
    #[command(after_help = init::EXAMPLES)]
    Init,
    /// Check release.toml or built packages for errors
    Check(check::Check),
    /// Show what would be in each package, and what changed since its last release
    Plan(plan::Plan),
    /// Build packages without uploading them, and print their paths
    Build(build::Build),
    /// Upload packages built by `release build`, and print the release names
    Upload(upload::Upload),
    /// List the releases of an app, newest first, or the apps that have any
    List(list::List),
    /// Show what is in a release or in a built package
    Show(show::Show),
    /// Show what changes from one release to another
    Diff(diff::Diff),
    /// Record and show changes that are not merged yet
    Change(change::Change),
    /// Build packages of a change that is not merged yet, and upload them as candidates
    Candidate(candidate::Candidate),
    /// Make an overlay of production with what a change would alter, and try it
    Buildset(buildset::Buildset),
    Registry(registry::Registry),
    /// Make releases of the gated candidates of a change that was merged
    Promote(promote::Promote),
    Run(run::RunPipelines),
    /// Delete candidates and overlays that are of no use any more
    Sweep(sweep::Sweep),
    /// Have watchers of channels look at an image that something else built
    Announce(announce::Announce),
    /// Make releases of ours from those of the original system
    Adopt(adopt::Adopt),
    /// Print the reference of release.toml: every key, with its default and an example
    #[command(after_help = reference::EXAMPLES)]
    Reference,
    /// Print the JSON schema of release.toml, for editors
    #[command(after_help = schema::EXAMPLES)]
    Schema,
    /// Print a shell completion script
    #[command(after_help = "Example:\n  release completions bash > /etc/bash_completion.d/release")]
    Completions(console::Completions),
}

impl Command {
    fn run(self, options: &Options) -> Result<ExitCode> {
        let done = match self {
            Self::Buildset(buildset) => return buildset.run(options),
            Self::Registry(registry) => return registry.run(options),
            Self::Run(run) => return run.run(options),
            Self::Init => init::run(options),
            Self::Plan(plan) => plan.run(options),
            Self::Build(build) => build.run(options),
            Self::Upload(upload) => upload.run(options),
            Self::List(list) => list.run(options),
            Self::Show(show) => show.run(options),
            Self::Diff(diff) => diff.run(options),
            Self::Check(check) => check.run(options),
            Self::Change(change) => change.run(options),
            Self::Candidate(candidate) => candidate.run(options),
            Self::Promote(promote) => promote.run(options),
            Self::Sweep(sweep) => sweep.run(options),
            Self::Announce(announce) => announce.run(options),
            Self::Adopt(adopt) => adopt.run(options),
            Self::Reference => reference::run(),
            Self::Schema => schema::run(),
            Self::Completions(completions) => completions.run::<Cli>(),
        };
        done.map(|()| ExitCode::SUCCESS)
    }
}

/// Runs the command that was typed. Called by the binary.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    console::run(|| run(cli))
}

/// The names of the subcommands.
fn commands() -> Vec<String> {
    Cli::command().get_subcommands().map(|command| command.get_name().to_owned()).collect()
}

fn run(cli: Cli) -> Result<ExitCode> {
    let Cli { options, command, publish } = cli;
    match command {
        Some(_) if publish.is_given() => {
            let text = "-m and package names must follow the subcommand, as in `release build -m NOTE web`";
            Err(UsageError::new(text).into())
        }
        Some(command) => command.run(&options),
        None => publish.run(&options, &commands()).map(|()| ExitCode::SUCCESS),
    }
}
