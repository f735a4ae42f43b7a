//! Pushes of the command, from what was read to how they ended: what `push deploy` and `push rollback` share.

use std::time::Duration;

use anyhow::{Result, bail};
use bucket::{Generation, HistoryEntry, PushKind, Release, ServerName, Timestamp};
use clap::Args;
use console::{UsageError, note, print_json, print_line};
use fleet::{
    identity::{Identity, Origin},
    operation::{self, Intent, JustRead, Operator},
    plan::{Proposal, propose},
    poke::PokeSettings,
    policy::{Case, Reason},
    push::Seen,
    server::{Reading, Server},
};
use serde_json::{Value, json};

use super::{
    command::{Command, operator_name},
    wait,
};

/// How a deploy or a rollback is done.
#[derive(Debug, Args)]
pub(crate) struct DeployOptions {
    /// Reason for the push, recorded in the history
    #[arg(short = 'm', long, value_name = "REASON", default_value = "")]
    reason: String,
    /// Show what would change, and change nothing
    #[arg(long)]
    dry_run: bool,
    /// Wait until every server runs the release or has rolled back
    #[arg(long)]
    wait: bool,
    /// Maximum time to wait
    #[arg(long, value_name = "TIME", default_value = "10m", value_parser = console::duration::parse)]
    timeout: Duration,
    /// Google Cloud project of the instances to poke; without it, or with `none`, servers pick up the change at their
    /// next poll
    #[arg(long, value_name = "PROJECT", env = "PUSH_GCE_PROJECT")]
    project: Option<String>,
}

/// One server's push, before it is written.
pub(crate) struct PendingPush {
    pub(crate) server: ServerName,
    pub(crate) proposal: Result<(Proposal, JustRead)>,
    pub(crate) kind: PushKind,
}

/// What a push would do to a server that was read just now.
pub(crate) fn proposal(server: &Server, release: &Release, kind: &PushKind) -> Result<(Proposal, JustRead)> {
    let seen = match &server.document {
        Reading::Known((generation, document)) => Seen { generation: Some(*generation), document: document.clone() },
        Reading::Absent => Seen::default(),
        Reading::Unreadable(error) => {
            bail!("nothing was written: could not read the document of `{}`: {error}", server.name)
        }
    };
    let proposal = propose(server, release, kind, Timestamp::now());
    Ok((proposal, JustRead { release: release.clone(), seen }))
}

/// Writes what was proposed, a line for each server, and follows it if asked to.
pub(crate) async fn carry_out(command: &Command, options: &DeployOptions, pending: Vec<PendingPush>) -> Result<bool> {
    if options.reason.len() > HistoryEntry::MAX_WHY {
        bail!(UsageError::new(format!("the reason must have at most {} bytes", HistoryEntry::MAX_WHY)));
    }
    let lookup = |key: &str| std::env::var(key).ok();
    let poke = PokeSettings::from_env(options.project.as_deref(), lookup);
    let operator = Operator {
        who: Identity { name: operator_name(), origin: Origin::Local },
        reason: options.reason.clone(),
        policy: command.policy.clone(),
        poke: poke.map_err(|error| UsageError::new(format!("{error:#}")))?,
    };
    let mut rows: Vec<Row> = pending.into_iter().map(|pending| row(&operator, pending)).collect();
    if options.dry_run {
        for row in &mut rows {
            if row.error.is_none() {
                row.result = "dry-run";
            }
            row.print(command)?;
        }
    } else {
        write(command, &operator, &mut rows).await?;
    }
    let mut succeeded = rows.iter().all(|row| row.error.is_none());
    let mut results: Vec<Value> = rows.iter().map(Row::as_json).collect();
    if options.wait {
        let pushed = rows.iter().filter_map(|row| {
            let proposal = row.proposal.as_ref()?;
            Some((row.server.clone(), proposal.to.clone(), row.generation?))
        });
        for (server, outcome) in wait::follow(&command.bucket, pushed.collect(), options.timeout).await {
            succeeded &= outcome.is_ok();
            let text = outcome.to_string();
            if !command.json {
                print_line(format_args!("{server}: {}", text.replace('\n', "\n  ")))?;
            }
            if let Some(result) = results.iter_mut().find(|result| result["server"] == server.as_str()) {
                result["outcome"] = outcome.label().into();
                result["outcome_text"] = text.into();
            }
        }
    }
    if command.json {
        print_json(&json!({ "pushes": results }))?;
    }
    Ok(succeeded)
}

/// One server's line.
struct Row {
    server: ServerName,
    kind: PushKind,
    proposal: Option<Proposal>,
    just_read: Option<JustRead>,
    result: &'static str,
    warnings: Vec<String>,
    generation: Option<Generation>,
    error: Option<String>,
}

/// What is known of a push before it is written, the policy's judgement too.
fn row(operator: &Operator, pending: PendingPush) -> Row {
    let PendingPush { server, proposal, kind } = pending;
    let (proposal, just_read, mut error) = match proposal {
        Ok((proposal, just_read)) => (Some(proposal), Some(just_read), None),
        Err(error) => (None, None, Some(format!("{error:#}"))),
    };
    if let Some(proposal) = &proposal {
        let reason = Reason::Given(&operator.reason);
        let case = Case { server: &server, app: proposal.to.app(), dirty: proposal.dirty, reason };
        error = operator.policy.judge(&operator.who, case).err().map(|refusal| refusal.to_string());
    }
    let warnings = proposal.iter().flat_map(|proposal| &proposal.warnings).map(ToString::to_string).collect();
    Row { server, kind, proposal, just_read, result: "failed", warnings, generation: None, error }
}

async fn write(command: &Command, operator: &Operator, rows: &mut [Row]) -> Result<()> {
    let intents = rows.iter_mut().filter(|row| row.error.is_none()).filter_map(|row| {
        let proposal = row.proposal.as_ref()?;
        let (server, release) = (row.server.clone(), proposal.to.clone());
        let intent = Intent { server, release, from: proposal.from.clone(), kind: row.kind.clone() };
        Some((intent, row.just_read.take()))
    });
    let results = operation::carry_out(&command.bucket, operator, intents.collect(), |_, _| ()).await;
    let mut results = results.into_iter();
    for row in rows {
        if row.error.is_none()
            && let Some(pushed) = results.next()
        {
            match pushed.result {
                Ok(generation) => (row.result, row.generation) = ("pushed", Some(generation)),
                Err(error) => row.error = Some(error.to_string()),
            }
            row.warnings.extend(pushed.incomplete.iter().map(ToString::to_string));
        }
        row.print(command)?;
    }
    Ok(())
}

impl Row {
    fn print(&self, command: &Command) -> Result<()> {
        let server = &self.server;
        if let Some(error) = &self.error {
            note(format_args!("{server}: error: {error}"));
            return Ok(());
        }
        if let (Some(proposal), false) = (&self.proposal, command.json) {
            let verb = if self.generation.is_some() { "pushed" } else { "would be pushed" };
            let from = proposal.from.as_ref().map_or("(nothing)", |from| from.stem());
            print_line(format_args!("{server}: {verb}: {from} → {}", proposal.to.stem()))?;
        }
        for warning in &self.warnings {
            note(format_args!("{server}: warning: {warning}"));
        }
        Ok(())
    }

    fn as_json(&self) -> Value {
        let mut value = json!({ "server": self.server, "result": self.result });
        if let Some(error) = &self.error {
            value["result"] = "failed".into();
            value["error"] = console::safe(error).into();
        } else if let Some(proposal) = &self.proposal {
            value["from"] = json!(proposal.from);
            value["to"] = json!(proposal.to);
            value["warnings"] = json!(self.warnings);
            value["generation"] = json!(self.generation);
        }
        value
    }
}
