//! Which servers of a push are written in which wave. Decided once, from the plan. Pure.

use std::collections::BTreeSet;

use bucket::{AppName, Budget, ReleaseName, ServerName, Timestamp, Uncounted, Wave, WaveRow};
use thiserror::Error;

use super::observe::{Health, health};
use crate::{
    policy::Policy,
    server::Server,
    wish::{WaveSpec, Waves},
};

/// The servers of a push can't be divided into these waves.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Undivided {
    /// A wave names a server that the push doesn't go to.
    #[error("the wave `{0}` names `{1}`, and the push does not go to it: add the server or leave it out of the wave")]
    NotInPush(String, ServerName),
    /// A wave has no servers.
    #[error("the wave `{0}` has no servers that an earlier wave does not have")]
    Empty(String),
    /// A wave before the last would have a whole group.
    #[error(
        "the wave `{0}` has all servers of the group `{1}`, and only the last wave may: leave one of them for a later wave"
    )]
    WholeGroup(String, String),
    /// A verdict is to be waited for after a wave that nobody said.
    #[error("it cannot wait for a verdict after wave {wave}, because it has {waves}", waves = console::count(*.said, "wave"))]
    NoSuchWave {
        /// The wave, from 1.
        wave: usize,
        /// How many are said.
        said: usize,
    },
    /// Some servers are in no wave.
    #[error("the waves leave out {0} of the servers: end them with `rest`")]
    LeftOut(usize),
}

/// A server that a push goes to.
#[derive(Debug, Clone, Copy)]
pub struct Candidate<'a> {
    /// The server, as it was read.
    pub server: &'a Server,
    /// The release that its document names.
    pub from: Option<&'a ReleaseName>,
}

/// Divides servers among waves. Within a wave, those that are well come first; those that don't report are in the last
/// one, and no other has all servers of a group of two or more.
///
/// # Errors
/// Why they can't be divided so.
pub fn divide(
    waves: &Waves,
    app: &AppName,
    candidates: &[Candidate],
    budgets: &[Budget],
    policy: &Policy,
    now: Timestamp,
) -> Result<Vec<Wave>, Undivided> {
    let mut left: Vec<(Health, Candidate)> =
        candidates.iter().map(|candidate| (health(candidate.server, app, now), *candidate)).collect();
    left.sort_by(|(a, one), (b, other)| (a, &one.server.name).cmp(&(b, &other.server.name)));
    let (specs, are_chosen) = (waves.specs(), !waves.are_for_any_push());
    if are_chosen {
        ensure_in_push(specs, candidates)?;
    }
    let last = specs.len() - 1;
    let mut divided = Vec::new();
    for (at, spec) in specs.iter().enumerate() {
        let wanted = wanted(spec, candidates.len(), &left, policy, now);
        let taken = if at == last { wanted } else { partial(spec, &wanted, budgets, are_chosen)? };
        // A number may find fewer than there are, or none: then it asks for nothing more.
        let may_be_empty = matches!(spec, WaveSpec::Count(_) | WaveSpec::Share(_) | WaveSpec::Rest);
        if taken.is_empty() && are_chosen && !may_be_empty {
            return Err(Undivided::Empty(spec.to_string()));
        }
        let (these, others) = left.into_iter().partition(|(health, candidate)| {
            taken.contains(&candidate.server.name) && (at == last || *health != Health::Silent)
        });
        left = others;
        if !these.is_empty() {
            divided.push(Wave { what: spec.to_string(), rows: these.into_iter().map(row).collect() });
        }
    }
    if left.is_empty() { Ok(divided) } else { Err(Undivided::LeftOut(left.len())) }
}

fn row((health, Candidate { server, from }): (Health, Candidate)) -> WaveRow {
    WaveRow {
        uncounted: (health == Health::Silent).then_some(Uncounted::Silent),
        ..WaveRow::new(server.name.clone(), from.cloned())
    }
}

/// Makes sure that a push goes to all servers that its waves name.
fn ensure_in_push(specs: &[WaveSpec], candidates: &[Candidate]) -> Result<(), Undivided> {
    let known: BTreeSet<&ServerName> = candidates.iter().map(|candidate| &candidate.server.name).collect();
    for spec in specs {
        let WaveSpec::Servers(servers) = spec else { continue };
        if let Some(other) = servers.iter().find(|server| !known.contains(server)) {
            return Err(Undivided::NotInPush(spec.to_string(), other.clone()));
        }
    }
    Ok(())
}

/// The servers that a wave is to have of a push to so many, of those that no earlier one has.
fn wanted(
    spec: &WaveSpec,
    all: usize,
    left: &[(Health, Candidate)],
    policy: &Policy,
    now: Timestamp,
) -> Vec<ServerName> {
    let names = || left.iter().map(|(_, candidate)| candidate.server.name.clone());
    match spec {
        WaveSpec::Count(count) => names().take(*count).collect(),
        WaveSpec::Share(share) => names().take((all * usize::from(*share)).div_ceil(100)).collect(),
        WaveSpec::Rest => names().collect(),
        WaveSpec::Matching(filter, _) => {
            let matching = left.iter().filter(|(_, candidate)| filter.matches(candidate.server, policy, now));
            matching.map(|(_, candidate)| candidate.server.name.clone()).collect()
        }
        WaveSpec::Servers(servers) => names().filter(|name| servers.contains(name)).collect(),
    }
}

/// Of the servers that a wave before the last is to have, those that leave a server of each group for later. That is a mistake
/// where they were named for this push.
fn partial(
    spec: &WaveSpec,
    wanted: &[ServerName],
    budgets: &[Budget],
    are_chosen: bool,
) -> Result<Vec<ServerName>, Undivided> {
    let mut taken: BTreeSet<&ServerName> = BTreeSet::new();
    for server in wanted {
        let completes = budgets.iter().filter(|budget| budget.servers.len() > 1).find(|budget| {
            budget.servers.contains(server)
                && budget.servers.iter().all(|other| other == server || taken.contains(other))
        });
        match completes {
            None => {
                taken.insert(server);
            }
            Some(budget) if are_chosen && matches!(spec, WaveSpec::Servers(_)) => {
                let group = budget.group.clone().unwrap_or_default();
                return Err(Undivided::WholeGroup(spec.to_string(), group));
            }
            Some(_) => {}
        }
    }
    Ok(wanted.iter().filter(|server| taken.contains(server)).cloned().collect())
}
