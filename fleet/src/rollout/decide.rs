//! What a person, or a judge from outside, decides about a rollout. Pure, but for reading and writing it.

use std::{fmt, str::FromStr};

use anyhow::{Context, Result, bail, ensure};
use bucket::{Bucket, Error, PushId, Rollout, RolloutStage, Timestamp, Uncounted, Undo, Verdict};

use super::{
    drive::{begin_undo, end},
    observe::{observe, row_state},
};
use crate::{
    identity::{Identity, Origin},
    policy::{Policy, Role},
    reason::ensure_short,
    server::Servers,
    wish::Share,
};

/// How often a decision is written again because a driver was faster.
const MAX_TRIES: u32 = 20;

/// What is decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// The wave that it waits after is good.
    Pass,
    /// It is not: the rollout stops.
    Fail,
    /// Somebody should look: the rollout stops.
    Unsure,
    /// A rollout that has stopped goes on; what had failed by then no longer counts.
    Continue,
    /// The same, and so many servers of each group may be out. One that has not stopped goes on with that.
    ContinueWith(Share),
    /// It stops.
    Stop,
    /// What it wrote is written back.
    Undo,
    /// It is over, and what it wrote stays.
    Abandon,
}

impl Decision {
    /// All that are told by a word.
    pub const ALL: [Self; 7] =
        [Self::Pass, Self::Fail, Self::Unsure, Self::Continue, Self::Stop, Self::Undo, Self::Abandon];

    /// Whether it can be decided about a rollout in that stage.
    pub fn applies(self, stage: &RolloutStage) -> bool {
        match self {
            Self::Pass | Self::Fail | Self::Unsure | Self::Stop => *stage == RolloutStage::Running,
            Self::Continue => *stage == RolloutStage::Stopped,
            Self::Undo => !matches!(stage, RolloutStage::Undoing | RolloutStage::Undone | RolloutStage::Other(_)),
            Self::ContinueWith(_) | Self::Abandon => !stage.is_over() && !matches!(stage, RolloutStage::Other(_)),
        }
    }

    /// As objects and programs spell it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Fail => "fail",
            Self::Unsure => "unsure",
            Self::Continue | Self::ContinueWith(_) => "continue",
            Self::Stop => "stop",
            Self::Undo => "undo",
            Self::Abandon => "abandon",
        }
    }
}

impl fmt::Display for Decision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Decision {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|decision| decision.as_str() == text);
        found.ok_or_else(|| format!("unknown verdict `{}`: use `pass`, `fail` or `unsure`", text.escape_debug()))
    }
}

/// Makes sure that somebody may decide about a rollout: a deployer of its app on every server of it.
///
/// # Errors
/// That they may not.
pub fn ensure_may_decide(policy: &Policy, who: &Identity, rollout: &Rollout) -> Result<()> {
    let least = rollout.rows().map(|row| policy.role(who, &rollout.app, &row.server)).min();
    ensure!(
        least >= Some(Role::Deployer),
        "`{}` may not decide about rollout {}: that takes the role `deployer` for `{}` on every server of it",
        who.name,
        rollout.id,
        rollout.app
    );
    Ok(())
}

/// Writes a decision into a rollout. `servers` are those of the rollout, read just now.
///
/// # Errors
/// When it isn't theirs to decide, the rollout is in no stage for it, or it can't be read or written.
pub async fn decide(
    bucket: &Bucket,
    policy: &Policy,
    id: &PushId,
    decision: Decision,
    (who, why): (&Identity, &str),
    servers: &dyn Servers,
) -> Result<Rollout> {
    ensure_short(why)?;
    for _ in 0..MAX_TRIES {
        let read = bucket.rollout(id).await.with_context(|| format!("could not read rollout {id}"))?;
        let (generation, rollout) = read.with_context(|| format!("there is no rollout {id}"))?;
        let now = bucket.now();
        let decided = decided(rollout, policy, decision, (who, why), servers, now)?;
        if decided.stage == RolloutStage::Abandoned {
            end(bucket, &observe(decided.clone(), servers), &who.name).await?;
        }
        match bucket.write_rollout(&decided, Some(generation)).await {
            Ok(_) => return Ok(decided),
            Err(Error::Conflict { .. }) => {}
            Err(error) => return Err(error).with_context(|| format!("could not write rollout {id}")),
        }
    }
    bail!("rollout {id} changed {MAX_TRIES} times while the decision was being written: try again")
}

/// A rollout after a decision.
fn decided(
    mut rollout: Rollout,
    policy: &Policy,
    decision: Decision,
    (who, why): (&Identity, &str),
    servers: &dyn Servers,
    now: Timestamp,
) -> Result<Rollout> {
    ensure_may_decide(policy, who, &rollout)?;
    let (id, stage) = (&rollout.id, &rollout.stage);
    ensure!(decision.applies(stage), "rollout {id} is {}: `{decision}` does not apply", stage.as_str().escape_debug());
    let (what, wave, by) = (decision.to_string(), rollout.begun_waves(), who.name.clone());
    let verdict = Verdict { what, wave, by, at: now, why: why.to_owned() };
    rollout.verdicts.push(verdict);
    let more = rollout.verdicts.len().saturating_sub(Rollout::MAX_VERDICTS);
    rollout.verdicts.drain(..more);
    let said = if why.is_empty() { String::new() } else { format!(": {why}") };
    match decision {
        Decision::Pass => {}
        Decision::Fail | Decision::Unsure | Decision::Stop => {
            let what = match decision {
                Decision::Fail => "judged as failed",
                Decision::Unsure => "paused",
                _ => "stopped",
            };
            rollout.stage = RolloutStage::Stopped;
            rollout.stopped = Some(format!("{what} by {}{said}", who.name));
        }
        Decision::Continue => go_on(&mut rollout, servers, now),
        Decision::ContinueWith(share) => {
            raise(&mut rollout, share)?;
            if rollout.stage == RolloutStage::Stopped {
                go_on(&mut rollout, servers, now);
            }
        }
        Decision::Undo => {
            let (who, signed_in) = (who.name.clone(), who.origin == Origin::SignedIn);
            begin_undo(&mut rollout, Undo { id: PushId::random(), began: now, who, signed_in, why: why.to_owned() });
        }
        Decision::Abandon => rollout.stage = RolloutStage::Abandoned,
    }
    Ok(rollout)
}

/// A rollout that had stopped runs again, and what has failed by now no longer counts.
fn go_on(rollout: &mut Rollout, servers: &dyn Servers, now: Timestamp) {
    (rollout.stage, rollout.stopped) = (RolloutStage::Running, None);
    // What they say is only looked at: whoever drives it writes down what was read after it.
    let seen = observe(rollout.clone(), servers);
    for (row, seen_row) in rollout.rows_mut().zip(seen.rows()) {
        if row_state(&seen, seen_row, servers.get(&row.server), now).has_failed() {
            row.uncounted.get_or_insert(Uncounted::Excused);
        }
    }
}

/// More servers of each group may be out than before.
///
/// # Errors
/// When as many may be already.
fn raise(rollout: &mut Rollout, share: Share) -> Result<()> {
    let mut is_more = false;
    for budget in &mut rollout.budgets {
        let allowed = share.of(budget.servers.len());
        is_more |= allowed > budget.allowed;
        budget.allowed = budget.allowed.max(allowed);
    }
    ensure!(is_more, "`{share}` is no more than may be out at a time already: give a larger number or share");
    Ok(())
}
