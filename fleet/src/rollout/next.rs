//! What is done about a rollout now, and what it waits for. Pure.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use bucket::{AppState, Budget, Rollout, RolloutRules, RolloutStage, ServerName, Timestamp, Uncounted, Wave, WaveRow};
use jiff::SignedDuration;

use super::observe::{Health, RowState, health, row_state};
use crate::server::Servers;

/// What is known around a rollout.
#[derive(Debug, Clone, Copy)]
pub struct Surroundings<'a> {
    /// Its servers and those of its groups, as they were read, with reports that bear the bucket's time.
    pub servers: &'a dyn Servers,
    /// The servers that nobody may write now, each until when.
    pub held: &'a BTreeMap<ServerName, Timestamp>,
    /// Whether all pushes are halted.
    pub halted: bool,
    /// Now, by the bucket's clock.
    pub now: Timestamp,
}

/// What is done about a rollout.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Next {
    /// These servers are written, in this order.
    Write(Vec<ServerName>),
    /// The documents of these servers are written once more as they are. Some driver has noted them and none has written them:
    /// whoever is about to can't any more.
    Close(Vec<ServerName>),
    /// These servers get back what they had, in this order.
    Undo(Vec<ServerName>),
    /// It stops.
    Stop(Stop),
    /// It is over, and becomes this.
    End(RolloutStage),
    /// Nothing can be done before that.
    Wait(Waiting),
}

/// Why a rollout stops by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stop {
    /// As many servers failed as stop it.
    Failures(Vec<ServerName>),
    /// It brings what a channel pointed to, and these rolled that back by themselves, or are degraded by it.
    RolledBack(Vec<ServerName>),
    /// A wave (from 1) has not enough in time, and these are missing.
    TooSlow(usize, Vec<ServerName>),
}

/// What a rollout waits for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Waiting {
    /// That all pushes are no longer halted.
    Halt,
    /// That a person decides how it goes on after it stopped.
    Decision,
    /// A verdict on a wave, from 1.
    Verdict(usize),
    /// That these say what became of the release.
    Reports(Vec<ServerName>),
    /// That these stay converged, at the longest until then.
    Settling(Timestamp, Vec<ServerName>),
    /// That fewer servers of a group are out: how many of how many are, and how many may be.
    Budget {
        /// The group; `None`: the servers that are in none.
        group: Option<String>,
        /// How many are out.
        out: usize,
        /// How many servers it has.
        size: usize,
        /// How many may be out.
        allowed: usize,
    },
    /// That holds of these end, the first at that time.
    Holds(Timestamp, Vec<ServerName>),
    /// Nothing: it is over, or of a newer program.
    Nothing,
}

/// At most so many servers are named.
const NAMED: usize = 3;

fn names(servers: &[ServerName]) -> String {
    let named: Vec<&str> = servers.iter().take(NAMED).map(ServerName::as_str).collect();
    match servers.len().saturating_sub(NAMED) {
        0 => named.join(", "),
        more => format!("{} and {more} more", named.join(", ")),
    }
}

/// The cause in a sentence's words: `2 servers failed: web-1, web-2`.
impl fmt::Display for Stop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Failures(servers) => {
                write!(f, "{} failed: {}", console::count(servers.len(), "server"), names(servers))
            }
            Self::RolledBack(servers) => {
                write!(f, "{} rolled the release back: {}", console::count(servers.len(), "server"), names(servers))
            }
            Self::TooSlow(wave, servers) => {
                write!(f, "wave {wave} did not have enough in time: {} missing", names(servers))
            }
        }
    }
}

/// What it waits for in a sentence's words: `waiting until … for web-3 to stay converged`.
impl fmt::Display for Waiting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Halt => f.write_str("waiting until pushes are no longer halted"),
            Self::Decision => f.write_str("stopped: continue it, undo it or abandon it"),
            Self::Verdict(wave) => write!(f, "waiting for a verdict on wave {wave}"),
            Self::Reports(servers) => write!(f, "waiting for a report of {}", names(servers)),
            Self::Settling(until, servers) => {
                let until = until.strftime("%H:%M:%S UTC");
                write!(f, "waiting until {until} for {} to stay converged", names(servers))
            }
            Self::Budget { group, out, size, allowed } => {
                let of = group.as_ref().map_or(String::new(), |group| format!(" of group {group}"));
                write!(f, "waiting until fewer servers{of} are out: {out} of {size} out, {allowed} allowed")
            }
            Self::Holds(until, servers) => {
                let until = until.strftime("%Y-%m-%d %H:%M UTC");
                write!(f, "waiting for {}, on hold, the first until {until}", names(servers))
            }
            Self::Nothing => f.write_str("nothing to wait for"),
        }
    }
}

/// What is being done, in a sentence's words.
impl fmt::Display for Next {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Write(servers) => write!(f, "writing {}", names(servers)),
            Self::Close(servers) => write!(f, "seeing to it that no other driver writes {} yet", names(servers)),
            Self::Undo(servers) => write!(f, "restoring what ran before on {}", names(servers)),
            Self::Stop(stop) => write!(f, "stopping: {stop}"),
            Self::End(_) => f.write_str("ending: nothing is left to do"),
            Self::Wait(waiting) => waiting.fmt(f),
        }
    }
}

/// What stops a rollout by these rules, and what then happens, in a sentence.
pub fn stops_when(rules: &RolloutRules) -> String {
    let failing = match rules.stop_at {
        0 | 1 => "a server fails, is rolled back or falls silent".to_owned(),
        more => format!("{more} servers have failed, were rolled back or fell silent"),
    };
    let within = console::age(SignedDuration::from_secs(i64::try_from(rules.within_seconds).unwrap_or(i64::MAX)));
    let then = if rules.undo_on_stop { "; it then restores what ran before" } else { "" };
    format!("It stops when {failing}, or when a wave does not have enough servers {within} after its last write{then}.")
}

/// The budgets of a rollout, each with how many of its servers are out.
pub fn loads<'a>(rollout: &'a Rollout, around: Surroundings) -> Vec<(&'a Budget, usize)> {
    let out = Out::of(rollout, around);
    let load = |budget: &&Budget| budget.servers.iter().filter(|server| out.servers.contains(*server)).count();
    rollout.budgets.iter().map(|budget| (budget, load(&budget))).collect()
}

/// What is done about a rollout whose servers were observed just now.
pub fn next(rollout: &Rollout, around: Surroundings) -> Next {
    match rollout.stage {
        RolloutStage::Undoing => undo(rollout, around),
        RolloutStage::Stopped => Next::Wait(Waiting::Decision),
        RolloutStage::Running => run(rollout, around),
        RolloutStage::Done | RolloutStage::Undone | RolloutStage::Abandoned | RolloutStage::Other(_) => {
            Next::Wait(Waiting::Nothing)
        }
    }
}

fn run(rollout: &Rollout, around: Surroundings) -> Next {
    let state = |row: &WaveRow| row_state(rollout, row, around.servers.get(&row.server), around.now);
    if rollout.channel.is_some() {
        let rolled_back: Vec<ServerName> =
            rollout.rows().filter(|row| has_rolled_back(row, &state(row))).map(|row| row.server.clone()).collect();
        if !rolled_back.is_empty() {
            return Next::Stop(Stop::RolledBack(rolled_back));
        }
    }
    let failed: Vec<ServerName> =
        rollout.counted().filter(|row| state(row).has_failed()).map(|row| row.server.clone()).collect();
    if failed.len() >= rollout.rules.stop_at.max(1) {
        return Next::Stop(Stop::Failures(failed));
    }
    if around.halted {
        return Next::Wait(Waiting::Halt);
    }
    let mut waiting = Waiting::Nothing;
    let mut writable = Vec::new();
    for (at, wave) in rollout.waves.iter().enumerate() {
        // Rows whose holds have ended since are of earlier waves too.
        let unwritten: Vec<&WaveRow> = wave.rows.iter().filter(|row| state(row) == RowState::Waiting).collect();
        let is_held = |row: &&WaveRow| around.held.contains_key(&row.server);
        let (held, free): (Vec<&WaveRow>, Vec<&WaveRow>) = unwritten.into_iter().partition(is_held);
        writable.extend(free.iter().map(|row| row.server.clone()));
        if let Some(until) = held.iter().filter_map(|row| around.held.get(&row.server)).min() {
            waiting = Waiting::Holds(*until, held.iter().map(|row| row.server.clone()).collect());
        }
        if !free.is_empty() {
            break;
        }
        if let Some(open) = open(rollout, at, wave, &held, around) {
            // What was held back before is written all the same.
            if writable.is_empty() {
                return open;
            }
            break;
        }
    }
    let out = Out::of(rollout, around);
    match out.affordable(writable) {
        (rows, _) if !rows.is_empty() => Next::Write(rows),
        (_, Some(budget)) => Next::Wait(budget),
        // A channel leaves alone who is on hold, and comes back to them with what it points to then.
        (_, None) if waiting != Waiting::Nothing && rollout.channel.is_none() => Next::Wait(waiting),
        (_, None) => Next::End(RolloutStage::Done),
    }
}

/// Whether a server keeps a channel's release from all others, and no person said that it doesn't.
fn has_rolled_back(row: &WaveRow, state: &RowState) -> bool {
    let is_back = matches!(state, RowState::Failed(AppState::Quarantined | AppState::Degraded));
    is_back && row.uncounted != Some(Uncounted::Excused)
}

/// What a wave that was written still waits for, or stops the rollout; `None` when it has enough and the next may begin.
fn open(rollout: &Rollout, at: usize, wave: &Wave, held: &[&WaveRow], around: Surroundings) -> Option<Next> {
    let state = |row: &WaveRow| row_state(rollout, row, around.servers.get(&row.server), around.now);
    let counts = |row: &&WaveRow| {
        row.counts() && !matches!(state(row), RowState::Left(_)) && !held.iter().any(|held| held.server == row.server)
    };
    let rows: Vec<&WaveRow> = wave.rows.iter().filter(counts).collect();
    let missing: Vec<&WaveRow> = rows.iter().copied().filter(|row| state(row) != RowState::Settled).collect();
    let has_enough = rows.len() - missing.len() >= enough(rows.len(), rollout.rules.enough_percent);
    let number = at + 1;
    if has_enough {
        let is_judged = rollout.verdicts.iter().any(|verdict| verdict.wave >= number && verdict.what == "pass");
        let wants_verdict = rollout.rules.pause_after.contains(&number) && !is_judged;
        return wants_verdict.then_some(Next::Wait(Waiting::Verdict(number)));
    }
    let servers = |rows: &[&WaveRow]| rows.iter().map(|row| row.server.clone()).collect::<Vec<_>>();
    let within = SignedDuration::from_secs(i64::try_from(rollout.rules.within_seconds).unwrap_or(i64::MAX));
    // A continued rollout gets its time once more.
    let continued =
        rollout.verdicts.iter().filter(|verdict| verdict.what == "continue").map(|verdict| verdict.at).max();
    let last = rows.iter().filter_map(|row| row.written.map(|written| written.at)).chain(continued).max();
    if last.is_some_and(|last| around.now.duration_since(last) > within) {
        return Some(Next::Stop(Stop::TooSlow(number, servers(&missing))));
    }
    let (settling, silent): (Vec<&WaveRow>, Vec<&WaveRow>) =
        missing.iter().copied().partition(|row| matches!(state(row), RowState::Settling(_)));
    let until = settling.iter().filter_map(|row| match state(row) {
        RowState::Settling(until) => Some(until),
        _ => None,
    });
    Some(Next::Wait(match until.max() {
        Some(until) if silent.is_empty() => Waiting::Settling(until, servers(&settling)),
        _ => Waiting::Reports(servers(&silent)),
    }))
}

/// How many of so many servers are enough.
fn enough(servers: usize, percent: u8) -> usize {
    const ALL_OF: usize = 10;
    if servers <= ALL_OF { servers } else { (servers * usize::from(percent)).div_ceil(100) }
}

fn undo(rollout: &Rollout, around: Surroundings) -> Next {
    let open = open_to_others(rollout, around);
    if !open.is_empty() {
        return Next::Close(open);
    }
    let is_left = |row: &&WaveRow| row.written.is_some() && row.left.is_none() && !row.undone;
    let rows = rollout.waves.iter().rev().flat_map(|wave| wave.rows.iter().filter(is_left));
    let rows: Vec<ServerName> = rows.map(|row| row.server.clone()).collect();
    if rows.is_empty() {
        return Next::End(RolloutStage::Undone);
    }
    let (held, rows): (Vec<ServerName>, Vec<ServerName>) =
        rows.into_iter().partition(|server| around.held.contains_key(server));
    match Out::of(rollout, around).affordable(rows) {
        (rows, _) if !rows.is_empty() => Next::Undo(rows),
        (_, Some(budget)) => Next::Wait(budget),
        (_, None) => {
            let first = held.iter().filter_map(|server| around.held.get(server)).min();
            Next::Wait(first.map_or(Waiting::Nothing, |first| Waiting::Holds(*first, held.clone())))
        }
    }
}

/// The servers that some driver has noted, and may write yet: over the generation that it noted, and over no other. A server
/// that has no document can't be closed to it.
fn open_to_others(rollout: &Rollout, around: Surroundings) -> Vec<ServerName> {
    let generation = |row: &WaveRow| Some(around.servers.get(&row.server)?.document.known()?.0);
    let is_open = |row: &&WaveRow| {
        let is_unwritten = row.written.is_none() && row.left.is_none() && !row.undone;
        is_unwritten && row.noted.is_some() && row.noted == generation(row)
    };
    rollout.rows().filter(is_open).map(|row| row.server.clone()).collect()
}

/// Which servers are out of their groups.
struct Out<'a> {
    rollout: &'a Rollout,
    servers: BTreeSet<&'a ServerName>,
}

impl<'a> Out<'a> {
    fn of(rollout: &'a Rollout, around: Surroundings) -> Self {
        let of_rollout: BTreeMap<&ServerName, &WaveRow> = rollout.rows().map(|row| (&row.server, row)).collect();
        let is_out = |name: &&ServerName| {
            let server = around.servers.get(name);
            let row = of_rollout.get(name).filter(|row| row.written.is_some() && row.left.is_none() && !row.undone);
            match (row, server) {
                // One that has settled may fall silent later, which its heartbeats tell.
                (Some(row), _) => {
                    let is_silent = |server| health(server, &rollout.app, around.now) == Health::Silent;
                    row_state(rollout, row, server, around.now).is_out() || server.is_some_and(is_silent)
                }
                (None, Some(server)) => health(server, &rollout.app, around.now) != Health::Well,
                (None, None) => false,
            }
        };
        let servers = rollout.budgets.iter().flat_map(|budget| &budget.servers).filter(is_out).collect();
        Self { rollout, servers }
    }

    /// Of these servers those that may be written now, each of which is out from then on; and if one may not, what it waits for.
    fn affordable(&self, rows: Vec<ServerName>) -> (Vec<ServerName>, Option<Waiting>) {
        let mut budgets: Vec<(usize, BTreeSet<&ServerName>)> = Vec::new();
        for budget in &self.rollout.budgets {
            let servers: BTreeSet<&ServerName> = budget.servers.iter().collect();
            budgets.push((servers.iter().filter(|server| self.servers.contains(*server)).count(), servers));
        }
        let (mut affordable, mut waiting) = (Vec::new(), None);
        for row in rows {
            let is_out = self.servers.contains(&row);
            let full = self
                .rollout
                .budgets
                .iter()
                .zip(&budgets)
                .find(|(budget, (out, servers))| !is_out && servers.contains(&row) && *out >= budget.allowed);
            if let Some((budget, (out, servers))) = full {
                let (group, allowed) = (budget.group.clone(), budget.allowed);
                waiting.get_or_insert(Waiting::Budget { group, out: *out, size: servers.len(), allowed });
                continue;
            }
            if !is_out {
                for (out, _) in budgets.iter_mut().filter(|(_, servers)| servers.contains(&row)) {
                    *out += 1;
                }
            }
            affordable.push(row);
        }
        (affordable, waiting)
    }
}
