//! One round: each channel is moved to the furthest release of its branch, and its followers are pushed to.
//!
//! It works from the state and remembers nothing: whoever is killed between two writes is made up for by the next round.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, Result, anyhow, bail};
use bucket::{Channel, MoveKind, ReleaseName};
use fleet::{
    channel::{
        change::{Said, moved},
        choose::{Furthest, Next, next},
        line::Line,
        observe::{Observed, observed},
        repo::RepoUrl,
    },
    condition::{Condition, apps, condition},
    follow::{self, Follower, Raced, followers, unreadable},
    policy::ChannelRules,
    rollout::channel::last,
};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use tokio::sync::watch;

use super::{
    mirror::{Mirror, Mirrors},
    outcome::{Done, Fate, Outcome},
    pushing::Seen,
    rollouts::{Looked, Rollouts},
    watcher::{Fleet, Watcher, cut},
};

/// Repositories that are fetched at the same time.
const FETCHES: usize = 4;

impl Watcher {
    /// One round over all channels, after their rollouts were carried on. What can't be read of one channel keeps no other from
    /// anything. Once `stop` says so it ends, with the write that it is at.
    ///
    /// # Errors
    /// When what all of them need can't be read.
    pub async fn round(
        &self,
        mirrors: &Mirrors,
        rollouts: &mut Rollouts,
        mut stop: watch::Receiver<bool>,
    ) -> Result<Vec<Outcome>> {
        let channels = self.policy.channels();
        let repos: BTreeMap<&str, &RepoUrl> = channels.iter().map(|rules| (rules.repo.as_str(), &rules.repo)).collect();
        let reads = stream::iter(repos).map(async |(url, repo)| (url, mirrors.fetch(repo).await));
        let fetched: BTreeMap<_, _> = tokio::select! {
            fetched = reads.buffer_unordered(FETCHES).collect() => fetched,
            _ = stop.wait_for(|stop| *stop) => return Ok(Vec::new()),
        };
        rollouts.read(&self.bucket).await?;
        let looked = self.carry_on(rollouts, &stop).await;
        // After what may take minutes: what is decided is decided of the state of now.
        let mut fleet = tokio::select! {
            fleet = self.read() => fleet?,
            _ = stop.wait_for(|stop| *stop) => return Ok(Vec::new()),
        };
        let mut outcomes = Vec::new();
        for rules in channels {
            if *stop.borrow() {
                break;
            }
            let of_it = |looked: &&Looked| (&looked.app, &looked.channel) == (&rules.app, &rules.channel);
            let looked: Vec<&Looked> = looked.iter().filter(of_it).collect();
            let result = match &fetched[rules.repo.as_str()] {
                Ok(mirror) => match self.channel(rules, mirror, &fleet, &looked, (rollouts, &stop)).await {
                    // Another watcher, mostly: what it has done by now is looked at once more.
                    Err(error) if error.is::<Raced>() => {
                        rollouts.read(&self.bucket).await?;
                        fleet = self.read().await?;
                        self.channel(rules, mirror, &fleet, &looked, (rollouts, &stop)).await
                    }
                    result => result,
                },
                Err(error) => Err(anyhow!("{error:#}")),
            };
            outcomes.push(Outcome { app: rules.app.clone(), channel: rules.channel.clone(), result });
        }
        Ok(outcomes)
    }

    async fn channel(
        &self,
        rules: &ChannelRules,
        mirror: &Mirror,
        fleet: &Fleet,
        looked: &[&Looked],
        (rollouts, stop): (&mut Rollouts, &watch::Receiver<bool>),
    ) -> Result<Done> {
        let line = mirror.line(&rules.branch).await?;
        let (branch, repo) = (&rules.branch, &rules.repo);
        let line = line.with_context(|| format!("diverged: `{repo}` has no branch `{branch}`, so nothing moves"))?;
        let seen = follow::read(&self.bucket, rules).await?;
        let followers: Vec<Follower> = followers(rules, &fleet.servers).collect();
        let now = self.bucket.now();
        let looks: Vec<Observed> = followers.iter().map(|follower| look(rules, follower, now)).collect();
        let going = last(rollouts.of(rules)).map(|last| last.release.clone());
        let mut after = observed(&seen.channel, going.as_ref(), &looks, now);
        let (furthest, dirty) = self.releases(rules, &seen.channel, &line, &fleet.rejected, &followers).await?;
        let mut done = Done {
            from: seen.channel.release.clone(),
            release: None,
            would: None,
            diverged: false,
            place: None,
            behind: None,
            later: Vec::new(),
            unreadable: furthest.unreadable(),
            stale: furthest.stale(),
            push: None,
            rollouts: looked.iter().filter_map(|looked| looked.going.as_ref().ok()).cloned().collect(),
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
                after = observed(&after, going.as_ref(), &looks, now);
            }
            Next::Would(release) => done.would = Some(release),
            Next::Diverged => done.diverged = true,
            Next::Stay => {}
        }
        if after != seen.channel {
            follow::write(&self.bucket, &self.policy, after.clone(), &seen).await?;
        }
        done.release.clone_from(&after.release);
        done.place = after.release.as_ref().and_then(|release| line.place(release.commit()));
        done.behind = done.place.map(|place| line.from(place + 1).len());
        done.later = furthest.later(done.place);
        for (server, error) in unreadable(rules, &fleet.servers) {
            let why = format!("could not read its document: {error}");
            done.followers.insert(server.name.clone(), Fate::Failed(why));
        }
        if let Some(error) = looked.iter().find_map(|looked| looked.going.as_ref().err()) {
            bail!("{error}");
        }
        let seen = Seen { rules, channel: &after, line: &line, dirty: &dirty, fleet };
        self.push(seen, &followers, (rollouts, stop), &mut done).await?;
        Ok(done)
    }

    /// Looks through the releases of the app: for the one that is furthest, and for those of followers that are dirty.
    async fn releases<'a>(
        &self,
        rules: &ChannelRules,
        channel: &Channel,
        line: &'a Line,
        rejected: &'a BTreeSet<ReleaseName>,
        followers: &[Follower<'_>],
    ) -> Result<(Furthest<'a>, BTreeSet<ReleaseName>)> {
        let of_followers: BTreeSet<&ReleaseName> = followers.iter().filter_map(|follower| follower.release).collect();
        let only = match &rules.from {
            Some(from) => Some(follow::through(&self.bucket, rules, from, self.bucket.now()).await?),
            None => None,
        };
        let (mut furthest, mut dirty) = (Furthest::on(line, rejected, only).of(channel), BTreeSet::new());
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
