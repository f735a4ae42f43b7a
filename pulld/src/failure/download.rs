//! Why the file of a release could not be had.

use std::fmt;

use bucket::Sha256;
use serde::{Deserialize, Serialize};

/// Why the file of a release could not be had.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum DownloadFault {
    /// It is not where it should be.
    NotFound(Place),
    /// What the bucket says of it can't be used.
    NoMetadata {
        /// Why.
        words: String,
    },
    /// Its metadata is that of another file.
    OtherSize {
        /// Bytes, as its metadata says.
        said: u64,
        /// Bytes that the bucket has.
        found: u64,
    },
    /// Other bytes came than were promised.
    Corrupt {
        /// What was promised.
        expected: Content,
        /// What came.
        got: Content,
    },
}

/// Where files of releases are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Place {
    /// In the bucket.
    InBucket,
    /// On this server.
    InCache,
}

/// What a file has in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Content {
    /// How many bytes.
    pub(crate) bytes: u64,
    /// Their sum.
    pub(crate) sha256: Sha256,
}

impl fmt::Display for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes with sha256 `{}`", self.bytes, self.sha256)
    }
}

impl fmt::Display for DownloadFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotFound(Place::InBucket) => f.write_str("release not found in the bucket: push another release"),
            Self::NotFound(Place::InCache) => {
                f.write_str("its file is no longer in the cache of this server: push another release")
            }
            Self::NoMetadata { words } => write!(f, "cannot verify the release: {words}"),
            Self::OtherSize { said, found } => {
                write!(f, "cannot verify the release: its metadata says {said} bytes, the bucket says {found}")
            }
            Self::Corrupt { expected, got } => {
                write!(f, "download is corrupt and was deleted: expected {expected}, got {got}")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_kept_a_file_away_is_said() {
        let (content, sum) = (|bytes| Content { bytes, sha256: [0; 32].into() }, "0".repeat(64));
        for (fault, words) in [
            (
                DownloadFault::NotFound(Place::InBucket),
                "release not found in the bucket: push another release".to_owned(),
            ),
            (
                DownloadFault::NotFound(Place::InCache),
                "its file is no longer in the cache of this server: push another release".to_owned(),
            ),
            (
                DownloadFault::NoMetadata { words: "it has none".to_owned() },
                "cannot verify the release: it has none".to_owned(),
            ),
            (
                DownloadFault::OtherSize { said: 1, found: 2 },
                "cannot verify the release: its metadata says 1 bytes, the bucket says 2".to_owned(),
            ),
            (
                DownloadFault::Corrupt { expected: content(2), got: content(1) },
                format!(
                    "download is corrupt and was deleted: expected 2 bytes with sha256 `{sum}`, got 1 bytes with sha256 \
                     `{sum}`"
                ),
            ),
        ] {
            assert_eq!(fault.to_string(), words);
            let read: DownloadFault = serde_json::from_value(serde_json::to_value(&fault).unwrap()).unwrap();
            assert_eq!(read, fault);
        }
    }
}
