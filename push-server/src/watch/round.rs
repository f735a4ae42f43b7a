//! One round: each channel is moved to the furthest release of its branch, and its followers are pushed to.
//!
//! It works from the state and remembers nothing: whoever is killed between two writes is made up for by the next round.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use anyhow::{Context as _, Result};
use bucket::{
    AppName, Bucket, Channel, ChannelName, Halt, HistoryEntry, PushId, PushKind, Release, ReleaseName, ServerName,
};
use fleet::{
    channel::{
        change::{Said, moved},
        choose::{Furthest, Next, next},
        follower::{Follows, LeftAlone, follows},
        line::Line,
        observe::{Observed, observed},
        repo::RepoUrl,
    },
    condition::{Condition, apps, condition},
    follow::{self, Follower, followers},
    guard,
    hold::{self, AllHolds},
    identity::Identity,
    operation::{Intent, JustRead, Operator, carry_out},
    poke::PokeSettings,
    policy::{Case, ChannelRules, Policy, Reason, Way},
    push::Seen,
    server::{self, Reading, Server},
    wish::Said as Wished,
};
use futures_util::{StreamExt as _, TryStreamExt as _, future::join_all, stream};

use tokio::sync::watch;

use super::mirror::{Mirror, Mirrors};

/// Servers that are read at the same time.
const AT_ONCE: usize = 16;

/// Who watches, and by which rules.
#[derive(Debug, Clone)]
pub struct Watcher {
    /// The bucket.
    pub bucket: Bucket,
    /// The rules, the channels among them.
    pub policy: Arc<Policy>,
    /// As whom it pushes.
    pub who: Identity,
    /// Whether and how servers are poked.
    pub poke: PokeSettings,
}

/// What a round did with a channel.
#[derive(Debug)]
pub struct Outcome {
    /// The app.
    pub app: AppName,
    /// The channel.
    pub channel: ChannelName,
    /// What became of it; the error has what failed.
    pub result: Result<Done>,
}

/// What a round did with a channel that could be looked at.
#[derive(Debug)]
pub struct Done {
    /// What it pointed to before.
    pub from: Option<ReleaseName>,
    /// What it points to.
    pub release: Option<ReleaseName>,
    /// What it would move to if nothing kept it.
    pub would: Option<ReleaseName>,
    /// Whether its release is not on its branch.
    pub diverged: bool,
    /// Releases that were passed over because their metadata can't be read.
    pub unreadable: usize,
    /// The push to its followers, if there was one.
    pub push: Option<PushId>,
    /// Each follower, and what became of it.
    pub followers: BTreeMap<ServerName, Fate>,
}

/// What became of a follower.
#[derive(Debug)]
pub enum Fate {
    /// It has what the channel points to.
    There,
    /// It was pushed to.
    Pushed,
    /// It was left alone.
    LeftAlone(LeftAlone),
    /// It should have been pushed to, and that failed; the text has the causes.
    Failed(String),
}

impl Outcome {
    /// Whether something of it failed, so that the next round has to make up for it.
    pub fn has_failed(&self) -> bool {
        match &self.result {
            Ok(done) => done.diverged || done.followers.values().any(|fate| matches!(fate, Fate::Failed(_))),
            Err(_) => true,
        }
    }
}

/// What all channels share in a round.
struct Fleet {
    servers: Vec<Server>,
    halt: Option<Halt>,
    holds: AllHolds,
    rejected: BTreeSet<ReleaseName>,
}

impl Watcher {
    /// One round over all channels. What can't be read of one keeps no other from anything. Once `stop` says so it ends, with
    /// the channel that it is at.
    ///
    /// # Errors
    /// When what all of them need can't be read.
    pub async fn round(&self, mirrors: &Mirrors, mut stop: watch::Receiver<bool>) -> Result<Vec<Outcome>> {
        let channels = self.policy.channels();
        let repos: BTreeSet<&str> = channels.iter().map(|rules| rules.repo.as_str()).collect();
        let repos: Vec<&RepoUrl> = repos
            .into_iter()
            .filter_map(|repo| channels.iter().map(|rules| &rules.repo).find(|known| known.as_str() == repo))
            .collect();
        let fetched = join_all(repos.iter().map(async |repo| (repo.as_str(), mirrors.fetch(repo).await)));
        let read = async { tokio::join!(fetched, self.read()) };
        let (fetched, fleet) = tokio::select! {
            read = read => read,
            _ = stop.wait_for(|stop| *stop) => return Ok(Vec::new()),
        };
        let (fetched, fleet) = (fetched.into_iter().collect::<BTreeMap<_, _>>(), fleet?);
        let mut outcomes = Vec::new();
        for rules in channels {
            if *stop.borrow() {
                break;
            }
            let result = match &fetched[rules.repo.as_str()] {
                Ok(mirror) => self.channel(rules, mirror, &fleet).await,
                Err(error) => Err(anyhow::anyhow!("{error:#}")),
            };
            outcomes.push(Outcome { app: rules.app.clone(), channel: rules.channel.clone(), result });
        }
        Ok(outcomes)
    }

    async fn read(&self) -> Result<Fleet> {
        let matched = |name: &ServerName| self.policy.channels().iter().any(|rules| rules.matches(name));
        let servers = async {
            let listed = server::listed(&self.bucket).await?.into_iter().filter(|(name, _)| matched(name));
            let read = listed.map(async |(name, written)| server::read_listed(&self.bucket, &name, written).await);
            anyhow::Ok(stream::iter(read).buffered(AT_ONCE).collect::<Vec<_>>().await)
        };
        let halt = async { self.bucket.halt().await.context("could not read whether all pushes are halted") };
        let rejected = async { self.bucket.all_rejected().await.context("could not read which releases are rejected") };
        let known = AllHolds::new();
        let (servers, halt, holds, rejected) =
            tokio::try_join!(servers, halt, hold::all(&self.bucket, &known), rejected)?;
        Ok(Fleet { servers, halt: halt.map(|(_, halt)| halt), holds, rejected })
    }

    async fn channel(&self, rules: &ChannelRules, mirror: &Mirror, fleet: &Fleet) -> Result<Done> {
        let line = mirror.line(&rules.branch).await?;
        let line = line.as_ref();
        let seen = follow::read(&self.bucket, rules).await?;
        let followers: Vec<Follower> = followers(rules, &fleet.servers).collect();
        let now = self.bucket.now();
        let observed =
            observed(&seen.channel, &followers.iter().map(|it| look(rules, it, now)).collect::<Vec<_>>(), now);
        let empty = Line::new(Vec::new());
        let (furthest, dirty) = self.releases(rules, line.unwrap_or(&empty), &fleet.rejected, &followers).await?;
        let (mut after, mut would) = (observed, None);
        let verdict = next(&after, rules.moves, line, furthest.found().map(|(place, release)| (place, &release.name)));
        let diverged = verdict == Next::Diverged;
        match verdict {
            Next::Move(release) => {
                let note = furthest.found().and_then(|(_, release)| release.metadata.as_ref().ok());
                let why = note.map_or("", |metadata| metadata.note.as_str());
                after = moved(&after, &release, Said { by: &self.who.name, why: cut(why), at: now });
            }
            Next::Would(release) => would = Some(release),
            Next::Stay | Next::Diverged => {}
        }
        if after != seen.channel {
            follow::write(&self.bucket, &after, &seen).await?;
        }
        let mut done = Done {
            from: seen.channel.release,
            release: after.release.clone(),
            would,
            diverged,
            unreadable: furthest.unreadable(),
            push: None,
            followers: BTreeMap::new(),
        };
        self.push(rules, &after, line, fleet, (&followers, &dirty), &mut done).await?;
        Ok(done)
    }

    /// Looks through the releases of the app: for the one that is furthest, and for those of followers that are dirty.
    async fn releases<'a>(
        &self,
        rules: &ChannelRules,
        line: &'a Line,
        rejected: &'a BTreeSet<ReleaseName>,
        followers: &[Follower<'_>],
    ) -> Result<(Furthest<'a>, BTreeSet<ReleaseName>)> {
        let of_followers: BTreeSet<&ReleaseName> = followers.iter().filter_map(|follower| follower.release).collect();
        let (mut furthest, mut dirty) = (Furthest::on(line, rejected), BTreeSet::new());
        let mut releases = std::pin::pin!(self.bucket.releases(&rules.app));
        let unlisted = || format!("could not list the releases of `{}`", rules.app);
        while let Some(release) = releases.try_next().await.with_context(unlisted)? {
            let is_dirty = release.metadata.as_ref().is_ok_and(|metadata| metadata.dirty);
            if is_dirty && of_followers.contains(&release.name) {
                dirty.insert(release.name.clone());
            }
            furthest.look(release);
        }
        Ok((furthest, dirty))
    }

    /// Pushes to the followers that are behind.
    async fn push(
        &self,
        rules: &ChannelRules,
        channel: &Channel,
        line: Option<&Line>,
        fleet: &Fleet,
        (followers, dirty): (&[Follower<'_>], &BTreeSet<ReleaseName>),
        done: &mut Done,
    ) -> Result<()> {
        let mut behind = Vec::new();
        for follower in followers {
            let Some(document) = follower.server.document() else { continue };
            let is_dirty = follower.release.is_some_and(|release| dirty.contains(release));
            let name = follower.server.name.clone();
            match follows(channel, line, document, follower.release, is_dirty) {
                Follows::There => drop(done.followers.insert(name, Fate::There)),
                Follows::LeftAlone(why) => drop(done.followers.insert(name, Fate::LeftAlone(why))),
                Follows::Behind => behind.push(*follower),
            }
        }
        let Some(wanted) = channel.release.as_ref().filter(|_| !behind.is_empty()) else { return Ok(()) };
        let found = self.bucket.release(wanted).await.context("could not read the channel's release")?;
        let release =
            found.with_context(|| format!("`{}` is no longer in the bucket: nothing is pushed", wanted.stem()))?;
        let (operator, kind) = self.operator(rules, channel, &release);
        let mut intents = Vec::new();
        for follower in behind {
            let server = follower.server.name.clone();
            if let Some(why) = self.judge(rules, &operator, &kind, &release, fleet, follower.server) {
                done.followers.insert(server, Fate::LeftAlone(why));
                continue;
            }
            let (app, from, to) = (rules.app.clone(), follower.release.cloned(), Some(wanted.clone()));
            let just_read = JustRead { release: Some(release.clone()), seen: Seen::of(follower.server)? };
            intents.push((Intent { server, app, from, to, kind: kind.clone() }, Some(just_read)));
        }
        if intents.is_empty() {
            return Ok(());
        }
        let names: Vec<&ServerName> = intents.iter().map(|(intent, _)| &intent.server).collect();
        let way =
            self.policy.way(&operator.who, &rules.app, &names, Reason::Given(&operator.reason), &Wished::default());
        let waves = match way {
            Ok(Way::AtOnce { .. }) => rules.asked.as_ref().map(ToString::to_string),
            Ok(Way::Waves { wish, .. }) => Some(wish.waves.to_string()),
            Err(refusal) => Some(refusal.to_string()),
        };
        if let Some(waves) = waves {
            let why =
                format!("it is to go out in waves ({waves}), which `push watch` does not do yet: push it by hand");
            done.followers.extend(names.into_iter().map(|name| (name.clone(), Fate::Failed(why.clone()))));
            return Ok(());
        }
        for result in carry_out(&self.bucket, &operator, intents, |_, _| ()).await {
            done.push = done.push.take().or(result.push);
            let fate = result.result.map_or_else(|error| Fate::Failed(error.to_string()), |_| Fate::Pushed);
            done.followers.insert(result.intent.server, fate);
        }
        Ok(())
    }

    /// As whom, why, and what for.
    fn operator(&self, rules: &ChannelRules, channel: &Channel, release: &Release) -> (Operator, PushKind) {
        let note = release.metadata.as_ref().map_or("", |metadata| metadata.note.as_str());
        let reason = format!("channel {}: {note}", rules.channel);
        let is_back = channel.history.iter().skip(1).any(|entry| entry.release == release.name);
        let operator = Operator {
            who: self.who.clone(),
            reason: cut(&reason).to_owned(),
            policy: self.policy.clone(),
            poke: self.poke.clone(),
            held: false,
            without_waves: false,
            channel: Some(rules.channel.clone()),
        };
        (operator, if is_back { PushKind::Rollback } else { PushKind::Deploy })
    }

    /// What keeps a server from being pushed to now, before a push is made for it.
    fn judge(
        &self,
        rules: &ChannelRules,
        operator: &Operator,
        kind: &PushKind,
        release: &Release,
        fleet: &Fleet,
        server: &Server,
    ) -> Option<LeftAlone> {
        let others =
            self.policy.channels().iter().filter(|other| other.app == rules.app && other.channel != rules.channel);
        if let Some(other) = others.into_iter().find(|other| other.matches(&server.name)) {
            return Some(LeftAlone::TwoChannels(other.channel.clone()));
        }
        let dirty = release.metadata.as_ref().is_ok_and(|metadata| metadata.dirty);
        let case = Case { server: &server.name, app: &rules.app, dirty, reason: Reason::Given(&operator.reason) };
        if let Err(refusal) = self.policy.judge(&operator.who, case) {
            return Some(LeftAlone::Refused(refusal.to_string()));
        }
        if let Err(guarded) = guard::judge(fleet.halt.as_ref(), &fleet.rejected, kind, Some(&release.name)) {
            return Some(LeftAlone::Guarded(guarded.to_string()));
        }
        match fleet.holds.get(&server.name) {
            Some((_, Reading::Known(holds))) => {
                let now = self.bucket.now();
                let held = hold::judge(holds, &server.name, Some(&rules.app), &operator.who.name, false, now);
                held.err().map(|held| LeftAlone::Guarded(held.to_string()))
            }
            Some((_, Reading::Unreadable(error))) => {
                let why = format!("could not read whether `{}` is on hold: {error}", server.name);
                Some(LeftAlone::Guarded(why))
            }
            Some((_, Reading::Absent)) | None => None,
        }
    }
}

/// What a follower's agent says of the app.
fn look<'a>(rules: &ChannelRules, follower: &Follower<'a>, now: bucket::Timestamp) -> Observed<'a> {
    let server = follower.server;
    let row = apps(server).into_iter().find(|row| row.app == rules.app.as_str());
    let is_reachable = server.status().is_some() && condition(server, now) != Condition::Silent;
    let reported = row.as_ref().and_then(|row| row.reported);
    Observed {
        server: &server.name,
        release: follower.release,
        state: row.as_ref().map(|row| row.state),
        since: reported.map(|app| app.since),
        reason: reported.and_then(|app| app.reason.as_deref()),
        is_reachable,
    }
}

/// As much of a text as a reason may have.
fn cut(text: &str) -> &str {
    &text[..text.floor_char_boundary(HistoryEntry::MAX_WHY)]
}
