//! Who watches, and what they read once for all channels of a round.

use std::{collections::BTreeSet, sync::Arc};

use anyhow::{Context as _, Result};
use bucket::{Bucket, Halt, HistoryEntry, ReleaseName, ServerName, Topic};
use fleet::{
    hold::{self, AllHolds},
    identity::Identity,
    poke::PokeSettings,
    policy::Policy,
    server::{self, Server},
};
use futures_util::{StreamExt as _, stream};
use registry::Client;

/// Servers that are read at the same time.
pub(super) const AT_ONCE: usize = 16;

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
    /// How registries of images are spoken to.
    pub registry: Arc<Client>,
    /// Where it is announced that an image moved.
    pub announce: Option<Arc<Topic>>,
}

/// What all channels share in a round.
pub(super) struct Fleet {
    pub(super) servers: Vec<Server>,
    pub(super) halt: Option<Halt>,
    pub(super) holds: AllHolds,
    pub(super) rejected: BTreeSet<ReleaseName>,
}

impl Watcher {
    /// The servers that channels may have, and what keeps others from being written.
    pub(super) async fn read(&self) -> Result<Fleet> {
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
}

/// As much of a text as a reason may have.
pub(super) fn cut(text: &str) -> &str {
    &text[..text.floor_char_boundary(HistoryEntry::MAX_WHY)]
}
