//! The rollouts of channels: found by listing, begun when followers are behind, carried on, one at a time of each channel.
//!
//! What is remembered of them is what was read: a watcher that begins anew finds it all in the bucket.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use bucket::{
    AppName, Bucket, Channel, ChannelName, Error, Generation, PushId, Release, Rollout, RolloutStage, RolloutSummary,
    ServerName,
};
use fleet::{
    follow::{self, Follower, Raced},
    operation::Operator,
    policy::ChannelRules,
    rollout::{
        channel::{Turn, after, last, turn},
        decide::decide,
        drive::{Driver, Step, begin},
        plan::{Subject, divide},
        read::{Around, Reader, names},
        waves::Candidate,
    },
    server::{self, Server},
    wish::Wish,
};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use tokio::sync::watch;

use super::{
    outcome::{Fate, Going},
    watcher::{AT_ONCE, Watcher},
};

/// How often rollouts are carried on, between two rounds and while one waits.
pub const CARRIED_ON_EVERY: Duration = Duration::from_secs(2);

/// Most decisions about the rollouts of a channel in a round: one that runs stops, and is abandoned then.
const MAX_DECISIONS: usize = 10;

/// The rollouts of channels, as they were read last.
#[derive(Debug, Default)]
pub struct Rollouts {
    known: BTreeMap<PushId, Known>,
    readers: BTreeMap<PushId, Reader>,
    /// About which a decision failed, which the next round tries again.
    undecided: BTreeSet<PushId>,
}

#[derive(Debug)]
struct Known {
    generation: Generation,
    /// `None` of one that is of no channel, or can't be understood.
    rollout: Option<Rollout>,
    /// What it waits for, in a sentence's words.
    waits: Option<String>,
}

/// A rollout of a channel that is not over, or was not before this look.
#[derive(Debug)]
pub struct Looked {
    /// The app.
    pub app: AppName,
    /// The channel.
    pub channel: ChannelName,
    /// How far it is, or why it could not be carried on, as a sentence.
    pub going: Result<Going, String>,
    /// Whether a round is to begin now: it is over, has stopped, or the channel points elsewhere.
    pub calls_for_round: bool,
}

impl Rollouts {
    /// Whether one of them is not over.
    pub fn are_open(&self) -> bool {
        let mut rollouts = self.known.values().filter_map(|known| known.rollout.as_ref());
        rollouts.any(|rollout| !rollout.stage.is_over())
    }

    /// Lists them, and reads those of [`concerned`] that have changed.
    pub(super) async fn read(&mut self, bucket: &Bucket) -> Result<()> {
        let listed: Vec<RolloutSummary> =
            bucket.rollouts().try_collect().await.context("could not list the rollouts")?;
        let listed: BTreeMap<PushId, Generation> =
            concerned(&listed).map(|summary| (summary.id.clone(), summary.generation)).collect();
        self.known.retain(|id, known| listed.get(id) == Some(&known.generation));
        let changed: Vec<(PushId, Generation)> =
            listed.into_iter().filter(|(id, _)| !self.known.contains_key(id)).collect();
        let read = stream::iter(changed).map(async |(id, generation)| (bucket.rollout(&id).await, id, generation));
        let read: Vec<_> = read.buffer_unordered(AT_ONCE).collect().await;
        for (read, id, generation) in read {
            match read {
                Ok(read) => read.into_iter().for_each(|(generation, rollout)| self.put(generation, rollout, None)),
                // Of which channel it is isn't known, and no other ID can be that of the one which this channel begins next.
                Err(Error::Malformed { .. }) => {
                    self.known.insert(id, Known { generation, rollout: None, waits: None });
                }
                Err(error) => return Err(error).with_context(|| format!("could not read rollout {id}")),
            }
        }
        Ok(())
    }

    fn put(&mut self, generation: Generation, mut rollout: Rollout, waits: Option<String>) {
        let id = rollout.id.clone();
        if rollout.stage.is_over() {
            // Only what it brought is asked about it.
            (rollout.waves, rollout.budgets) = (Vec::new(), Vec::new());
            self.readers.remove(&id);
        }
        let rollout = rollout.channel.is_some().then_some(rollout);
        self.known.insert(id, Known { generation, rollout, waits });
    }

    /// Those of a channel.
    pub(super) fn of(&self, rules: &ChannelRules) -> impl Iterator<Item = &Rollout> + Clone {
        let rollouts = self.known.values().filter_map(|known| known.rollout.as_ref());
        rollouts.filter(|rollout| rollout.app == rules.app && rollout.channel.as_ref() == Some(&rules.channel))
    }

    fn going(&self, rollout: &Rollout) -> Going {
        Going::of(rollout, self.known.get(&rollout.id).and_then(|known| known.waits.as_deref()))
    }
}

/// Of all rollouts those that say what a channel does next: the ones that are not over, and its last one, whatever became of that. One
/// of which the list says nothing may be any of these.
fn concerned(listed: &[RolloutSummary]) -> impl Iterator<Item = &RolloutSummary> {
    let mut last = BTreeMap::new();
    for head in listed.iter().filter_map(|summary| summary.head.as_ref()) {
        let last = last.entry((&head.app, &head.channel)).or_insert(head.began);
        *last = head.began.max(*last);
    }
    listed.iter().filter(move |RolloutSummary { head, .. }| {
        let Some(head) = head else { return true };
        head.channel.is_some() && (!head.stage.is_over() || last[&(&head.app, &head.channel)] == head.began)
    })
}

/// What a round knows of a channel's rollouts when their decisions are made.
#[derive(Debug)]
pub(super) struct Kept {
    /// The one that keeps the channel's release from going out otherwise.
    pub(super) going: Going,
    /// The servers that it is about to write.
    pub(super) to_write: BTreeSet<ServerName>,
}

impl Watcher {
    /// Carries the rollouts of channels on as far as they go now, unless something is to be decided about one. Once `stop` says so it
    /// ends, with the write that it is at.
    pub async fn carry_on(&self, rollouts: &mut Rollouts, stop: &watch::Receiver<bool>) -> Vec<Looked> {
        let mut looked = Vec::new();
        for rules in self.policy.channels() {
            let open = rollouts.of(rules).filter(|rollout| !rollout.stage.is_over());
            let oldest = open.min_by_key(|rollout| rollout.began).map(|rollout| rollout.id.clone());
            let Some(id) = oldest.filter(|_| !*stop.borrow()) else { continue };
            let (going, calls_for_round) = match self.look(rules, &id, rollouts, stop).await {
                Ok((going, calls_for_round)) => (Ok(going), calls_for_round),
                Err(error) => (Err(format!("could not carry rollout {id} on, will retry: {error:#}")), false),
            };
            looked.push(Looked { app: rules.app.clone(), channel: rules.channel.clone(), going, calls_for_round });
        }
        looked
    }

    async fn look(
        &self,
        rules: &ChannelRules,
        id: &PushId,
        rollouts: &mut Rollouts,
        stop: &watch::Receiver<bool>,
    ) -> Result<(Going, bool)> {
        let before =
            rollouts.known.get(id).and_then(|known| known.rollout.as_ref()).map(|rollout| rollout.stage.clone());
        let (generation, rollout) = self.reread(id).await?;
        let channel = follow::read(&self.bucket, rules).await?.channel;
        let is_carried_on = match turn(&channel, std::iter::once(&rollout)) {
            Turn::CarryOn(_) => true,
            Turn::Decide(..) if !rollouts.undecided.contains(id) => return Ok((Going::of(&rollout, None), true)),
            _ => false,
        };
        let (rollout, waits) = if is_carried_on { self.drive(id, rollouts, stop).await? } else { (rollout, None) };
        let has_ended = rollout.stage.is_over() || rollout.stage == RolloutStage::Stopped;
        let has_changed = before.as_ref() != Some(&rollout.stage);
        let going = Going::of(&rollout, waits.as_deref());
        rollouts.put(generation, rollout, waits);
        Ok((going, has_ended && has_changed))
    }

    async fn reread(&self, id: &PushId) -> Result<(Generation, Rollout)> {
        let read = self.bucket.rollout(id).await.with_context(|| format!("could not read rollout {id}"))?;
        read.with_context(|| format!("rollout {id} is gone"))
    }

    /// Does what there is to do about a rollout, and gives what it waits for then.
    async fn drive(
        &self,
        id: &PushId,
        rollouts: &mut Rollouts,
        stop: &watch::Receiver<bool>,
    ) -> Result<(Rollout, Option<String>)> {
        let name = format!("push watch of {}", self.who.name);
        let (policy, poke) = (self.policy.clone(), self.poke.clone());
        let driver = Driver { name, policy, poke, stop: Some(stop.clone()) };
        let reader = rollouts.readers.entry(id.clone()).or_default();
        loop {
            let (generation, rollout) = self.reread(id).await?;
            let Around { servers, held, halted } = reader.around(&self.bucket, &rollout).await?;
            match driver.step(&self.bucket, (generation, rollout.clone()), servers, &held, halted).await? {
                Step::Waits(rollout, waiting) => return Ok((*rollout, Some(waiting.to_string()))),
                Step::Contended => return Ok((rollout, Some("another process carries it on".to_owned()))),
                Step::Moved(moved) => {
                    let is_carried_on = matches!(moved.stage, RolloutStage::Running | RolloutStage::Undoing);
                    if !is_carried_on || *stop.borrow() {
                        return Ok((*moved, None));
                    }
                }
            }
        }
    }

    /// Decides what is to be decided about a channel's rollouts, and gives the one that goes on or keeps its release.
    pub(super) async fn kept(
        &self,
        rules: &ChannelRules,
        channel: &Channel,
        rollouts: &mut Rollouts,
    ) -> Result<Option<Kept>> {
        for _ in 0..MAX_DECISIONS {
            let (rollout, decision, why) = match turn(channel, rollouts.of(rules)) {
                Turn::Free => return Ok(None),
                Turn::CarryOn(rollout) => {
                    let rows = rollout.rows().filter(|row| row.written.is_none() && row.left.is_none());
                    let to_write = rows.map(|row| row.server.clone()).collect();
                    return Ok(Some(Kept { going: rollouts.going(rollout), to_write }));
                }
                Turn::Stays(rollout) => {
                    return Ok(Some(Kept { going: rollouts.going(rollout), to_write: BTreeSet::new() }));
                }
                Turn::Decide(rollout, decision, why) => (rollout.clone(), decision, why),
            };
            let (id, stage) = (rollout.id.clone(), rollout.stage.clone());
            let servers = rollouts.readers.entry(id.clone()).or_default().read(&self.bucket, &names(&rollout)).await?;
            let decided = decide(&self.bucket, &self.policy, &id, decision, (&self.who, &why), servers).await;
            let (generation, rollout) = self.reread(&id).await?;
            if let Err(error) = decided
                // Another watcher was faster, mostly.
                && rollout.stage == stage
            {
                rollouts.undecided.insert(id);
                return Err(error);
            }
            rollouts.undecided.remove(&id);
            rollouts.put(generation, rollout, None);
        }
        bail!("the rollouts of the channel change again and again: the next round looks at them once more")
    }

    /// Begins a rollout to followers that are behind, and carries it on as far as it goes now.
    pub(super) async fn begin(
        &self,
        rules: &ChannelRules,
        (operator, release): (&Operator, &Release),
        wish: &Wish,
        behind: &[Follower<'_>],
        (rollouts, stop): (&mut Rollouts, &watch::Receiver<bool>),
    ) -> Result<(Going, BTreeMap<ServerName, Fate>)> {
        // Of a group all servers count, and not only those that the channel may have.
        let listed = server::listed(&self.bucket).await?;
        let read =
            listed.into_iter().map(async |(name, written)| server::read_listed(&self.bucket, &name, written).await);
        let servers: Vec<Server> = stream::iter(read).buffered(AT_ONCE).collect().await;
        let follower = |server: &Server| behind.iter().find(|follower| follower.server.name == server.name);
        let candidate = |server| follower(server).map(|follower| Candidate { server, from: follower.release });
        let candidates: Vec<Candidate> = servers.iter().filter_map(candidate).collect();
        let is_as_seen = |candidate: &Candidate| candidate.server.desired(&rules.app) == candidate.from;
        if candidates.len() < behind.len() || !candidates.iter().all(is_as_seen) {
            bail!(Raced::over(rules));
        }
        let last = last(rollouts.of(rules));
        let (id, began) = after((&rules.app, &rules.channel), last, self.bucket.now());
        let division = divide(&rules.app, wish, &candidates, &servers.iter(), &self.policy, self.bucket.now())?;
        let (who, why, channel) = (&operator.who, operator.reason.as_str(), Some(&rules.channel));
        let subject = Subject { id: &id, release: &release.name, who, why, held: operator.held, channel };
        match begin(&self.bucket, &division.rollout(subject, wish, began)).await {
            // Another watcher has begun it, or one after the same before.
            Err(error) if matches!(error.downcast_ref(), Some(Error::AlreadyExists { .. })) => {
                bail!(Raced::over(rules))
            }
            recorded => recorded?,
        };
        let (rollout, waits) = self.drive(&id, rollouts, stop).await?;
        let going = Going::of(&rollout, waits.as_deref());
        let fates = rollout.rows().map(|row| {
            let fate = if row.written.is_some() { Fate::Pushed } else { Fate::Waits(going.keeps()) };
            (row.server.clone(), fate)
        });
        let fates = fates.collect();
        // Whichever generation it has by now, it is read again.
        rollouts.put(Generation(0), rollout, waits);
        Ok((going, fates))
    }
}

#[cfg(test)]
mod tests {
    use bucket::{RolloutHead, Timestamp};

    use super::*;

    #[test]
    fn of_all_rollouts_there_ever_were_only_those_are_read_that_say_what_a_channel_does_next() {
        let summary = |id: &str, of: Option<(&str, i64, RolloutStage)>| RolloutSummary {
            id: id.parse().unwrap(),
            generation: Generation(1),
            size: 1,
            updated: Timestamp::UNIX_EPOCH,
            head: of.map(|(channel, began, stage)| RolloutHead {
                began: Timestamp::from_second(began).unwrap(),
                app: "web".parse().unwrap(),
                channel: (!channel.is_empty()).then(|| channel.parse().unwrap()),
                stage,
            }),
        };
        let mut listed: Vec<_> =
            (0..1000).map(|n| summary(&format!("old{n}"), Some(("prod", n, RolloutStage::Done)))).collect();
        listed.extend([
            summary("stopped", Some(("prod", 7, RolloutStage::Stopped))),
            summary("newer", Some(("prod", 8, RolloutStage::Other("resting".to_owned())))),
            summary("undone", Some(("beta", 3, RolloutStage::Undone))),
            summary("earlier", Some(("beta", 2, RolloutStage::Done))),
            // Of a person, and one that says nothing of itself.
            summary("alone", Some(("", 9, RolloutStage::Running))),
            summary("foreign", None),
        ]);
        let read: Vec<_> = concerned(&listed).map(|summary| summary.id.as_str()).collect();
        assert_eq!(read, ["old999", "stopped", "newer", "undone", "foreign"]);
    }
}
