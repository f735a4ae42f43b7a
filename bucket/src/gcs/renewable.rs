//! Credentials that can be thrown away and loaded anew.
//!
//! Google's library keeps a token until shortly before it expires, and after a lasting error (no service account) it
//! never asks again. A token that is refused with 401 was revoked or never good, and an agent runs for months: so the
//! whole of it is replaced then, by [`Renewable::renew`].

use std::sync::{Arc, Mutex, PoisonError};

use google_cloud_auth::{
    credentials::{self, CacheableResource, CredentialsProvider, anonymous, service_account},
    errors::CredentialsError,
};
use http::{Extensions, HeaderMap};

use super::SCOPE;
use crate::Credentials;

/// Credentials as they are loaded now; all clones share them.
#[derive(Debug, Clone)]
pub(super) struct Renewable {
    source: Credentials,
    now: Arc<Mutex<credentials::Credentials>>,
}

impl Renewable {
    pub(super) fn load(source: &Credentials) -> Result<Self, String> {
        Ok(Self { source: source.clone(), now: Arc::new(Mutex::new(load(source)?)) })
    }

    /// Forgets the token; `false` when that can't change anything.
    pub(super) fn renew(&self) -> bool {
        if self.source == Credentials::Anonymous {
            return false;
        }
        let Ok(fresh) = load(&self.source) else { return false };
        *self.now.lock().unwrap_or_else(PoisonError::into_inner) = fresh;
        true
    }

    fn now(&self) -> credentials::Credentials {
        self.now.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl CredentialsProvider for Renewable {
    async fn headers(&self, extensions: Extensions) -> Result<CacheableResource<HeaderMap>, CredentialsError> {
        self.now().headers(extensions).await
    }

    async fn universe_domain(&self) -> Option<String> {
        self.now().universe_domain().await
    }
}

fn load(credentials: &Credentials) -> Result<credentials::Credentials, String> {
    match credentials {
        Credentials::Anonymous => Ok(anonymous::Builder::new().build()),
        Credentials::ApplicationDefault => {
            credentials::Builder::default().with_scopes([SCOPE]).build().map_err(|e| e.to_string())
        }
        Credentials::ServiceAccountFile(path) => {
            let shown = path.display();
            let key = std::fs::read(path).map_err(|e| format!("could not read the key file `{shown}`: {e}"))?;
            let key = serde_json::from_slice(&key).map_err(|e| format!("the key file `{shown}` isn't JSON: {e}"))?;
            let scopes = service_account::AccessSpecifier::from_scopes([SCOPE]);
            let built = service_account::Builder::new(key).with_access_specifier(scopes).build();
            built.map_err(|e| format!("the key file `{shown}` can't be used: {e}"))
        }
    }
}
