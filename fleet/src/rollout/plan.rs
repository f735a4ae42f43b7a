//! Planning a rollout: what an operator wants of its waves, and what follows from that. Pure.

use std::time::Duration;

use bucket::{PushId, ReleaseName, Rollout, RolloutRules, RolloutStage, ServerName, Timestamp};
use serde_json::Map;

use super::{
    budget::{Group, Share, budgets},
    observe::{Health, health},
    waves::{Candidate, Undivided, Waves},
};
use crate::{
    identity::{Identity, Origin},
    policy::Policy,
    server::Server,
};

/// What an operator wants of the waves of a push.
#[derive(Debug, Clone)]
pub struct Wish {
    /// Which servers come when.
    pub waves: Waves,
    /// What they wait for, and what stops them.
    pub rules: RolloutRules,
    /// How many servers of a group may be out, whatever the policy says.
    pub max_down: Option<Share>,
}

/// What is asked for where nothing is said, as a person would write it.
pub mod usual {
    /// How long a server must stay converged.
    pub const SETTLE: &str = "1m";
    /// How many servers of a large wave are enough.
    pub const ENOUGH: &str = "95%";
    /// How many failing servers stop it.
    pub const STOP_AT: &str = "1";
    /// How long a wave may take.
    pub const WITHIN: &str = "30m";
}

/// Longest time that a server can be asked to stay converged.
const MAX_SETTLE: Duration = Duration::from_hours(1);

/// How long a server must stay converged, as a person writes it.
///
/// # Errors
/// When it isn't a time, or a longer one than can be asked for.
pub fn settle(text: &str) -> Result<Duration, String> {
    let settle = console::duration::parse(text).map_err(|error| error.to_string())?;
    if settle > MAX_SETTLE { Err("can be at most 1h: a longer watch is for a verdict".to_owned()) } else { Ok(settle) }
}

/// How many of a hundred servers are enough, as a person writes it.
///
/// # Errors
/// When it isn't such a share.
pub fn enough(text: &str) -> Result<u8, String> {
    let percent = text.strip_suffix('%').unwrap_or(text).parse().ok();
    percent.filter(|percent| (1..=100).contains(percent)).ok_or_else(|| "must be from `1%` to `100%`".to_owned())
}

/// What is pushed, by whom.
#[derive(Debug, Clone, Copy)]
pub struct Subject<'a> {
    /// The push.
    pub id: &'a PushId,
    /// The release.
    pub release: &'a ReleaseName,
    /// The operator.
    pub who: &'a Identity,
    /// Their reason.
    pub why: &'a str,
}

/// The rollout of a release to some servers, of `fleet`, which has at least the servers of their groups.
///
/// # Errors
/// When the servers can't be divided into these waves.
pub fn plan(
    subject: Subject,
    wish: &Wish,
    candidates: &[Candidate],
    fleet: &[Server],
    policy: &Policy,
    now: Timestamp,
) -> Result<Rollout, Undivided> {
    let app = subject.release.app();
    let names: Vec<ServerName> = candidates.iter().map(|candidate| candidate.server.name.clone()).collect();
    let has_app = |server: &Server| server.desired(app).is_some() || names.contains(&server.name);
    let groups = policy.groups().map(|name| {
        let members = fleet.iter().filter(|server| has_app(server) && policy.groups_of(&server.name).contains(&name));
        Group { name, servers: members.map(|server| server.name.clone()).collect(), max_down: None }
    });
    let budgets = budgets(&names, groups.collect(), wish.max_down);
    let waves = wish.waves.divide(app, candidates, &budgets, policy, now)?;
    Ok(Rollout {
        schema: 1,
        id: subject.id.clone(),
        began: now,
        app: app.clone(),
        release: subject.release.clone(),
        who: subject.who.name.clone(),
        signed_in: subject.who.origin == Origin::SignedIn,
        why: subject.why.to_owned(),
        rules: wish.rules.clone(),
        budgets,
        waves,
        stage: RolloutStage::Running,
        stopped: None,
        undo: None,
        verdicts: Vec::new(),
        driven: None,
        other: Map::new(),
    })
}

/// The servers of a push that were out before it, which leave less of a budget.
pub fn out_before<'a>(candidates: &[Candidate<'a>], release: &ReleaseName, now: Timestamp) -> Vec<&'a ServerName> {
    let is_out = |candidate: &&Candidate| health(candidate.server, release.app(), now) != Health::Well;
    candidates.iter().filter(is_out).map(|candidate| &candidate.server.name).collect()
}
