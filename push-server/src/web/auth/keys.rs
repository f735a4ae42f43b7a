//! The public keys of Google's identity-aware proxy: fetched when they are needed, kept, and fetched again when a key
//! isn't known or an hour has passed, at most once a minute.
//!
//! Keys that can't be fetched never let anybody in: those that are known are used for a day, then nobody enters.

use std::{
    collections::HashMap,
    path::PathBuf,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use base64::{
    Engine,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use reqwest::{Url, redirect::Policy};
use serde::Deserialize;
use tokio::{io::AsyncReadExt, time::Instant};
use tracing::warn;

/// Where Google publishes the keys, as it documents.
pub(super) const GOOGLE: &str = "https://www.gstatic.com/iap/verify/public_key-jwk";
/// Google's file has some 2 KB.
const MAX_BYTES: usize = 256 << 10;
const TIMEOUT: Duration = Duration::from_secs(5);
const AGAIN: Duration = Duration::from_mins(1);
const FRESH: Duration = Duration::from_hours(1);
const USABLE: Duration = Duration::from_hours(24);

/// What comes before the point in the DER of every public key on the curve P-256 (RFC 5480).
const P256: [u8; 26] = [
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce,
    0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
];

/// A point on the curve P-256, uncompressed. That it is on the curve is checked when it is used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PublicKey([u8; 65]);

impl PublicKey {
    pub(super) fn point(&self) -> &[u8] {
        &self.0
    }

    pub(super) fn new(point: &[u8]) -> Option<Self> {
        <[u8; 65]>::try_from(point).ok().filter(|point| point[0] == 4).map(Self)
    }

    fn from_coordinates(x: &str, y: &str) -> Option<Self> {
        let [x, y] = [x, y].map(|text| URL_SAFE_NO_PAD.decode(text).ok());
        Self::new(&[&[4], &x?[..], &y?[..]].concat())
    }

    fn from_pem(pem: &str) -> Option<Self> {
        let begun = pem.trim().strip_prefix("-----BEGIN PUBLIC KEY-----")?;
        let body: String = begun.strip_suffix("-----END PUBLIC KEY-----")?.split_whitespace().collect();
        Self::new(STANDARD.decode(body).ok()?.strip_prefix(&P256)?)
    }
}

/// Keys by their `kid`.
type KeySet = HashMap<String, PublicKey>;

#[derive(Deserialize)]
#[serde(untagged)]
enum File {
    Jwks { keys: Vec<serde_json::Value> },
    Pems(HashMap<String, String>),
}

#[derive(Deserialize)]
struct Jwk {
    kid: String,
    kty: String,
    crv: String,
    x: String,
    y: String,
}

/// Reads a JWK set, or an object of PEM texts by `kid`. Keys of other kinds are passed over.
fn parse(bytes: &[u8]) -> Result<KeySet> {
    let keys: KeySet = match serde_json::from_slice(bytes).context("neither a JWK set nor PEM texts by key ID")? {
        File::Jwks { keys } => keys
            .into_iter()
            .filter_map(|key| serde_json::from_value::<Jwk>(key).ok())
            .filter(|key| key.kty == "EC" && key.crv == "P-256")
            .filter_map(|key| Some((key.kid, PublicKey::from_coordinates(&key.x, &key.y)?)))
            .collect(),
        File::Pems(pems) => pems.into_iter().filter_map(|(kid, pem)| Some((kid, PublicKey::from_pem(&pem)?))).collect(),
    };
    ensure!(!keys.is_empty(), "no key for ES256");
    Ok(keys)
}

/// Where the keys come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeySource {
    /// Fetched.
    Url(Url),
    /// Read from a file.
    File(PathBuf),
}

impl KeySource {
    /// Understands an address or a path.
    ///
    /// # Errors
    /// An address without TLS that isn't loopback: whoever answers there could sign anybody in.
    pub fn parse(text: &str) -> Result<Self> {
        if !text.contains("://") {
            return Ok(Self::File(text.into()));
        }
        let url = Url::parse(text).with_context(|| format!("invalid URL `{text}` of keys"))?;
        let loopback = match url.host() {
            Some(url::Host::Ipv4(ip)) => ip.is_loopback(),
            Some(url::Host::Ipv6(ip)) => ip.is_loopback(),
            _ => false,
        };
        match url.scheme() {
            "https" => Ok(Self::Url(url)),
            "http" if loopback => Ok(Self::Url(url)),
            _ => bail!("keys cannot be read from `{text}`: use an https:// URL or a file"),
        }
    }
}

/// Why there is no key.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum NoKey {
    /// The keys were read, and this isn't one.
    Unknown,
    /// It can't be checked: the keys can't be read.
    Unreachable,
}

/// The keys as far as they are known.
#[derive(Debug)]
pub(super) struct Keys {
    source: KeySource,
    http: reqwest::Client,
    known: Mutex<Known>,
    /// Held while fetching, so that many requests fetch once.
    fetching: tokio::sync::Mutex<()>,
}

#[derive(Debug, Default)]
struct Known {
    keys: KeySet,
    /// When `keys` were read.
    read: Option<Instant>,
    /// When reading was last begun, and whether it went well.
    tried: Option<(Instant, bool)>,
}

/// What is to be done about a key.
#[derive(Debug, PartialEq, Eq)]
enum Step {
    Use(PublicKey),
    Refuse(NoKey),
    /// Read the keys, then judge again.
    Read,
}

impl Known {
    fn judge(&self, kid: &str, now: Instant) -> Step {
        let age = self.read.map(|read| now - read);
        let may_try = self.tried.is_none_or(|(at, _)| now - at >= AGAIN);
        let key = self.keys.get(kid).filter(|_| age.is_some_and(|age| age < USABLE));
        match key {
            Some(key) if !may_try || age.is_some_and(|age| age < FRESH) => Step::Use(key.clone()),
            _ if may_try => Step::Read,
            _ if self.tried.is_some_and(|(_, well)| well) => Step::Refuse(NoKey::Unknown),
            _ => Step::Refuse(NoKey::Unreachable),
        }
    }
}

impl Keys {
    pub(super) fn new(source: KeySource) -> Result<Self> {
        // A program has one provider of cryptography; whoever came first chose the same.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let http = reqwest::Client::builder().redirect(Policy::none()).timeout(TIMEOUT).build();
        let http = http.context("could not create an HTTP client")?;
        Ok(Self { source, http, known: Mutex::default(), fetching: tokio::sync::Mutex::default() })
    }

    /// The key with this `kid`.
    pub(super) async fn get(&self, kid: &str) -> Result<PublicKey, NoKey> {
        match self.judge(kid) {
            Step::Use(key) => return Ok(key),
            Step::Refuse(why) => return Err(why),
            Step::Read => {}
        }
        let _one = self.fetching.lock().await;
        // Another request may have read them concurrently.
        if self.judge(kid) == Step::Read {
            let began = Instant::now();
            let read = self.read().await;
            let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
            known.tried = Some((began, read.is_ok()));
            match read {
                Ok(keys) => (known.keys, known.read) = (keys, Some(began)),
                Err(error) => warn!(error = format!("{error:#}"), "could not read the keys that check sign-ins"),
            }
        }
        match self.judge(kid) {
            Step::Use(key) => Ok(key),
            Step::Refuse(why) => Err(why),
            Step::Read => Err(NoKey::Unreachable),
        }
    }

    fn judge(&self, kid: &str) -> Step {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).judge(kid, Instant::now())
    }

    async fn read(&self) -> Result<KeySet> {
        let mut bytes = Vec::new();
        match &self.source {
            KeySource::Url(url) => {
                let mut response = self.http.get(url.clone()).send().await?;
                ensure!(response.status().is_success(), "`{url}` answered {}", response.status());
                while let Some(chunk) = response.chunk().await? {
                    bytes.extend_from_slice(&chunk);
                    ensure!(bytes.len() <= MAX_BYTES, "`{url}` answered with more than {MAX_BYTES} bytes");
                }
            }
            KeySource::File(path) => {
                let what = || format!("could not read `{}`", path.display());
                let file = tokio::fs::File::open(path).await.with_context(what)?;
                file.take(MAX_BYTES as u64 + 1).read_to_end(&mut bytes).await.with_context(what)?;
                ensure!(bytes.len() <= MAX_BYTES, "`{}` has more than {MAX_BYTES} bytes", path.display());
            }
        }
        parse(&bytes)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{super::testing::Signer, *};

    #[test]
    fn both_forms_that_google_publishes_are_read() {
        let signer = Signer::new("k1");
        let pem = format!(
            "-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n",
            STANDARD.encode([&P256[..], signer.public_key().point()].concat())
        );
        let rsa = json!({"kty": "RSA", "kid": "r", "n": "AQ", "e": "AQAB"});
        let jwks = json!({"keys": [rsa, signer.jwk()]});
        for file in [json!({"k1": pem, "k2": "no key"}), jwks] {
            let keys = parse(file.to_string().as_bytes()).unwrap();
            assert_eq!(keys, HashMap::from([("k1".to_owned(), signer.public_key())]), "{file}");
        }
        for nothing in ["", "{}", "[]", "<html>", r#"{"keys":[]}"#, r#"{"keys":{}}"#] {
            assert!(parse(nothing.as_bytes()).is_err(), "{nothing}");
        }
    }

    #[test]
    fn keys_come_over_tls_or_from_this_machine() {
        for good in [GOOGLE, "http://127.0.0.1:1/k", "http://[::1]/k", "/etc/push/keys.json", "keys.json"] {
            assert!(KeySource::parse(good).is_ok(), "{good}");
        }
        for bad in ["http://keys.example/k", "http://localhost/k", "ftp://127.0.0.1/k", "http://10.0.0.1/k", "://"] {
            assert!(KeySource::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn keys_are_read_rarely_and_never_used_for_long() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let key = Signer::new("k").public_key();
        let known = |read: Option<u64>, tried: Option<(u64, bool)>| Known {
            keys: read.map(|_| ("k".to_owned(), key.clone())).into_iter().collect(),
            read: read.map(at),
            tried: tried.map(|(seconds, well)| (at(seconds), well)),
        };
        let (used, unknown, unreachable) =
            (|| Step::Use(key.clone()), || Step::Refuse(NoKey::Unknown), || Step::Refuse(NoKey::Unreachable));
        let cases = [
            (known(None, None), "k", 0, Step::Read),
            (known(None, Some((0, false))), "k", 59, unreachable()),
            (known(None, Some((0, false))), "k", 60, Step::Read),
            (known(Some(0), Some((0, true))), "k", 3599, used()),
            (known(Some(0), Some((0, true))), "k", 3600, Step::Read),
            (known(Some(0), Some((3600, false))), "k", 3601, used()),
            (known(Some(0), Some((86_399, false))), "k", 86_400, unreachable()),
            (known(Some(0), Some((0, true))), "other", 59, unknown()),
            (known(Some(0), Some((0, true))), "other", 60, Step::Read),
            (known(Some(0), Some((60, false))), "other", 61, unreachable()),
        ];
        for (number, (known, kid, now, expected)) in cases.into_iter().enumerate() {
            assert_eq!(known.judge(kid, at(now)), expected, "case {number}");
        }
    }
}
