//! `push rollout`: following, carrying on and deciding about pushes in waves.

use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use bucket::{Bucket, Generation, PushId, Rollout, RolloutStage, RolloutSummary};
use clap::{Args, Subcommand};
use console::{Table, UsageError, count, note, print, print_json, print_line};
use fleet::{
    identity::{Identity, Origin},
    operation::Operator,
    poke::PokeSettings,
    rollout::{
        decide::{Decision, decide},
        drive::{Driver, Step},
        observe::{RowState, observe, row_state},
        read::{Around, Reader, names},
    },
    wish::Share,
};
use futures_util::TryStreamExt;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::{
    command::{Command, operator_name},
    pending::{DeployOptions, operator},
};

/// How often documents and reports are listed while a rollout is driven.
const PERIOD: Duration = Duration::from_secs(2);

/// Follow, carry on and decide about pushes in waves
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  push deploy web group:prod --waves 1,10%,rest -m 'login fix' --wait
  push rollout show k3v9w1c7m2xq
  push rollout continue k3v9w1c7m2xq -m 'the disk of web-3 was full'
  push rollout continue k3v9w1c7m2xq --max-down 2 -m 'web-3 stays down'
  push rollout undo k3v9w1c7m2xq -m 'too slow' --wait")]
pub(crate) struct RolloutArguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// List rollouts
    List,
    /// Show a rollout: its waves, and how far each server is
    Show {
        /// ID of the rollout, which is that of its push
        id: PushId,
    },
    /// Carry a rollout on until it is over or stops
    Wait(Waiting),
    /// The wave that a rollout waits after is good: the next one is written
    Pass(Judged),
    /// The wave that a rollout waits after is bad: it stops
    Fail(Judged),
    /// Have a stopped rollout go on; servers that have failed by now no longer count
    Continue(Continued),
    /// Stop a rollout: what it has not written stays as it is
    Stop(Judged),
    /// Undo a rollout: restore what ran before on every server that it wrote, newest wave first
    Undo(Judged),
    /// Give a rollout up: it is over, and what it wrote stays
    Abandon(Judged),
}

#[derive(Debug, Args)]
struct Waiting {
    /// ID of the rollout
    id: PushId,
    #[command(flatten)]
    driving: Driving,
}

#[derive(Debug, Args)]
struct Judged {
    /// ID of the rollout
    id: PushId,
    /// Reason, recorded in the rollout
    #[arg(short = 'm', long, value_name = "REASON", default_value = "")]
    reason: String,
    /// Then carry it on until it is over or stops
    #[arg(long)]
    wait: bool,
    #[command(flatten)]
    driving: Driving,
}

#[derive(Debug, Args)]
struct Continued {
    #[command(flatten)]
    judged: Judged,
    /// From now on allow more servers of each group to be out, a number or a share; also while the rollout has not stopped
    #[arg(long, value_name = "SERVERS")]
    max_down: Option<Share>,
}

#[derive(Debug, Args)]
struct Driving {
    /// Maximum time to wait; default: as long as it takes
    #[arg(long, value_name = "TIME", value_parser = console::duration::parse)]
    timeout: Option<Duration>,
    /// Google Cloud project of the instances to poke; without it, or with `none`, servers pick up the change at their
    /// next poll
    #[arg(long, value_name = "PROJECT", env = "PUSH_GCE_PROJECT")]
    project: Option<String>,
}

impl Driving {
    fn operator(&self, command: &Command) -> Result<Operator> {
        let poke = PokeSettings::from_env(self.project.as_deref(), |key: &str| std::env::var(key).ok());
        Ok(Operator {
            held: false,
            who: Identity { name: operator_name(), origin: Origin::Local },
            reason: String::new(),
            policy: command.policy.clone(),
            poke: poke.map_err(|error| UsageError::new(format!("{error:#}")))?,
            without_waves: false,
            channel: None,
        })
    }
}

impl RolloutArguments {
    pub(crate) async fn run(self, command: &Command) -> Result<bool> {
        match self.verb {
            Verb::List => list(command).await,
            Verb::Show { id } => show(command, &id).await,
            Verb::Wait(waiting) => {
                let operator = waiting.driving.operator(command)?;
                drive(command, &operator, &waiting.id, waiting.driving.timeout, &RolloutStage::Done).await
            }
            Verb::Pass(judged) => judged.decide(command, Decision::Pass).await,
            Verb::Fail(judged) => judged.decide(command, Decision::Fail).await,
            Verb::Continue(Continued { judged, max_down }) => {
                let decision = max_down.map_or(Decision::Continue, Decision::ContinueWith);
                judged.decide(command, decision).await
            }
            Verb::Stop(judged) => judged.decide(command, Decision::Stop).await,
            Verb::Undo(judged) => judged.decide(command, Decision::Undo).await,
            Verb::Abandon(judged) => judged.decide(command, Decision::Abandon).await,
        }
    }
}

async fn read(bucket: &Bucket, id: &PushId) -> Result<(Generation, Rollout)> {
    let read = bucket.rollout(id).await.with_context(|| format!("could not read rollout {id}"))?;
    read.with_context(|| format!("there is no rollout {id}; `push rollout list` lists them"))
}

impl Judged {
    async fn decide(self, command: &Command, decision: Decision) -> Result<bool> {
        let operator = Operator { reason: self.reason, ..self.driving.operator(command)? };
        let waits = self.wait.then_some(Waits { timeout: self.driving.timeout });
        decide_about(command, &operator, &self.id, decision, waits).await
    }
}

/// That the command carries the rollout on, and for how long at most.
struct Waits {
    timeout: Option<Duration>,
}

/// What a command that is about pushes means of one in waves.
pub(crate) async fn decide_as(
    command: &Command,
    options: &DeployOptions,
    id: &PushId,
    decision: Decision,
) -> Result<bool> {
    let waits = options.is_waiting().then(|| Waits { timeout: options.timeout() });
    decide_about(command, &operator(command, options)?, id, decision, waits).await
}

/// Decides something about a rollout, for the operator's reason, and then carries it on if asked to wait.
async fn decide_about(
    command: &Command,
    operator: &Operator,
    id: &PushId,
    decision: Decision,
    waits: Option<Waits>,
) -> Result<bool> {
    let bucket = &command.bucket;
    let (mut reader, (_, rollout)) = (Reader::default(), read(bucket, id).await?);
    let servers = reader.read(bucket, &names(&rollout)).await?;
    let by = (&operator.who, operator.reason.as_str());
    let decided = decide(bucket, &command.policy, id, decision, by, servers).await?;
    if let Some(Waits { timeout }) = waits {
        let goal = if decision == Decision::Undo { RolloutStage::Undone } else { RolloutStage::Done };
        return drive(command, operator, id, timeout, &goal).await;
    }
    if command.json {
        print_json(&json!({ "rollout": id, "stage": decided.stage }))?;
    } else {
        print_line(format_args!("rollout {id} is {}", console::safe(decided.stage.as_str())))?;
    }
    if !decided.stage.is_over() && decided.stage != RolloutStage::Stopped {
        note(who_drives(id));
    }
    Ok(true)
}

/// Who carries a rollout on when this process doesn't.
pub(crate) fn who_drives(id: &PushId) -> String {
    format!("note: a running `push serve` of this bucket carries it on, and so does `push rollout wait {id}`")
}

/// Carries a rollout on until it is over or stops; whether that was its goal. What can't be read or written now is tried again at
/// the next look.
pub(crate) async fn drive(
    command: &Command,
    operator: &Operator,
    id: &PushId,
    timeout: Option<Duration>,
    goal: &RolloutStage,
) -> Result<bool> {
    let bucket = &command.bucket;
    let name = format!("push of {}", operator.who.name);
    let driver = Driver { name, policy: operator.policy.clone(), poke: operator.poke.clone(), stop: None };
    let end = timeout.map(|timeout| Instant::now() + timeout);
    let (mut reader, mut told) = (Reader::default(), String::new());
    // That there is none is said at once.
    read(bucket, id).await?;
    loop {
        let looked = async {
            let (generation, rollout) = read(bucket, id).await?;
            let Around { servers, held, halted } = reader.around(bucket, &rollout).await?;
            driver.step(bucket, (generation, rollout), servers, &held, halted).await
        };
        let (news, rest) = match looked.await {
            Ok(Step::Moved(rollout) | Step::Waits(rollout, _)) if is_final(&rollout.stage) => {
                return told_end(command, &rollout, goal);
            }
            Ok(Step::Moved(_)) => {
                told.clear();
                (None, Duration::ZERO)
            }
            Ok(Step::Waits(_, waiting)) => (Some(waiting.to_string()), PERIOD),
            Ok(Step::Contended) => (None, PERIOD),
            Err(error) => (Some(format!("warning: could not carry rollout {id} on, will retry: {error:#}")), PERIOD),
        };
        if let Some(text) = news.filter(|text| *text != told) {
            note(format_args!("{text}"));
            told = text;
        }
        if end.is_some_and(|end| Instant::now() + rest > end) {
            bail!(
                "rollout {id} is not over in time, and nobody may carry it on now: {told}; `push rollout wait {id}` does"
            );
        }
        tokio::time::sleep(rest).await;
    }
}

fn is_final(stage: &RolloutStage) -> bool {
    stage.is_over() || matches!(stage, RolloutStage::Stopped | RolloutStage::Other(_))
}

fn told_end(command: &Command, rollout: &Rollout, goal: &RolloutStage) -> Result<bool> {
    let stopped = rollout.stopped.as_deref().filter(|_| rollout.stage == RolloutStage::Stopped).map(console::safe);
    if command.json {
        print_json(&json!({ "rollout": rollout.id, "stage": rollout.stage, "stopped": stopped }))?;
    } else if let Some(why) = stopped {
        print_line(format_args!("rollout {} has stopped: {why}", rollout.id))?;
        note(format_args!(
            "hint: `push rollout undo {0}` restores what ran before, `push rollout continue {0}` goes on",
            rollout.id
        ));
    } else {
        print_line(format_args!("rollout {} is {}", rollout.id, console::safe(rollout.stage.as_str())))?;
    }
    Ok(rollout.stage == *goal)
}

async fn list(command: &Command) -> Result<bool> {
    let bucket = &command.bucket;
    let listed: Vec<RolloutSummary> = bucket.rollouts().try_collect().await.context("could not list the rollouts")?;
    let mut rollouts = Vec::new();
    for RolloutSummary { id, .. } in listed {
        rollouts.push(read(bucket, &id).await?.1);
    }
    rollouts.sort_by_key(|rollout| std::cmp::Reverse(rollout.began));
    if command.json {
        let rollouts: Vec<Value> = rollouts
            .iter()
            .map(|rollout| {
                json!({
                    "id": rollout.id, "began": rollout.began, "app": rollout.app, "release": rollout.release.stem(),
                    "channel": rollout.channel,
                    "stage": rollout.stage, "waves": rollout.waves.len(), "servers": rollout.rows().count(),
                    "driven": rollout.driven,
                })
            })
            .collect();
        print_json(&json!({ "rollouts": rollouts }))?;
        return Ok(true);
    }
    if rollouts.is_empty() {
        note("no rollouts: `push deploy --waves` begins one");
        return Ok(true);
    }
    let now = bucket.now();
    let mut table = Table::new(&["ID", "RELEASE", "STAGE", "WAVES", "SERVERS", "DRIVEN"]);
    for rollout in rollouts {
        let driven = rollout.driven.as_ref().map_or("never".to_owned(), |driven| super::command::ago(driven.at, now));
        let cells = [
            rollout.id.to_string(),
            rollout.release.stem().to_owned(),
            console::safe(rollout.stage.as_str()),
            rollout.waves.len().to_string(),
            rollout.rows().count().to_string(),
            driven,
        ];
        table.row(cells.map(Into::into));
    }
    print(&table.show())?;
    Ok(true)
}

async fn show(command: &Command, id: &PushId) -> Result<bool> {
    let bucket = &command.bucket;
    let (mut reader, (_, rollout)) = (Reader::default(), read(bucket, id).await?);
    let servers = reader.read(bucket, &names(&rollout)).await?;
    let (rollout, now) = (observe(rollout, servers), bucket.now());
    let state = |row: &bucket::WaveRow| row_state(&rollout, row, servers.get(&row.server), now);
    if command.json {
        let waves = rollout.waves.iter().map(|wave| {
            let rows = wave.rows.iter().map(|row| json!({ "server": row.server, "state": in_words(&state(row)) }));
            json!({ "what": wave.what, "rows": rows.collect::<Vec<_>>() })
        });
        print_json(&json!({
            "id": rollout.id, "app": rollout.app, "release": rollout.release.stem(), "stage": rollout.stage,
            "stopped": rollout.stopped, "channel": rollout.channel, "who": rollout.who, "why": rollout.why, "driven": rollout.driven,
            "waves": waves.collect::<Vec<_>>(), "verdicts": rollout.verdicts,
        }))?;
        return Ok(true);
    }
    print_line(format_args!("rollout {} of {}", rollout.id, rollout.release.stem()))?;
    let why = if rollout.why.is_empty() { String::new() } else { format!(": {}", console::safe(&rollout.why)) };
    print_line(format_args!("begun by {}{why}", console::safe(&rollout.who)))?;
    let stopped = rollout.stopped.as_deref().map_or(String::new(), |why| format!(": {}", console::safe(why)));
    print_line(format_args!("{}{stopped}", console::safe(rollout.stage.as_str())))?;
    for (at, wave) in rollout.waves.iter().enumerate() {
        print_line(format_args!(
            "wave {} ({}), {}",
            at + 1,
            console::safe(&wave.what),
            count(wave.rows.len(), "server")
        ))?;
        for row in &wave.rows {
            print_line(format_args!("  {}: {}", row.server, console::safe(&in_words(&state(row)))))?;
        }
    }
    Ok(true)
}

/// How far a server of a rollout is, in words.
pub(super) fn in_words(state: &RowState) -> String {
    match state {
        RowState::Waiting => "not written yet".to_owned(),
        RowState::Pending => "pending".to_owned(),
        RowState::Settling(until) => format!("runs it, must stay so until {until}"),
        RowState::Settled => "runs it".to_owned(),
        RowState::Failed(state) => fleet::condition::app_label(*state).to_owned(),
        RowState::Silent => "silent".to_owned(),
        RowState::Left(why) => format!("no longer of this rollout: {why}"),
        RowState::Undone => "undone".to_owned(),
    }
}
