//! Requests to one registry, with whatever it wants to see: nothing, a password, or a token.
//!
//! A token is asked for once for each scope and kept until it expires. The credential goes to the registry that it is for, and
//! to a token server elsewhere only when `realms` names that. It is in no address, no error and no log.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use reqwest::{
    RequestBuilder, Response, StatusCode,
    header::{AUTHORIZATION, HeaderValue, WWW_AUTHENTICATE},
};
use serde::Deserialize;
use tokio::time::Instant;
use url::Url;

use super::{
    ClientOptions,
    challenge::Challenge,
    failure::{Failure, shown, whole},
    http::{Http, expect},
    login::{Answers, Login, Logins},
    secrets::Secrets,
};
use crate::Host;

/// Most bytes of a token server's answer: a token is a header of each request.
const MAX_TOKEN: usize = 64 << 10;

/// How long a token lasts that doesn't say it, and the longest that one is kept.
const LIFETIME: Duration = Duration::from_mins(1);
const MAX_LIFETIME: Duration = Duration::from_hours(1);

/// How long before it expires a token isn't used any more.
const MARGIN: Duration = Duration::from_secs(10);

/// Most tokens that are kept.
const MAX_TOKENS: usize = 1000;

/// What a request is about: a repository, and as token servers want it said, `repository:acme/web:pull`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Scope {
    path: String,
    said: Vec<String>,
}

impl Scope {
    /// To read a repository.
    pub(super) fn pull(path: &str) -> Self {
        Self::new(path, "pull")
    }

    /// To read and write a repository.
    pub(super) fn push(path: &str) -> Self {
        Self::new(path, "pull,push")
    }

    /// To write a repository, and read another for that.
    pub(super) fn mount(path: &str, from: &str) -> Self {
        let said = [Self::push(path).said, Self::pull(from).said].concat();
        Self { path: path.to_owned(), said }
    }

    /// To delete from a repository.
    pub(super) fn delete(path: &str) -> Self {
        Self::new(path, "delete,pull,push")
    }

    /// To see whether there is a registry at all.
    pub(super) fn none() -> Self {
        Self { path: String::new(), said: Vec::new() }
    }

    fn new(path: &str, actions: &str) -> Self {
        Self { path: path.to_owned(), said: vec![format!("repository:{path}:{actions}")] }
    }
}

/// A registry.
pub(super) struct Session {
    host: Host,
    base: Url,
    realms: Vec<Host>,
    logins: Logins,
    /// What programs said, which are asked once.
    answers: Answers,
    secrets: Arc<Secrets>,
    /// What each scope was given, and until when that is used.
    headers: Mutex<HashMap<Scope, (HeaderValue, Instant)>>,
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session").field("base", &self.base.as_str()).finish_non_exhaustive()
    }
}

/// As a token server answers.
#[derive(Deserialize)]
struct Given {
    token: Option<String>,
    access_token: Option<String>,
    expires_in: Option<u64>,
}

impl Session {
    pub(super) fn new(host: &Host, options: &ClientOptions, secrets: Arc<Secrets>) -> Result<Self, Failure> {
        let ClientOptions { logins, realms, .. } = options;
        logins.ensure_readable().map_err(Failure::credential)?;
        let scheme = if host.is_loopback() { "http" } else { "https" };
        // What everybody calls Docker's registry isn't where it is.
        let server = if host.as_str() == "docker.io" { "registry-1.docker.io" } else { host.as_str() };
        let base = Url::parse(&format!("{scheme}://{server}/v2/"));
        let base = base.map_err(|error| Failure::lasting(format!("`{host}` is no address: {error}")))?;
        let (realms, logins) = (realms.clone(), logins.clone());
        Ok(Self {
            host: host.clone(),
            base,
            realms,
            logins,
            answers: <_>::default(),
            secrets,
            headers: Mutex::default(),
        })
    }

    /// An address of the registry, by segments of its path.
    pub(super) fn url(&self, path: &str) -> Result<Url, Failure> {
        self.base.join(path).map_err(|error| Failure::lasting(format!("not a path of the registry: {error}")))
    }

    /// An address that the registry itself gave, if it is one of it. The scheme and the port are those by which it was reached:
    /// behind a proxy it knows no better.
    pub(super) fn own(&self, given: &str) -> Result<Url, Failure> {
        let elsewhere = || Failure::lasting("the registry leads to another host, and it is not followed there");
        let mut url = self.base.join(given).map_err(|_| Failure::transient("the registry leads to no address"))?;
        if url.host() != self.base.host() || !url.username().is_empty() || url.password().is_some() {
            return Err(elsewhere());
        }
        url.set_scheme(self.base.scheme()).and_then(|()| url.set_port(self.base.port())).map_err(|()| elsewhere())?;
        Ok(url)
    }

    /// Sends a request with what the registry wants to see; once more when it says what that is.
    pub(super) async fn send(
        &self,
        http: &Http,
        scope: &Scope,
        request: impl Fn(&reqwest::Client) -> RequestBuilder,
    ) -> Result<Response, Failure> {
        self.send_first(http, scope, request).await.map(|(answer, _)| answer)
    }

    /// Sends the first of two requests, and also gives what the second needs: a token may expire in between.
    pub(super) async fn send_first(
        &self,
        http: &Http,
        scope: &Scope,
        request: impl Fn(&reqwest::Client) -> RequestBuilder,
    ) -> Result<(Response, Option<HeaderValue>), Failure> {
        let kept = self.kept(scope);
        let answer = with(request(http.named()), kept.clone()).send().await?;
        if answer.status() != StatusCode::UNAUTHORIZED {
            return Ok((answer, kept));
        }
        let headers = answer.headers().get_all(WWW_AUTHENTICATE).iter().filter_map(|header| header.to_str().ok());
        let challenge = Challenge::read(headers).map_err(Failure::credential)?;
        let (header, without) = self.authorize(http, &answer, challenge, scope).await?;
        let Some(header) = header else { return Err(self.refused(answer, without).await) };
        let answer = with(request(http.named()), Some(header.clone())).send().await?;
        if matches!(answer.status(), StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) {
            self.forget(scope);
            self.answers.refused().await;
            return Err(self.refused(answer, without).await);
        }
        Ok((answer, Some(header)))
    }

    /// Sends the second request, which can be sent once only, with what was good for the first.
    pub(super) async fn send_second(
        &self,
        scope: &Scope,
        header: Option<HeaderValue>,
        request: RequestBuilder,
    ) -> Result<Response, Failure> {
        let answer = with(request, header).send().await?;
        if answer.status() != StatusCode::UNAUTHORIZED {
            return Ok(answer);
        }
        self.forget(scope);
        Err(Failure::transient("what was good for the request before is refused for this one"))
    }

    /// The refusal of a registry, and what may be the reason.
    async fn refused(&self, answer: Response, without: Option<String>) -> Failure {
        let failure = Failure::answered(answer).await;
        match without {
            Some(without) => Failure::credential(format!("{}; {without}", failure.reason)),
            None => Failure::credential(failure.reason),
        }
    }

    /// The header for a scope, as a challenge wants it, and why there is no credential in it if there is none.
    async fn authorize(
        &self,
        http: &Http,
        answer: &Response,
        challenge: Challenge,
        scope: &Scope,
    ) -> Result<(Option<HeaderValue>, Option<String>), Failure> {
        let login = self.logins.find(&self.host, &scope.path, &self.answers).await?;
        if let Ok(login) = &login {
            self.secrets.learn_login(&login.user, &login.password);
        }
        let (header, lifetime, without) = match challenge {
            Challenge::Basic => {
                let login = match login {
                    Ok(login) => login,
                    Err(none) => return Ok((None, Some(none))),
                };
                (basic(&login)?, MAX_LIFETIME, None)
            }
            Challenge::Bearer { realm, service } => {
                let (login, without) = match login {
                    Err(none) => (None, Some(none)),
                    Ok(_) if !self.trusts(&realm) => (None, Some(untrusted(&realm))),
                    Ok(login) => (Some(login), None),
                };
                let (token, lifetime) = self.token(http, answer, &realm, service, scope, login.as_ref()).await?;
                (secret(&format!("Bearer {token}"))?, lifetime, without)
            }
        };
        let mut kept = self.lock();
        if kept.len() >= MAX_TOKENS {
            kept.clear();
        }
        kept.insert(scope.clone(), (header.clone(), Instant::now() + lifetime.saturating_sub(MARGIN)));
        Ok((Some(header), without))
    }

    /// Asks a token server, with the credential if it may have it.
    async fn token(
        &self,
        http: &Http,
        answer: &Response,
        realm: &Url,
        service: Option<String>,
        scope: &Scope,
        login: Option<&Login>,
    ) -> Result<(String, Duration), Failure> {
        let client = if self.is_own(realm) { http.named() } else { http.led(answer, realm)? };
        let mut url = realm.clone();
        url.query_pairs_mut()
            .extend_pairs(service.map(|service| ("service", service)))
            .extend_pairs(scope.said.iter().map(|scope| ("scope", scope)));
        let mut request = client.get(url);
        if let Some(login) = login {
            request = request.header(AUTHORIZATION, basic(login)?);
        }
        let server = shown(realm.host_str().unwrap_or_default());
        let told = |failure: Failure| failure.said_by(&format!("the token server `{server}` gives no token"));
        let given = request.send().await?;
        if given.status() == StatusCode::UNAUTHORIZED {
            self.answers.refused().await;
        }
        let given = expect(given, StatusCode::OK).await.map_err(told)?;
        let given = whole(given, MAX_TOKEN).await.map_err(told)?;
        // Nothing of the answer is said: it may be a token.
        let given: Given =
            serde_json::from_slice(&given).map_err(|_| told(Failure::transient("its answer has no token in it")))?;
        let token = given.token.or(given.access_token).filter(|token| !token.is_empty());
        let token = token.ok_or_else(|| told(Failure::transient("its answer has no token in it")))?;
        self.secrets.learn(&token);
        Ok((token, given.expires_in.map_or(LIFETIME, Duration::from_secs).min(MAX_LIFETIME)))
    }

    /// Whether a token server is the registry's own.
    fn is_own(&self, realm: &Url) -> bool {
        realm.origin() == self.base.origin()
    }

    /// Whether a token server may have the credential.
    fn trusts(&self, realm: &Url) -> bool {
        let Some((host, port)) = realm.host_str().zip(realm.port_or_known_default()) else { return false };
        let with_port = format!("{host}:{port}");
        let is_named =
            |trusted: &Host| trusted.as_str() == with_port || trusted.as_str() == host && realm.port().is_none();
        self.is_own(realm) || self.realms.iter().any(is_named)
    }

    fn kept(&self, scope: &Scope) -> Option<HeaderValue> {
        let kept = self.lock();
        kept.get(scope).filter(|(_, until)| Instant::now() < *until).map(|(header, _)| header.clone())
    }

    fn forget(&self, scope: &Scope) {
        self.lock().remove(scope);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Scope, (HeaderValue, Instant)>> {
        self.headers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn with(request: RequestBuilder, header: Option<HeaderValue>) -> RequestBuilder {
    match header {
        Some(header) => request.header(AUTHORIZATION, header),
        None => request,
    }
}

fn untrusted(realm: &Url) -> String {
    let server = shown(realm.host_str().unwrap_or_default());
    let port = realm.port().map(|port| format!(":{port}")).unwrap_or_default();
    format!(
        "the token server `{server}{port}` is another host and got no credential: if it may have it, add it to `realms` in `[images]` of release.toml, or start `push watch` with --realm"
    )
}

fn basic(login: &Login) -> Result<HeaderValue, Failure> {
    use base64::{Engine as _, engine::general_purpose::STANDARD};
    secret(&format!("Basic {}", STANDARD.encode(format!("{}:{}", login.user, login.password))))
}

/// A header that nothing shows.
fn secret(value: &str) -> Result<HeaderValue, Failure> {
    let header = HeaderValue::from_str(value);
    let mut header =
        header.map_err(|_| Failure::credential("the credential has characters that no header may have"))?;
    header.set_sensitive(true);
    Ok(header)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_server_has_the_credential_by_its_whole_name_and_its_port() {
        for (named, realm, expected) in [
            ("auth.example", "https://auth.example/token", true),
            ("auth.example", "https://auth.example:443/token", true),
            ("auth.example", "https://auth.example:8443/token", false),
            ("auth.example:8443", "https://auth.example:8443/token", true),
            ("auth.example:8443", "https://auth.example/token", false),
            ("auth.example", "https://auth.example.evil.example/token", false),
            ("auth.example", "https://evil-auth.example/token", false),
            ("auth.example", "https://images.example/token", true),
            ("auth.example", "https://images.example:8443/token", false),
            ("auth.example", "http://images.example/token", false),
        ] {
            let options = ClientOptions { realms: vec![named.parse().unwrap()], ..ClientOptions::default() };
            let session = Session::new(&"images.example".parse().unwrap(), &options, Arc::default()).unwrap();
            assert_eq!(session.trusts(&Url::parse(realm).unwrap()), expected, "{named} {realm}");
        }
    }
}
