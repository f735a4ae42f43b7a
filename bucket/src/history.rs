//! The history of a server: one entry for each row of a push that was written there. Append-only.

use futures_util::{Stream, StreamExt, TryStreamExt, stream};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{
    AppName, Bucket, ChannelName, Error, Generation, ObjectInfo, PageToken, PushId, PushKind, ReleaseName, ServerName,
    ascii::to_ascii_json, items, layout, newest::newest,
};

/// Most bytes of a history entry that are read.
const MAX_SIZE: u64 = 64 << 10;
/// The metadata key with the entry, so that a listing tells all of it.
const ENTRY: &str = "entry";
/// Most bytes of that: the storage allows 8 KiB with everything.
const MAX_METADATA: usize = 7500;
/// Where the listing of the last entries begins, in days before now, unless that turns out to be too late.
const RECENT_DAYS: i64 = 30;
/// Entries that are wanted, up to which they are mostly that recent.
const FEW: usize = 100;
/// Entries that are read at the same time, when their metadata doesn't tell them.
const AT_ONCE: usize = 64;

/// One row of a push that was written, `history/{server}/{time}-{id}.json`. Unknown fields are ignored by readers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HistoryEntry {
    /// When it was written, by the bucket's clock as far as that was known.
    pub time: Timestamp,
    /// Unique among the entries of this server: letters and digits; that of the push.
    pub id: String,
    /// The server that was pushed to.
    pub server: ServerName,
    /// The app that was pushed; `None` of a push that is about whole servers, as a retirement.
    pub app: Option<AppName>,
    /// The release that the document named before.
    pub from: Option<ReleaseName>,
    /// The release that it names now; `None` when the app was taken off the server.
    pub to: Option<ReleaseName>,
    /// What the push was for.
    pub kind: PushKind,
    /// Who pushed: `user@host` of the command, or who was signed in.
    pub who: String,
    /// The reason, in their words; empty when they gave none.
    pub why: String,
    /// The generation of the document that holds the change.
    pub generation: Generation,
    /// The push that it belongs to; `None` of one that was written before pushes had IDs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub push: Option<PushId>,
    /// Whether an admin had it written all at once where the policy asks for waves.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub without_waves: bool,
    /// The channel that the watcher, or who pushed what it points to, pushed for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub channel: Option<ChannelName>,
}

impl HistoryEntry {
    /// Longest reason, in bytes.
    pub const MAX_WHY: usize = 2048;
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
        // For listings: with a reason that is too long for it, whoever wants the entry reads it.
        let metadata = Some((ENTRY.to_owned(), to_ascii_json(entry))).filter(|(_, entry)| entry.len() <= MAX_METADATA);
        match self.create(&path, content.into(), &metadata.into_iter().collect()).await {
            // Somebody saw in the document that it was missing, and was faster.
            Ok(_) | Err(Error::AlreadyExists { .. }) if entry.push.is_some() => Ok(()),
            written => written.map(drop),
        }
    }

    /// Whether a server's history has the entry of a push, which began at `time` there.
    pub async fn has_history(&self, server: &ServerName, time: Timestamp, id: &PushId) -> Result<bool, Error> {
        Ok(self.head(&layout::history(server, time, id.as_str())).await?.is_some())
    }

    /// A server's history, oldest first. Entries that can't be understood are passed over.
    pub fn history(&self, server: &ServerName) -> impl Stream<Item = Result<HistoryEntry, Error>> {
        let prefix = layout::history_of(server);
        let page = move |after: Option<PageToken>| {
            let prefix = prefix.clone();
            async move { self.list(&prefix, after.as_ref(), 1000).await }
        };
        let entries = items(page).and_then(move |info| async move { self.history_entry(&info).await });
        entries.try_filter_map(|entry| async move { Ok(entry) })
    }

    /// The last entries of a server, newest first, at most `limit`.
    pub async fn newest_history(&self, server: &ServerName, limit: usize) -> Result<Vec<HistoryEntry>, Error> {
        // Whoever wants many wants all there are, mostly.
        let days: &[i64] = if limit > FEW { &[] } else { &[RECENT_DAYS] };
        let objects = newest(self, &layout::history_of(server), None, days, limit).await?;
        self.history_entries(objects, limit).await
    }

    /// The last entries of a server since a time, newest first, at most `limit`. Older ones aren't even listed.
    pub async fn history_since(
        &self,
        server: &ServerName,
        since: Timestamp,
        limit: usize,
    ) -> Result<Vec<HistoryEntry>, Error> {
        let objects = newest(self, &layout::history_of(server), Some(since), &[], limit).await?;
        self.history_entries(objects, limit).await
    }

    async fn history_entries(&self, objects: Vec<ObjectInfo>, limit: usize) -> Result<Vec<HistoryEntry>, Error> {
        let newest = objects.into_iter().rev().take(limit);
        let newest = newest.map(|info| async move { self.history_entry(&info).await });
        let entries: Vec<Option<HistoryEntry>> = stream::iter(newest).buffered(AT_ONCE).try_collect().await?;
        Ok(entries.into_iter().flatten().collect())
    }

    /// An entry as the listing tells it, or else as it is read.
    async fn history_entry(&self, info: &ObjectInfo) -> Result<Option<HistoryEntry>, Error> {
        if let Some(entry) = info.metadata.get(ENTRY).and_then(|entry| serde_json::from_str(entry).ok()) {
            return Ok(Some(entry));
        }
        let path = &info.path;
        let Some(object) = self.get(path, MAX_SIZE).await? else { return Ok(None) };
        Ok(serde_json::from_slice(&object.content)
            .inspect_err(|error| tracing::warn!(%path, %error, "history entry passed over"))
            .ok())
    }
}
