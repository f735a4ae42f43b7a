//! That a watcher lives. `watchers/{host}.json`, written every 15 minutes.

use futures_util::{StreamExt, TryStreamExt};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::{Bucket, Error, Generation, Metadata, Object, PageToken, ServerName, items, layout};

/// Most bytes of the object.
const MAX_SIZE: u64 = 16 << 10;
/// Watchers that are listed.
const MAX_LISTED: usize = 1000;

/// What a watcher says of itself. Unknown fields are kept by whoever writes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WatcherReport {
    /// The version of the format: 1.
    pub schema: u32,
    /// The machine that it runs on.
    pub host: ServerName,
    /// When it wrote this, by the bucket's clock.
    pub at: Timestamp,
    /// How many seconds are between its rounds.
    pub poll_seconds: u64,
    /// Its version.
    pub version: String,
    /// What this program doesn't know.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

impl Bucket {
    /// What the watcher of a machine last said, with its generation.
    ///
    /// # Errors
    /// Also [`Error::Malformed`]: what can't be understood says nothing.
    pub async fn watcher(&self, host: &ServerName) -> Result<Option<(Generation, WatcherReport)>, Error> {
        let path = layout::watcher(host);
        let Some(Object { generation, content, .. }) = self.get(&path, MAX_SIZE).await? else { return Ok(None) };
        let malformed = |reason: String| Error::Malformed { object: path.to_string(), reason };
        let read: WatcherReport = serde_json::from_slice(&content).map_err(|error| malformed(error.to_string()))?;
        if read.host != *host {
            return Err(malformed(format!("it says that it is of `{}`", read.host)));
        }
        if read.schema != 1 {
            return Err(malformed(format!("it has schema {}, which this program does not know", read.schema)));
        }
        Ok(Some((generation, read)))
    }

    /// The machine whose watcher reported last, and which generation of its report there is.
    pub async fn newest_watcher(&self) -> Result<Option<(ServerName, Generation)>, Error> {
        let page = async |after: Option<PageToken>| self.list(layout::WATCHERS, after.as_ref(), 1000).await;
        let watchers = items(page).try_filter_map(|info| async move {
            Ok(layout::watcher_at(&info.path).map(|host| (info.updated, host, info.generation)))
        });
        let watchers: Vec<_> = watchers.take(MAX_LISTED).try_collect().await?;
        Ok(watchers.into_iter().max().map(|(_, host, generation)| (host, generation)))
    }

    /// Writes what a watcher says of itself: over the generation that was read, or as the first.
    ///
    /// # Errors
    /// [`Error::Conflict`] or [`Error::AlreadyExists`] when another on the same machine wrote meanwhile.
    pub async fn write_watcher(&self, report: &WatcherReport, seen: Option<Generation>) -> Result<Generation, Error> {
        let content = serde_json::to_vec_pretty(report).expect("what a watcher says is JSON");
        self.write_within(MAX_SIZE, &layout::watcher(&report.host), content, &Metadata::new(), seen).await
    }
}
