//! One request to the metadata server; whatever can be wrong with the response becomes an [`Answer`].

use std::time::Duration;

use anyhow::{Context, Result, bail};
use bucket::Timestamp;
use reqwest::{
    StatusCode, Url,
    header::{ETAG, HeaderMap, RETRY_AFTER},
    redirect::Policy,
};
use serde::Deserialize;

use super::{Answer, Timing};

/// Compute Engine allows 512 KB of custom metadata per instance; JSON may need twice that.
const LIMIT: usize = 1 << 20;
const PATH: &str = "/computeMetadata/v1/instance/attributes/";
const FLAVOR: &str = "Metadata-Flavor";

/// A client of the metadata server. It never uses a proxy and follows no redirect.
#[derive(Debug, Clone)]
pub struct Client {
    http: reqwest::Client,
    url: Url,
}

/// Only the needed attribute is extracted: startup scripts and keys may be large and secret.
#[derive(Deserialize)]
struct Attributes {
    pushrev: Option<String>,
}

impl Client {
    /// A client of the server at `host` or `host:port`.
    ///
    /// # Errors
    /// When `host` is neither.
    pub fn new(host: &str, timing: &Timing) -> Result<Self> {
        let url = Url::parse(&format!("http://{host}{PATH}")).ok();
        let plain = |url: &Url| url.path() == PATH && url.username().is_empty() && url.password().is_none();
        let Some(mut url) = url.filter(plain) else {
            bail!(
                "`{}` is not the address of a metadata server: use `GCE_METADATA_HOST=HOST` or `HOST:PORT`",
                host.escape_debug()
            );
        };
        url.query_pairs_mut()
            .append_pair("recursive", "true")
            .append_pair("alt", "json")
            .append_pair("wait_for_change", "true")
            .append_pair("timeout_sec", &timing.hang.as_secs().to_string());
        // No connection is ever encrypted here, but the library wants a provider and would read all root certificates.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let http = reqwest::Client::builder()
            .tls_certs_only([])
            .no_proxy()
            .redirect(Policy::none())
            .http1_only()
            .timeout(timing.hang + timing.slack)
            .connect_timeout(timing.slack)
            .build()
            .context("could not create a client for the metadata server")?;
        Ok(Self { http, url })
    }

    /// Asks for the attributes, once they differ from `etag` or the server's time is up; without `etag` at once.
    pub async fn ask(&self, etag: Option<String>) -> Answer {
        let mut url = self.url.clone();
        // As Google's own agents: an etag that no content has is answered at once.
        url.query_pairs_mut().append_pair("last_etag", etag.as_deref().unwrap_or("0"));
        match self.try_ask(url).await {
            Ok(answer) => answer,
            Err(error) => failure(format!("{:#}", anyhow::Error::new(error.without_url()))),
        }
    }

    async fn try_ask(&self, url: Url) -> Result<Answer, reqwest::Error> {
        let mut response = self.http.get(url).header(FLAVOR, "Google").send().await?;
        if let Some(answer) = refuse(response.status(), response.headers(), Timestamp::now()) {
            return Ok(answer);
        }
        let etag = response.headers().get(ETAG).and_then(|etag| etag.to_str().ok()).map(str::to_owned);
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await? {
            if body.len() + chunk.len() > LIMIT {
                return Ok(failure(format!("the response exceeds {LIMIT} bytes")));
            }
            body.extend_from_slice(&chunk);
        }
        Ok(read(etag, &body))
    }
}

/// Judges everything but the body.
fn refuse(status: StatusCode, headers: &HeaderMap, now: Timestamp) -> Option<Answer> {
    // Something else may answer on this address: a portal, a proxy, another cloud. Its 404 says nothing.
    if headers.get(FLAVOR).is_none_or(|flavor| flavor != "Google") {
        return Some(failure(format!(
            "the response, status {}, is not from a metadata server: it has no `{FLAVOR}: Google`",
            status.as_u16()
        )));
    }
    match status {
        StatusCode::OK => None,
        StatusCode::NOT_FOUND => Some(Answer::NoAttributes),
        _ => Some(Answer::Failure {
            reason: format!("status {}", status.as_u16()),
            retry_after: retry_after(headers, now),
        }),
    }
}

/// `Retry-After` is a number of seconds or a date (RFC 9110, 10.2.3).
fn retry_after(headers: &HeaderMap, now: Timestamp) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = jiff::fmt::rfc2822::parse(text).ok()?.timestamp();
    Duration::try_from(date.duration_since(now)).ok()
}

fn read(etag: Option<String>, body: &[u8]) -> Answer {
    match serde_json::from_slice(body) {
        Ok(Attributes { pushrev }) => {
            // An etag is stated in a URL; one that is no token is no etag.
            let sane = |etag: &String| (1..=256).contains(&etag.len()) && etag.bytes().all(|b| b.is_ascii_graphic());
            Answer::Attributes { etag: etag.filter(sane), pushrev }
        }
        Err(error) => failure(format!("the response is not valid JSON: {error}")),
    }
}

fn failure(reason: String) -> Answer {
    Answer::Failure { reason, retry_after: None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_a_host_and_nothing_more() {
        for host in ["169.254.169.254", "metadata.google.internal", "127.0.0.1:8080", "[::1]:80"] {
            assert!(Client::new(host, &Timing::default()).is_ok(), "{host}");
        }
        for host in ["", "a/b", "a?b", "a#b", "user@a", "user:word@a", "a:99999", "a b", "http://a"] {
            assert!(Client::new(host, &Timing::default()).is_err(), "{host}");
        }
    }

    #[test]
    fn a_body_is_read_strictly() {
        let etag = || Some("e1".to_owned());
        let attributes =
            |pushrev: Option<&str>| Answer::Attributes { etag: etag(), pushrev: pushrev.map(str::to_owned) };
        assert_eq!(read(etag(), b"{}"), attributes(None));
        assert_eq!(read(etag(), br#"{"ssh-keys":"x","pushrev":"a 1"}"#), attributes(Some("a 1")));
        for body in
            ["", "<!DOCTYPE html>", "[]", "null", "{", r#"{"pushrev":1}"#, r#"{"pushrev":"a","pushrev":"b"}"#, "{}x"]
        {
            assert!(matches!(read(etag(), body.as_bytes()), Answer::Failure { .. }), "{body}");
        }
    }

    #[test]
    fn an_etag_that_is_no_token_is_none() {
        let long = "x".repeat(257);
        for etag in ["", "a b", "a\u{7f}", &long] {
            assert_eq!(
                read(Some(etag.to_owned()), b"{}"),
                Answer::Attributes { etag: None, pushrev: None },
                "{etag:?}"
            );
        }
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let now: Timestamp = "2026-11-20T22:00:00Z".parse().unwrap();
        for (text, seconds) in [
            ("7", Some(7)),
            ("Fri, 20 Nov 2026 22:00:09 GMT", Some(9)),
            ("Fri, 20 Nov 2026 21:00:00 GMT", None),
            ("soon", None),
            ("-1", None),
        ] {
            let headers = HeaderMap::from_iter([(RETRY_AFTER, text.parse().unwrap())]);
            assert_eq!(retry_after(&headers, now).map(|wait| wait.as_secs()), seconds, "{text}");
        }
    }
}
