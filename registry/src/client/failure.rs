//! One attempt at a request, what its failure means, and whether another attempt may help.

use std::{cell::Cell, time::Duration};

use backon::{ExponentialBuilder, Retryable};
use bucket::chain;
use reqwest::{Response, header::RETRY_AFTER};
use rustls::CertificateError;
use serde::Deserialize;
use tokio::time::Instant;

use super::secrets::{CUT, Secrets};
use crate::Error;

/// Attempts at one request, the first included.
const MAX_ATTEMPTS: usize = 5;

/// The longest a registry's `Retry-After` is honoured here.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(30);

/// Most bytes that are read of an answer that is an error.
const MAX_ERROR: usize = 64 << 10;

/// Most of a registry's own words that are repeated to a person, in characters.
const MAX_SHOWN: usize = 300;

/// Why one attempt failed, before it is known what was tried on what.
#[derive(Debug)]
pub(super) struct Failure {
    /// The HTTP status, when there was an answer.
    pub(super) status: Option<u16>,
    /// Who failed, in their words.
    pub(super) reason: String,
    /// Whether the same request may succeed later.
    transient: bool,
    /// How long the registry asked to wait.
    retry_after: Option<Duration>,
    /// Whether what came isn't what it should be.
    malformed: bool,
    /// Whether nothing came in time.
    silent: bool,
    /// The codes of the errors, if it is in the form in which a registry answers: nobody else can say that something is absent.
    codes: Option<Vec<String>>,
}

/// As a registry writes what is wrong.
#[derive(Deserialize)]
struct Errors {
    errors: Vec<OneError>,
}

#[derive(Deserialize)]
struct OneError {
    code: String,
    #[serde(default)]
    message: String,
}

impl Failure {
    /// The network failed, or an answer that made no sense.
    pub(super) fn transient(reason: impl Into<String>) -> Self {
        Self { transient: true, ..Self::lasting(reason) }
    }

    /// Another try would fail alike.
    pub(super) fn lasting(reason: impl Into<String>) -> Self {
        let reason = reason.into();
        Self { status: None, reason, transient: false, retry_after: None, malformed: false, silent: false, codes: None }
    }

    /// Nothing came in time.
    pub(super) fn silent(reason: impl Into<String>) -> Self {
        Self { silent: true, ..Self::transient(reason) }
    }

    /// What came isn't what it should be.
    pub(super) fn malformed(reason: impl Into<String>) -> Self {
        Self { malformed: true, ..Self::lasting(reason) }
    }

    /// No credential could be had, or it was refused.
    pub(super) fn credential(reason: impl Into<String>) -> Self {
        Self { status: Some(401), ..Self::lasting(reason) }
    }

    /// An answer with a status that isn't the one that was hoped for.
    pub(super) async fn answered(answer: Response) -> Self {
        let status = answer.status().as_u16();
        let after = answer.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok());
        let retry_after = after.and_then(|text| text.trim().parse().ok()).map(Duration::from_secs);
        // The status says enough if the words can't be had.
        let body = whole(answer, MAX_ERROR).await.unwrap_or_default();
        let (words, codes) = match serde_json::from_slice(&body) {
            Ok(Errors { errors }) => {
                let words = errors.iter().map(|error| format!("{} {}", error.code, error.message)).collect::<Vec<_>>();
                (shown(words.join("; ").trim()), Some(errors.into_iter().map(|error| error.code).collect()))
            }
            Err(_) => (page(&body).unwrap_or_else(|| shown(&String::from_utf8_lossy(&body))), None),
        };
        // Who repeats a request in an answer would have the credential in logs.
        let is_echo = ["authorization:", "basic ", "bearer "].iter().any(|word| words.to_lowercase().contains(word));
        let words = if is_echo { String::new() } else { words };
        let reason = match status {
            300..400 => format!("redirected by something in between, as a proxy or a login portal ({status})"),
            _ if words.is_empty() => format!("HTTP status {status}"),
            _ => format!("{words} ({status})"),
        };
        let transient = matches!(status, 408 | 429 | 500 | 502 | 503 | 504);
        Self { status: Some(status), transient, retry_after, codes, ..Self::lasting(reason) }
    }

    /// The same, without what is secret.
    pub(super) fn masked(self, secrets: &Secrets) -> Self {
        Self { reason: secrets.mask(self.reason), ..self }
    }

    /// The same, with who said it.
    pub(super) fn said_by(self, who: &str) -> Self {
        Self { reason: format!("{who}: {}", self.reason), ..self }
    }

    /// Whether a registry says that what was asked for is absent. An answer that isn't a registry's (a proxy's, a login
    /// portal's) says nothing about it.
    pub(super) fn is_absent(&self) -> bool {
        self.status == Some(404) && self.codes.is_some()
    }

    /// Whether the registry doesn't do what was asked for, as Docker's refuses to delete by tag.
    pub(super) fn is_unsupported(&self) -> bool {
        matches!(self.status, Some(400) if self.codes.is_some()) || matches!(self.status, Some(405 | 501))
    }

    /// As the caller sees it.
    pub(super) fn into_error(self, verb: &'static str, what: &impl ToString) -> Error {
        let (what, reason) = (what.to_string(), self.reason);
        match self.status {
            _ if self.malformed => Error::Malformed { what, reason },
            _ if self.silent => Error::Silent { verb, what, reason },
            Some(401 | 403) => Error::Forbidden { verb, what, reason },
            _ => Error::Unavailable { verb, what, reason },
        }
    }
}

impl From<reqwest::Error> for Failure {
    fn from(error: reqwest::Error) -> Self {
        // An address may have a signature in it, and what was tried on what is said anyway.
        let (silent, error) = (error.is_timeout(), error.without_url());
        match refused_certificate(&error) {
            Some(CertificateError::UnknownIssuer) => Self::lasting(format!(
                "{}: the certificate is signed by an authority that this machine does not trust: add that to the machine's, as \
                 `update-ca-certificates` does, or name a file with all that are to be trusted by SSL_CERT_FILE",
                chain(&error)
            )),
            Some(_) => Self::lasting(chain(&error)),
            None => Self { silent, ..Self::transient(chain(&error)) },
        }
    }
}

/// Why a server's certificate was refused, if that is why a request failed.
fn refused_certificate<'a>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a CertificateError> {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(rustls::Error::InvalidCertificate(why)) = error.downcast_ref() {
            return Some(why);
        }
        // What such an error is made of is not its source.
        let inner = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        cause = inner.map_or_else(|| error.source(), |inner| Some(inner as _));
    }
    None
}

tokio::task_local! {
    /// How much longer what is under way may take, because it waits for a program that knows a credential, with a limit of its own.
    static LONGER: Cell<Duration>;
}

/// Has what is under way take so much longer, as long as this lives.
pub(super) struct Longer(Duration);

impl Longer {
    pub(super) fn by(more: Duration) -> Self {
        let _ = LONGER.try_with(|longer| longer.set(longer.get() + more));
        Self(more)
    }

    /// That it took this much of it.
    pub(super) fn taken(mut self, taken: Duration) {
        self.0 = self.0.saturating_sub(taken);
    }
}

impl Drop for Longer {
    fn drop(&mut self) {
        let _ = LONGER.try_with(|longer| longer.set(longer.get().saturating_sub(self.0)));
    }
}

/// Waits for what is at most `timeout` long, without what it waits for a program that knows a credential.
pub(super) fn within<T>(
    timeout: Duration,
    work: impl Future<Output = Result<T, Failure>>,
) -> impl Future<Output = Result<T, Failure>> {
    let begun = Instant::now();
    // On the heap: a request is large, and each caller would have it inside of its own.
    let mut work = Box::pin(work);
    let bounded = async move {
        loop {
            let until = begun + timeout + LONGER.with(Cell::get);
            match tokio::time::timeout_at(until, &mut work).await {
                Ok(done) => return done,
                Err(_) if begun + timeout + LONGER.with(Cell::get) > until => {}
                Err(_) => return Err(Failure::silent(format!("timed out after {timeout:?} waiting for a response"))),
            }
        }
    };
    LONGER.scope(Cell::default(), bounded)
}

/// Makes attempts, each at most `timeout` long, until one succeeds, fails for good, or no time is left. Only for what may be
/// done twice, as all requests to a registry: what is written is named by its content, or read back.
pub(super) async fn patiently<T, F: Future<Output = Result<T, Failure>>>(
    timeout: Duration,
    attempt: impl Fn() -> F,
) -> Result<T, Failure> {
    let begun = Instant::now();
    let bounded = || within(timeout, attempt());
    bounded
        .retry(
            ExponentialBuilder::default()
                .with_min_delay(Duration::from_millis(100))
                .with_max_delay(Duration::from_secs(5))
                .with_max_times(MAX_ATTEMPTS - 1)
                .with_jitter(),
        )
        // A registry that is silent rather than failing is given up earlier: it costs a whole timeout each time.
        .when(|failure| failure.transient && begun.elapsed() < timeout * 2)
        .adjust(|failure, delay| match (delay, failure.retry_after) {
            (Some(_), Some(wait)) if wait > MAX_RETRY_AFTER => None,
            (Some(delay), Some(wait)) => Some(delay.max(wait)),
            (delay, _) => delay,
        })
        .notify(|failure, delay| {
            tracing::info!(reason = failure.reason, delay_ms = delay.as_millis(), "retrying registry request");
        })
        .await
}

/// All bytes of an answer, if there are no more than so many.
pub(super) async fn whole(mut answer: Response, limit: usize) -> Result<Vec<u8>, Failure> {
    let mut body = Vec::new();
    while let Some(chunk) = answer.chunk().await? {
        if body.len() + chunk.len() > limit {
            return Err(Failure::malformed(format!("response has more than {limit} bytes")));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

/// What is said of a web page in the place of an answer; `None` if it is none.
pub(super) fn page(body: &[u8]) -> Option<String> {
    let is_page = body.trim_ascii_start().starts_with(b"<");
    is_page.then(|| "a web page came instead of an answer of a registry: something in between gave it, as a proxy or a login portal".to_owned())
}

/// Words from outside, cut and safe to show.
pub(super) fn shown(text: &str) -> String {
    let text = text.trim();
    let cut = if text.chars().nth(MAX_SHOWN).is_some() { CUT } else { "" };
    text.chars().take(MAX_SHOWN).flat_map(char::escape_debug).chain(cut.chars()).collect()
}
