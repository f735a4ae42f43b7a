//! What a bucket on Google Cloud Storage is opened with.

use std::{path::PathBuf, time::Duration};

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
