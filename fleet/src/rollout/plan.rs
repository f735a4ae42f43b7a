//! Planning a rollout: what an operator wants of its waves, and what follows from that. Pure.

use bucket::{PushId, ReleaseName, Rollout, RolloutStage, ServerName, Timestamp};
use serde_json::Map;

use super::{
    budget::{Group, budgets},
    observe::{Health, health},
    waves::{Candidate, Undivided, divide},
};
use crate::{
    identity::{Identity, Origin},
    policy::Policy,
    server::Server,
    wish::Wish,
};

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
pub fn plan<'a>(
    subject: Subject,
    wish: &Wish,
    candidates: &[Candidate],
    fleet: &(impl Iterator<Item = &'a Server> + Clone),
    policy: &Policy,
    now: Timestamp,
) -> Result<Rollout, Undivided> {
    let app = subject.release.app();
    let names: Vec<ServerName> = candidates.iter().map(|candidate| candidate.server.name.clone()).collect();
    let has_app = |server: &Server| server.desired(app).is_some() || names.contains(&server.name);
    let groups = policy.groups().map(|name| {
        let members = fleet.clone().filter(|server| has_app(server) && policy.groups_of(&server.name).contains(&name));
        Group { name, servers: members.map(|server| server.name.clone()).collect(), max_down: policy.max_down(name) }
    });
    let budgets = budgets(&names, groups.collect(), wish.max_down);
    let waves = divide(&wish.waves, app, candidates, &budgets, policy, now)?;
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
