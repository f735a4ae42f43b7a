//! The `push` command: one file for each verb. Nothing else in this crate prints.

mod carry_on;
mod channel;
mod check_config;
mod command;
mod configured;
mod deploy;
mod diff;
mod halt;
mod history;
mod hold;
mod list;
mod pending;
mod pushes;
mod reject;
mod remove;
mod retire;
mod retry;
mod rollback;
mod rollout;
mod serve;
mod simulate;
mod status;
mod targets;
mod undo;
mod watch;
mod waves;

use std::{path::PathBuf, process::ExitCode, sync::Arc};

use anyhow::Result;
use bucket::{Bucket, BucketOptions, BucketUrl};
use clap::{Parser, Subcommand};
use console::{Completions, Threads, UsageError, note};
use fleet::policy::watched::load_policy;

use self::command::{Command, clock_warning};

/// Choose which release each server should have, and show what every server runs
///
/// Servers are named as in their documents, usually by short host name. Results go to stdout, messages to stderr.
#[derive(Debug, Parser)]
#[command(name = "push", version, after_help = AFTER_HELP)]
struct Arguments {
    /// Bucket: `gs://NAME` or `file:///DIRECTORY`
    #[arg(long, global = true, env = "PUSH_BUCKET", value_name = "URL")]
    bucket: Option<BucketUrl>,
    /// Policy file: which apps may be deployed where, and by whom (validate with `push check-config`)
    #[arg(long, global = true, env = "PUSH_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    /// Print the result as JSON
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    verb: Verb,
}

const AFTER_HELP: &str = "Examples:
  push deploy web web-1 web-2 -m 'login fix' --wait   the newest clean release of web, to two servers
  push status                                         every server at a glance
  push status web-1                                   one server in full
  push rollback web web-1 -m 'too slow'               the previous release of web on web-1
  push retry web web-1 -m 'the disk was full'         the same release once more, where it failed
  push remove web web-1 -m 'moved to web-2'           web-1 should no longer have web
  push pushes                                         the last pushes, each whatever its number of servers
  push undo k3v9w1c7m2xq -m 'too slow'                what ran before that push, on all its servers
  push list web                                       the releases of web
  push history web-1                                  who pushed what, when and for what reason
  push watch --config skiapush.conf                   what lands on a branch goes out by itself (channels)
  push serve                                          the same as a web app, on this machine

Exit status:
  0  success
  1  failure
  2  usage error";

#[derive(Debug, Subcommand)]
enum Verb {
    Deploy(deploy::Deploy),
    Rollback(rollback::Rollback),
    Retry(retry::Retry),
    Remove(remove::Remove),
    Retire(retire::Retire),
    Undo(undo::Undo),
    Pushes(pushes::Pushes),
    Show(pushes::Show),
    Continue(carry_on::Continue),
    Stop(carry_on::Stop),
    Rollout(rollout::RolloutArguments),
    Channel(channel::ChannelArguments),
    Watch(watch::Watch),
    Reject(reject::Reject),
    Unreject(reject::Unreject),
    Halt(halt::HaltArguments),
    Hold(hold::HoldArguments),
    Resume(hold::Resume),
    Diff(diff::Diff),
    Status(status::StatusArguments),
    List(list::List),
    History(history::History),
    Serve(serve::Serve),
    CheckConfig(check_config::CheckConfig),
    Simulate(simulate::Simulate),
    /// Print a completion script for a shell
    Completions(Completions),
}

/// Runs the command that the process was started as.
pub fn main() -> ExitCode {
    console::run(|| {
        let arguments = Arguments::parse();
        let succeeded = console::block_on(Threads::Two, run(arguments))?;
        Ok(if succeeded { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    })
}

async fn run(arguments: Arguments) -> Result<bool> {
    let verb = match arguments.verb {
        Verb::Completions(completions) => return completions.run::<Arguments>().map(|()| true),
        Verb::CheckConfig(check) => return check.run(arguments.config.as_deref(), arguments.json),
        Verb::Simulate(simulate) => return simulate.run().await,
        verb => verb,
    };
    if matches!(verb, Verb::Serve(_)) {
        serve::start_logging();
    }
    let no_bucket = || UsageError::new("no bucket specified: use --bucket gs://NAME or set PUSH_BUCKET");
    let url = arguments.bucket.ok_or_else(no_bucket)?;
    let options = BucketOptions::from_env(|key| std::env::var(key).ok())?;
    let bucket = Bucket::open(&url, &options).await?;
    let open = |policy: Option<PathBuf>| -> Result<Command> {
        let policy = policy.as_deref().map(load_policy).transpose()?.unwrap_or_default();
        Ok(Command { bucket: bucket.clone(), policy: Arc::new(policy), json: arguments.json })
    };
    let done = match verb {
        Verb::Serve(serve) => return serve.run(bucket, &url, arguments.config).await,
        Verb::Watch(watch) => watch.run(bucket.clone(), &url, arguments.config, arguments.json).await,
        Verb::Deploy(deploy) => deploy.run(&open(arguments.config)?).await,
        Verb::Rollback(rollback) => rollback.run(&open(arguments.config)?).await,
        Verb::Retire(retire) => retire.run(&open(arguments.config)?).await,
        Verb::Remove(remove) => remove.run(&open(arguments.config)?).await,
        Verb::Retry(retry) => retry.run(&open(arguments.config)?).await,
        Verb::Undo(undo) => undo.run(&open(arguments.config)?).await,
        Verb::Pushes(pushes) => pushes.run(&open(arguments.config)?).await,
        Verb::Show(show) => show.run(&open(arguments.config)?).await,
        Verb::Continue(carry_on) => carry_on.run(&open(arguments.config)?).await,
        Verb::Stop(stop) => stop.run(&open(arguments.config)?).await,
        Verb::Rollout(rollout) => rollout.run(&open(arguments.config)?).await,
        Verb::Channel(channel) => channel.run(&open(arguments.config)?).await,
        Verb::Reject(reject) => reject.run(&open(arguments.config)?).await,
        Verb::Unreject(unreject) => unreject.run(&open(arguments.config)?).await,
        Verb::Diff(diff) => diff.run(&open(arguments.config)?).await,
        Verb::Hold(hold) => hold.run(&open(arguments.config)?).await,
        Verb::Resume(resume) => resume.run(&open(arguments.config)?).await,
        Verb::Halt(halt) => halt.run(&open(arguments.config)?).await,
        Verb::Status(status) => status.run(&open(arguments.config)?).await,
        Verb::List(list) => list.run(&open(arguments.config)?).await,
        Verb::History(history) => history.run(&open(arguments.config)?).await,
        Verb::CheckConfig(_) | Verb::Simulate(_) | Verb::Completions(_) => Ok(true),
    };
    if let Some(warning) = clock_warning(bucket.clock_offset()) {
        note(warning);
    }
    done
}
