//! The last pushes to any server, without ever listing the whole history.
//!
//! Every push writes a document. So the history that has anything new is that of the servers whose document changed, and a
//! quiet round asks for none. At the start it is that of the servers whose documents changed last.

use std::{cmp::Reverse, collections::BTreeMap, sync::Arc};

use anyhow::{Context, Result};
use bucket::{Bucket, DocumentSummary, HistoryEntry, ServerName, Timestamp};
use fleet::{rollback::with_told, server::Server};
use futures_util::{StreamExt, stream};
use jiff::SignedDuration;

use super::servers::AT_ONCE;

/// Pushes that are kept.
const KEPT: usize = 500;
/// At the start, the servers whose history is read, and how much of each.
const SERVERS_AT_START: usize = 200;
const PUSHES_AT_START: usize = 10;
/// How much of a server's history is read later.
const PUSHES_LATER: usize = 50;
/// A push bears the time of the operator's clock, its document that of the bucket's: so far they may be apart.
pub(super) const CLOCKS_APART: SignedDuration = SignedDuration::from_hours(24);

/// Whose history is to be read in the next round.
#[derive(Debug, Default)]
pub(super) struct Recent {
    begun: bool,
    due: BTreeMap<ServerName, Timestamp>,
}

impl Recent {
    /// Notes the documents that have changed. Their history is read now and in the next round once more: a push writes
    /// the document first.
    pub(super) async fn read<'a>(
        &mut self,
        bucket: &Bucket,
        changed: impl Iterator<Item = &'a DocumentSummary>,
    ) -> Result<Vec<HistoryEntry>> {
        let mut changed: Vec<&DocumentSummary> = changed.collect();
        changed.sort_by_key(|summary| Reverse(summary.updated));
        changed.truncate(if self.begun { KEPT } else { SERVERS_AT_START });
        let changed: BTreeMap<ServerName, Timestamp> = changed
            .into_iter()
            .map(|summary| {
                (summary.server.clone(), summary.updated.saturating_sub(CLOCKS_APART).unwrap_or(Timestamp::MIN))
            })
            .collect();
        let mut wanted: BTreeMap<ServerName, Option<Timestamp>> = BTreeMap::new();
        wanted.extend(self.due.iter().map(|(name, since)| (name.clone(), Some(*since))));
        wanted.extend(changed.iter().map(|(name, since)| (name.clone(), self.begun.then_some(*since))));
        let asked = wanted.len();
        let mut reads = stream::iter(wanted)
            .map(async |(name, since)| {
                let read = match since {
                    Some(since) => bucket.history_since(&name, since, PUSHES_LATER).await,
                    None => bucket.newest_history(&name, PUSHES_AT_START).await,
                };
                (name, since, read)
            })
            .buffer_unordered(AT_ONCE);
        let mut pushes = Vec::new();
        let mut failed = BTreeMap::new();
        let mut first_error = None;
        while let Some((name, since, read)) = reads.next().await {
            match read {
                // An entry that lies with one server and says another is nobody's.
                Ok(entries) => pushes.extend(entries.into_iter().filter(|entry| entry.server == name)),
                Err(error) => {
                    let error = anyhow::Error::new(error).context(format!("could not read the history of `{name}`"));
                    first_error.get_or_insert(error);
                    failed.insert(name, since.unwrap_or(Timestamp::MIN));
                }
            }
        }
        drop(reads);
        // One server's unreadable history doesn't make the rest stale: it is only read again.
        let all_failed = asked > 0 && failed.len() == asked;
        self.begun = true;
        self.due = changed;
        self.due.extend(failed);
        match first_error {
            Some(error) if all_failed => Err(error).context("could not read the last pushes"),
            _ => Ok(pushes),
        }
    }
}

/// The pushes that a server's document tells of and that the history may lack.
pub(super) fn told(server: &Server) -> Vec<HistoryEntry> {
    match server.document.known() {
        Some((generation, document)) => with_told(Vec::new(), &server.name, *generation, document),
        None => Vec::new(),
    }
}

/// Some pushes and some more, newest first, each once, as many as are kept. What documents tell is cut; the history is not.
pub(super) fn merged(
    pushes: &[Arc<HistoryEntry>],
    recorded: Vec<HistoryEntry>,
    told: Vec<HistoryEntry>,
) -> Vec<Arc<HistoryEntry>> {
    let key = |push: &HistoryEntry| (Reverse(push.time), push.server.clone(), push.id.clone(), push.app.clone());
    let mut all: BTreeMap<_, Arc<HistoryEntry>> = pushes.iter().map(|push| (key(push), push.clone())).collect();
    for push in told {
        all.entry(key(&push)).or_insert_with(|| Arc::new(push));
    }
    for push in recorded {
        let known = all.get(&key(&push)).is_some_and(|known| **known == push);
        if !known {
            all.insert(key(&push), Arc::new(push));
        }
    }
    all.into_values().take(KEPT).collect()
}
