//! `push retire`: servers that are no more, or no longer ours.

use anyhow::Result;
use clap::Args;
use console::{note, print_json, print_line};
use fleet::{
    identity::{Identity, Origin},
    lookup::ensure_known,
    operation::Operator,
    poke::PokeSettings,
    policy::Reason,
    reason::ensure_short,
    retire::{Retired, retire},
    server::Server,
};
use serde_json::{Value, json};

use super::{
    command::{Command, operator_name},
    targets::Targets,
};

/// Retire servers: each document and report is put away
///
/// Nothing on the server changes: an agent that still runs keeps what is installed, and is shown as retired as long as it
/// reports. The document is kept below `retired/`; `push undo` restores it. A command that was interrupted is finished by the
/// same command. Takes the role `admin`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  push retire web-7 -m 'scaled down'
  push retire 'state:silent group:stage' --dry-run")]
pub(crate) struct Retire {
    /// Servers to retire: by name, or all that a filter matches (`group:stage state:silent`); `-` reads them from stdin
    #[arg(required = true, value_name = "SERVER|FILTER")]
    servers: Vec<String>,
    /// Reason, recorded in the history
    #[arg(short = 'm', long, value_name = "REASON", default_value = "")]
    reason: String,
    /// Retire also servers that you have put on hold
    #[arg(long)]
    held: bool,
    /// Show what would be retired, and change nothing
    #[arg(long)]
    dry_run: bool,
}

impl Retire {
    pub(crate) async fn run(self, command: &Command) -> Result<bool> {
        let servers: Vec<Server> =
            Targets::parse(&self.servers)?.read(command).await?.into_iter().map(|chosen| chosen.server).collect();
        let who = Identity { name: operator_name(), origin: Origin::Local };
        if self.dry_run {
            return dry_run(command, &who, &self.reason, &servers).await;
        }
        ensure_short(&self.reason)?;
        let operator = Operator {
            who,
            reason: self.reason,
            policy: command.policy.clone(),
            poke: PokeSettings::None,
            held: self.held,
            without_waves: false,
            channel: None,
        };
        let names = servers.into_iter().map(|server| server.name).collect();
        show(command, &retire(&command.bucket, &operator, names).await, "retired")
    }
}

async fn dry_run(command: &Command, who: &Identity, reason: &str, servers: &[Server]) -> Result<bool> {
    let mut succeeded = true;
    let mut rows: Vec<Value> = Vec::new();
    for server in servers {
        let apps: Vec<_> = server.releases().map(bucket::ReleaseName::app).collect();
        let judged = command.policy.judge_retirement(who, &server.name, &apps, Reason::Given(reason));
        let error = match (judged, ensure_known(&command.bucket, server).await) {
            (Err(refusal), _) => Some(refusal.to_string()),
            (_, Err(error)) => Some(format!("{error:#}")),
            _ => None,
        };
        succeeded &= error.is_none();
        match &error {
            _ if command.json => {}
            Some(error) => note(format_args!("{}: error: {error}", server.name)),
            None => print_line(format_args!("{}: would be retired: {} apps", server.name, apps.len()))?,
        }
        rows.push(json!({ "server": server.name, "result": "dry-run", "error": error }));
    }
    if command.json {
        print_json(&json!({ "push": null, "rows": rows }))?;
    }
    Ok(succeeded)
}

/// A line for each server; `done` is what was done with it. Whether all succeeded.
pub(super) fn show(command: &Command, rows: &[Retired], done: &'static str) -> Result<bool> {
    let mut json_rows: Vec<Value> = Vec::new();
    for row in rows {
        let warnings: Vec<String> = row.incomplete.iter().map(ToString::to_string).collect();
        let error = row.result.as_ref().err().map(|error| console::safe(&error.to_string()));
        match &error {
            Some(error) => note(format_args!("{}: error: {error}", row.server)),
            None if command.json => {}
            None => print_line(format_args!("{}: {done}", row.server))?,
        }
        for warning in &warnings {
            note(format_args!("{}: warning: {warning}", row.server));
        }
        let result = if error.is_none() { done } else { "failed" };
        json_rows.push(
            json!({ "server": row.server, "result": result, "error": error, "warnings": warnings, "push": row.push }),
        );
    }
    let push = rows.iter().find_map(|row| row.push.as_ref());
    if command.json {
        print_json(&json!({ "push": push, "rows": json_rows }))?;
    } else if let Some(push) = push.filter(|_| done == "retired") {
        note(format_args!("note: this is push {push}: `push undo {push}` restores the documents"));
    }
    Ok(rows.iter().all(|row| row.result.is_ok()))
}
