//! Releases that nobody may push any more, as one with a vulnerability: `rejected/{app}/{release}.json`.

use std::collections::BTreeSet;

use futures_util::TryStreamExt;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{AppName, Bucket, Error, Generation, Metadata, Object, PageToken, ReleaseName, items, layout};

/// Most bytes of the object that are read.
const MAX_SIZE: u64 = 16 << 10;

/// Who rejected a release, and why. Unknown fields are ignored by readers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rejection {
    /// The version of the format: 1.
    pub schema: u32,
    /// The release.
    pub release: ReleaseName,
    /// Who did.
    pub by: String,
    /// The reason, in their words.
    pub why: String,
    /// When, by the clock of whoever did.
    pub at: Timestamp,
}

impl Bucket {
    /// Rejects a release. What runs it already isn't touched.
    ///
    /// # Errors
    /// [`Error::AlreadyExists`] when it is rejected already.
    pub async fn reject(&self, rejection: &Rejection) -> Result<Generation, Error> {
        let content = serde_json::to_vec_pretty(rejection).expect("a rejection is JSON");
        self.create(&layout::rejected(&rejection.release), content.into(), &Metadata::new()).await
    }

    /// Why a release is rejected, with the generation of the object; `None` when it isn't.
    ///
    /// # Errors
    /// Also [`Error::Malformed`]: the release is rejected all the same.
    pub async fn rejection(&self, release: &ReleaseName) -> Result<Option<(Generation, Rejection)>, Error> {
        let path = layout::rejected(release);
        let Some(Object { generation, content, .. }) = self.get(&path, MAX_SIZE).await? else { return Ok(None) };
        let malformed =
            |error: serde_json::Error| Error::Malformed { object: path.to_string(), reason: error.to_string() };
        Ok(Some((generation, serde_json::from_slice(&content).map_err(malformed)?)))
    }

    /// Takes back the rejection of a release, whatever its object says.
    ///
    /// # Errors
    /// [`Error::Conflict`] when somebody else took it back in between.
    pub async fn unreject(&self, release: &ReleaseName) -> Result<bool, Error> {
        let path = layout::rejected(release);
        let Some(found) = self.head(&path).await? else { return Ok(false) };
        self.delete(&path, found.generation).await.map(|()| true)
    }

    /// The releases of an app that are rejected.
    pub async fn rejected(&self, app: &AppName) -> Result<BTreeSet<ReleaseName>, Error> {
        self.rejected_below(layout::rejected_of(app)).await
    }

    /// The releases of all apps that are rejected.
    pub async fn all_rejected(&self) -> Result<BTreeSet<ReleaseName>, Error> {
        self.rejected_below(layout::REJECTED.to_owned()).await
    }

    async fn rejected_below(&self, prefix: String) -> Result<BTreeSet<ReleaseName>, Error> {
        let page = async |after: Option<PageToken>| self.list(&prefix, after.as_ref(), 1000).await;
        items(page).try_filter_map(|info| async move { Ok(layout::rejected_at(&info.path)) }).try_collect().await
    }
}
