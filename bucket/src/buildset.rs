//! Buildsets: tries of changes that are under way. `buildsets/{id}.json` in the candidate bucket, by which `release sweep` finds
//! on each machine the overlays that are left there; an overlay says the same of itself in its mark.

use std::future::ready;

use futures_util::{Stream, TryStreamExt};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::{Bucket, BuildId, ChangeId, Error, Generation, Metadata, Object, ObjectPath, PageToken, items, layout};

/// Most bytes of what is said of a buildset.
const MAX_SIZE: u64 = 64 << 10;

/// One try of one change. Unknown fields are ignored by readers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Buildset {
    /// The version of the format: 1.
    pub schema: u32,
    /// What it is called.
    pub buildset: BuildId,
    /// The change that is tried.
    pub change: ChangeId,
    /// The machine on which its overlay is.
    pub host: String,
    /// That machine among others of this name, if it knows itself: never its ID, but what can be told by it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub machine: Option<String>,
    /// The directory there, by absolute path.
    pub directory: String,
    /// When it began, by the candidate bucket's clock as far as that was known.
    pub since: Timestamp,
    /// What this program doesn't know.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

/// A buildset in a list, without being read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BuildsetSummary {
    /// What it is called.
    pub id: BuildId,
    /// The generation of the object.
    pub generation: Generation,
    /// When that was written, by the bucket's clock.
    pub updated: Timestamp,
}

impl Buildset {
    pub(crate) fn to_json(&self) -> Vec<u8> {
        serde_json::to_vec_pretty(self).expect("a buildset is JSON")
    }
}

impl Bucket {
    /// The buildset whose overlay this bucket is; `None` for one that is no overlay. What is released, promoted or pushed
    /// never goes by an overlay: it is gone with its try.
    ///
    /// # Errors
    /// Also [`Error::Malformed`]: then it is an overlay of which nobody knows.
    pub async fn overlay(&self) -> Result<Option<Buildset>, Error> {
        Ok(self.read_buildset(&layout::overlay()).await?.map(|(_, buildset)| buildset))
    }

    /// This bucket, to which nothing is written any more once it isn't the overlay of this buildset: another try may have begun in
    /// the same directory. Every write fails with [`Error::Unusable`] then.
    #[must_use]
    pub fn of_overlay(self, buildset: &BuildId) -> Self {
        match self {
            Self::File(file) => Self::File(file.of_overlay(buildset)),
            Self::Gcs(_) => self,
        }
    }

    /// Records a buildset that is about to begin.
    pub async fn record_buildset(&self, buildset: &Buildset) -> Result<Generation, Error> {
        let path = layout::buildset(&buildset.buildset);
        self.write_within(MAX_SIZE, &path, buildset.to_json(), &Metadata::new(), None).await
    }

    /// The buildsets that were begun and not ended, on all machines.
    pub fn buildsets(&self) -> impl Stream<Item = Result<BuildsetSummary, Error>> {
        let page = async |after: Option<PageToken>| self.list(layout::BUILDSETS, after.as_ref(), 1000).await;
        items(page).try_filter_map(|info| {
            let (generation, updated) = (info.generation, info.updated);
            ready(Ok(layout::buildset_at(&info.path).map(|id| BuildsetSummary { id, generation, updated })))
        })
    }

    /// A buildset, with its generation; `None` when it has ended, or never was.
    ///
    /// # Errors
    /// Also [`Error::Malformed`].
    pub async fn buildset(&self, id: &BuildId) -> Result<Option<(Generation, Buildset)>, Error> {
        let path = layout::buildset(id);
        let found = self.read_buildset(&path).await?;
        if let Some((_, buildset)) = found.as_ref().filter(|(_, buildset)| buildset.buildset != *id) {
            let reason = format!("it says that it is `{}`", buildset.buildset);
            return Err(Error::Malformed { object: path.to_string(), reason });
        }
        Ok(found)
    }

    /// Forgets a buildset whose overlay is gone.
    ///
    /// # Errors
    /// [`Error::Conflict`] when somebody wrote it meanwhile. That it is gone is fine.
    pub async fn delete_buildset(&self, id: &BuildId, seen: Generation) -> Result<(), Error> {
        self.delete(&layout::buildset(id), seen).await
    }

    async fn read_buildset(&self, path: &ObjectPath) -> Result<Option<(Generation, Buildset)>, Error> {
        let Some(Object { generation, content, .. }) = self.get(path, MAX_SIZE).await? else { return Ok(None) };
        let malformed = |reason: String| Error::Malformed { object: path.to_string(), reason };
        let read: Buildset = serde_json::from_slice(&content).map_err(|error| malformed(error.to_string()))?;
        if read.schema != 1 {
            return Err(malformed(format!("it has schema {}, which this program does not know", read.schema)));
        }
        Ok(Some((generation, read)))
    }
}
