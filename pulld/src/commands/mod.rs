//! The subcommands of `pulld`, one file each. stdout has the result, stderr the talk.
//!
//! Exit codes: 0 done, 1 failed, 2 misused; `pulld plan` also 3: there is something to do.

use std::{path::PathBuf, process::ExitCode};

use anyhow::Result;
use clap::{Parser, Subcommand};

use crate::{
    agent::Machine,
    config::{self, Loaded, Settings},
    machine::{deb, dpkg::Dpkg, runner, systemd::Systemd},
    state::paths::Paths,
};

mod check_config;
mod completions;
mod plan;
mod pull;
mod run;
mod status;

/// Keeps this server at the releases that its document in the bucket asks for.
#[derive(Debug, Parser)]
#[command(
    name = "pulld",
    version,
    after_help = "Examples:\n  pulld pull            pull now, and see how it ended\n  pulld status          how this server is\n  \
                  pulld plan            what a pull would do\n  journalctl -u pulld   what it did, and why"
)]
pub struct Arguments {
    /// Read this file in place of /etc/pulld/pulld.toml.
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,

    /// Put the agent's own files below this directory; dpkg and systemd stay this machine's.
    #[arg(long, global = true, value_name = "DIR", env = "PULLD_ROOT", default_value = "/", hide = true)]
    root: PathBuf,

    /// What to do.
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the agent; systemd does.
    Run(run::Arguments),
    /// Have the agent pull now, wait for the end and tell how it was.
    Pull(pull::Arguments),
    /// Tell how this server is, from the agent's last report.
    Status(status::Arguments),
    /// Tell what a pull would do; changes nothing.
    Plan(plan::Arguments),
    /// Read the configuration and tell what it amounts to.
    CheckConfig(check_config::Arguments),
    /// Print a completion script for a shell.
    Completions(completions::Arguments),
    /// Carry out an order of the agent, in a service of its own.
    #[command(hide = true)]
    Transact {
        /// Where the order is, and the result goes.
        directory: PathBuf,
    },
}

/// What every subcommand is given.
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

    /// What there is to work on: dpkg and systemd of this machine.
    fn machine(&self) -> Machine<Dpkg, Systemd> {
        Machine { packages: Dpkg::new(self.paths.requests()), services: Systemd, inspect: deb::inspect }
    }

    /// What the agent goes by as long as the configuration is wrong from the start.
    fn fallback() -> Settings {
        config::unconfigured(&host())
    }
}

/// Runs a subcommand; what it fails with is told on stderr, one cause a line.
pub fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let context = Context { paths: Paths::new(arguments.root), config: arguments.config };
    let ended = match arguments.command {
        Command::Run(arguments) => run::run(&context, &arguments),
        Command::Pull(arguments) => pull::run(&context, &arguments),
        Command::Status(arguments) => status::run(&context, &arguments),
        Command::Plan(arguments) => plan::run(&context, &arguments),
        Command::CheckConfig(arguments) => check_config::run(&context, &arguments),
        Command::Completions(arguments) => Ok(completions::run(&arguments)),
        Command::Transact { directory } => runner::run(&directory).map(|()| ExitCode::SUCCESS),
    };
    ended.unwrap_or_else(|error| {
        eprintln!("pulld: {error}");
        error.chain().skip(1).for_each(|cause| eprintln!("  because {cause}"));
        ExitCode::FAILURE
    })
}

fn host() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

/// One thread is enough for an agent of one loop, and costs the least memory.
fn runtime() -> Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_current_thread().enable_all().build()?)
}

/// Text from elsewhere, safe for a terminal.
fn safe(text: &str) -> String {
    text.chars().flat_map(|c| if c.is_control() { c.escape_default().collect() } else { vec![c] }).collect()
}

/// The same for several lines.
fn safe_lines(text: &str) -> String {
    text.lines().map(|line| safe(line) + "\n").collect()
}
