//! Where a bucket is.

use std::{fmt, path::PathBuf, str::FromStr};

use serde::{Deserialize, Serialize};
use url::Url;

use crate::NameError;

/// Where a bucket is: `gs://NAME` or `file:///DIRECTORY`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum BucketUrl {
    /// A bucket of Google Cloud Storage, by name.
    Gcs(String),
    /// A directory, by absolute path.
    File(PathBuf),
}

impl FromStr for BucketUrl {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let wrong = |reason: &str| Err(NameError::new("bucket URL", text, reason));
        if let Some(name) = text.strip_prefix("gs://") {
            let name = name.strip_suffix('/').unwrap_or(name);
            let good = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-_.".contains(c);
            // Google Cloud Storage, "Bucket names": 3–63 characters, 222 with dots.
            let ends = name.starts_with(|c: char| c.is_ascii_alphanumeric())
                && name.ends_with(|c: char| c.is_ascii_alphanumeric());
            if !(3..=222).contains(&name.len()) || !name.chars().all(good) || !ends {
                return wrong("a bucket's name has 3 to 222 of a-z 0-9 - _ ., with a letter or digit at both ends");
            }
            return Ok(Self::Gcs(name.to_owned()));
        }
        if text.starts_with("file://") {
            let url = Url::parse(text).ok().filter(|url| url.query().is_none() && url.fragment().is_none());
            let directory = url.and_then(|url| url.to_file_path().ok());
            return match directory {
                Some(directory) if directory.is_absolute() => Ok(Self::File(directory)),
                _ => wrong("write file:/// and an absolute path, as in `file:///srv/push`"),
            };
        }
        wrong("write `gs://BUCKET` or `file:///DIRECTORY`")
    }
}

impl TryFrom<String> for BucketUrl {
    type Error = NameError;

    fn try_from(text: String) -> Result<Self, NameError> {
        text.parse()
    }
}

impl From<BucketUrl> for String {
    fn from(url: BucketUrl) -> Self {
        url.to_string()
    }
}

impl fmt::Display for BucketUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Gcs(name) => write!(f, "gs://{name}"),
            Self::File(directory) => match Url::from_file_path(directory) {
                Ok(url) => url.fmt(f),
                Err(()) => write!(f, "file://{}", directory.display()),
            },
        }
    }
}
