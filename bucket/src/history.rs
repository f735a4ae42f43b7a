//! The record of pushes: who pushed what, where and why. Append-only.

use std::{collections::VecDeque, pin::pin};

use futures_util::{Stream, TryStreamExt};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{
    AppName, Bucket, Error, Generation, Metadata, ObjectPath, PageToken, ReleaseName, ServerName, items, layout,
};

/// Most bytes of a history entry that are read.
const MAX_SIZE: u64 = 64 << 10;

/// One push of one release to one server, `history/{server}/{time}-{id}.json`. Unknown fields are ignored by readers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HistoryEntry {
    /// When it was written, by the clock of who pushed.
    pub time: Timestamp,
    /// Unique among the pushes to this server: 16 hex digits.
    pub id: String,
    /// The server that was pushed to.
    pub server: ServerName,
    /// The app that was pushed.
    pub app: AppName,
    /// The release that the document named before.
    pub from: Option<ReleaseName>,
    /// The release that it names now.
    pub to: ReleaseName,
    /// Whether it was a deployment or a rollback.
    pub kind: PushKind,
    /// Who pushed: `user@host` of the command, or who was signed in.
    pub who: String,
    /// The reason, in their words; empty when they gave none.
    pub why: String,
    /// The generation of the document that holds the change.
    pub generation: Generation,
}

impl HistoryEntry {
    /// Longest reason, in bytes.
    pub const MAX_WHY: usize = 2048;
}

/// Whether a push deployed a release or rolled back to the previous one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PushKind {
    /// An operator chose the release.
    Deploy,
    /// An operator rolled back to what the server had before.
    Rollback,
}

impl Bucket {
    /// Records a push.
    pub async fn append_history(&self, entry: &HistoryEntry) -> Result<(), Error> {
        let path = layout::history(&entry.server, entry.time, &entry.id);
        if entry.id.is_empty() || !entry.id.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
            return Err(Error::Malformed {
                object: path.to_string(),
                reason: "its ID must have only letters and digits".to_owned(),
            });
        }
        let content = serde_json::to_vec_pretty(entry).expect("a history entry is JSON");
        self.create(&path, content.into(), &Metadata::new()).await.map(drop)
    }

    /// A server's history, oldest first. Entries that can't be understood are passed over.
    pub fn history(&self, server: &ServerName) -> impl Stream<Item = Result<HistoryEntry, Error>> {
        self.listed_history(server, None)
            .and_then(move |path| async move { self.read_history_entry(&path).await })
            .try_filter_map(|entry| async move { Ok(entry) })
    }

    /// The last pushes to a server, newest first, at most `limit`; only those are read.
    pub async fn newest_history(&self, server: &ServerName, limit: usize) -> Result<Vec<HistoryEntry>, Error> {
        self.read_newest(server, None, limit).await
    }

    /// The last pushes to a server since a time, newest first, at most `limit`. Older ones aren't even listed.
    pub async fn history_since(
        &self,
        server: &ServerName,
        since: Timestamp,
        limit: usize,
    ) -> Result<Vec<HistoryEntry>, Error> {
        self.read_newest(server, Some(PageToken::after(layout::history_before(server, since))), limit).await
    }

    async fn read_newest(
        &self,
        server: &ServerName,
        after: Option<PageToken>,
        limit: usize,
    ) -> Result<Vec<HistoryEntry>, Error> {
        let mut paths = VecDeque::new();
        let mut listed = pin!(self.listed_history(server, after));
        while let Some(path) = listed.try_next().await? {
            if paths.len() == limit {
                paths.pop_front();
            }
            if limit > 0 {
                paths.push_back(path);
            }
        }
        let mut entries = Vec::new();
        for path in paths.iter().rev() {
            entries.extend(self.read_history_entry(path).await?);
        }
        Ok(entries)
    }

    /// The paths of a server's history, oldest first, from a place on.
    fn listed_history(
        &self,
        server: &ServerName,
        start: Option<PageToken>,
    ) -> impl Stream<Item = Result<ObjectPath, Error>> {
        let prefix = layout::history_of(server);
        let page = move |after: Option<PageToken>| {
            let (prefix, after) = (prefix.clone(), after.or_else(|| start.clone()));
            async move { self.list(&prefix, after.as_ref(), 1000).await }
        };
        items(page).map_ok(|info| info.path)
    }

    async fn read_history_entry(&self, path: &ObjectPath) -> Result<Option<HistoryEntry>, Error> {
        let Some(object) = self.get(path, MAX_SIZE).await? else { return Ok(None) };
        Ok(serde_json::from_slice(&object.content)
            .inspect_err(|error| tracing::warn!(%path, %error, "history entry passed over"))
            .ok())
    }
}
