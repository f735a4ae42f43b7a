//! Who makes a request, and whether they meant it: exactly one way of signing in, without fallback.
//!
//! [`protect`] wraps the whole router: everything but `/healthz` and `/readyz` needs somebody who is signed in, so that a
//! new route can't be forgotten. Handlers find the [`Identity`] among a request's extensions. Three ways, chosen at start:
//!
//! - local: whoever is on this machine. It listens on loopback only, the request comes from loopback and names it as its
//!   host (against DNS rebinding), and no proxy has passed it on.
//! - iap: Google's identity-aware proxy. Its signature counts, not where the request comes from.
//! - proxy: another proxy, believed for the address that it connects from.
//!
//! The decisions are pure functions of a request's head, apart from fetching Google's keys.

mod csrf;
mod headers;
mod host;
mod jwt;
mod keys;
mod name;
mod settings;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;

use std::{net::SocketAddr, sync::Arc};

use anyhow::Result;
use axum::http::{HeaderMap, HeaderName, Method, StatusCode, Uri, header};
use axum::{
    Json, Router,
    extract::{ConnectInfo, Request, State},
    middleware::{self, Next},
    response::{IntoResponse, Response},
};
use bucket::Timestamp;

use self::{
    host::Host,
    jwt::Token,
    keys::{Keys, NoKey},
};
pub use self::{
    host::Host as PublicHost,
    keys::KeySource,
    settings::{AuthArguments, AuthSettings},
};
use fleet::identity::{Identity, Origin};

/// Where Google's proxy puts its token.
const ASSERTION: HeaderName = HeaderName::from_static("x-goog-iap-jwt-assertion");
/// What proxies add to what they pass on.
const PASSED_ON: [&str; 5] = ["forwarded", "via", "x-forwarded-for", "x-forwarded-host", "x-real-ip"];
/// What needs nobody: they tell that the process is alive, and nothing else.
const OPEN: [&str; 2] = ["/healthz", "/readyz"];

/// Why a request isn't let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Refusal {
    /// It doesn't say who makes it, or not so that it can be believed.
    Nobody(&'static str),
    /// It isn't meant for us, or not meant by who makes it.
    Forbidden(&'static str),
    /// Its body is of a type that is never read here.
    Type(&'static str),
    /// It can't be told now.
    Unavailable(&'static str),
}

/// Tells who makes a request.
#[derive(Debug)]
pub struct Authenticator {
    settings: AuthSettings,
    /// Google's, in the mode that needs them.
    keys: Option<Keys>,
    /// Who is on this machine, as the history will say.
    local_name: String,
}

impl Authenticator {
    /// Gets ready to tell who makes the requests that arrive at `listen`.
    ///
    /// # Errors
    /// When nobody would sign in and `listen` isn't loopback.
    pub fn new(settings: AuthSettings, listen: SocketAddr) -> Result<Self> {
        let keys = match &settings {
            AuthSettings::Local => settings::loopback(listen).map(|()| None)?,
            AuthSettings::Iap { keys, .. } => Some(Keys::new(keys.clone())?),
            AuthSettings::Proxy { .. } => None,
        };
        Ok(Self { settings, keys, local_name: crate::cli::who() })
    }

    async fn admit(&self, parts: &Head<'_>) -> Result<Identity, Refusal> {
        let host =
            Host::of(parts.uri, parts.headers).ok_or(Refusal::Forbidden("The request doesn't name one host."))?;
        let who = match &self.settings {
            AuthSettings::Local => {
                local(parts.peer, &host, parts.headers)?;
                Identity { name: self.local_name.clone(), origin: Origin::Local }
            }
            AuthSettings::Iap { audience, hosts, .. } => {
                public(&host, hosts)?;
                let name = self.signed_in(parts.headers, audience).await?;
                Identity { name, origin: Origin::SignedIn }
            }
            AuthSettings::Proxy { header, trusted, hosts } => {
                let peer = parts.peer.ip().to_canonical();
                if !trusted.iter().any(|network| network.contains(&peer)) {
                    return Err(Refusal::Forbidden("Only the proxy may connect here. Open the web app through it."));
                }
                public(&host, hosts)?;
                Identity { name: named(parts.headers, header)?, origin: Origin::SignedIn }
            }
        };
        let https = matches!(self.settings, AuthSettings::Iap { .. });
        csrf::judge(parts.method, parts.headers, &host, https)?;
        Ok(who)
    }

    async fn signed_in(&self, headers: &HeaderMap, audience: &str) -> Result<String, Refusal> {
        let unavailable = Refusal::Unavailable(
            "Who you are can't be checked now: Google's keys can't be read. Try again in a minute.",
        );
        let missing = Refusal::Nobody("You aren't signed in. Open the web app through Google's identity-aware proxy.");
        let mut tokens = headers.get_all(ASSERTION).iter();
        let token = match (tokens.next(), tokens.next()) {
            (Some(token), None) => token.to_str().map_err(|_| missing)?,
            _ => return Err(missing),
        };
        let token = Token::parse(token).map_err(not_signed_in)?;
        let key = self.keys.as_ref().ok_or(unavailable)?.get(&token.kid).await.map_err(|why| match why {
            NoKey::Unknown => not_signed_in("the token is signed with a key that isn't known"),
            NoKey::Unreachable => unavailable,
        })?;
        token.verify(&key, audience, Timestamp::now().as_second()).map_err(not_signed_in)
    }
}

/// The head of a request.
struct Head<'a> {
    peer: SocketAddr,
    method: &'a Method,
    uri: &'a Uri,
    headers: &'a HeaderMap,
}

/// What is wrong with a token is for whoever runs the web app: a stranger learns nothing from it.
fn not_signed_in(why: &'static str) -> Refusal {
    eprintln!("push: refused a sign-in: {why}");
    Refusal::Nobody("You aren't signed in: what Google's proxy sent can't be accepted. Sign in again.")
}

fn local(peer: SocketAddr, host: &Host, headers: &HeaderMap) -> Result<(), Refusal> {
    if !peer.ip().to_canonical().is_loopback() {
        return Err(Refusal::Forbidden("Only this machine may connect here."));
    }
    if !host.is_local() {
        return Err(Refusal::Forbidden("Open the web app as http://localhost or http://127.0.0.1, with its port."));
    }
    if PASSED_ON.iter().any(|name| headers.contains_key(*name)) {
        // Everybody who reaches the proxy would be taken for somebody on this machine.
        return Err(Refusal::Forbidden(
            "A proxy passed this on, but nobody signs in here: use --auth iap or --auth proxy.",
        ));
    }
    Ok(())
}

fn public(host: &Host, hosts: &[Host]) -> Result<(), Refusal> {
    let ours = hosts.iter().any(|public| host.is(public));
    if ours {
        Ok(())
    } else {
        Err(Refusal::Forbidden("The web app isn't reached under this name (see --public-host)."))
    }
}

fn named(headers: &HeaderMap, header: &HeaderName) -> Result<String, Refusal> {
    let mut names = headers.get_all(header).iter();
    match (names.next(), names.next()) {
        (None, _) => Err(Refusal::Nobody("You aren't signed in: the proxy named nobody.")),
        (Some(name), None) => name::plain(name.as_bytes()).ok_or(Refusal::Nobody(
            "You aren't signed in: the proxy's name for you isn't plain ASCII, at most 254 bytes.",
        )),
        (Some(_), Some(_)) => Err(Refusal::Nobody("You aren't signed in: the proxy named more than one person.")),
    }
}

impl Refusal {
    fn answer(self, path: &str) -> Response {
        let (status, text) = match self {
            Self::Nobody(text) => (StatusCode::UNAUTHORIZED, text),
            Self::Forbidden(text) => (StatusCode::FORBIDDEN, text),
            Self::Type(text) => (StatusCode::UNSUPPORTED_MEDIA_TYPE, text),
            Self::Unavailable(text) => (StatusCode::SERVICE_UNAVAILABLE, text),
        };
        if !path.starts_with("/api/") {
            return (status, format!("{text}\n")).into_response();
        }
        let title = status.canonical_reason().unwrap_or_default();
        let problem =
            serde_json::json!({"type": "about:blank", "title": title, "status": status.as_u16(), "detail": text});
        (status, [(header::CONTENT_TYPE, "application/problem+json")], Json(problem)).into_response()
    }
}

/// Lets in only who is signed in, and gives every answer the headers that keep browsers safe.
///
/// The router must be served with `into_make_service_with_connect_info::<SocketAddr>()`.
pub fn protect<S: Clone + Send + Sync + 'static>(router: Router<S>, authenticator: Arc<Authenticator>) -> Router<S> {
    router
        .layer(middleware::from_fn_with_state(authenticator, authenticate))
        .layer(middleware::map_response(headers::secure))
}

async fn authenticate(State(authenticator): State<Arc<Authenticator>>, mut request: Request, next: Next) -> Response {
    let reads = [Method::GET, Method::HEAD].contains(request.method());
    // Whoever got in by another door isn't in by this one.
    request.extensions_mut().remove::<Identity>();
    if reads && OPEN.contains(&request.uri().path()) {
        return next.run(request).await;
    }
    let Some(ConnectInfo(peer)) = request.extensions().get::<ConnectInfo<SocketAddr>>().copied() else {
        return Refusal::Forbidden("It isn't known from where this came.").answer(request.uri().path());
    };
    let head = Head { peer, method: request.method(), uri: request.uri(), headers: request.headers() };
    match authenticator.admit(&head).await {
        Ok(who) => {
            request.extensions_mut().insert(who);
            next.run(request).await
        }
        Err(refusal) => refusal.answer(request.uri().path()),
    }
}
