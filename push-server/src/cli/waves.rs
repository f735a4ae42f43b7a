//! A push in waves, as `push deploy` begins it.

use std::{collections::BTreeMap, time::Duration};

use anyhow::{Result, ensure};
use bucket::{PushId, PushKind, Release, RolloutStage, ServerName, Timestamp};
use clap::Args;
use console::{count, note, print_json, print_line};
use fleet::{
    guard::ensure_unguarded,
    hold::{self, AllHolds},
    operation::Operator,
    plan::Proposal,
    rollout::{
        drive::begin as begin_rollout,
        plan::{Division, Subject, divide, unfit},
        read::held as held_back,
        waves::Candidate,
    },
    server::{self, Server},
    wish::{Said, Share, WavesOrAll, Wish, enough, settle},
};
use futures_util::{StreamExt, stream};
use serde_json::{Value, json};

use super::{
    command::{AT_ONCE, Command},
    pending::{DeployOptions, PendingPush},
    rollout::{drive, who_drives},
};

/// How a push goes out in waves.
#[derive(Debug, Args)]
#[command(next_help_heading = "Waves")]
pub(crate) struct WaveOptions {
    /// Write servers in waves, each when enough of the one before have settled: numbers, shares (`10%`), servers
    /// (`web-1+web-2`), filters (`group:canary`), and `rest`; or `all` at once, where the policy asks for waves, which takes
    /// the role `admin` and a reason. Default: what the policy asks for, if it does
    #[arg(long, value_name = "WAVES")]
    waves: Option<WavesOrAll>,
    /// How long a server must stay converged before it counts, at most 1h; default: what the policy asks for, or 1m
    #[arg(long, value_name = "TIME", value_parser = settle)]
    settle: Option<Duration>,
    /// How many servers of a wave of more than ten are enough, of a smaller one it is all; default: 95%
    #[arg(long, value_name = "PERCENT", value_parser = enough)]
    enough: Option<u8>,
    /// Stop when so many servers have failed, were rolled back or fell silent; default: what the policy asks for, or 1
    #[arg(long, value_name = "SERVERS", value_parser = clap::value_parser!(u32).range(1..))]
    stop_at: Option<u32>,
    /// Stop when a wave has not enough servers so long after its last write; default: 30m
    #[arg(long, value_name = "TIME", value_parser = console::duration::parse)]
    within: Option<Duration>,
    /// How many servers of a group may be out at a time, a number or a share; default: the group's `MaxDown` in the policy,
    /// or a quarter of it
    #[arg(long, value_name = "SERVERS")]
    max_down: Option<Share>,
    /// Wait for a verdict after these waves: `push rollout pass` or `push rollout fail`
    #[arg(long, value_name = "WAVE", value_delimiter = ',', value_parser = clap::value_parser!(u32).range(1..))]
    pause_after: Vec<u32>,
    /// Undo what was written when the rollout stops by itself
    #[arg(long)]
    undo_on_stop: bool,
}

impl WaveOptions {
    /// What is said of how the push goes out.
    pub(crate) fn said(&self) -> Said {
        Said {
            waves: self.waves.clone(),
            settle: self.settle,
            enough: self.enough,
            stop_at: self.stop_at.map(|servers| servers as usize),
            within: self.within,
            max_down: self.max_down,
            pause_after: self.pause_after.iter().map(|wave| *wave as usize).collect(),
            undo_on_stop: self.undo_on_stop,
        }
    }
}

/// Begins a rollout of a release to servers whose proposals stand, and drives it if asked to wait.
pub(crate) async fn begin(
    command: &Command,
    options: &DeployOptions,
    operator: &Operator,
    wish: &Wish,
    release: &Release,
    pending: Vec<PendingPush>,
) -> Result<bool> {
    let bucket = &command.bucket;
    ensure_unguarded(bucket, &PushKind::Deploy, &release.name).await?;
    // Of a group all servers count, not only those that are pushed to.
    let mut listed = server::listed(bucket).await?;
    for pending in &pending {
        listed.entry(pending.server.clone()).or_default();
    }
    let read = stream::iter(listed).map(async |(name, written)| {
        let server = server::read_listed(bucket, &name, written).await;
        (name, server)
    });
    let fleet: BTreeMap<ServerName, Server> = read.buffer_unordered(AT_ONCE).collect().await;
    let proposals = standing(operator, release, &fleet, pending)?;
    let changing = proposals.iter().filter(|proposal| !proposal.is_no_change());
    let candidates: Vec<Candidate> = changing.filter_map(|proposal| candidate(&fleet, proposal)).collect();
    let unchanged = proposals.len() - candidates.len();
    if unchanged > 0 {
        note(format_args!("left out {} with that release already", count(unchanged, "server")));
    }
    ensure!(!candidates.is_empty(), "every server has `{}` already: nothing to roll out", release.name.stem());
    let now = bucket.now();
    let division = divide(release.name.app(), wish, &candidates, &fleet.values(), &operator.policy, now)?;
    show_plan(command, &division)?;
    let id = PushId::random();
    let (who, why, held) = (&operator.who, operator.reason.as_str(), operator.held);
    let channel = operator.channel.as_ref();
    let subject = Subject { id: &id, release: &release.name, who, why, held, channel };
    let rollout = division.clone().rollout(subject, wish, now);
    let held = held_back(&rollout, &hold::all(bucket, &AllHolds::new()).await?, now)?;
    if !held.is_empty() {
        let (servers, names) = (count(held.len(), "server"), named(&held.keys().collect::<Vec<_>>()));
        note(format_args!("note: {servers} on hold, written when that ends: {names}"));
    }
    if options.is_dry_run() {
        if command.json {
            print_json(&as_json(&division, wish, &held))?;
        }
        return Ok(true);
    }
    if let Some(new) = begin_rollout(bucket, &rollout).await? {
        note(format_args!("warning: {new}"));
    }
    if options.is_waiting() {
        note(format_args!("note: this is rollout {id}; should this process end:"));
        note(who_drives(&id));
        return drive(command, operator, &id, options.timeout(), &RolloutStage::Done).await;
    }
    if command.json {
        print_json(&json!({ "rollout": id, "push": id }))?;
    } else {
        print_line(format_args!("rollout {id} is recorded, and nothing is written yet"))?;
    }
    note(who_drives(&id));
    Ok(true)
}

/// The proposals, all of which must be possible and allowed: waves are decided once.
fn standing(
    operator: &Operator,
    release: &Release,
    fleet: &BTreeMap<ServerName, Server>,
    pending: Vec<PendingPush>,
) -> Result<Vec<Proposal>> {
    let (mut standing, mut wrong) = (Vec::new(), Vec::new());
    for PendingPush { server, proposal, .. } in pending {
        match proposal {
            Ok((proposal, _)) => standing.push(proposal),
            Err(error) => wrong.push((server, format!("{error:#}"))),
        }
    }
    let candidates: Vec<Candidate> = standing.iter().filter_map(|proposal| candidate(fleet, proposal)).collect();
    wrong.extend(unfit(operator, release, &candidates).map(|(server, error)| (server, error.to_string())));
    for (server, error) in &wrong {
        note(format_args!("{server}: error: {error}"));
    }
    ensure!(
        wrong.is_empty(),
        "nothing was written: the waves of a rollout are decided once, and {} cannot be pushed to",
        count(wrong.len(), "server")
    );
    Ok(standing)
}

fn candidate<'a>(fleet: &'a BTreeMap<ServerName, Server>, proposal: &'a Proposal) -> Option<Candidate<'a>> {
    Some(Candidate { server: fleet.get(&proposal.server)?, from: proposal.from.as_ref() })
}

fn show_plan(command: &Command, division: &Division) -> Result<()> {
    for (at, wave) in division.waves.iter().enumerate().filter(|_| !command.json) {
        let names: Vec<&ServerName> = wave.rows.iter().map(|row| &row.server).collect();
        print_line(format_args!("wave {} ({}): {}", at + 1, wave.what, named(&names)))?;
    }
    let silent: Vec<&ServerName> = division.silent().collect();
    if !silent.is_empty() {
        let servers = count(silent.len(), "server");
        note(format_args!(
            "note: {servers} not reporting: in the last wave, and counted for nothing: {}",
            named(&silent)
        ));
    }
    for (budget, out) in division.budgets() {
        let group = budget.group.as_ref().map_or("in no group".to_owned(), |group| format!("of group {group}"));
        let servers = count(budget.servers.len(), "server");
        note(format_args!("note: {} of {servers} {group} may be out at a time", budget.allowed));
        let out_already = format!("{} {group} out already ({})", count(out.len(), "server"), named(&out));
        if out.len() >= budget.allowed && out.len() < budget.servers.len() {
            note(format_args!("warning: {out_already}: others wait until fewer are; --max-down allows more"));
        } else if !out.is_empty() {
            note(format_args!("note: {out_already}"));
        }
    }
    Ok(())
}

/// The first of some servers, and how many more there are.
pub(super) fn named(servers: &[&ServerName]) -> String {
    /// Most servers that are named.
    const NAMED: usize = 8;
    let mut names: Vec<String> = servers.iter().take(NAMED).map(ToString::to_string).collect();
    if servers.len() > NAMED {
        names.push(format!("and {} more", servers.len() - NAMED));
    }
    names.join(" ")
}

fn as_json(division: &Division, wish: &Wish, held: &BTreeMap<ServerName, Timestamp>) -> Value {
    let waves = division.waves.iter().map(|wave| {
        let servers: Vec<&ServerName> = wave.rows.iter().map(|row| &row.server).collect();
        json!({ "what": wave.what, "servers": servers })
    });
    let budgets = division.budgets().map(|(budget, out)| {
        json!({ "group": budget.group, "servers": budget.servers.len(), "allowed": budget.allowed, "out": out })
    });
    json!({
        "waves": waves.collect::<Vec<_>>(), "budgets": budgets.collect::<Vec<_>>(),
        "silent": division.silent().collect::<Vec<_>>(), "held": held.keys().collect::<Vec<_>>(), "rules": wish.rules,
    })
}
