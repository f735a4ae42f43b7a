//! The subcommands of `pulld`, one file each. Results go to stdout, messages to stderr.
//!
//! Exit status: 0 success; 1 failure; 2 usage error; `pulld plan` and `pulld why` also 3: changes pending, or kept from being made.

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::Result;
use clap::{Parser, Subcommand};
use console::{Completions, logging};
use tracing::Level;

#[cfg(feature = "fail-points")]
use crate::machine::door::Door;
use crate::{
    agent::Machine,
    config::{self, Loaded, Settings},
    machine::{PackageManager, ServiceManager, deb, dpkg::Dpkg, runner, systemd::Systemd},
    state::paths::Paths,
};

mod check_config;
mod plan;
mod pull;
mod resume;
mod retry;
mod rollback;
mod run;
mod status;
mod why;

/// Keep this server at the releases that its document in the bucket lists
#[derive(Debug, Parser)]
#[command(
    name = "pulld",
    version,
    after_help = "Examples:\n  pulld pull            pull now and print the outcome\n  pulld status          state of this server\n  \
                  pulld plan            pending changes\n  \
                  pulld why web         why an app is not as it should be\n  journalctl -u pulld   log of the agent"
)]
pub struct Arguments {
    /// Configuration file to read instead of /etc/pulld/pulld.toml
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,

    /// Directory for the agent's own files; dpkg and systemd remain those of this machine
    #[arg(long, global = true, value_name = "DIR", env = "PULLD_ROOT", default_value = "/", hide = true)]
    root: PathBuf,

    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the agent (started by systemd)
    Run(run::Arguments),
    /// Trigger a pull, wait for it to finish, and print the outcome
    Pull(pull::Arguments),
    /// Try again what failed or was rolled back on this server
    Retry(retry::Arguments),
    /// Go back to the release before on this server, even without the bucket, and leave the app alone
    Rollback(rollback::Arguments),
    /// Take care again of an app that was rolled back on this server
    Resume(resume::Arguments),
    /// Show the state of this server, from the agent's last report
    Status(status::Arguments),
    /// Say why an app is not as the server document says, and what to do about it
    Why(why::Arguments),
    /// Show what a pull would do, without changing anything
    Plan(plan::Arguments),
    /// Read the configuration and print the resulting settings
    CheckConfig(check_config::Arguments),
    /// Print a shell completion script
    #[command(after_help = "Example:\n  pulld completions bash > /usr/share/bash-completion/completions/pulld")]
    Completions(Completions),
    /// Run dpkg for the agent, in a service of its own
    #[command(hide = true)]
    Transact {
        /// Directory of the request and of the result
        directory: PathBuf,
    },
    /// Restore the previous pulld (started by pulld-rescue.timer)
    #[command(hide = true)]
    Rescue {
        /// Directory of what the rescue needs
        directory: PathBuf,
    },
}

/// What every subcommand needs.
#[derive(Debug, Clone)]
pub(crate) struct Context {
    paths: Paths,
    config: Option<PathBuf>,
}

impl Context {
    /// The configuration as it is now.
    fn load(&self) -> Result<Loaded> {
        config::load(&self.paths, self.config.as_deref(), |key| std::env::var(key).ok(), &host())
    }

    /// dpkg and systemd of this machine.
    fn machine(&self) -> Machine<impl PackageManager, impl ServiceManager> {
        let (packages, services) = (Dpkg::new(self.paths.requests()), Systemd);
        #[cfg(feature = "fail-points")]
        let (packages, services) = (Door(packages), Door(services));
        Machine { packages, services, inspect: deb::inspect }
    }

    /// The agent's settings while the configuration is invalid from the start.
    fn fallback(&self) -> Settings {
        config::last_valid(&self.paths.settings(), &host())
    }
}

/// Runs the subcommand that the process was started with.
pub fn main() -> ExitCode {
    if let Some(directory) = directory_of_runner(std::env::args_os().skip(1)) {
        return console::run(|| transact(&directory));
    }
    let arguments = Arguments::parse();
    let context = Context { paths: Paths::new(arguments.root), config: arguments.config };
    let run = || match arguments.command {
        Command::Run(arguments) => run::run(&context, &arguments),
        Command::Pull(arguments) => pull::run(&context, &arguments),
        Command::Retry(arguments) => retry::run(&context, arguments),
        Command::Rollback(arguments) => rollback::run(&context, arguments),
        Command::Resume(arguments) => resume::run(&context, arguments),
        Command::Status(arguments) => status::run(&context, &arguments),
        Command::Why(arguments) => why::run(&context, &arguments),
        Command::Plan(arguments) => plan::run(&context, &arguments),
        Command::CheckConfig(arguments) => check_config::run(&context, &arguments),
        Command::Completions(completions) => completions.run::<Arguments>().map(|()| ExitCode::SUCCESS),
        Command::Transact { directory } => transact(&directory),
        Command::Rescue { directory } => {
            logging::start(Level::INFO, &["pulld"]);
            runner::rescue::run(&directory, journal()).map(|()| ExitCode::SUCCESS)
        }
    };
    console::run(|| run().map_err(as_root))
}

/// The directory of `transact DIRECTORY`, as the agent starts it. dpkg waits for its start: it is known without the
/// description of all subcommands.
fn directory_of_runner(arguments: impl Iterator<Item = OsString>) -> Option<PathBuf> {
    let [command, directory] = &arguments.collect::<Vec<_>>()[..] else { return None };
    let is_directory = !directory.is_empty() && !directory.as_encoded_bytes().starts_with(b"-");
    (command == "transact" && is_directory).then(|| directory.into())
}

/// Carries out a dpkg request, in the service that the agent starts for it.
fn transact(directory: &Path) -> Result<ExitCode> {
    runner::run(directory, std::io::stdin().lock(), journal()).map(|()| ExitCode::SUCCESS)
}

/// Adds to an error that root would not get what to do about it.
fn as_root(error: anyhow::Error) -> anyhow::Error {
    let denied = |cause: &std::io::Error| cause.kind() == std::io::ErrorKind::PermissionDenied;
    let is_denied = error.chain().filter_map(|cause| cause.downcast_ref()).any(denied);
    if is_denied && !rustix::process::geteuid().is_root() {
        return error.context("this command requires root: run it again with `sudo`");
    }
    error
}

fn host() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

/// Where a service's output goes.
fn journal() -> runner::JournalStream {
    Box::new(std::io::stderr())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_agent_starts_is_known_without_the_description_of_all_subcommands() {
        let directory = |arguments: &[&str]| directory_of_runner(arguments.iter().map(OsString::from));
        assert_eq!(directory(&["transact", "/var/lib/pulld/order"]), Some("/var/lib/pulld/order".into()));
        for others in [&["transact"][..], &["transact", "--help"], &["transact", ""], &["transact", "a", "b"], &["run"]]
        {
            assert_eq!(directory(others), None, "{others:?}");
        }
    }
}
