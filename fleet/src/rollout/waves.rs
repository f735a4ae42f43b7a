//! Which servers of a push are written in which wave. Decided once, from the plan. Pure.

use std::{collections::BTreeSet, fmt, str::FromStr};

use bucket::{AppName, Budget, ReleaseName, ServerName, Timestamp, Uncounted, Wave, WaveRow};
use thiserror::Error;

use super::observe::{Health, health};
use crate::{
    filter::{Filter, FilterError},
    policy::Policy,
    server::Server,
};

/// Most waves of a rollout.
const MAX_WAVES: usize = 100;

/// The waves that an operator asked for: `1,10%,rest`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Waves(Vec<WaveSpec>);

/// Which servers a wave is to have.
#[derive(Debug, Clone, PartialEq, Eq)]
enum WaveSpec {
    /// So many.
    Count(usize),
    /// So many of a hundred of all servers of the push.
    Share(u8),
    /// These.
    Servers(Vec<ServerName>),
    /// Those that match.
    Matching(Filter, String),
    /// Those that are left.
    Rest,
}

/// The text doesn't say waves.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum WavesError {
    /// One of them is nothing that a wave can be.
    #[error(
        "`{0}` is no wave: use a number, a share (`10%`), a server or several (`web-1+web-2`), a filter (`group:canary`), or `rest`"
    )]
    NoWave(String),
    /// One of them is a filter that isn't one.
    #[error(transparent)]
    Filter(#[from] FilterError),
    /// Something follows the wave that has everything that is left.
    #[error("`rest` must be the last wave: it takes every server that is left")]
    RestNotLast,
    /// There are more than anybody writes.
    #[error("a rollout can have at most {MAX_WAVES} waves")]
    TooMany,
}

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
    /// Some servers are in no wave.
    #[error("the waves leave out {0} of the servers: end them with `rest`")]
    LeftOut(usize),
}

impl FromStr for Waves {
    type Err = WavesError;

    fn from_str(text: &str) -> Result<Self, WavesError> {
        let specs: Vec<WaveSpec> = text.split(',').map(|word| spec(word.trim())).collect::<Result<_, _>>()?;
        if specs.len() > MAX_WAVES {
            return Err(WavesError::TooMany);
        }
        match specs.iter().position(|spec| *spec == WaveSpec::Rest) {
            Some(at) if at + 1 != specs.len() => Err(WavesError::RestNotLast),
            _ => Ok(Self(specs)),
        }
    }
}

fn spec(word: &str) -> Result<WaveSpec, WavesError> {
    let no_wave = || WavesError::NoWave(word.to_owned());
    if word == "rest" {
        return Ok(WaveSpec::Rest);
    }
    if let Some(share) = word.strip_suffix('%') {
        let share = share.parse().ok().filter(|share| (1..=100).contains(share));
        return share.map(WaveSpec::Share).ok_or_else(no_wave);
    }
    // A server whose name is a number is named with a filter's or a sum's form.
    if word.bytes().all(|byte| byte.is_ascii_digit()) {
        return word.parse().ok().filter(|count| *count > 0).map(WaveSpec::Count).ok_or_else(no_wave);
    }
    if word.contains(':') {
        return Ok(WaveSpec::Matching(Filter::parse(word)?, word.to_owned()));
    }
    let servers = word.split('+').map(str::parse).collect::<Result<Vec<ServerName>, _>>();
    servers.map(WaveSpec::Servers).map_err(|_| no_wave())
}

impl fmt::Display for WaveSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Count(count) => write!(f, "{count}"),
            Self::Share(share) => write!(f, "{share}%"),
            Self::Servers(servers) => {
                f.write_str(&servers.iter().map(ServerName::as_str).collect::<Vec<_>>().join("+"))
            }
            Self::Matching(_, text) => f.write_str(text),
            Self::Rest => f.write_str("rest"),
        }
    }
}

/// A server that a push goes to.
#[derive(Debug, Clone, Copy)]
pub struct Candidate<'a> {
    /// The server, as it was read.
    pub server: &'a Server,
    /// The release that its document names.
    pub from: Option<&'a ReleaseName>,
}

impl Waves {
    /// Divides servers among the waves. Within a wave, those that are well come first; those that don't report are in the last
    /// one, and no other has all servers of a group of two or more.
    ///
    /// # Errors
    /// Why they can't be divided so.
    pub fn divide(
        &self,
        app: &AppName,
        candidates: &[Candidate],
        budgets: &[Budget],
        policy: &Policy,
        now: Timestamp,
    ) -> Result<Vec<Wave>, Undivided> {
        let mut left: Vec<(Health, Candidate)> =
            candidates.iter().map(|candidate| (health(candidate.server, app, now), *candidate)).collect();
        left.sort_by(|(a, one), (b, other)| (a, &one.server.name).cmp(&(b, &other.server.name)));
        let last = self.0.len() - 1;
        let mut waves = Vec::new();
        for (at, spec) in self.0.iter().enumerate() {
            let wanted = wanted(spec, candidates, &left, policy, now)?;
            let taken = if at == last { wanted } else { partial(spec, &wanted, budgets)? };
            // A number may find fewer than there are, or none: then it asks for nothing more.
            let may_be_empty = matches!(spec, WaveSpec::Count(_) | WaveSpec::Share(_) | WaveSpec::Rest);
            if taken.is_empty() && !may_be_empty {
                return Err(Undivided::Empty(spec.to_string()));
            }
            let (these, others) = left.into_iter().partition(|(health, candidate)| {
                taken.contains(&candidate.server.name) && (at == last || *health != Health::Silent)
            });
            left = others;
            if !these.is_empty() {
                waves.push(Wave { what: spec.to_string(), rows: these.into_iter().map(row).collect() });
            }
        }
        if left.is_empty() { Ok(waves) } else { Err(Undivided::LeftOut(left.len())) }
    }
}

fn row((health, Candidate { server, from }): (Health, Candidate)) -> WaveRow {
    WaveRow {
        uncounted: (health == Health::Silent).then_some(Uncounted::Silent),
        ..WaveRow::new(server.name.clone(), from.cloned())
    }
}

/// The servers that a wave is to have, of those that no earlier one has.
fn wanted(
    spec: &WaveSpec,
    all: &[Candidate],
    left: &[(Health, Candidate)],
    policy: &Policy,
    now: Timestamp,
) -> Result<Vec<ServerName>, Undivided> {
    let names = || left.iter().map(|(_, candidate)| candidate.server.name.clone());
    Ok(match spec {
        WaveSpec::Count(count) => names().take(*count).collect(),
        WaveSpec::Share(share) => names().take((all.len() * usize::from(*share)).div_ceil(100)).collect(),
        WaveSpec::Rest => names().collect(),
        WaveSpec::Matching(filter, _) => {
            let matching = left.iter().filter(|(_, candidate)| filter.matches(candidate.server, policy, now));
            matching.map(|(_, candidate)| candidate.server.name.clone()).collect()
        }
        WaveSpec::Servers(servers) => {
            let known: BTreeSet<&ServerName> = all.iter().map(|candidate| &candidate.server.name).collect();
            if let Some(other) = servers.iter().find(|server| !known.contains(server)) {
                return Err(Undivided::NotInPush(spec.to_string(), other.clone()));
            }
            names().filter(|name| servers.contains(name)).collect()
        }
    })
}

/// Of the servers that a wave before the last is to have, those that leave a server of each group for later.
fn partial(spec: &WaveSpec, wanted: &[ServerName], budgets: &[Budget]) -> Result<Vec<ServerName>, Undivided> {
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
            Some(budget) if matches!(spec, WaveSpec::Servers(_)) => {
                let group = budget.group.clone().unwrap_or_default();
                return Err(Undivided::WholeGroup(spec.to_string(), group));
            }
            Some(_) => {}
        }
    }
    Ok(wanted.iter().filter(|server| taken.contains(server)).cloned().collect())
}
