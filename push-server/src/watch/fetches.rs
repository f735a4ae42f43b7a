//! Fetches of repositories, side by side: one that hangs keeps no other channel from anything, and no round from ending.

use std::{
    collections::{HashMap, HashSet},
    panic::resume_unwind,
    sync::Arc,
    time::Duration,
};

use console::duration;
use fleet::channel::repo::RepoUrl;
use thiserror::Error;
use tokio::{
    sync::Semaphore,
    task::{JoinError, JoinSet},
    time::{Instant, timeout, timeout_at},
};

use super::mirror::{FetchError, LIMIT, Mirror, Mirrors};

/// Repositories that are fetched at the same time,
const AT_ONCE: usize = 4;
/// besides those that have taken longer than this.
const SLOW: Duration = Duration::from_secs(5);

/// The longest that a round waits for repositories before it ends without them.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);

/// What is being fetched, and what was since a round last took it. Dropping it ends what still goes on.
#[derive(Debug)]
pub struct Fetches {
    mirrors: Mirrors,
    going: JoinSet<Fetched>,
    /// The repositories of `going`.
    begun: HashSet<RepoUrl>,
    ended: HashMap<RepoUrl, Result<Mirror, FetchError>>,
    slots: Arc<Semaphore>,
}

type Fetched = (RepoUrl, Result<Mirror, FetchError>);

/// A repository was not fetched before a round ended.
#[derive(Debug, Error)]
#[error(
    "could not fetch `{repo}` within {}: the fetch goes on for {} at most, and its channels are looked at when it has ended; check by \
     `git ls-remote {repo}` that it answers",
    duration::show(PATIENCE),
    duration::show(LIMIT)
)]
pub(super) struct Late {
    pub(super) repo: RepoUrl,
}

impl Fetches {
    /// None yet, into these mirrors.
    pub fn into(mirrors: Mirrors) -> Self {
        Self {
            mirrors,
            going: JoinSet::new(),
            begun: HashSet::new(),
            ended: HashMap::new(),
            slots: Arc::new(Semaphore::new(AT_ONCE)),
        }
    }

    /// Begins to fetch those of the repositories that are not being fetched still, and were not since a round last took them. Gives
    /// those that a round may wait for: what still goes on began before what it is to look for.
    pub(super) fn begin<'a>(&mut self, repos: impl Iterator<Item = &'a RepoUrl>) -> HashSet<RepoUrl> {
        let repos: HashSet<RepoUrl> = repos.cloned().collect();
        self.ended.retain(|repo, _| repos.contains(repo));
        let awaited: HashSet<RepoUrl> = repos.difference(&self.begun).cloned().collect();
        for repo in awaited.iter().filter(|repo| !self.ended.contains_key(*repo)) {
            self.begun.insert(repo.clone());
            self.going.spawn(fetch(self.mirrors.clone(), repo.clone(), self.slots.clone()));
        }
        awaited
    }

    /// Takes what is there of these repositories, once all are or it is time.
    pub(super) async fn take(
        &mut self,
        awaited: &mut HashSet<RepoUrl>,
        until: Instant,
    ) -> HashMap<RepoUrl, Result<Mirror, FetchError>> {
        while !awaited.iter().all(|repo| self.ended.contains_key(repo)) {
            let Ok(Some(joined)) = timeout_at(until, self.going.join_next()).await else { break };
            self.end(joined);
        }
        let there: Vec<RepoUrl> = awaited.iter().filter(|repo| self.ended.contains_key(*repo)).cloned().collect();
        awaited.retain(|repo| !there.contains(repo));
        there.iter().filter_map(|repo| self.ended.remove_entry(repo)).collect()
    }

    /// Waits until one has ended for which no round has waited.
    pub async fn come(&mut self) {
        if self.ended.is_empty() {
            match self.going.join_next().await {
                Some(joined) => self.end(joined),
                None => std::future::pending().await,
            }
        }
    }

    /// Removes mirrors that nobody uses any more.
    pub(super) async fn tidy_up(&self) {
        self.mirrors.remove_unused().await;
    }

    fn end(&mut self, joined: Result<Fetched, JoinError>) {
        let (repo, fetched) = joined.unwrap_or_else(|panicked| resume_unwind(panicked.into_panic()));
        self.begun.remove(&repo);
        self.ended.insert(repo, fetched);
    }
}

async fn fetch(mirrors: Mirrors, repo: RepoUrl, slots: Arc<Semaphore>) -> Fetched {
    let fetched = {
        let slot = slots.acquire().await;
        let mut fetch = std::pin::pin!(mirrors.fetch(&repo));
        if let Ok(fetched) = timeout(SLOW, &mut fetch).await {
            fetched
        } else {
            drop(slot);
            fetch.await
        }
    };
    (repo, fetched)
}
