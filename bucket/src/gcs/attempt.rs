//! One attempt at a request, what its failure means, and whether another attempt may help.

use std::time::Duration;

use backon::{ExponentialBuilder, Retryable};
use google_cloud_auth::errors::CredentialsError;
use serde_json::json;
use tokio::time::Instant;

use super::{cause::chain, tokens::NoToken};
use crate::Error;

/// How every request names its sender.
pub(super) const USER_AGENT: &str = concat!("push/", env!("CARGO_PKG_VERSION"));

/// The longest a server's `Retry-After` is honoured here. A server that asks for more gets it: the verb fails, and
/// the caller comes again at its next poll.
pub(super) const MAX_RETRY_AFTER: Duration = Duration::from_secs(30);

/// Most of a server's own words that are repeated to a person, in characters.
const MAX_SHOWN: usize = 300;

/// Why one attempt failed, before it is known what was tried on what.
#[derive(Debug)]
pub(super) struct Failure {
    /// The HTTP status, when there was an answer.
    pub(super) status: Option<u16>,
    /// Who failed, in their words.
    pub(super) reason: String,
    /// Whether the same request may succeed later.
    pub(super) transient: bool,
    /// How long the server asked to wait.
    pub(super) retry_after: Option<Duration>,
    /// Whether it is the object that is wrong, and not what was said or done about it.
    pub(super) malformed: bool,
    /// Whether it is in the form in which the storage API answers: nobody else can say that an object is absent.
    by_storage: bool,
}

impl Failure {
    /// The network failed, or an answer that made no sense.
    pub(super) fn transient(reason: impl Into<String>) -> Self {
        Self { transient: true, ..Self::lasting(reason) }
    }

    /// Another try would fail alike.
    pub(super) fn lasting(reason: impl Into<String>) -> Self {
        Self {
            status: None,
            reason: reason.into(),
            transient: false,
            retry_after: None,
            malformed: false,
            by_storage: false,
        }
    }

    /// The object isn't what it should be.
    pub(super) fn malformed(reason: impl Into<String>) -> Self {
        Self { malformed: true, ..Self::lasting(reason) }
    }

    /// An answer with an error status.
    pub(super) fn answered(status: u16, body: &[u8], retry_after: Option<&str>) -> Self {
        let (words, by_storage) = message(body);
        let mut reason = match page(body) {
            Some(page) => format!("{page} ({status})"),
            None if matches!(status, 301 | 302 | 303 | 307 | 308) => {
                format!(
                    "redirected by something in between, as a proxy or a login portal: the storage never redirects ({status})"
                )
            }
            None if words.is_empty() => format!("HTTP status {status}"),
            None if status == 404 && !by_storage => {
                format!("not an answer of the storage API, something in between may have given it: {words} ({status})")
            }
            None => format!("{words} ({status})"),
        };
        let retry_after = retry_after.and_then(|text| text.trim().parse().ok()).map(Duration::from_secs);
        if let Some(wait) = retry_after {
            reason = format!("{reason}; it asks to wait {}", in_words(wait));
        }
        Self {
            status: Some(status),
            transient: matches!(status, 408 | 429 | 500 | 502 | 503 | 504),
            retry_after,
            by_storage,
            ..Self::lasting(reason)
        }
    }

    /// Whether it says that the object is absent. An answer that isn't the storage API's (a proxy's, a captive
    /// portal's) says nothing about the object.
    pub(super) fn is_absent(&self) -> bool {
        self.status == Some(404) && self.by_storage && !self.is_no_bucket()
    }

    /// Whether it says that there is no such bucket.
    pub(super) fn is_no_bucket(&self) -> bool {
        let words = self.reason.to_ascii_lowercase();
        self.status == Some(404) && (words.contains("bucket does not exist") || words.contains("nosuchbucket"))
    }

    /// As the caller of a verb sees it.
    pub(super) fn into_error(self, bucket: &str, verb: &'static str, object: &str) -> Error {
        let object = object.to_owned();
        match self.status {
            _ if self.is_no_bucket() => no_bucket(bucket),
            _ if self.malformed => Error::Malformed { object, reason: self.reason },
            Some(401 | 403) => Error::Forbidden { verb, object, reason: self.reason },
            _ => Error::Unavailable { verb, object, reason: self.reason },
        }
    }
}

impl From<google_cloud_storage::Error> for Failure {
    fn from(error: google_cloud_storage::Error) -> Self {
        Self::from(&error)
    }
}

impl From<&google_cloud_storage::Error> for Failure {
    fn from(error: &google_cloud_storage::Error) -> Self {
        if let Some(status) = error.http_status_code() {
            let after = error.http_headers().and_then(|headers| headers.get("retry-after"));
            let body = match (error.http_payload(), error.status()) {
                (Some(body), _) => body.to_vec(),
                // The library has parsed it, which it does with the API's own form only.
                (None, Some(status)) => json!({ "error": { "message": status.message } }).to_string().into_bytes(),
                (None, None) => Vec::new(),
            };
            return Self::answered(status, &body, after.and_then(|value| value.to_str().ok()));
        }
        if let Some(error) = credentials_error(error) {
            return Self::credentials(error.into());
        }
        Self::transient(chain(error))
    }
}

impl From<reqwest::Error> for Failure {
    fn from(error: reqwest::Error) -> Self {
        // The URL is long, and what was tried on what is said anyway.
        Self::transient(chain(&error.without_url()))
    }
}

impl Failure {
    /// No token could be had. One that never can be is as good as refused.
    pub(super) fn credentials(NoToken { reason, transient }: NoToken) -> Self {
        Self { status: (!transient).then_some(401), transient, ..Self::lasting(reason) }
    }
}

/// There is no such bucket: nothing may be concluded about any object.
pub(super) fn no_bucket(bucket: &str) -> Error {
    let reason = format!("there is no such bucket; create it with `gcloud storage buckets create gs://{bucket}`");
    Error::Unusable { url: format!("gs://{bucket}"), reason }
}

/// Makes attempts, so many of them and each at most `timeout` long, until one succeeds, fails for good, or no time is left.
///
/// Only for what may be done twice: reads, and writes that state a generation.
pub(super) async fn patiently<T, F: Future<Output = Result<T, Failure>>>(
    (attempts, timeout): (usize, Duration),
    attempt: impl Fn() -> F,
) -> Result<T, Failure> {
    let begun = Instant::now();
    let bounded = || within(timeout, attempt());
    bounded
        .retry(
            ExponentialBuilder::default()
                .with_min_delay(Duration::from_millis(100))
                .with_max_delay(Duration::from_secs(5))
                .with_max_times(attempts.saturating_sub(1))
                .with_jitter(),
        )
        // A server that is silent rather than failing is given up earlier: it costs a whole timeout each time.
        .when(|failure| failure.transient && begun.elapsed() < timeout * 2)
        .adjust(|failure, delay| match (delay, failure.retry_after) {
            (Some(_), Some(wait)) if wait > MAX_RETRY_AFTER => None,
            (Some(delay), Some(wait)) => Some(delay.max(wait)),
            (delay, _) => delay,
        })
        .notify(|failure, delay| {
            tracing::info!(reason = failure.reason, delay_ms = delay.as_millis(), "retrying storage request");
        })
        .await
}

/// One attempt, at most `timeout` long.
pub(super) async fn within<T>(
    timeout: Duration,
    attempt: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    match tokio::time::timeout(timeout, attempt).await {
        Ok(done) => done,
        Err(_) => Err(Failure::transient(format!("timed out after {timeout:?} waiting for a response"))),
    }
}

/// The message in an error's body: the API's JSON, or the text as it is; cut, and safe to show. And whether the storage
/// API gave it: requests for content are answered in plain text when there is no such object.
pub(super) fn message(body: &[u8]) -> (String, bool) {
    let json: Option<serde_json::Value> = serde_json::from_slice(body).ok();
    let message = json.as_ref().and_then(|json| json.pointer("/error/message")).and_then(|text| text.as_str());
    let text = message.map_or_else(|| String::from_utf8_lossy(body), Into::into);
    let by_storage = message.is_some() || text.starts_with("No such object") || text.contains("bucket does not exist");
    (shown(&text), by_storage)
}

/// What is said of a web page in the place of an answer; `None` if it is none.
pub(super) fn page(body: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(body);
    if !text.trim_start().starts_with('<') {
        return None;
    }
    let begin = text.to_ascii_lowercase().find("<title>").map(|at| at + "<title>".len());
    let title =
        begin.and_then(|begin| text.get(begin..)?.split('<').next()).map(shown).filter(|title| !title.is_empty());
    let title = title.map(|title| format!(" `{title}`")).unwrap_or_default();
    Some(format!(
        "a web page{title} came instead of an answer of the storage: something in between gave it, as a proxy or a login portal"
    ))
}

fn shown(text: &str) -> String {
    text.trim().chars().take(MAX_SHOWN).flat_map(char::escape_debug).collect()
}

fn in_words(wait: Duration) -> String {
    match wait.as_secs() {
        seconds if seconds > 0 && seconds % 3600 == 0 => format!("{} h", seconds / 3600),
        seconds if seconds > 0 && seconds % 60 == 0 => format!("{} min", seconds / 60),
        seconds => format!("{seconds} s"),
    }
}

/// The library's failure to get a token, wherever it is wrapped up.
fn credentials_error(error: &google_cloud_storage::Error) -> Option<&CredentialsError> {
    let mut causes = std::iter::successors(Some(error as &dyn std::error::Error), |cause| cause.source());
    causes.find_map(|cause| cause.downcast_ref())
}
