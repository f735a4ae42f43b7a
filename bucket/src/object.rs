//! What the verbs of a bucket take and give.

use std::{collections::BTreeMap, fmt, str::FromStr};

use bytes::Bytes;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{NameError, ObjectPath};

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

/// What metadata says under a key.
///
/// # Errors
/// That it says nothing, as a sentence for people.
pub(crate) fn fact<'a>(metadata: &'a Metadata, key: &str) -> Result<&'a str, String> {
    metadata.get(key).map(String::as_str).ok_or_else(|| format!("metadata has no `{key}`"))
}

/// What metadata says under a key, as the name that it should be.
///
/// # Errors
/// That it says nothing, or why that isn't one, as a sentence for people.
pub(crate) fn named_fact<T: FromStr<Err = NameError>>(metadata: &Metadata, key: &str) -> Result<T, String> {
    fact(metadata, key)?.parse().map_err(|error: NameError| format!("metadata `{key}` cannot be used: {error}"))
}

/// What is known of an object without reading its content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectInfo {
    /// Its path.
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
    /// Its custom metadata, as far as it is visible ASCII: Google leaves out everything else where content is read.
    pub metadata: Metadata,
}

/// The answer to a read that names the generation that the caller has seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fetched<T> {
    /// It is still the generation that the caller has seen.
    Unchanged,
    /// There is no such object.
    Absent,
    /// It is another generation than the caller has seen, here it is.
    Found(Generation, T),
}

impl<T> Fetched<T> {
    /// What was found, if it was.
    pub(crate) fn found(self) -> Option<T> {
        if let Self::Found(_, found) = self { Some(found) } else { None }
    }
}

impl<T> From<Option<(Generation, T)>> for Fetched<T> {
    /// The answer to a read that names none, which is never [`Fetched::Unchanged`].
    fn from(found: Option<(Generation, T)>) -> Self {
        found.map_or(Self::Absent, |(generation, content)| Self::Found(generation, content))
    }
}
