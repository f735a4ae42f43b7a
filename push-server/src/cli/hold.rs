//! `push hold` and `push resume`: a server that somebody works on, so that nobody else pushes there.

use std::time::Duration;

use anyhow::{Result, anyhow};
use bucket::{AppName, Hold, ServerName};
use clap::Args;
use console::{note, print_json, print_line};
use fleet::{
    hold::{Changed, hold, in_words, may_hold, resume},
    identity::{Identity, Origin},
    lookup::ensure_known,
};
use jiff::SignedDuration;
use serde_json::{Value, json};

use super::{
    command::{Command, operator_name},
    targets::{Chosen, Targets},
};

/// Put servers on hold: nobody else pushes there until the hold ends
///
/// A hold ends by itself, after 30 days at most, or by `push resume`. Whoever set it pushes there with --held. The agent goes
/// on doing what its document says, and `pulld status` shows the hold. Takes the role `deployer` for what is held.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  push hold web-1 -m 'debugging the leak'
  push hold group:stage --app web --for 3d -m 'load test'")]
pub(crate) struct HoldArguments {
    /// Servers: by name, or all that a filter matches (`group:stage`); `-` reads them from stdin
    #[arg(required = true, value_name = "SERVER|FILTER")]
    servers: Vec<String>,
    /// App that is on hold; default: all apps
    #[arg(long)]
    app: Option<AppName>,
    /// How long, at most 30d
    #[arg(long = "for", value_name = "TIME", default_value = "2h", value_parser = console::duration::parse)]
    lasts: Duration,
    /// Why, for everybody who would push there
    #[arg(short = 'm', long, value_name = "REASON", default_value = "")]
    reason: String,
}

/// End holds on servers, whoever set them
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  push resume web-1
  push resume web-1 --app web")]
pub(crate) struct Resume {
    /// Servers: by name, or all that a filter matches; `-` reads them from stdin
    #[arg(required = true, value_name = "SERVER|FILTER")]
    servers: Vec<String>,
    /// App whose holds end; default: all holds
    #[arg(long)]
    app: Option<AppName>,
}

impl HoldArguments {
    pub(crate) async fn run(self, command: &Command) -> Result<bool> {
        let lasts = SignedDuration::try_from(self.lasts).map_err(|_| anyhow!("the hold is too long"))?;
        let mut rows = Vec::new();
        for chosen in Targets::parse(&self.servers)?.read(command).await? {
            let held = async {
                let who = allowed(command, &chosen, self.app.as_ref()).await?;
                hold(&command.bucket, &who, &chosen.server.name, self.app.as_ref(), (lasts, &self.reason)).await
            };
            rows.push((chosen.server.name.clone(), held.await));
        }
        show(command, &rows, |hold| in_words(hold, command.now()))
    }
}

impl Resume {
    pub(crate) async fn run(self, command: &Command) -> Result<bool> {
        let mut rows = Vec::new();
        for chosen in Targets::parse(&self.servers)?.read(command).await? {
            let ended = async {
                allowed(command, &chosen, self.app.as_ref()).await?;
                resume(&command.bucket, &chosen.server.name, self.app.as_ref()).await
            };
            rows.push((chosen.server.name.clone(), ended.await));
        }
        show(command, &rows, |hold| format!("ended: {}", in_words(hold, command.now())))
    }
}

/// Who it is, if they may.
async fn allowed(command: &Command, chosen: &Chosen, app: Option<&AppName>) -> Result<Identity> {
    let who = Identity { name: operator_name(), origin: Origin::Local };
    ensure_known(&command.bucket, &chosen.server).await?;
    may_hold(&command.policy, &who, &chosen.server, app)?;
    Ok(who)
}

/// A line for each hold.
fn show(command: &Command, rows: &[(ServerName, Result<Changed>)], line: impl Fn(&Hold) -> String) -> Result<bool> {
    let mut values: Vec<Value> = Vec::new();
    for (server, result) in rows {
        match result {
            Ok(_) if command.json => {}
            Ok(Changed { holds, .. }) if holds.is_empty() => print_line(format_args!("{server}: nothing was on hold"))?,
            Ok(Changed { holds, .. }) => {
                for hold in holds {
                    print_line(format_args!("{server}: {}", line(hold)))?;
                }
            }
            Err(error) => note(format_args!("{server}: error: {error:#}")),
        }
        let changed = result.as_ref().ok();
        let warning = changed.and_then(|changed| changed.untold.as_ref()).map(ToString::to_string);
        if let Some(warning) = &warning {
            note(format_args!("warning: {warning}"));
        }
        let error = result.as_ref().err().map(|error| console::safe(&format!("{error:#}")));
        let holds = changed.map(|changed| &changed.holds);
        values.push(json!({ "server": server, "holds": holds, "warning": warning, "error": error }));
    }
    if command.json {
        print_json(&json!({ "rows": values }))?;
    }
    Ok(rows.iter().all(|(_, result)| result.is_ok()))
}
