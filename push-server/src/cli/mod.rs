//! The `push` command: one file for each verb, all printing here.

mod check_config;
mod deploy;
mod history;
mod list;
mod rollback;
mod serve;
mod show;
mod status;
mod wait;

use std::{io::Write, path::PathBuf, process::ExitCode, str::FromStr, sync::Arc, time::Duration};

use anyhow::{Context, Result};
use bucket::{Bucket, BucketOptions, BucketUrl};
use clap::{CommandFactory, Parser, Subcommand};

use fleet::policy::{Policy, watched::load_policy};

/// Chooses which release each server should have, and shows what every server runs.
///
/// Servers are named as in their documents, usually by short host name. stdout has the result, stderr the talk.
/// Exit status: 0 done, 1 something failed, 2 misused.
#[derive(Debug, Parser)]
#[command(name = "push", version, after_help = EXAMPLES)]
struct Arguments {
    /// The bucket: `gs://NAME` or `file:///DIRECTORY`.
    #[arg(long, global = true, env = "PUSH_BUCKET", value_name = "URL")]
    bucket: Option<BucketUrl>,
    /// What may go where, and who may do it (`push check-config` checks it).
    #[arg(long, global = true, env = "PUSH_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    /// Print one JSON document instead of words.
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    verb: Verb,
}

const EXAMPLES: &str = "Examples:
  push deploy web web-1 web-2 -m 'login fix' --wait   the newest clean release of web, to two servers
  push status                                         every server at a glance
  push status web-1                                   one server in full
  push rollback web web-1 -m 'too slow'               what web-1 had before
  push list web                                       the releases there are
  push history web-1                                  who pushed what, when and why
  push serve                                          all of that as a web page, on this machine";

#[derive(Debug, Subcommand)]
enum Verb {
    Deploy(deploy::Deploy),
    Rollback(rollback::Rollback),
    Status(status::StatusArguments),
    List(list::List),
    History(history::History),
    Serve(serve::Serve),
    CheckConfig(check_config::CheckConfig),
    /// Prints a completion script for a shell.
    Completions {
        /// Which shell.
        shell: clap_complete::Shell,
    },
}

/// What every verb works with.
pub(crate) struct Command {
    pub(crate) bucket: Bucket,
    pub(crate) policy: Arc<Policy>,
    pub(crate) json: bool,
}

/// Runs the command that the process was started as.
pub fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let runtime = match tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("error: could not start: {error}");
            return ExitCode::FAILURE;
        }
    };
    match runtime.block_on(run(arguments)) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {}", show::safe(&format!("{error}")));
            for cause in error.chain().skip(1) {
                eprintln!("  because {}", show::safe(&cause.to_string()));
            }
            ExitCode::from(if error.is::<Misused>() { 2 } else { 1 })
        }
    }
}

/// The command can't be carried out as it was given.
#[derive(Debug)]
pub(crate) struct Misused(pub(crate) String);

impl std::fmt::Display for Misused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Misused {}

async fn run(arguments: Arguments) -> Result<bool> {
    if let Verb::Completions { shell } = arguments.verb {
        clap_complete::generate(shell, &mut Arguments::command(), "push", &mut std::io::stdout());
        return Ok(true);
    }
    if let Verb::CheckConfig(check) = &arguments.verb {
        return check.run(arguments.config.as_deref(), arguments.json);
    }
    let no_bucket = || Misused("no bucket was named: give --bucket gs://NAME, or set PUSH_BUCKET".to_owned());
    let url = arguments.bucket.ok_or_else(no_bucket)?;
    let options = BucketOptions::from_env(|key| std::env::var(key).ok())?;
    let bucket = Bucket::open(&url, &options).await?;
    if let Verb::Serve(serve) = arguments.verb {
        return serve.run(bucket, &url, arguments.config).await;
    }
    let policy = arguments.config.as_deref().map(load_policy).transpose()?.unwrap_or_default();
    let context = Command { bucket, policy: Arc::new(policy), json: arguments.json };
    match arguments.verb {
        Verb::Deploy(deploy) => deploy.run(&context).await,
        Verb::Rollback(rollback) => rollback.run(&context).await,
        Verb::Status(status) => status.run(&context).await,
        Verb::List(list) => list.run(&context).await,
        Verb::History(history) => history.run(&context).await,
        Verb::Serve(_) | Verb::CheckConfig(_) | Verb::Completions { .. } => Ok(true),
    }
}

/// Prints the one JSON document of a verb.
pub(crate) fn print_json(value: &serde_json::Value) -> Result<()> {
    print(&format!("{value:#}\n"))
}

/// Prints a result. A reader that went away, as `head` does, is no error worth a word.
pub(crate) fn print(text: &str) -> Result<()> {
    match std::io::stdout().lock().write_all(text.as_bytes()) {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        written => written.context("could not write to standard output"),
    }
}

/// Who pushes: login name and host, as far as the machine knows.
pub(crate) fn who() -> String {
    let set = |key: &str| std::env::var(key).ok().filter(|user| !user.is_empty());
    // Anybody can set it; only sudo sets it for root.
    let by_sudo = || set("SUDO_USER").filter(|_| rustix::process::getuid().is_root());
    let user = set("PUSH_USER").or_else(by_sudo).or_else(|| set("USER")).or_else(|| set("LOGNAME"));
    let user = user.unwrap_or_else(|| "unknown".to_owned());
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    show::safe(&format!("{user}@{}", host.split('.').next().unwrap_or_default()))
}

/// A duration as people write it: `90s`, `5m`, `1h`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Span(pub(crate) Duration);

impl FromStr for Span {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let span: jiff::SignedDuration = text.parse().map_err(|_| "write it as in `90s`, `5m` or `1h`".to_owned())?;
        Ok(Self(Duration::try_from(span).map_err(|_| "it can't be negative".to_owned())?))
    }
}
