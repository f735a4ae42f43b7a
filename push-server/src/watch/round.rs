//! One round: each channel is moved to the furthest release of its branch, and its followers are pushed to.
//!
//! It works from the state and remembers nothing: whoever is killed between two writes is made up for by the next round.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use anyhow::{Context as _, Result, anyhow};
use bucket::{
    AppName, Bucket, Channel, ChannelName, Halt, HistoryEntry, MoveKind, PushId, PushKind, Release, ReleaseName,
    ServerName,
};
use fleet::{
    channel::{
        change::{Said, moved},
        choose::{Furthest, Next, next, soaked},
        follower::{Choice, Follows, LeftAlone, follows},
        line::Line,
        observe::{Observed, observed},
        repo::RepoUrl,
    },
    condition::{Condition, apps, condition},
    follow::{self, Follower, Raced, followers, unreadable},
    guard,
    hold::{self, AllHolds},
    identity::Identity,
    operation::{Intent, JustRead, NotPushed, Operator, carry_out},
    poke::PokeSettings,
    policy::{Case, ChannelRules, Policy, Reason, Way},
    push::Seen,
    server::{self, Server},
    wish::Said as Wished,
};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use jiff::SignedDuration;
use tokio::sync::watch;

use super::mirror::{Mirror, Mirrors};

/// Servers that are read at the same time.
const AT_ONCE: usize = 16;

/// Repositories that are fetched at the same time.
const FETCHES: usize = 4;

/// Entries of a server's history in which somebody's choice is looked for.
const LOOKED_BACK: usize = 100;

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
    /// What failed after a write that succeeded, as a poke.
    pub warnings: Vec<String>,
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
        let repos: BTreeMap<&str, &RepoUrl> = channels.iter().map(|rules| (rules.repo.as_str(), &rules.repo)).collect();
        let reads = stream::iter(repos).map(async |(url, repo)| (url, mirrors.fetch(repo).await));
        let read = async {
            let fetched: BTreeMap<_, _> = reads.buffer_unordered(FETCHES).collect().await;
            // After what may take minutes: what is decided is decided of the state of now.
            (fetched, self.read().await)
        };
        let (fetched, fleet) = tokio::select! {
            read = read => read,
            _ = stop.wait_for(|stop| *stop) => return Ok(Vec::new()),
        };
        let fleet = fleet?;
        let mut outcomes = Vec::new();
        for rules in channels {
            if *stop.borrow() {
                break;
            }
            let result = match &fetched[rules.repo.as_str()] {
                Ok(mirror) => match self.channel(rules, mirror, &fleet).await {
                    // Another watcher, mostly: it is looked at once more.
                    Err(error) if error.is::<Raced>() => self.channel(rules, mirror, &fleet).await,
                    result => result,
                },
                Err(error) => Err(anyhow!("{error:#}")),
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
        let (branch, repo) = (&rules.branch, &rules.repo);
        let line = line.with_context(|| format!("diverged: `{repo}` has no branch `{branch}`, so nothing moves"))?;
        let seen = follow::read(&self.bucket, rules).await?;
        let followers: Vec<Follower> = followers(rules, &fleet.servers).collect();
        let now = self.bucket.now();
        let looks: Vec<Observed> = followers.iter().map(|follower| look(rules, follower, now)).collect();
        let mut after = observed(&seen.channel, &looks, now);
        let (furthest, dirty) = self.releases(rules, &line, &fleet.rejected, &followers).await?;
        let mut done = Done {
            from: seen.channel.release.clone(),
            release: None,
            would: None,
            diverged: false,
            unreadable: furthest.unreadable(),
            push: None,
            warnings: Vec::new(),
            followers: BTreeMap::new(),
        };
        match next(&after, rules.moves, &line, furthest.found().map(|(place, release)| (place, &release.name))) {
            Next::Move(release) => {
                let metadata = furthest.found().and_then(|(_, release)| release.metadata.as_ref().ok());
                let why = metadata.map_or("", |metadata| metadata.note.as_str());
                let said = Said { by: &self.who.name, why: cut(why), at: now };
                after = moved(&after, &release, MoveKind::Forward, said);
                // Some follower may have got it by hand, and gone back from it.
                after = observed(&after, &looks, now);
            }
            Next::Would(release) => done.would = Some(release),
            Next::Diverged => done.diverged = true,
            Next::Stay => {}
        }
        if after != seen.channel {
            follow::write(&self.bucket, &after, &seen).await?;
        }
        done.release.clone_from(&after.release);
        for (server, error) in unreadable(rules, &fleet.servers) {
            let why = format!("could not read its document: {error}");
            done.followers.insert(server.name.clone(), Fate::Failed(why));
        }
        self.push(rules, &after, &line, fleet, (&followers, &dirty), &mut done).await;
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
        let only = match &rules.from {
            Some(from) => Some(self.soaked(rules, from).await?),
            None => None,
        };
        let (mut furthest, mut dirty) = (Furthest::on(line, rejected, only), BTreeSet::new());
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

    /// The releases that have gone through the channel before.
    async fn soaked(&self, rules: &ChannelRules, from: &ChannelName) -> Result<BTreeSet<ReleaseName>> {
        let read = self.bucket.channel(&rules.app, from).await;
        let read = read.with_context(|| format!("could not read the channel `{from}` of `{}`", rules.app))?;
        let soak = SignedDuration::try_from(rules.soak).unwrap_or(SignedDuration::MAX);
        Ok(read.map(|(_, from)| soaked(&from, soak, self.bucket.now())).unwrap_or_default())
    }

    /// Pushes to the followers that are behind.
    async fn push(
        &self,
        rules: &ChannelRules,
        channel: &Channel,
        line: &Line,
        fleet: &Fleet,
        (followers, dirty): (&[Follower<'_>], &BTreeSet<ReleaseName>),
        done: &mut Done,
    ) {
        let mut behind = Vec::new();
        for follower in followers {
            let name = follower.server.name.clone();
            let fate = match self.follows(rules, channel, line, follower, dirty).await {
                Ok(Follows::Behind) => {
                    behind.push(*follower);
                    continue;
                }
                Ok(Follows::There) => Fate::There,
                Ok(Follows::LeftAlone(why)) => Fate::LeftAlone(why),
                Err(error) => Fate::Failed(format!("{error:#}")),
            };
            done.followers.insert(name, fate);
        }
        let Some(wanted) = channel.release.as_ref().filter(|_| !behind.is_empty()) else { return };
        let release = match self.bucket.release(wanted).await {
            Ok(Some(release)) => Ok(release),
            Ok(None) => Err(format!("`{}` is no longer in the bucket", wanted.stem())),
            Err(error) => Err(format!("could not read the channel's release: {error}")),
        };
        match release {
            Ok(release) => self.carry_out(rules, channel, &release, fleet, &behind, done).await,
            Err(why) => {
                let failed = behind.iter().map(|it| (it.server.name.clone(), Fate::Failed(why.clone())));
                done.followers.extend(failed);
            }
        }
    }

    /// What becomes of a follower, as far as that is its own.
    async fn follows(
        &self,
        rules: &ChannelRules,
        channel: &Channel,
        line: &Line,
        follower: &Follower<'_>,
        dirty: &BTreeSet<ReleaseName>,
    ) -> Result<Follows> {
        let server = follower.server;
        let others = self.policy.channels().iter();
        let mut others = others.filter(|other| other.app == rules.app && other.channel != rules.channel);
        if let Some(other) = others.find(|other| other.matches(&server.name)) {
            return Ok(Follows::LeftAlone(LeftAlone::TwoChannels(other.channel.clone())));
        }
        let is_dirty = follower.release.is_some_and(|release| dirty.contains(release));
        let pushes = server.document().map(|document| document.metadata().pushes()).unwrap_or_default();
        let last = pushes.iter().find(|push| push.app == rules.app);
        let last = match last {
            // What it tries again somebody chose before.
            Some(push) if !Choice::is_made_by(&push.kind) && follower.release != channel.release.as_ref() => {
                let history = self.bucket.newest_history(&server.name, LOOKED_BACK).await;
                let history = history.context("could not read who chose its release")?;
                let mut of_app = history.iter().filter(|entry| entry.app.as_ref() == Some(&rules.app));
                of_app.find(|entry| Choice::is_made_by(&entry.kind)).map(Choice::from)
            }
            last => last.map(Choice::from),
        };
        Ok(follows(channel, line, follower.release, is_dirty, last.as_ref()))
    }

    async fn carry_out(
        &self,
        rules: &ChannelRules,
        channel: &Channel,
        release: &Release,
        fleet: &Fleet,
        behind: &[Follower<'_>],
        done: &mut Done,
    ) {
        let (operator, kind) = self.operator(rules, channel, release);
        let mut intents = Vec::new();
        for follower in behind {
            let server = follower.server.name.clone();
            if let Some(why) = self.judge(rules, &operator, &kind, release, fleet, follower.server) {
                done.followers.insert(server, Fate::LeftAlone(why));
                continue;
            }
            let (app, from, to) = (rules.app.clone(), follower.release.cloned(), Some(release.name.clone()));
            let seen = Seen::of(follower.server).ok();
            let just_read = seen.map(|seen| JustRead { release: Some(release.clone()), seen });
            intents.push((Intent { server, app, from, to, kind: kind.clone() }, just_read));
        }
        if intents.is_empty() {
            return;
        }
        let names: Vec<&ServerName> = intents.iter().map(|(intent, _)| &intent.server).collect();
        if let Some(waves) = self.waves(rules, &operator, &names) {
            let why =
                format!("it is to go out in waves ({waves}), which `push watch` does not do yet: push it by hand");
            done.followers.extend(names.into_iter().map(|name| (name.clone(), Fate::Failed(why.clone()))));
            return;
        }
        for result in carry_out(&self.bucket, &operator, intents, |_, _| ()).await {
            let server = result.intent.server;
            done.push = done.push.take().or(result.push);
            done.warnings.extend(result.incomplete.iter().map(|incomplete| format!("{server}: {incomplete}")));
            let fate = match result.result {
                Ok(_) => Fate::Pushed,
                // Another watcher was faster.
                Err(NotPushed::Conflict(conflict)) if conflict.now.as_ref() == Some(&release.name) => Fate::There,
                Err(error) => Fate::Failed(error.to_string()),
            };
            done.followers.insert(server, fate);
        }
    }

    /// The waves in which a push to these servers is to go out, in words, if it is.
    fn waves(&self, rules: &ChannelRules, operator: &Operator, servers: &[&ServerName]) -> Option<String> {
        let reason = Reason::Given(&operator.reason);
        let own = rules.asked.as_ref().map(ToString::to_string);
        let own = own.or_else(|| rules.max_down.map(|share| format!("at most {share} out at a time")));
        match self.policy.way(&operator.who, &rules.app, servers, reason, &Wished::default()) {
            Ok(Way::AtOnce { .. }) => own,
            Ok(Way::Waves { wish, .. }) => own.or_else(|| Some(wish.waves.to_string())),
            Err(refusal) => own.or_else(|| Some(refusal.to_string())),
        }
    }

    /// As whom, why, and what for.
    fn operator(&self, rules: &ChannelRules, channel: &Channel, release: &Release) -> (Operator, PushKind) {
        let note = release.metadata.as_ref().map_or("", |metadata| metadata.note.as_str());
        let reason = format!("channel {}: {note}", rules.channel);
        let last = channel.history.first().map(|last| last.kind);
        let kind = if last == Some(MoveKind::Rollback) { PushKind::Rollback } else { PushKind::Deploy };
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
        rules: &ChannelRules,
        operator: &Operator,
        kind: &PushKind,
        release: &Release,
        fleet: &Fleet,
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
