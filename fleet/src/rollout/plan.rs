//! Planning a rollout: what an operator wants of its waves, and what follows from that. Pure.

use bucket::{PushId, ReleaseName, Rollout, RolloutRules, RolloutStage, ServerName, Timestamp};
use jiff::SignedDuration;
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

/// Longest time that a server can be asked to stay converged.
pub const MAX_SETTLE: SignedDuration = SignedDuration::from_hours(1);

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
