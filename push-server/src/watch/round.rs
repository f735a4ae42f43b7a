//! One round: each channel is moved to the furthest release of its branch, and its followers are pushed to.
//!
//! It works from the state and remembers nothing: whoever is killed between two writes is made up for by the next round.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    time::Duration,
};

use anyhow::{Context as _, Result, anyhow, bail};
use bucket::{AppName, Channel, ChannelName, ChannelState, MoveKind, ReleaseName, Soaking, Timestamp};
use fleet::{
    channel::{
        build::Build,
        change::{Said, moved},
        choose::{Furthest, Next, next, soaked},
        line::Line,
        observe::{Observed, observed},
        repo::RepoUrl,
        soaking::soaking,
    },
    condition::{Condition, apps, condition},
    follow::{self, Follower, Raced, followers, unreadable},
    policy::ChannelRules,
    rollout::channel::last,
};
use futures_util::{
    StreamExt as _, TryStreamExt as _,
    stream::{self, BoxStream},
};
use registry::Host;
use tokio::{sync::watch, time::Instant};

use super::{
    fetches::{Fetches, Late, PATIENCE},
    images::Images,
    mirror::{FetchError, Mirror},
    outcome::{Diverged, Done, Fate, Outcome},
    pushing::{Seen, last_push},
    rollouts::{CARRIED_ON_EVERY, Looked, Rollouts},
    watcher::{Fleet, Watcher, cut},
};

/// What a round did.
#[derive(Debug)]
pub struct Round {
    /// With each channel, in the order of the policy file.
    pub outcomes: Vec<Outcome>,
    /// Whether the next one is to begin at once: a rollout wants that of a channel that this one had looked at already.
    pub calls_for_round: bool,
}

impl Round {
    /// How long it is until a release has gone through the channel before, if one is on its way: then there is something to do,
    /// whenever the next poll is. That a tag was moved is noted by the round which sees it there: at once.
    pub fn due(&self, now: Timestamp) -> Option<Duration> {
        if self.outcomes.iter().any(|outcome| outcome.result.as_ref().is_ok_and(|done| done.tagged.is_some())) {
            return Some(Duration::ZERO);
        }
        let soaking = self.outcomes.iter().filter_map(|outcome| outcome.result.as_ref().ok()?.soaking.as_ref()?.until);
        soaking.min().map(|until| Duration::try_from(until.duration_since(now)).unwrap_or_default())
    }
}

/// How far the rollouts of channels are, as they were looked at last.
type AllLooked = BTreeMap<(AppName, ChannelName), Looked>;

/// The repositories that were fetched in a round.
type MirrorsNow = HashMap<RepoUrl, Result<Mirror, FetchError>>;

/// Registries that did not answer in time in this round.
type Silent = BTreeSet<Host>;

impl Watcher {
    /// One round over all channels: each is looked at when its repository is fetched, and meanwhile their rollouts are carried on.
    /// What can't be read of one channel keeps no other from anything; one whose repository takes too long fails, unless this is
    /// the `only` round. Once `stop` says so it ends, with the write that it is at.
    ///
    /// # Errors
    /// When what all of them need can't be read.
    pub async fn round(
        &self,
        fetches: &mut Fetches,
        rollouts: &mut Rollouts,
        mut stop: watch::Receiver<bool>,
        only: bool,
    ) -> Result<Round> {
        let channels = self.policy.channels();
        let mut awaited = fetches.begin(channels.iter().flat_map(ChannelRules::repos));
        let end = Instant::now() + PATIENCE;
        let (mut outcomes, mut looked, mut calls_for_round) = (Vec::new(), AllLooked::new(), false);
        let (mut silent, mut mirrors) = (Silent::new(), MirrorsNow::new());
        loop {
            let there = tokio::select! {
                there = fetches.take(&mut awaited, Instant::now() + CARRIED_ON_EVERY) => there,
                _ = stop.wait_for(|stop| *stop) => break,
            };
            mirrors.extend(there);
            let is_late = Instant::now() >= end;
            let is_there = |rules: &&ChannelRules| rules.repos().all(|repo| mirrors.contains_key(repo));
            let is_new = |rules: &&ChannelRules| !outcomes.iter().any(|outcome: &Outcome| outcome.is_of(rules));
            // What comes through the channel before goes by what that saw in this round, unless its repository takes too long.
            let is_awaited = |rules: &ChannelRules| rules.repos().any(|repo| awaited.contains(repo));
            let is_next = |rules: &&ChannelRules| is_late || !self.policy.before(rules).any(is_awaited);
            let ready = channels.iter().filter(is_there).filter(is_new).filter(is_next);
            let ready: Vec<&ChannelRules> = ready.collect();
            let more = async {
                rollouts.read(&self.bucket).await?;
                for going in self.carry_on(rollouts, &stop).await {
                    let is_seen = |outcome: &Outcome| (&outcome.app, &outcome.channel) == (&going.app, &going.channel);
                    calls_for_round |= going.calls_for_round && outcomes.iter().any(is_seen);
                    looked.insert((going.app.clone(), going.channel.clone()), going);
                }
                self.look_at(&ready, &mut mirrors, (&looked, &mut silent), (rollouts, &stop)).await
            };
            match more.await {
                Ok(more) => outcomes.extend(more),
                Err(error) if outcomes.is_empty() => return Err(error),
                Err(error) => {
                    outcomes.extend(ready.iter().map(|rules| Outcome::of(rules, Err(anyhow!("{error:#}")))));
                }
            }
            if awaited.is_empty() || *stop.borrow() || (!only && is_late) {
                break;
            }
        }
        if !*stop.borrow() {
            let is_seen = |rules: &&ChannelRules| outcomes.iter().any(|outcome: &Outcome| outcome.is_of(rules));
            let late = channels.iter().filter(|rules| !is_seen(rules)).map(|rules| {
                let repo = rules.repos().find(|repo| !mirrors.contains_key(*repo)).unwrap_or(&rules.repo);
                Outcome::of(rules, Err(Late { repo: repo.clone() }.into()))
            });
            outcomes.extend(late.collect::<Vec<_>>());
            fetches.tidy_up().await;
        }
        outcomes.sort_by_key(|outcome| channels.iter().position(|rules| outcome.is_of(rules)));
        if !*stop.borrow() {
            self.compare_bases(&mut outcomes).await;
        }
        Ok(Round { outcomes, calls_for_round })
    }

    /// Looks at channels whose repositories were fetched. What is decided is decided of the state of now.
    async fn look_at(
        &self,
        ready: &[&ChannelRules],
        fetched: &mut MirrorsNow,
        (looked, silent): (&AllLooked, &mut Silent),
        (rollouts, stop): (&mut Rollouts, &watch::Receiver<bool>),
    ) -> Result<Vec<Outcome>> {
        let mut outcomes = Vec::new();
        if ready.is_empty() {
            return Ok(outcomes);
        }
        let mut ending = stop.clone();
        let mut fleet = tokio::select! {
            fleet = self.read() => fleet?,
            _ = ending.wait_for(|stop| *stop) => return Ok(outcomes),
        };
        // A registry that does not answer delays, once, those that come after it. Those behind a channel go by what it saw just now.
        let mut channels = ready.to_vec();
        channels.sort_by_key(|rules| (rules.image.is_some(), self.policy.before(rules).count()));
        for rules in channels {
            if *stop.borrow() {
                break;
            }
            let looked = looked.get(&(rules.app.clone(), rules.channel.clone()));
            let registry = rules.image.as_ref().map(|image| image.name.host());
            // It would keep each of them waiting anew.
            if let Some(host) = registry.filter(|host| silent.contains(host)) {
                let unreachable = anyhow!(
                    "the registry `{host}` did not answer another channel in this round, so this one was not looked at; the next round asks again"
                );
                outcomes.push(Outcome::of(rules, Err(unreachable)));
                continue;
            }
            let mut went_to = None;
            let mirrors = rules.repos().filter_map(|repo| fetched.get(repo)).map(Result::as_ref);
            let result = match mirrors.collect::<Result<Vec<&Mirror>, _>>() {
                Ok(mirrors) => {
                    match self.channel(rules, &mirrors, &fleet, looked, (rollouts, stop), &mut went_to).await {
                        // Another watcher, mostly: what it has done by now is looked at once more.
                        Err(error) if error.is::<Raced>() => {
                            let again = async {
                                rollouts.read(&self.bucket).await?;
                                fleet = self.read().await?;
                                self.channel(rules, &mirrors, &fleet, looked, (rollouts, stop), &mut went_to).await
                            };
                            again.await
                        }
                        result => result,
                    }
                }
                Err(error) => Err(anyhow!("{error:#}")),
            };
            let is_silent =
                |error: &anyhow::Error| matches!(error.downcast_ref(), Some(registry::Error::Silent { .. }));
            // Another channel that writes there stands on that, and need not find out by a refused push.
            if let (Ok(Done { configured: Some(commit), .. }), Some(config)) = (&result, &rules.config)
                && let Some(Ok(mirror)) = fetched.get_mut(&config.repo)
            {
                mirror.pushed(&config.branch, commit.clone());
            }
            silent.extend(registry.cloned().filter(|_| result.as_ref().is_err_and(is_silent)));
            outcomes.push(Outcome { moved: went_to, ..Outcome::of(rules, result) });
        }
        Ok(outcomes)
    }

    /// Looks at one channel. `went_to` is where it moved, if it did, also when what came after that failed.
    async fn channel(
        &self,
        rules: &ChannelRules,
        mirrors: &[&Mirror],
        fleet: &Fleet,
        looked: Option<&Looked>,
        (rollouts, stop): (&mut Rollouts, &watch::Receiver<bool>),
        went_to: &mut Option<ReleaseName>,
    ) -> Result<Done> {
        let [mirror, of_config @ ..] = mirrors else { bail!("`{}` was not fetched", rules.repo) };
        let line = mirror.line(&rules.branch).await?;
        let seen = follow::read(&self.bucket, rules).await?;
        let diverged = (line.is_none() && seen.channel.frozen.is_none()).then(|| Diverged::no_branch(rules));
        // Nothing is on a branch that is gone. Where a person pointed the channel goes out all the same.
        let line = line.unwrap_or_default();
        let followers: Vec<Follower> = followers(rules, &fleet.servers).collect();
        let now = self.bucket.now();
        let looks: Vec<Observed> = followers.iter().map(|follower| look(rules, follower, now)).collect();
        let going = last(rollouts.of(rules)).map(|last| last.release.clone());
        let soak = self.policy.soak_behind(&rules.app, &rules.channel).map(follow::as_signed);
        let mut after = observed(&seen.channel, going.as_ref(), soak, &looks, now);
        let (from, warning) = self.before(rules).await?;
        let images = match &rules.image {
            Some(image) => Some(self.images(rules, image, &line).await?),
            None => None,
        };
        let mut warnings: Vec<String> = warning.into_iter().collect();
        if let Some(images) = images.as_ref().filter(|images| images.are_in_line(&after)) {
            after = self.seen_in_line(images, &after, now, &mut warnings).await;
        }
        let builds = match &images {
            Some(images) => stream::iter(images.builds()).map(Ok).boxed(),
            None => follow::builds(&self.bucket, rules),
        };
        let (furthest, dirty) =
            self.releases(rules, (&seen.channel, from.as_ref()), &line, fleet, &followers, builds).await?;
        let mut done = Done {
            from: seen.channel.release.clone(),
            diverged,
            unreadable: furthest.unreadable() + images.as_ref().map_or(0, |images| images.unread.len()),
            passed_over: furthest.passed_over().iter().map(|(release, _)| release.clone()).collect(),
            why_passed_over: why_passed_over(&furthest, images.as_ref()),
            stale: furthest.stale(),
            rollouts: looked.iter().filter_map(|looked| looked.going.as_ref().ok()).cloned().collect(),
            warnings,
            ..Done::default()
        };
        let mut stopped = self.ensure_unchanged(images.as_ref(), &after, &fleet.rejected).await.err();
        let places = furthest.places();
        match next(&after, rules.moves, &places, furthest.found().map(|(place, release)| (place, &release.name))) {
            Next::Move(_) if stopped.is_some() => {}
            Next::Move(release) if let Err(error) = self.ensure_recorded(images.as_ref(), &release).await => {
                stopped = Some(error);
            }
            Next::Move(release) => {
                let facts = furthest.found().and_then(|(_, release)| release.facts.as_ref().ok());
                let why = facts.map_or("", |facts| facts.note.as_str());
                let said = Said { by: &self.who.name, why: cut(why), at: now };
                after = moved(&after, &release, MoveKind::Forward, said);
                // Some follower may have got it by hand, and gone back from it.
                after = observed(&after, going.as_ref(), soak, &looks, now);
            }
            Next::Would(release) => done.would = Some(release),
            Next::Diverged => {
                done.diverged.get_or_insert(Diverged::Rewritten);
            }
            Next::Stay => {}
        }
        if after != seen.channel {
            follow::write(&self.bucket, &self.policy, after.clone(), &seen).await?;
            if after.release != seen.channel.release {
                went_to.clone_from(&after.release);
            }
        }
        done.release.clone_from(&after.release);
        done.place = after.release.as_ref().and_then(|release| places.of(release));
        done.soaking = from.and_then(|from| {
            let is_further = |release: &ReleaseName| places.of(release) > done.place;
            let may_be_chosen = |release: &ReleaseName| !fleet.rejected.contains(release) && !dirty.contains(release);
            self.soaking(rules, &from, fleet, |release| is_further(release) && may_be_chosen(release))
        });
        done.behind = done.place.map(|place| line.from(place + 1).len());
        done.later = furthest.later(done.place);
        for (server, error) in unreadable(rules, &fleet.servers) {
            let why = format!("could not read its document: {error}");
            done.followers.insert(server.name.clone(), Fate::Failed(why));
        }
        if let Some(error) = looked.iter().find_map(|looked| looked.going.as_ref().err()) {
            bail!("{error}");
        }
        if let Some(images) = &images {
            done.stands = images.stands(&after);
            self.bring_in_line(images, &after, of_config, &mut done).await?;
            return stopped.map_or(Ok(done), Err);
        }
        let seen = Seen { rules, channel: &after, places: &places, dirty: &dirty, fleet };
        self.push(seen, &followers, (rollouts, stop), &mut done).await?;
        Ok(done)
    }

    /// The channel that releases must have gone through before, if there is one. One that cannot be parsed stops itself alone: then
    /// nothing comes through it, for the reason that is given with it.
    async fn before(&self, rules: &ChannelRules) -> Result<(Option<Channel>, Option<String>)> {
        let Some(from) = &rules.from else { return Ok((None, None)) };
        match follow::before(&self.bucket, rules, from).await {
            Err(error) if matches!(error.downcast_ref(), Some(bucket::Error::Malformed { .. })) => {
                Ok((None, Some(format!("nothing comes through the channel `{from}`: {error:#}"))))
            }
            before => Ok((before?, None)),
        }
    }

    /// What comes through the channel before next, of what is awaited from there.
    fn soaking(
        &self,
        rules: &ChannelRules,
        from: &Channel,
        fleet: &Fleet,
        is_awaited: impl Fn(&ReleaseName) -> bool,
    ) -> Option<Soaking> {
        let (before, now) = (self.policy.before(rules).next()?, self.bucket.now());
        let followers: Vec<Follower> = followers(before, &fleet.servers).collect();
        let looks: Vec<Observed> = followers.iter().map(|follower| look(before, follower, now)).collect();
        soaking(from, follow::soak(rules), &looks, is_awaited, now)
    }

    /// Looks through the releases of the app: for the one that is furthest, and for those that are dirty, of followers and of those
    /// on their way through the channel before.
    async fn releases<'a>(
        &self,
        rules: &ChannelRules,
        (channel, from): (&Channel, Option<&Channel>),
        line: &'a Line,
        fleet: &'a Fleet,
        followers: &[Follower<'_>],
        mut builds: BoxStream<'_, Result<Build, bucket::Error>>,
    ) -> Result<(Furthest<'a>, BTreeSet<ReleaseName>)> {
        let of_followers = followers.iter().filter_map(|follower| follower.release);
        let on_their_way = from.iter().flat_map(|from| &from.history).map(|entry| &entry.release);
        let concerned: BTreeSet<&ReleaseName> = of_followers.chain(on_their_way).collect();
        let pushes = followers.iter().filter_map(|follower| last_push(rules, follower)).collect::<Vec<_>>();
        let remembered = pushes.iter().filter_map(|push| push.from.as_ref()).chain(concerned.iter().copied());
        let through = |from: &Channel| soaked(from, follow::soak(rules), self.bucket.now());
        let only = rules.from.is_some().then(|| from.map(through).unwrap_or_default());
        let furthest = Furthest::on(line, &fleet.rejected, only);
        let (mut furthest, mut dirty) = (furthest.of(channel, remembered.cloned().collect()), BTreeSet::new());
        let unlisted = || format!("could not list the releases of `{}`", rules.app);
        while let Some(release) = builds.try_next().await.with_context(unlisted)? {
            let is_dirty = release.facts.as_ref().is_ok_and(|facts| facts.dirty);
            if is_dirty && concerned.contains(&release.name) {
                dirty.insert(release.name.clone());
            }
            furthest.look(release);
        }
        Ok((furthest, dirty))
    }
}

/// What can't be read of what a channel may point to: which, why, and what to do.
fn why_passed_over(furthest: &Furthest<'_>, images: Option<&Images<'_>>) -> Vec<String> {
    let release = |(release, why): &(ReleaseName, String)| {
        format!("`{}`: {why}; build that commit again, and reject this release", release.stem())
    };
    let releases = furthest.passed_over().iter().map(release);
    let images = images.into_iter().flat_map(|images| images.unread.iter().cloned());
    releases.chain(images).take(ChannelState::MAX_PASSED_OVER).collect()
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
