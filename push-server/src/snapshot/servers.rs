//! One round of reading the servers: two listings, and only what these say has changed.
//!
//! A quiet round costs one request for each 1,000 documents and one for each 1,000 reports. An object that can't be read
//! is noted in its [`Server`] and hides nothing else; if that may pass it is read again in the next round.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, PoisonError},
};

use anyhow::{Context, Result, bail};
use bucket::{
    Bucket, DocumentSummary, Error, Generation, ServerDocument, ServerName, SharedNames, Status, StatusSummary,
    Timestamp,
};
use futures_util::{StreamExt, TryStreamExt as _, stream};

use fleet::server::{self, Reading, Server};

/// Servers that are read at the same time.
pub(super) const AT_ONCE: usize = 32;

/// Most bytes of reports that are kept, those of all servers together: ten thousand servers of five apps have a quarter.
const MAX_REPORTS: u64 = 128 << 20;

/// When none of so many objects can be read, it isn't the objects.
const ALL_FAILED: usize = 32;

/// A server and which generations that is.
#[derive(Debug, Clone)]
pub(super) struct Known {
    pub(super) server: Arc<Server>,
    document: Mark,
    status: Mark,
}

/// Which generation of an object was read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Mark {
    /// `None` when there was no such object.
    generation: Option<Generation>,
    /// Whether it couldn't be read for a reason that may pass.
    again: bool,
}

impl Mark {
    /// Whether that is all there is to read.
    fn is(self, listed: Option<Generation>) -> bool {
        self == Self { generation: listed, again: false }
    }
}

/// What the two listings say.
#[derive(Debug, Default)]
pub(super) struct Listing {
    pub(super) documents: BTreeMap<ServerName, DocumentSummary>,
    statuses: BTreeMap<ServerName, StatusSummary>,
    retired: BTreeSet<ServerName>,
}

/// Lists the documents, the reports and the servers that were retired.
pub(super) async fn list(bucket: &Bucket) -> Result<Listing> {
    let documents = async {
        let listed = bucket.servers().map_ok(|summary| (summary.server.clone(), summary));
        listed.try_collect::<BTreeMap<_, _>>().await.context("could not list the server documents")
    };
    let statuses = async {
        let listed = bucket.statuses().map_ok(|summary| (summary.server.clone(), summary));
        listed.try_collect::<BTreeMap<_, _>>().await.context("could not list the reports of the agents")
    };
    let retired = async { bucket.retired_servers().await.context("could not list the retired servers") };
    let (documents, statuses, retired) = tokio::try_join!(documents, statuses, retired)?;
    Ok(Listing { documents, statuses, retired })
}

impl Listing {
    /// The documents that are of another generation than what is known.
    pub(super) fn changed<'a>(
        &'a self,
        known: &'a BTreeMap<ServerName, Known>,
    ) -> impl Iterator<Item = &'a DocumentSummary> {
        self.documents.values().filter(|summary| {
            known.get(&summary.server).is_none_or(|known| known.document.generation != Some(summary.generation))
        })
    }

    /// Reads what is another generation than what is known; what is read shares `names`.
    ///
    /// # Errors
    /// When nothing at all can be read.
    pub(super) async fn read(
        &self,
        bucket: &Bucket,
        known: &BTreeMap<ServerName, Known>,
        names: &Mutex<SharedNames>,
    ) -> Result<BTreeMap<ServerName, Known>> {
        let mut servers: BTreeMap<ServerName, Known> = BTreeMap::new();
        let mut stale = Vec::new();
        let most = fair_share(self.statuses.values().map(|summary| summary.size).collect(), MAX_REPORTS);
        let all: BTreeSet<&ServerName> = self.documents.keys().chain(self.statuses.keys()).collect();
        for name in all {
            let document = self.documents.get(name).map(|summary| summary.generation);
            let status = self.statuses.get(name);
            match known.get(name) {
                Some(known) if known.document.is(document) && known.status.is(status.map(|it| it.generation)) => {
                    servers.insert(name.clone(), known.clone());
                }
                known => stale.push((name.clone(), document, status.cloned(), known.cloned())),
            }
        }
        let mut reads = stream::iter(stale)
            .map(async |(name, document, status, known)| {
                Known::read(bucket, &name, document, status.as_ref(), most, known.as_ref()).await
            })
            .buffer_unordered(AT_ONCE);
        let (mut good, mut bad) = (0, 0);
        while let Some(mut known) = reads.next().await {
            known.compact(names);
            if known.document.again || known.status.again {
                bad += 1;
            } else {
                good += 1;
            }
            if good == 0 && bad == ALL_FAILED {
                bail!(
                    "none of {ALL_FAILED} servers could be read: {}",
                    known.server.errors().next().unwrap_or_default()
                );
            }
            servers.insert(known.server.name.clone(), known);
        }
        for known in servers.values_mut() {
            let is_retired = known.document.generation.is_none() && self.retired.contains(&known.server.name);
            if known.server.is_retired != is_retired {
                Arc::make_mut(&mut known.server).is_retired = is_retired;
            }
        }
        Ok(servers)
    }
}

impl Known {
    /// Reads a server, whatever is known of it.
    pub(super) async fn afresh(bucket: &Bucket, name: &ServerName) -> Self {
        let (document, status) = tokio::join!(server::document(bucket, name), server::status(bucket, name));
        let is_retired = matches!(document, Ok(None)) && bucket.is_retired(name).await.unwrap_or_default();
        // If it is another than the listing had, it was written just now.
        let status = Part::of(status, None).dated(bucket.now());
        let mut read = Self::of(name, Part::of_document(document, None), status);
        if is_retired {
            Arc::make_mut(&mut read.server).is_retired = true;
        }
        read
    }

    /// Reads what has changed of a server: `document` and `status` were listed. A report of more than `most` bytes isn't
    /// read.
    async fn read(
        bucket: &Bucket,
        name: &ServerName,
        document: Option<Generation>,
        status: Option<&StatusSummary>,
        most: u64,
        known: Option<&Self>,
    ) -> Self {
        let document = async {
            match (document, known) {
                (None, _) => Part::absent(),
                (_, Some(Self { server, document: mark, .. })) if mark.is(document) => {
                    Part { content: server.document.clone(), mark: *mark }
                }
                _ => Part::of_document(server::document(bucket, name).await, document),
            }
        };
        let status = async {
            match (status, known) {
                (None, _) => Part::absent(),
                (Some(listed), Some(Self { server, status: mark, .. })) if mark.is(Some(listed.generation)) => {
                    Part { content: server.status.clone(), mark: *mark }
                }
                (Some(listed), _) if listed.size > most => Part::too_large(listed, most),
                (Some(listed), _) => {
                    let read = server::status(bucket, name).await;
                    Part::of(read, Some(listed.generation)).dated(listed.updated)
                }
            }
        };
        let (document, status) = tokio::join!(document, status);
        let mut read = Self::of(name, document, status);
        read.share(known);
        read
    }

    /// Takes as little memory as it can. What was known before does.
    pub(super) fn compact(&mut self, names: &Mutex<SharedNames>) {
        if let Some(server) = Arc::get_mut(&mut self.server) {
            server.compact(&mut names.lock().unwrap_or_else(PoisonError::into_inner));
        }
    }

    /// If that is no other than what was known, it is the same: whoever compares snapshots compares pointers.
    pub(super) fn share(&mut self, known: Option<&Self>) {
        let Some(known) = known else { return };
        if known.status == self.status && known.server.status != self.server.status {
            // When it was written is known better from a listing.
            Arc::make_mut(&mut self.server).status = known.server.status.clone();
        }
        if known.server == self.server {
            self.server = known.server.clone();
        }
    }

    fn of(name: &ServerName, document: Part<(Generation, ServerDocument)>, status: Part<Status>) -> Self {
        let (document_mark, document) = (document.mark, document.content);
        let server = Server { name: name.clone(), document, status: status.content, is_retired: false };
        Self { server: Arc::new(server), document: document_mark, status: status.mark }
    }

    /// Whether `other` has seen a later generation of something.
    pub(super) fn is_older_than(&self, other: &Self) -> bool {
        self.document.generation < other.document.generation || self.status.generation < other.status.generation
    }
}

/// One object of a server, read or not.
struct Part<T> {
    content: Reading<T>,
    mark: Mark,
}

impl<T> Part<T> {
    fn absent() -> Self {
        Self { content: Reading::Absent, mark: Mark::default() }
    }

    fn of(read: Result<Option<(Generation, T)>, Error>, listed: Option<Generation>) -> Self {
        match read {
            Ok(None) => Self::absent(),
            Ok(Some((generation, content))) => {
                let mark = Mark { generation: Some(generation), again: false };
                Self { content: Reading::Known(content), mark }
            }
            Err(error) => {
                // What an object is doesn't change without its generation.
                let again = !matches!(error, Error::Malformed { .. } | Error::TooLarge { .. });
                Self { content: Reading::Unreadable(error.to_string()), mark: Mark { generation: listed, again } }
            }
        }
    }
}

impl Part<Status> {
    /// Dated by the bucket's clock: it was written there at that time.
    fn dated(mut self, written: Timestamp) -> Self {
        if let Reading::Known(status) = &mut self.content {
            status.date(written);
        }
        self
    }

    fn too_large(listed: &StatusSummary, most: u64) -> Self {
        let reason = format!(
            "the report of `{}` is not shown: it has {} bytes, and for {} MiB of all reports together each may have {most}",
            listed.server,
            listed.size,
            MAX_REPORTS >> 20
        );
        let mark = Mark { generation: Some(listed.generation), again: false };
        Self { content: Reading::Unreadable(reason), mark }
    }
}

/// The most that each may have so that all together have at most `total`: those that need less leave the others more.
fn fair_share(mut sizes: Vec<u64>, total: u64) -> u64 {
    sizes.sort_unstable();
    let mut left = total;
    let mut others = sizes.len() as u64;
    for size in sizes {
        let share = left / others;
        if size > share {
            return share;
        }
        left -= size;
        others -= 1;
    }
    u64::MAX
}

impl Part<(Generation, ServerDocument)> {
    fn of_document(read: Result<Option<(Generation, ServerDocument)>, Error>, listed: Option<Generation>) -> Self {
        let with_generation =
            |found: Option<_>| found.map(|(generation, document)| (generation, (generation, document)));
        Self::of(read.map(with_generation), listed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn those_that_report_too_much_pay_for_it_and_nobody_else() {
        for (sizes, total, most) in [
            (vec![], 10, u64::MAX),
            (vec![3, 3, 4], 10, u64::MAX),
            (vec![1, 1, 100], 10, 8),
            (vec![1, 50, 100], 10, 4),
            (vec![4, 4, 4], 10, 3),
            (vec![u64::MAX, 1], 10, 9),
        ] {
            assert_eq!(fair_share(sizes.clone(), total), most, "{sizes:?}");
        }
    }
}
