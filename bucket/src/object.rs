//! What the verbs of a bucket take and give.

use std::{collections::BTreeMap, fmt};

use bytes::Bytes;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{Error, ObjectPath, file::FileDownload, gcs::GcsDownload};

/// The bucket's version number of an object. It grows with every overwrite and is never 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Generation(pub i64);

impl fmt::Display for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Custom metadata of an object. Keys are lower case, as Google Cloud Storage gives them back.
pub type Metadata = BTreeMap<String, String>;

/// What is known of an object without reading its content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectInfo {
    /// Where it lies.
    pub path: ObjectPath,
    /// Which version of it this is.
    pub generation: Generation,
    /// Its size in bytes.
    pub size: u64,
    /// When this version was written, by the bucket's clock.
    pub updated: Timestamp,
    /// Its custom metadata.
    pub metadata: Metadata,
}

/// An object with its whole content; only for small ones, documents.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Object {
    /// Which version of it this is.
    pub generation: Generation,
    /// Its content.
    pub content: Bytes,
}

/// The answer to a conditional read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fetched<T> {
    /// It is still the generation that the caller has seen.
    Unchanged,
    /// There is no such object.
    Absent,
    /// It is another generation than the caller has seen, here it is.
    Found(Generation, T),
}

/// Where the next page of a listing begins. Only the bucket that gave it understands it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PageToken {
    /// The path after which the whole listing begins; `None` when it begins at its first.
    pub(crate) start: Option<String>,
    /// The bucket's own word for where this page begins; `None` for the first page after `start`.
    pub(crate) page: Option<String>,
}

impl PageToken {
    /// Begins a listing after a path, which need not be an object's.
    pub(crate) fn after(path: impl Into<String>) -> Self {
        Self { start: Some(path.into()), page: None }
    }

    /// The next page of the listing that `this` is a page of.
    pub(crate) fn next(this: Option<&Self>, page: String) -> Self {
        Self { start: this.and_then(|token| token.start.clone()), page: Some(page) }
    }
}

/// One page of a listing, in the byte order of the paths.
#[derive(Debug, Clone)]
pub struct Page<T> {
    /// What was listed.
    pub items: Vec<T>,
    /// Where the next page begins; `None` after the last.
    pub next: Option<PageToken>,
}

/// An object's content on its way: [`Download::chunk`] until it gives `None`.
#[derive(Debug)]
pub struct Download {
    /// The generation that all chunks are of.
    pub generation: Generation,
    /// The size of the whole object in bytes, however far in the download began.
    pub size: u64,
    pub(crate) source: DownloadSource,
}

#[derive(Debug)]
pub(crate) enum DownloadSource {
    Gcs(Box<GcsDownload>),
    File(FileDownload),
}

impl Download {
    /// The next piece of the content, `None` at the end.
    ///
    /// A cut connection is resumed inside, a bounded number of times. The sum of the pieces is exactly what was
    /// promised: a shorter or longer body is [`Error::Unavailable`]. The content isn't verified here: the caller
    /// hashes what it wrote.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, Error> {
        match &mut self.source {
            DownloadSource::Gcs(download) => download.chunk().await,
            DownloadSource::File(download) => download.chunk().await,
        }
    }
}
