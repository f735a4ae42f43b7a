//! From a bucket's URL to a bucket.

use std::{fmt, path::PathBuf, str::FromStr, time::Duration};

use serde::{Deserialize, Serialize};
use url::Url;

use crate::{Bucket, Error, FileBucket, GcsBucket, NameError};

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

/// How to authenticate to Google Cloud Storage.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Credentials {
    /// Application default credentials: `GOOGLE_APPLICATION_CREDENTIALS`, the user's, or the metadata server's.
    #[default]
    ApplicationDefault,
    /// A service account's key file.
    ServiceAccountFile(PathBuf),
    /// None at all, for emulators and public buckets.
    Anonymous,
}

/// What a `gs://` bucket needs besides its name. `file://` buckets ignore it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BucketOptions {
    /// Base URL of the storage API; `None` is Google's own.
    pub endpoint: Option<Url>,
    /// How to authenticate.
    pub credentials: Credentials,
    /// The longest a request may go without an answer, or a download without a byte.
    pub timeout: Duration,
}

impl Default for BucketOptions {
    fn default() -> Self {
        Self { endpoint: None, credentials: Credentials::default(), timeout: Duration::from_secs(30) }
    }
}

impl BucketOptions {
    /// The options that the environment asks for, by `lookup` (normally [`std::env::var`]):
    ///
    /// - `PUSH_GCS_ENDPOINT`: base URL of the storage API;
    /// - `PUSH_GCS_CREDENTIALS`: `anonymous`, or the path of a service account's key file;
    /// - `STORAGE_EMULATOR_HOST`: as Google's own clients read it, `host:port` or a URL, and anonymous.
    ///
    /// # Errors
    /// When an endpoint isn't an http(s) URL.
    pub fn from_env(lookup: impl Fn(&str) -> Option<String>) -> Result<Self, NameError> {
        let set = |key: &str| lookup(key).filter(|value| !value.is_empty());
        let mut options = Self::default();
        if let Some(host) = set("STORAGE_EMULATOR_HOST") {
            let url = if host.contains("://") { host } else { format!("http://{host}") };
            options.endpoint = Some(parse_endpoint(&url)?);
            options.credentials = Credentials::Anonymous;
        }
        if let Some(url) = set("PUSH_GCS_ENDPOINT") {
            options.endpoint = Some(parse_endpoint(&url)?);
        }
        match set("PUSH_GCS_CREDENTIALS").as_deref() {
            None => {}
            Some("anonymous") => options.credentials = Credentials::Anonymous,
            Some("default") => options.credentials = Credentials::ApplicationDefault,
            Some(path) => options.credentials = Credentials::ServiceAccountFile(path.into()),
        }
        Ok(options)
    }
}

fn parse_endpoint(text: &str) -> Result<Url, NameError> {
    match Url::parse(text) {
        Ok(url) if matches!(url.scheme(), "http" | "https") && url.has_host() => Ok(url),
        _ => Err(NameError::new("storage endpoint", text, "write a URL as in `http://127.0.0.1:9000`")),
    }
}

impl Bucket {
    /// Opens a bucket. Nothing is read yet: a bucket that can't be reached shows at the first verb.
    ///
    /// # Errors
    /// [`Error::Unusable`] when the directory doesn't exist or the credentials can't be loaded.
    pub async fn open(url: &BucketUrl, options: &BucketOptions) -> Result<Self, Error> {
        match url {
            BucketUrl::Gcs(name) => Ok(Self::Gcs(GcsBucket::open(name, options).await?)),
            BucketUrl::File(directory) => Ok(Self::File(FileBucket::open(directory).await?)),
        }
    }
}
