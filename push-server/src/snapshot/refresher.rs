//! Keeps a snapshot of the fleet fresh, in rounds that read only what has changed.
//!
//! A round has four parts, servers, releases, what keeps everybody from pushing, and channels, that run side by side, and every
//! minute a fifth and a sixth, changes that are not merged yet and runs of pipelines; each is put into the snapshot when it is read, and stays as it was when it
//! can't be. A round never overlaps a round. What a round reads
//! never replaces what [`SnapshotRefresher::refresh_server`] has read since that round began.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use backon::{BackoffBuilder, ConstantBuilder, ExponentialBuilder};
use bucket::{Bucket, ServerName, SharedNames, Timestamp};
use fleet::hold;
use futures_util::{FutureExt as _, StreamExt, stream};
use tokio::sync::watch;

use super::{
    changes, channels,
    fleet_snapshot::{FleetSnapshot, unlike},
    full_scan::Releases,
    heads::{self, Heads, News},
    pushes::{CLOCKS_APART, Recent, merged, told},
    rollouts, runs,
    servers::{self, AT_ONCE, Known},
};

/// A round that takes longer is aborted. The first one of a million releases takes a minute or two.
const ROUND_TIMEOUT: Duration = Duration::from_mins(10);
/// The longest pause while rounds fail.
const MAX_PAUSE: Duration = Duration::from_mins(2);
/// How often changes, and runs, are read, which cost listings of their own and which nothing that is deployed depends on.
const SELDOM: Duration = Duration::from_mins(1);
/// How much of a server's history is read after a write of ours.
const PUSHES: usize = 50;

/// Holds the newest snapshot of a bucket.
#[derive(Debug)]
pub struct SnapshotRefresher {
    bucket: Bucket,
    /// Where changes are that are not merged yet.
    candidates: Option<Bucket>,
    snapshot: RwLock<Arc<FleetSnapshot>>,
    changes: watch::Sender<u64>,
    rounds: watch::Sender<u64>,
    /// Held while a snapshot is put in another's place; never across an await.
    state: Mutex<RefreshState>,
    /// The releases that servers name. Held for moments.
    names: Mutex<SharedNames>,
    /// Held for a whole round.
    round: tokio::sync::Mutex<Round>,
}

/// What the servers in the snapshot are made of.
#[derive(Debug, Default)]
struct RefreshState {
    known: Arc<BTreeMap<ServerName, Known>>,
    /// Servers that were read since the round began.
    fresh: BTreeSet<ServerName>,
}

/// What rounds remember.
#[derive(Debug, Default)]
struct Round {
    releases: Releases,
    recent: Recent,
    heads: Heads,
    /// When changes were last read.
    changes: Option<Instant>,
    /// When runs were last read.
    runs: Option<Instant>,
}

impl SnapshotRefresher {
    /// A refresher with an empty snapshot.
    pub fn new(bucket: Bucket) -> Self {
        Self {
            bucket,
            candidates: None,
            snapshot: RwLock::default(),
            changes: watch::Sender::new(0),
            rounds: watch::Sender::new(0),
            state: Mutex::default(),
            names: Mutex::default(),
            round: tokio::sync::Mutex::default(),
        }
    }

    /// The same, which also reads the changes that are in a candidate bucket.
    #[must_use]
    pub fn with_candidates(self, candidates: Option<Bucket>) -> Self {
        Self { candidates, ..self }
    }

    /// The bucket that it is a snapshot of.
    pub fn bucket(&self) -> &Bucket {
        &self.bucket
    }

    /// Where changes are, and their runs, that are not merged yet.
    pub fn candidates(&self) -> Option<&Bucket> {
        self.candidates.as_ref()
    }

    /// The newest snapshot.
    pub fn snapshot(&self) -> Arc<FleetSnapshot> {
        self.snapshot.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Tells of every snapshot that shows something else than the one before, by a growing number. That it was taken
    /// later is nothing else.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// Tells of the end of every round, by a growing number, whether or not something has changed.
    pub fn rounds(&self) -> watch::Receiver<u64> {
        self.rounds.subscribe()
    }

    /// Tells of a change that isn't in the snapshot, as the progress of a push.
    pub fn touch(&self) {
        self.changes.send_modify(|number| *number += 1);
    }

    /// Refreshes the snapshot for ever: every so often, rarely while that fails.
    pub async fn keep(&self, every: Duration) {
        let mut failures = 0;
        loop {
            let begun = Instant::now();
            self.refresh().await;
            failures = if self.snapshot().failure.is_some() { failures + 1 } else { 0 };
            // Rounds begin that far apart; but one that takes long leaves the bucket alone for a while all the same.
            let pause = pause(every, failures);
            tokio::time::sleep(pause.saturating_sub(begun.elapsed()).max(pause / 2)).await;
        }
    }

    /// Reads what has changed. What can't be read stays as it was, and the snapshot says so.
    pub async fn refresh(&self) {
        let mut round = self.round.lock().await;
        let begun = Timestamp::now();
        let failure = match tokio::time::timeout(ROUND_TIMEOUT, self.read(&mut round).boxed()).await {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(format!("{error:#}")),
            Err(_) => Some(format!("timed out reading the bucket after {} min", ROUND_TIMEOUT.as_secs() / 60)),
        };
        self.put(|_, snapshot| {
            if failure.is_none() {
                snapshot.taken = Some(begun);
            }
            snapshot.failure = failure;
        });
        self.rounds.send_modify(|number| *number += 1);
        self.names().trim();
    }

    /// Reads one server afresh, after a write of ours, so that its author sees it at once.
    pub async fn refresh_server(&self, name: &ServerName) {
        self.refresh_servers(std::slice::from_ref(name)).await;
    }

    /// Reads some servers afresh, after writes of ours.
    pub async fn refresh_servers(&self, names: &[ServerName]) {
        // So many at a time go into one snapshot.
        for chunk in names.chunks(100) {
            let mut left = chunk.to_vec();
            for try_again in [true, true, false] {
                left = self.refresh_some(left, try_again).await;
            }
        }
    }

    /// Reads the newest pushes afresh, after one of ours has begun or ended. What can't be read the next round reads.
    pub async fn refresh_pushes(&self) {
        if let Ok(news) = heads::read_newest(&self.bucket, &self.snapshot().recent).await {
            self.put_pushes(news);
        }
    }

    fn put_pushes(&self, mut news: News) {
        news.share_names(&mut self.names());
        self.put(|_, snapshot| {
            snapshot.recent = heads::merged(&snapshot.recent, news, &snapshot.servers, &snapshot.pushes);
        });
    }

    /// Gives the servers of which a round has seen more meanwhile, or of which something has gone: the next look tells.
    async fn refresh_some(&self, names: Vec<ServerName>, try_again: bool) -> Vec<ServerName> {
        if names.is_empty() {
            return names;
        }
        let since = Timestamp::now().saturating_sub(CLOCKS_APART).unwrap_or(Timestamp::MIN);
        let read = stream::iter(names).map(async |name| {
            // The record in the history is a help; the next round reads it anyway.
            let pushes = self.bucket.history_since(&name, since, PUSHES).await.unwrap_or_default();
            let mut read = Known::afresh(&self.bucket, &name).await;
            read.compact(&self.names);
            (name, read, pushes)
        });
        let read: Vec<_> = read.buffer_unordered(AT_ONCE).collect().await;
        let mut overtaken = Vec::new();
        self.put(|state, snapshot| {
            let (mut pushes, mut of_documents) = (Vec::new(), Vec::new());
            for (name, mut read, of_it) in read {
                pushes.extend(of_it.into_iter().filter(|push| push.server == name));
                of_documents.extend(told(&read.server));
                match state.known.get(&name) {
                    Some(known) if try_again && read.is_older_than(known) => overtaken.push(name),
                    known => {
                        read.share(known);
                        snapshot.servers.insert(name.clone(), read.server.clone());
                        Arc::make_mut(&mut state.known).insert(name.clone(), read);
                        state.fresh.insert(name);
                    }
                }
            }
            snapshot.pushes = merged(&snapshot.pushes, pushes, of_documents);
        });
        overtaken
    }

    async fn read(&self, round: &mut Round) -> Result<()> {
        let Round { releases, recent, heads, changes, runs } = round;
        let of_servers = async {
            let servers = self.read_servers(recent).await;
            // A push is there before the first document that tells of it.
            let pushes = heads.read(&self.bucket, &self.snapshot().recent).await.map(|news| self.put_pushes(news));
            servers.and(pushes)
        };
        let of_releases = async {
            let read = releases.read(&self.bucket).await;
            self.put(|_, snapshot| snapshot.apps = releases.apps());
            read
        };
        let (servers, releases, guards, channels, changes, runs) = tokio::join!(
            of_servers,
            of_releases,
            self.read_guards(),
            self.read_channels(),
            self.read_changes(changes),
            self.read_runs(runs)
        );
        let failures = [servers.err(), releases.err(), guards.err(), channels.err(), changes.err(), runs.err()];
        let failures = failures.into_iter().flatten();
        let failures: Vec<String> = failures.map(|error| format!("{error:#}")).collect();
        ensure!(failures.is_empty(), failures.join("; "));
        Ok(())
    }

    /// Reads afresh where channels point, after a change of ours. If that fails the next round tells.
    pub async fn refresh_channels(&self) {
        let _ = self.read_channels().await;
    }

    async fn read_channels(&self) -> Result<()> {
        let read = channels::read(&self.bucket, &self.snapshot().channels).await?;
        self.put(|_, snapshot| snapshot.channels = Arc::new(read));
        Ok(())
    }

    async fn read_changes(&self, last: &mut Option<Instant>) -> Result<()> {
        let Some(candidates) = &self.candidates else { return Ok(()) };
        if last.is_some_and(|last| last.elapsed() < SELDOM) {
            return Ok(());
        }
        let known = self.snapshot().changes.clone().unwrap_or_default();
        let read = changes::read(&self.bucket, candidates, &known).await?;
        *last = Some(Instant::now());
        self.put(|_, snapshot| snapshot.changes = Some(Arc::new(read)));
        Ok(())
    }

    async fn read_runs(&self, last: &mut Option<Instant>) -> Result<()> {
        if last.is_some_and(|last| last.elapsed() < SELDOM) {
            return Ok(());
        }
        let read = runs::read(&self.bucket, self.candidates.as_ref()).await?;
        *last = Some(Instant::now());
        self.put(|_, snapshot| snapshot.runs = Arc::new(read));
        Ok(())
    }

    /// Reads afresh what keeps everybody from pushing, after a decision of ours. If that fails the next round tells.
    pub async fn refresh_guards(&self) {
        let _ = self.read_guards().await;
    }

    /// Reads what keeps everybody from pushing.
    async fn read_guards(&self) -> Result<()> {
        let before = self.snapshot().holds.clone();
        let holds = hold::all(&self.bucket, &before);
        let (halt, rejected, holds) = tokio::join!(self.bucket.halt(), self.bucket.all_rejected(), holds);
        let holds = Arc::new(holds?);
        let halt = halt.context("could not read whether pushes are halted")?.map(|(_, halt)| halt);
        let rejected = rejected.context("could not read which releases are rejected")?;
        self.put(|_, snapshot| (snapshot.halt, snapshot.rejected, snapshot.holds) = (halt, Arc::new(rejected), holds));
        Ok(())
    }

    async fn read_servers(&self, recent: &mut Recent) -> Result<()> {
        let before = {
            let mut state = self.state();
            state.fresh.clear();
            state.known.clone()
        };
        // Before the servers: what a rollout says was written must be seen in them.
        let rollouts = rollouts::read(&self.bucket, &self.snapshot().rollouts).await;
        let (rollouts, unlisted) = match rollouts {
            Ok(rollouts) => (Some(Arc::new(rollouts)), None),
            Err(error) => (None, Some(error)),
        };
        let listing = servers::list(&self.bucket).await?;
        let mut servers = listing.read(&self.bucket, &before, &self.names).await?;
        let changed = listing.changed(&before).filter_map(|summary| servers.get(&summary.server));
        let of_documents = changed.flat_map(|known| told(&known.server)).collect();
        self.put(|state, snapshot| {
            for name in &state.fresh {
                servers.extend(state.known.get(name).map(|known| (name.clone(), known.clone())));
            }
            snapshot.servers = servers.iter().map(|(name, known)| (name.clone(), known.server.clone())).collect();
            state.known = Arc::new(servers);
            snapshot.rollouts = rollouts.unwrap_or_else(|| snapshot.rollouts.clone());
        });
        let pushes = recent.read(&self.bucket, listing.changed(&before)).await?;
        self.put(|_, snapshot| snapshot.pushes = merged(&snapshot.pushes, pushes, of_documents));
        unlisted.map_or(Ok(()), Err)
    }

    fn names(&self) -> MutexGuard<'_, SharedNames> {
        self.names.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn state(&self) -> MutexGuard<'_, RefreshState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts a changed snapshot in the place of the newest. Pages wait for none of the work.
    fn put(&self, update: impl FnOnce(&mut RefreshState, &mut FleetSnapshot)) {
        let mut state = self.state();
        let old = self.snapshot();
        let mut new = (*old).clone();
        update(&mut state, &mut new);
        let is_known: HashSet<_> = old.pushes.iter().map(Arc::as_ptr).collect();
        let recorded = new.pushes.iter().filter(|entry| !is_known.contains(&Arc::as_ptr(entry)));
        let mut changed: HashSet<&ServerName> = recorded.map(|entry| &entry.server).collect();
        if !new.has_same_servers(&old) {
            changed.extend(unlike(&new.servers, &old.servers));
        }
        if !changed.is_empty() {
            new.recent = heads::followed(&new.recent, &new.servers, &new.pushes, &changed);
        }
        if !new.has_same_servers(&old) {
            new.forget_apps_of_servers();
        }
        let is_other = !new.shows_same(&old);
        *self.snapshot.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(new);
        if is_other {
            self.touch();
        }
    }
}

/// How long to wait for the next round after so many failed ones, give or take a twentieth: several servers on one bucket
/// don't fall into step.
fn pause(every: Duration, failures: u32) -> Duration {
    let growing = ExponentialBuilder::new().with_min_delay(every).with_max_delay(MAX_PAUSE.max(every));
    let nth = usize::try_from(failures.min(30)).unwrap_or_default();
    let pause = growing.without_max_times().build().nth(nth).unwrap_or(every);
    let tenth = ConstantBuilder::new().with_delay(pause / 20).with_jitter().build().next().unwrap_or_default();
    pause.mul_f32(0.9) + tenth
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_while_rounds_fail_and_are_never_quite_alike() {
        for (failures, least, most) in
            [(0, 9.0, 10.0), (1, 18.0, 20.0), (3, 72.0, 80.0), (4, 108.0, 120.0), (99, 108.0, 120.0)]
        {
            let pause = pause(Duration::from_secs(10), failures).as_secs_f64();
            assert!((least..=most).contains(&pause), "{pause} after {failures}");
        }
        assert!(pause(Duration::from_mins(10), 5) >= Duration::from_mins(9));
        let some: BTreeSet<Duration> = (0..20).map(|_| pause(Duration::from_secs(10), 0)).collect();
        assert!(some.len() > 1);
    }
}
