//! What a bucket on Google Cloud Storage is opened with.

use std::{fmt, path::PathBuf, str::FromStr, time::Duration};

use url::Url;

use crate::NameError;

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

impl FromStr for Credentials {
    type Err = NameError;

    /// Reads `default`, `anonymous`, or the path of a key file. What has neither a slash nor `.json` at its end is no
    /// path but a misspelt word.
    fn from_str(text: &str) -> Result<Self, NameError> {
        match text {
            "default" => Ok(Self::ApplicationDefault),
            "anonymous" => Ok(Self::Anonymous),
            path if path.contains('/') || path.to_ascii_lowercase().ends_with(".json") => {
                Ok(Self::ServiceAccountFile(path.into()))
            }
            _ => Err(NameError::new(
                "credentials",
                text,
                "use `default`, `anonymous`, or the path of a service account's key file",
            )),
        }
    }
}

impl fmt::Display for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ApplicationDefault => f.write_str("default"),
            Self::Anonymous => f.write_str("anonymous"),
            Self::ServiceAccountFile(path) => path.display().fmt(f),
        }
    }
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
    /// - `PUSH_GCS_CREDENTIALS`: see [`Credentials`];
    /// - `STORAGE_EMULATOR_HOST`: as Google's own clients read it, `host:port` or a URL, and anonymous.
    ///
    /// # Errors
    /// When an endpoint isn't an http(s) URL, or the credentials are a misspelt word.
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
        if let Some(credentials) = set("PUSH_GCS_CREDENTIALS") {
            options.credentials = credentials.parse()?;
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
