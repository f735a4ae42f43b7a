//! Pushing what a channel points to, to the followers that are behind: at once, or in waves.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result, bail};
use bucket::{AppName, Channel, LastPush, MoveKind, PushKind, Release, ReleaseName, ServerName};
use fleet::{
    channel::{
        follower::{Choice, Follows, LeftAlone, follows},
        line::Places,
    },
    follow::{Follower, Raced},
    guard, hold,
    operation::{Intent, JustRead, NotPushed, Operator, carry_out_while},
    policy::{Case, ChannelRules, Policy, Reason, Refusal},
    push,
    server::Server,
    wish::Wish,
};
use futures_util::{StreamExt as _, stream};
use tokio::sync::watch;

use super::{
    outcome::{Done, Fate},
    rollouts::{Kept, Rollouts},
    watcher::{AT_ONCE, Fleet, Watcher, cut},
};

/// Entries of a server's history in which somebody's choice is looked for: a few, and if it is in none of them, more.
const LOOKED_BACK: [usize; 2] = [100, 1000];

/// A channel in a round, with what its followers are judged by.
#[derive(Clone, Copy)]
pub(super) struct Seen<'a> {
    /// What it goes by.
    pub(super) rules: &'a ChannelRules,
    /// Where it points.
    pub(super) channel: &'a Channel,
    /// In which order the commits of its branch landed.
    pub(super) places: &'a Places<'a>,
    /// Releases of its followers that are dirty.
    pub(super) dirty: &'a BTreeSet<ReleaseName>,
    /// What all channels share.
    pub(super) fleet: &'a Fleet,
}

impl Watcher {
    /// Pushes to the followers that are behind, unless a rollout of the channel goes on or keeps them from that.
    ///
    /// # Errors
    /// When its rollouts can't be decided about, or somebody else was faster ([`Raced`]).
    pub(super) async fn push(
        &self,
        seen: Seen<'_>,
        followers: &[Follower<'_>],
        (rollouts, stop): (&mut Rollouts, &watch::Receiver<bool>),
        done: &mut Done,
    ) -> Result<()> {
        let kept = self.kept(seen.rules, seen.channel, rollouts).await?;
        let mut behind = Vec::new();
        for follower in followers {
            let name = follower.server.name.clone();
            let fate = match (&kept, self.follows(seen, follower).await) {
                (Some(Kept { going, to_write }), _) if to_write.contains(&name) => Fate::Waits(going.keeps()),
                (_, Ok(Follows::Behind)) => {
                    behind.push(*follower);
                    continue;
                }
                (_, Ok(Follows::There)) => Fate::There,
                (_, Ok(Follows::LeftAlone(why))) => Fate::LeftAlone(why),
                (_, Err(error)) => Fate::Failed(format!("{error:#}")),
            };
            done.followers.insert(name, fate);
        }
        let kept = kept.map(|kept| kept.going);
        if let Some(going) = &kept {
            done.rollouts.retain(|known| known.id != going.id);
            done.rollouts.push(going.clone());
        }
        let Some(wanted) = seen.channel.release.as_ref().filter(|_| !behind.is_empty()) else { return Ok(()) };
        let release = match self.bucket.release(wanted).await {
            Ok(Some(release)) => release,
            Ok(None) => {
                done.fail(&behind, &format!("`{}` is no longer in the bucket", wanted.stem()));
                return Ok(());
            }
            Err(error) => {
                done.fail(&behind, &format!("could not read the channel's release: {error}"));
                return Ok(());
            }
        };
        let (operator, kind) = self.operator(seen.rules, seen.channel, &release);
        let is_free = |follower: &Follower| match self.judge(seen, &operator, &kind, &release, follower.server) {
            Some(why) => {
                done.followers.insert(follower.server.name.clone(), Fate::LeftAlone(why));
                false
            }
            None => true,
        };
        behind.retain(is_free);
        if let Some(going) = kept {
            let waits = |it: &Follower| (it.server.name.clone(), Fate::Waits(going.keeps()));
            done.followers.extend(behind.iter().map(waits));
            return Ok(());
        }
        if behind.is_empty() {
            return Ok(());
        }
        let names: Vec<&ServerName> = behind.iter().map(|follower| &follower.server.name).collect();
        match wish(&self.policy, seen.rules, &operator, &kind, &names) {
            Ok(None) => self.push_at_once(seen.rules, (&operator, &kind), &release, &behind, (stop, done)).await?,
            Ok(Some(wish)) => {
                let of_it = (&operator, &release);
                let (going, fates) = self.begin(seen.rules, of_it, &wish, &behind, (rollouts, stop)).await?;
                done.push = Some(going.id.clone());
                done.rollouts.push(going);
                done.followers.extend(fates);
            }
            Err(refusal) => done.fail(&behind, &refusal.to_string()),
        }
        Ok(())
    }

    /// What becomes of a follower, as far as that is its own.
    async fn follows(
        &self,
        Seen { rules, channel, places, dirty, .. }: Seen<'_>,
        follower: &Follower<'_>,
    ) -> Result<Follows> {
        let server = follower.server;
        let others = self.policy.channels().iter();
        let mut others = others.filter(|other| other.app == rules.app && other.channel != rules.channel);
        if let Some(other) = others.find(|other| other.matches(&server.name)) {
            return Ok(Follows::LeftAlone(LeftAlone::TwoChannels(other.channel.clone())));
        }
        let is_dirty = follower.release.is_some_and(|release| dirty.contains(release));
        let last = last_push(rules, follower);
        // What is tried again somebody chose before, and pushes of other apps may have left no room for that one.
        let explains = |push: &LastPush| Choice::is_made_by(&push.kind) && push.to.as_ref() == follower.release;
        let is_off =
            follower.release.is_some() && channel.release.is_some() && follower.release != channel.release.as_ref();
        let Some(last) = last.filter(explains) else {
            if !is_off {
                return Ok(follows(channel, places, follower.release, is_dirty, None));
            }
            let last = self.choice(&server.name, &rules.app).await?;
            let places = self.places(places, last.as_ref().and_then(|last| last.from.as_ref())).await?;
            return Ok(follows(channel, &places, follower.release, is_dirty, last.as_ref()));
        };
        Ok(follows(channel, places, follower.release, is_dirty, Some(&Choice::from(&last))))
    }

    /// The same places, and where a release stands of which nobody knew that it would be asked about.
    async fn places<'a>(&self, places: &Places<'a>, release: Option<&ReleaseName>) -> Result<Places<'a>> {
        let mut places = places.clone();
        if let Some(release) = release {
            let found = self.bucket.release(release).await;
            let found =
                found.with_context(|| format!("could not look up `{}`, which it had before", release.stem()))?;
            if let Some(found) = found {
                places.learn(&found.into());
            }
        }
        Ok(places)
    }

    /// The last push that chose a release of an app for a server, as its history has it.
    async fn choice(&self, server: &ServerName, app: &AppName) -> Result<Option<Choice>> {
        for most in LOOKED_BACK {
            let history = self.bucket.newest_history(server, most).await;
            let history = history.context("could not read who chose its release")?;
            let mut of_app = history.iter().filter(|entry| entry.app.as_ref() == Some(app));
            let found = of_app.find(|entry| Choice::is_made_by(&entry.kind));
            if found.is_some() || history.len() < most {
                return Ok(found.map(Choice::from));
            }
        }
        bail!(
            "who chose its release is not known: the last {} pushes to it are of other apps; `push deploy` with --channel has it follow",
            LOOKED_BACK[1]
        )
    }

    /// Pushes to followers all at once, until the process is to end. They are read once more before there is a push: whoever else does
    /// the same may have been faster.
    async fn push_at_once(
        &self,
        rules: &ChannelRules,
        (operator, kind): (&Operator, &PushKind),
        release: &Release,
        behind: &[Follower<'_>],
        (stop, done): (&watch::Receiver<bool>, &mut Done),
    ) -> Result<()> {
        let read =
            behind.iter().map(async |follower| (follower, push::read(&self.bucket, &follower.server.name).await));
        let read: Vec<_> = stream::iter(read).buffered(AT_ONCE).collect().await;
        let mut intents = Vec::new();
        for (follower, seen) in read {
            let server = follower.server.name.clone();
            let seen = match seen {
                Ok(seen) => seen,
                Err(error) => {
                    done.followers.insert(server, Fate::Failed(format!("{error:#}")));
                    continue;
                }
            };
            let now = seen.document.release_of(&rules.app);
            if now != follower.release {
                bail!(Raced::over(rules));
            }
            let (app, from, to) = (rules.app.clone(), now.cloned(), Some(release.name.clone()));
            let just_read = JustRead { release: Some(release.clone()), seen };
            intents.push((Intent { server, app, from, to, kind: kind.clone() }, Some(just_read)));
        }
        for result in carry_out_while(&self.bucket, operator, intents, || !*stop.borrow()).await {
            let server = result.intent.server;
            if result.result.is_ok() {
                done.push = done.push.take().or(result.push);
            }
            done.warnings.extend(result.incomplete.iter().map(|incomplete| format!("{server}: {incomplete}")));
            let fate = match result.result {
                Ok(_) => Fate::Pushed,
                // Another watcher was faster.
                Err(NotPushed::Conflict(conflict)) if conflict.now.as_ref() == Some(&release.name) => Fate::There,
                Err(error) => Fate::Failed(error.to_string()),
            };
            done.followers.insert(server, fate);
        }
        Ok(())
    }

    /// As whom, why, and what for.
    fn operator(&self, rules: &ChannelRules, channel: &Channel, release: &Release) -> (Operator, PushKind) {
        let note = release.metadata.as_ref().map_or("", |metadata| metadata.note.as_str());
        let reason = format!("channel {}: {note}", rules.channel);
        let last = channel.history.first().map(|last| &last.kind);
        let kind = if last == Some(&MoveKind::Rollback) { PushKind::Rollback } else { PushKind::Deploy };
        let operator = Operator {
            who: self.who.clone(),
            reason: cut(&reason).to_owned(),
            policy: self.policy.clone(),
            poke: self.poke.clone(),
            held: false,
            without_waves: false,
            channel: Some(rules.channel.clone()),
        };
        (operator, kind)
    }

    /// What keeps a server from being pushed to now, before a push is made for it.
    fn judge(
        &self,
        Seen { rules, fleet, .. }: Seen<'_>,
        operator: &Operator,
        kind: &PushKind,
        release: &Release,
        server: &Server,
    ) -> Option<LeftAlone> {
        let dirty = release.metadata.as_ref().is_ok_and(|metadata| metadata.dirty);
        let case = Case { server: &server.name, app: &rules.app, dirty, reason: Reason::Given(&operator.reason) };
        if let Err(refusal) = self.policy.judge(&operator.who, case) {
            return Some(LeftAlone::Refused(refusal.to_string()));
        }
        if let Err(guarded) = guard::judge(fleet.halt.as_ref(), &fleet.rejected, kind, Some(&release.name)) {
            return Some(LeftAlone::Guarded(guarded.to_string()));
        }
        let (app, who) = (Some(&rules.app), &operator.who.name);
        let judged = hold::judge_among(&fleet.holds, &server.name, app, who, operator.held, self.bucket.now());
        judged.err().map(|not_free| LeftAlone::Guarded(not_free.to_string()))
    }
}

/// The last push of the app to a follower, as far as its document still tells.
pub(super) fn last_push(rules: &ChannelRules, follower: &Follower<'_>) -> Option<LastPush> {
    let pushes = follower.server.document()?.metadata().pushes();
    pushes.into_iter().find(|push| push.app == rules.app)
}

/// In which waves a push to these servers goes out, unless it goes to all at once. Who goes back goes back at once.
fn wish(
    policy: &Policy,
    rules: &ChannelRules,
    operator: &Operator,
    kind: &PushKind,
    servers: &[&ServerName],
) -> Result<Option<Wish>, Refusal> {
    if *kind == PushKind::Rollback {
        return Ok(None);
    }
    policy.wish_of_channel(&operator.who, rules, servers, Reason::Given(&operator.reason))
}
