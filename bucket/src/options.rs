//! What a bucket on Google Cloud Storage is opened with, and what Pub/Sub is asked with.

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
    /// How often at most what may be done twice is tried.
    pub attempts: usize,
}

impl Default for BucketOptions {
    fn default() -> Self {
        Self { endpoint: None, credentials: Credentials::default(), timeout: Duration::from_secs(30), attempts: 5 }
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
        let keys = ["STORAGE_EMULATOR_HOST", "PUSH_GCS_ENDPOINT", "PUSH_GCS_CREDENTIALS"];
        let (endpoint, credentials) = from_env("storage endpoint", keys, lookup)?;
        Ok(Self { endpoint, credentials, ..Self::default() })
    }
}

/// How Pub/Sub is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PubSubOptions {
    /// Base URL of the API.
    pub endpoint: Url,
    /// How to authenticate.
    pub credentials: Credentials,
}

impl PubSubOptions {
    /// The options that the environment asks for, by `lookup` (normally [`std::env::var`]):
    ///
    /// - `PUSH_PUBSUB_ENDPOINT`: base URL of the API;
    /// - `PUSH_PUBSUB_CREDENTIALS`: see [`Credentials`];
    /// - `PUBSUB_EMULATOR_HOST`: as Google's own clients read it, `host:port` or a URL, and anonymous.
    ///
    /// # Errors
    /// When an endpoint isn't an http(s) URL, or the credentials are a misspelt word.
    pub fn from_env(lookup: impl Fn(&str) -> Option<String>) -> Result<Self, NameError> {
        let keys = ["PUBSUB_EMULATOR_HOST", "PUSH_PUBSUB_ENDPOINT", "PUSH_PUBSUB_CREDENTIALS"];
        let (endpoint, credentials) = from_env("Pub/Sub endpoint", keys, lookup)?;
        let google = || Url::parse("https://pubsub.googleapis.com").expect("a constant URL is a URL");
        Ok(Self { endpoint: endpoint.unwrap_or_else(google), credentials })
    }
}

/// Where a service of Google's is and how to authenticate there, as three variables have it: what its emulator's clients read,
/// the endpoint, the credentials.
fn from_env(
    kind: &'static str,
    [emulator, endpoint, credentials]: [&str; 3],
    lookup: impl Fn(&str) -> Option<String>,
) -> Result<(Option<Url>, Credentials), NameError> {
    let set = |key: &str| lookup(key).filter(|value| !value.is_empty());
    let parse = |text: &str| match Url::parse(text) {
        Ok(url) if matches!(url.scheme(), "http" | "https") && url.has_host() => Ok(url),
        _ => Err(NameError::new(kind, text, "write a URL as in `http://127.0.0.1:9000`")),
    };
    let mut found = (None, Credentials::default());
    if let Some(host) = set(emulator) {
        let url = if host.contains("://") { host } else { format!("http://{host}") };
        found = (Some(parse(&url)?), Credentials::Anonymous);
    }
    if let Some(url) = set(endpoint) {
        found.0 = Some(parse(&url)?);
    }
    if let Some(credentials) = set(credentials) {
        found.1 = credentials.parse()?;
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pub_sub_is_googles_unless_the_environment_has_an_emulator_or_an_endpoint() {
        let read = |environment: &[(&str, &str)]| {
            let find =
                |key: &str| environment.iter().find(|(name, _)| *name == key).map(|(_, value)| (*value).to_owned());
            PubSubOptions::from_env(find).map(|options| (options.endpoint.to_string(), options.credentials))
        };
        let emulator = ("PUBSUB_EMULATOR_HOST", "127.0.0.1:8085");
        for (environment, endpoint, credentials) in [
            (&[][..], "https://pubsub.googleapis.com/", Credentials::ApplicationDefault),
            (&[("STORAGE_EMULATOR_HOST", "x:1")], "https://pubsub.googleapis.com/", Credentials::ApplicationDefault),
            (&[emulator], "http://127.0.0.1:8085/", Credentials::Anonymous),
            (
                &[emulator, ("PUSH_PUBSUB_CREDENTIALS", "default")],
                "http://127.0.0.1:8085/",
                Credentials::ApplicationDefault,
            ),
            (&[("PUSH_PUBSUB_ENDPOINT", "http://h:1/x")], "http://h:1/x", Credentials::ApplicationDefault),
        ] {
            assert_eq!(read(environment), Ok((endpoint.to_owned(), credentials)), "{environment:?}");
        }
        let refused = read(&[("PUSH_PUBSUB_ENDPOINT", "pubsub")]).unwrap_err();
        assert!(refused.to_string().contains("Pub/Sub endpoint `pubsub`"), "{refused}");
    }
}
