//! Planning a rollout: what an operator wants of its waves, and what follows from that. Pure.

use bucket::{AppName, Budget, PushId, ReleaseName, Rollout, RolloutStage, ServerName, Timestamp, Uncounted, Wave};
use serde_json::Map;

use super::{
    budget::{Group, budgets},
    observe::{Health, health},
    waves::{self, Candidate, Undivided},
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

/// How the servers of a push are divided: what a plan shows before anything is written, and what is written down then.
#[derive(Debug, Clone, PartialEq)]
pub struct Division {
    /// Its waves, in order.
    pub waves: Vec<Wave>,
    /// The groups that its servers are in, with how many of each may be out.
    pub budgets: Vec<Budget>,
    /// Servers of the push that are out already, which leave less of a budget.
    pub out: Vec<ServerName>,
}

/// Divides the servers of a push of an app, of `fleet`, which has at least the servers of their groups.
///
/// # Errors
/// When they can't be divided into the waves that are wanted.
pub fn divide<'a>(
    app: &AppName,
    wish: &Wish,
    candidates: &[Candidate],
    fleet: &(impl Iterator<Item = &'a Server> + Clone),
    policy: &Policy,
    now: Timestamp,
) -> Result<Division, Undivided> {
    let names: Vec<ServerName> = candidates.iter().map(|candidate| candidate.server.name.clone()).collect();
    let has_app = |server: &Server| server.desired(app).is_some() || names.contains(&server.name);
    let groups = policy.groups().map(|name| {
        let members = fleet.clone().filter(|server| has_app(server) && policy.groups_of(&server.name).contains(&name));
        Group { name, servers: members.map(|server| server.name.clone()).collect(), max_down: policy.max_down(name) }
    });
    let budgets = budgets(&names, groups.collect(), wish.max_down);
    let waves = waves::divide(&wish.waves, app, candidates, &budgets, policy, now)?;
    let is_out = |candidate: &&Candidate| health(candidate.server, app, now) != Health::Well;
    let out = candidates.iter().filter(is_out).map(|candidate| candidate.server.name.clone()).collect();
    Ok(Division { waves, budgets, out })
}

impl Division {
    /// The servers that don't report: they go last, and count neither for what is enough nor for what stops the rollout.
    pub fn silent(&self) -> impl Iterator<Item = &ServerName> {
        let rows = self.waves.iter().flat_map(|wave| &wave.rows);
        rows.filter(|row| row.uncounted == Some(Uncounted::Silent)).map(|row| &row.server)
    }

    /// For each group how many of its servers may be out, and which of the push are already.
    pub fn budgets(&self) -> impl Iterator<Item = (&Budget, Vec<&ServerName>)> {
        let out = |budget: &Budget| self.out.iter().filter(|name| budget.servers.contains(name)).collect();
        self.budgets.iter().map(move |budget| (budget, out(budget)))
    }

    /// The rollout of a release to servers that are divided so.
    pub fn rollout(self, subject: Subject, wish: &Wish, now: Timestamp) -> Rollout {
        Rollout {
            schema: 1,
            id: subject.id.clone(),
            began: now,
            app: subject.release.app().clone(),
            release: subject.release.clone(),
            who: subject.who.name.clone(),
            signed_in: subject.who.origin == Origin::SignedIn,
            why: subject.why.to_owned(),
            rules: wish.rules.clone(),
            budgets: self.budgets,
            waves: self.waves,
            stage: RolloutStage::Running,
            stopped: None,
            undo: None,
            verdicts: Vec::new(),
            driven: None,
            other: Map::new(),
        }
    }
}

/// The rollout of a release to some servers, divided as is wanted.
///
/// # Errors
/// When they can't be divided so.
pub fn plan<'a>(
    subject: Subject,
    wish: &Wish,
    candidates: &[Candidate],
    fleet: &(impl Iterator<Item = &'a Server> + Clone),
    policy: &Policy,
    now: Timestamp,
) -> Result<Rollout, Undivided> {
    Ok(divide(subject.release.app(), wish, candidates, fleet, policy, now)?.rollout(subject, wish, now))
}
