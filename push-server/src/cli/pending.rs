//! Pushes of the command, from what was read to how they ended: what `push deploy`, `push rollback` and the like share.

use std::time::Duration;

use anyhow::{Result, bail};
use bucket::{Bucket, Generation, HistoryEntry, PushId, PushKind, ReleaseName, ServerName};
use clap::Args;
use console::{UsageError, count, note, print_json, print_line};
use fleet::{
    hold::{self, AllHolds},
    identity::{Identity, Origin},
    operation::{self, Intent, JustRead, Operator},
    outcome::{self, Outcome},
    plan::{Proposal, Warning},
    poke::PokeSettings,
    policy::{Case, Reason},
    proposed::Proposed,
};
use futures_util::future::join_all;
use serde_json::{Value, json};

use super::command::{Command, operator_name};

/// How long the command waits for servers to report, unless it was told otherwise.
const USUAL_TIMEOUT: Duration = Duration::from_mins(10);

/// How a push is done.
#[derive(Debug, Args)]
pub(crate) struct DeployOptions {
    /// Reason for the push, recorded in the history
    #[arg(short = 'm', long, value_name = "REASON", default_value = "")]
    reason: String,
    /// Show what would change, and change nothing
    #[arg(long)]
    dry_run: bool,
    /// Push also to servers that you have put on hold (`push hold`)
    #[arg(long)]
    held: bool,
    /// Wait until every server runs the release or has rolled back
    #[arg(long)]
    wait: bool,
    /// Maximum time to wait; default: 10m, and as long as it takes for a push in waves
    #[arg(long, value_name = "TIME", value_parser = console::duration::parse)]
    timeout: Option<Duration>,
    /// Google Cloud project of the instances to poke; without it, or with `none`, servers pick up the change at their
    /// next poll
    #[arg(long, value_name = "PROJECT", env = "PUSH_GCE_PROJECT")]
    project: Option<String>,
}

impl DeployOptions {
    /// Whether nothing is to be changed.
    pub(crate) fn is_dry_run(&self) -> bool {
        self.dry_run
    }

    /// Whether the command ends only when it is known what became of the push.
    pub(crate) fn is_waiting(&self) -> bool {
        self.wait
    }

    /// How long that may take, if somebody said so.
    pub(crate) fn timeout(&self) -> Option<Duration> {
        self.timeout
    }
}

/// One server's push, before it is written.
pub(crate) struct PendingPush {
    pub(crate) server: ServerName,
    pub(crate) proposal: Result<(Proposal, JustRead)>,
    pub(crate) kind: PushKind,
}

impl PendingPush {
    /// Of what the core proposes for a push of that kind.
    pub(crate) fn of(Proposed { server, proposal }: Proposed, kind: &PushKind) -> Self {
        Self { server, proposal, kind: kind.clone() }
    }
}

/// Writes what was proposed, a line for each server, and follows it if asked to.
///
/// `of` is the push that this one undoes or tries again.
pub(crate) async fn carry_out(
    command: &Command,
    options: &DeployOptions,
    of: Option<&PushId>,
    pending: Vec<PendingPush>,
) -> Result<bool> {
    carry_out_by(command, options, &operator(command, options)?, of, pending).await
}

/// The same, by an operator of whom more is known than the options say.
pub(crate) async fn carry_out_by(
    command: &Command,
    options: &DeployOptions,
    operator: &Operator,
    of: Option<&PushId>,
    pending: Vec<PendingPush>,
) -> Result<bool> {
    let mut rows: Vec<Row> = pending.into_iter().map(|pending| row(operator, pending)).collect();
    if options.dry_run {
        judge_holds(command, operator, &mut rows).await?;
        for row in &mut rows {
            if row.error.is_none() {
                row.result = "dry-run";
            }
            row.print(command)?;
        }
        let restarts = |row: &&Row| row.error.is_none() && row.restarts().next().is_some();
        let restarting = rows.iter().filter(restarts).count();
        if restarting > 0 {
            note(format_args!("note: {} would restart units, all at once", count(restarting, "server")));
        }
    } else {
        write(command, operator, of, &mut rows).await?;
    }
    let push = rows.iter().find_map(|row| row.push.clone());
    if let Some(push) = &push {
        note(format_args!("note: this is push {push}: `push show {push}` follows it, `push undo {push}` undoes it"));
    }
    let mut succeeded = rows.iter().all(|row| row.error.is_none());
    let mut results: Vec<Value> = rows.iter().map(Row::as_json).collect();
    if options.wait {
        let pushed = rows.iter().filter_map(|row| {
            let proposal = row.proposal.as_ref()?;
            Some((row.server.clone(), proposal.to.clone(), row.generation?))
        });
        for (server, outcome) in
            follow(&command.bucket, pushed.collect(), options.timeout.unwrap_or(USUAL_TIMEOUT)).await
        {
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
        print_json(&json!({ "push": push, "pushes": results }))?;
    }
    Ok(succeeded)
}

/// Waits for all servers at once, within `timeout`; the outcomes are in the order of the servers.
async fn follow(
    bucket: &Bucket,
    pushed: Vec<(ServerName, Option<ReleaseName>, Generation)>,
    timeout: Duration,
) -> Vec<(ServerName, Outcome)> {
    if !pushed.is_empty() {
        note(format_args!("waiting for {} to report", count(pushed.len(), "server")));
    }
    let one = async |(server, release, generation): (ServerName, Option<ReleaseName>, Generation)| {
        let say = |stage: &str| note(format_args!("{server}: {stage}"));
        let outcome = outcome::follow(bucket, &server, (release.as_ref(), generation), timeout, say).await;
        (server, outcome)
    };
    join_all(pushed.into_iter().map(one)).await
}

/// Who pushes, why and by which rules.
pub(crate) fn operator(command: &Command, options: &DeployOptions) -> Result<Operator> {
    if options.reason.len() > HistoryEntry::MAX_WHY {
        bail!(UsageError::new(format!("the reason must have at most {} bytes", HistoryEntry::MAX_WHY)));
    }
    let lookup = |key: &str| std::env::var(key).ok();
    let poke = PokeSettings::from_env(options.project.as_deref(), lookup);
    Ok(Operator {
        who: operator_identity(),
        reason: options.reason.clone(),
        policy: command.policy.clone(),
        poke: poke.map_err(|error| UsageError::new(format!("{error:#}")))?,
        held: options.held,
        without_waves: false,
        channel: None,
    })
}

/// Who runs the command.
pub(crate) fn operator_identity() -> Identity {
    Identity { name: operator_name(), origin: Origin::Local }
}

/// One server's line.
struct Row {
    server: ServerName,
    kind: PushKind,
    proposal: Option<Proposal>,
    just_read: Option<JustRead>,
    result: &'static str,
    warnings: Vec<String>,
    push: Option<PushId>,
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
        let (who, app, dirty) = (&operator.who, &proposal.app, proposal.dirty);
        let judged = match &proposal.to {
            Some(_) => operator.policy.judge(who, Case { server: &server, app, dirty, reason }),
            None => operator.policy.judge_removal(who, app, &server, reason),
        };
        error = judged.err().map(|refusal| refusal.to_string());
    }
    let warnings = proposal.iter().flat_map(|proposal| &proposal.warnings);
    // The line says the one, and a note after all lines of a removal the other.
    let is_said = |warning: &Warning| {
        *warning == Warning::Retried || (*warning == Warning::StaysInstalled && kind == PushKind::Remove)
    };
    let warnings = warnings.filter(|warning| !is_said(warning)).map(ToString::to_string).collect();
    Row { server, kind, proposal, just_read, result: "failed", warnings, push: None, generation: None, error }
}

/// What is on hold is not pushed to; when it is written, the write itself sees to that.
async fn judge_holds(command: &Command, operator: &Operator, rows: &mut [Row]) -> Result<()> {
    let holds = hold::all(&command.bucket, &AllHolds::new()).await?;
    for row in rows.iter_mut().filter(|row| row.error.is_none()) {
        let app = row.proposal.as_ref().map(|proposal| &proposal.app);
        let (who, held) = (&operator.who.name, operator.held);
        let judged = hold::judge_among(&holds, &row.server, app, who, held, command.now());
        row.error = judged.err().map(|not_free| not_free.to_string());
    }
    Ok(())
}

async fn write(command: &Command, operator: &Operator, of: Option<&PushId>, rows: &mut [Row]) -> Result<()> {
    let intents = rows.iter_mut().filter(|row| row.error.is_none()).filter_map(|row| {
        let proposal = row.proposal.as_ref()?;
        let Proposal { app, from, to, .. } = proposal.clone();
        let intent = Intent { server: row.server.clone(), app, from, to, kind: row.kind.clone() };
        Some((intent, row.just_read.take()))
    });
    let results = operation::carry_out_of(&command.bucket, operator, of, intents.collect(), |_, _| ()).await;
    let mut results = results.into_iter();
    for row in rows {
        if row.error.is_none()
            && let Some(pushed) = results.next()
        {
            row.push = pushed.push;
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
    /// The units that it restarts, by what is known before it is written.
    fn restarts(&self) -> impl Iterator<Item = &String> {
        self.proposal.iter().flat_map(|proposal| &proposal.restarts)
    }

    fn print(&self, command: &Command) -> Result<()> {
        let server = &self.server;
        if let Some(error) = &self.error {
            note(format_args!("{server}: error: {error}"));
            return Ok(());
        }
        if let (Some(proposal), false) = (&self.proposal, command.json) {
            let verb = if self.generation.is_some() { "pushed" } else { "would be pushed" };
            let name = |release: &Option<ReleaseName>| {
                release.as_ref().map_or("(nothing)".to_owned(), |release| release.stem().to_owned())
            };
            let (from, to) = (name(&proposal.from), name(&proposal.to));
            match self.kind {
                PushKind::Retry => print_line(format_args!("{server}: {verb}: {to} ({})", Warning::Retried))?,
                PushKind::Remove => {
                    let verb = if self.generation.is_some() { "removed" } else { "would be removed" };
                    print_line(format_args!("{server}: {verb}: {from}"))?;
                }
                _ => print_line(format_args!("{server}: {verb}: {from} → {to}"))?,
            }
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
            value["restarts"] = json!(proposal.restarts);
            value["warnings"] = json!(self.warnings);
            value["generation"] = json!(self.generation);
        }
        value
    }
}
