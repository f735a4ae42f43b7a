//! Access tokens that can be thrown away and asked for anew.
//!
//! Google's library keeps a token until shortly before it expires. But it keeps a failure too: for ten seconds, or for
//! ever when it looks lasting (no service account). An agent runs for months, and a token that is refused with 401 was
//! revoked: so the whole of the library's state is replaced after a failure, and by [`Tokens::renew`].

use std::{
    error::Error,
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use google_cloud_auth::{
    credentials::{self, CacheableResource, CredentialsProvider, anonymous, service_account},
    errors::CredentialsError,
};
use http::{Extensions, HeaderMap};

use super::{cause::chain, firmware};
use crate::Credentials;

/// The longest that a token may take: a metadata server answers within milliseconds, Google's own within a second.
const TOKEN_TIMEOUT: Duration = Duration::from_secs(10);

/// The longest that the metadata server may take to say that Google's cloud is Google's.
const UNIVERSE_TIMEOUT: Duration = Duration::from_secs(2);

/// Access tokens of Google Cloud for one scope; all clones share them.
#[derive(Debug, Clone)]
pub struct Tokens {
    source: Credentials,
    scope: &'static str,
    now: Arc<Mutex<Now>>,
}

#[derive(Debug)]
struct Now {
    /// `None` when they have to be loaded before the next use.
    loaded: Option<credentials::Credentials>,
    /// How often they were forgotten.
    renewals: u64,
}

/// Why there is no token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NoToken {
    /// What is wrong and what to do, as a sentence without full stop.
    pub reason: String,
    /// Whether it may be had later without anybody doing anything.
    pub transient: bool,
}

impl Tokens {
    /// Loads credentials. Nothing is asked for yet.
    ///
    /// # Errors
    /// When there are none that could ever work here, with what to do about it.
    pub fn load(source: &Credentials, scope: &'static str) -> Result<Self, String> {
        make_sure_of_tls()?;
        let now = Arc::new(Mutex::new(Now { loaded: Some(load(source, scope)?), renewals: 0 }));
        Ok(Self { source: source.clone(), scope, now })
    }

    /// How often the token was forgotten so far.
    pub fn renewals(&self) -> u64 {
        self.lock().renewals
    }

    /// Forgets the token that was there after so many `renewals`; `false` when that can't change anything.
    ///
    /// Of requests that were refused side by side the first one renews for all.
    pub fn renew(&self, renewals: u64) -> bool {
        let mut now = self.lock();
        if now.renewals == renewals {
            *now = Now { loaded: None, renewals: renewals + 1 };
        }
        self.source != Credentials::Anonymous
    }

    /// The headers that authenticate a request.
    ///
    /// # Errors
    /// When no token can be had. The next call asks afresh.
    pub async fn headers(&self) -> Result<HeaderMap, NoToken> {
        match CredentialsProvider::headers(self, Extensions::new()).await {
            Ok(CacheableResource::New { data, .. }) => Ok(data),
            Ok(CacheableResource::NotModified) => Ok(HeaderMap::new()),
            Err(error) => Err(NoToken::from(&error)),
        }
    }

    fn now(&self) -> Result<credentials::Credentials, String> {
        let mut now = self.lock();
        if let Some(loaded) = &now.loaded {
            return Ok(loaded.clone());
        }
        let loaded = load(&self.source, self.scope)?;
        now.loaded = Some(loaded.clone());
        Ok(loaded)
    }

    fn lock(&self) -> MutexGuard<'_, Now> {
        self.now.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl CredentialsProvider for Tokens {
    async fn headers(&self, extensions: Extensions) -> Result<CacheableResource<HeaderMap>, CredentialsError> {
        let renewals = self.renewals();
        let now = self.now().map_err(|reason| CredentialsError::from_msg(false, reason))?;
        let headers = tokio::time::timeout(TOKEN_TIMEOUT, now.headers(extensions)).await.unwrap_or_else(|_| {
            let reason = format!("timed out after {TOKEN_TIMEOUT:?} waiting for the metadata server, which only machines on Google Cloud have");
            Err(CredentialsError::from_msg(true, reason))
        });
        if headers.is_err() {
            self.renew(renewals);
        }
        headers
    }

    async fn universe_domain(&self) -> Option<String> {
        let now = self.now().ok()?;
        // It is asked while a bucket is opened, and a metadata server that is silent mustn't hold that up.
        tokio::time::timeout(UNIVERSE_TIMEOUT, now.universe_domain()).await.ok().flatten()
    }
}

impl From<&CredentialsError> for NoToken {
    fn from(error: &CredentialsError) -> Self {
        use google_cloud_gax::error::Error as LibraryError;
        // The library wraps a cause up several times, in words that say nothing of it.
        let mut cause: &(dyn Error + 'static) = error;
        while let Some(inner) = cause.source()
            && (cause.is::<CredentialsError>() || cause.is::<LibraryError>())
        {
            cause = inner;
        }
        let status = cause.downcast_ref().and_then(LibraryError::http_status_code);
        let reason = if status == Some(404) {
            "the metadata server has no service account for this machine: give it one, or configure a key file".into()
        } else {
            format!("could not get an access token: {}", chain(cause))
        };
        Self { reason, transient: error.is_transient() }
    }
}

/// Google's library makes clients in the background, and panics where it can't.
fn make_sure_of_tls() -> Result<(), String> {
    // Every TLS client here is built without a provider of its own. Somebody may have installed one already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let built = reqwest::Client::builder().build();
    built.map(drop).map_err(|error| no_tls(&error))
}

/// Why there can be no TLS, in whichever client, and what to do: what a server is trusted by may be missing.
pub fn no_tls(error: &reqwest::Error) -> String {
    match chain(error) {
        // Small images come without.
        reason if reason.contains("CA certificates") => {
            format!("no CA certificates found: install the package `ca-certificates` ({reason})")
        }
        reason => format!("could not create a TLS client: {reason}"),
    }
}

impl Credentials {
    /// Whether a key file is one, as far as that can be known without the network. Other kinds depend on where they are
    /// used, and pass. To be called within a Tokio runtime.
    ///
    /// # Errors
    /// When the key file cannot be read, or is not a service account's: why, and which kinds of credentials there are.
    pub fn check(&self) -> Result<(), String> {
        if let Self::ServiceAccountFile(_) = self {
            load(self, "").map_err(|reason| {
                format!("{reason}; use `default`, `anonymous`, or the path of a service account's key file")
            })?;
        }
        Ok(())
    }
}

fn load(source: &Credentials, scope: &'static str) -> Result<credentials::Credentials, String> {
    match source {
        Credentials::Anonymous => Ok(anonymous::Builder::new().build()),
        Credentials::ApplicationDefault => {
            firmware::may_have_tokens(|key| std::env::var_os(key), Path::new(firmware::PRODUCT_NAME))?;
            let built = credentials::Builder::default().with_scopes([scope]).build();
            built.map_err(|e| format!("application default credentials cannot be used: {}", chain(&e)))
        }
        Credentials::ServiceAccountFile(path) => {
            let shown = path.display();
            let key = std::fs::read(path).map_err(|e| format!("could not read key file `{shown}`: {e}"))?;
            let key = serde_json::from_slice(&key).map_err(|e| format!("key file `{shown}` is not JSON: {e}"))?;
            let scopes = service_account::AccessSpecifier::from_scopes([scope]);
            let built = service_account::Builder::new(key).with_access_specifier(scopes).build();
            built.map_err(|e| format!("key file `{shown}` cannot be used: {}", chain(&e)))
        }
    }
}
