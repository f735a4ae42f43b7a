//! Planning a rollout: what an operator wants of its waves, and what follows from that. Pure.

use bucket::{
    AppName, Budget, ChannelName, PushId, Release, ReleaseName, Rollout, RolloutStage, ServerName, Timestamp,
    Uncounted, Wave,
};
use serde_json::Map;

use super::{
    budget::{Group, budgets},
    observe::{Health, health},
    waves::{self, Candidate, Undivided},
};
use crate::{
    identity::{Identity, Origin},
    operation::{NotPushed, Operator},
    policy::{Case, Policy, Reason},
    push::Conflict,
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
    /// Whether it also goes to servers that they have put on hold.
    pub held: bool,
    /// The channel that points to the release, if it is begun for that.
    pub channel: Option<&'a ChannelName>,
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

/// The servers that can't be of a rollout, each with why, as far as can be said before they are written. Waves are decided once, so
/// that there must be none.
pub fn unfit(
    operator: &Operator,
    release: &Release,
    candidates: &[Candidate],
) -> impl Iterator<Item = (ServerName, NotPushed)> {
    let unfit =
        |candidate: &Candidate| Some((candidate.server.name.clone(), judge(operator, release, candidate).err()?));
    candidates.iter().filter_map(unfit)
}

/// Whether a server can be pushed to, whose document must name what the operator saw.
fn judge(operator: &Operator, release: &Release, candidate: &Candidate) -> Result<(), NotPushed> {
    let (server, app) = (&candidate.server.name, release.name.app());
    let dirty = release.metadata.as_ref().is_ok_and(|metadata| metadata.dirty);
    operator.policy.judge(&operator.who, Case { server, app, dirty, reason: Reason::Given(&operator.reason) })?;
    if let Some(error) = candidate.server.document.error() {
        return Err(NotPushed::Failed(error.to_owned()));
    }
    let now = candidate.server.desired(app);
    if now == candidate.from {
        return Ok(());
    }
    let (app, server) = (app.clone(), server.clone());
    Err(NotPushed::Conflict(Box::new(Conflict { app, server, seen: candidate.from.cloned(), now: now.cloned() })))
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
    let said = wish.waves.specs().len();
    if let Some(wave) = wish.rules.pause_after.iter().find(|wave| **wave > said) {
        return Err(Undivided::NoSuchWave { wave: *wave, said });
    }
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
            held: subject.held,
            channel: subject.channel.cloned(),
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
