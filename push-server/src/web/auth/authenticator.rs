//! Telling who makes each request, before any handler sees it.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use anyhow::Result;
use axum::{
    Router,
    extract::{ConnectInfo, Request, State},
    http::{HeaderMap, HeaderName, Method, Uri},
    middleware::{self, Next},
    response::Response,
};
use bucket::Timestamp;
use fleet::identity::{Identity, Origin};
use ipnet::IpNet;
use tracing::warn;

use super::{
    csrf, headers,
    host::Host,
    jwt::Token,
    keys::{Keys, NoKey},
    name,
    refusal::Refusal,
    settings::{self, AuthSettings},
};

/// Where Google's proxy puts its token.
const ASSERTION: HeaderName = HeaderName::from_static("x-goog-iap-jwt-assertion");
/// What proxies add to what they pass on.
const PASSED_ON: [&str; 5] = ["forwarded", "via", "x-forwarded-for", "x-forwarded-host", "x-real-ip"];
/// What needs nobody: they tell that the process is alive, and nothing else.
const OPEN: [&str; 2] = ["/healthz", "/readyz"];

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
    /// Gets ready to tell who makes the requests that arrive at `listen`. `local_name` is whoever is on this machine.
    ///
    /// # Errors
    /// When nobody would sign in and `listen` isn't loopback.
    pub fn new(settings: AuthSettings, listen: SocketAddr, local_name: String) -> Result<Self> {
        let keys = match &settings {
            AuthSettings::Local => settings::loopback(listen).map(|()| None)?,
            AuthSettings::Iap { keys, .. } => Some(Keys::new(keys.clone())?),
            AuthSettings::Proxy { .. } => None,
        };
        Ok(Self { settings, keys, local_name })
    }

    /// Whether anything that comes from an address can be for us: others needn't be listened to.
    pub fn admits(&self, peer: IpAddr) -> bool {
        match &self.settings {
            AuthSettings::Local => peer.is_loopback(),
            AuthSettings::Iap { .. } => true,
            // Whoever is on this machine may ask whether the process is alive.
            AuthSettings::Proxy { trusted, .. } => peer.is_loopback() || is_trusted(trusted, peer),
        }
    }

    async fn admit(&self, parts: &Head<'_>) -> Result<Identity, Refusal> {
        let host = Host::of(parts.uri, parts.headers)
            .ok_or(Refusal::Forbidden("The request does not name exactly one host."))?;
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
                if !is_trusted(trusted, parts.peer.ip().to_canonical()) {
                    return Err(Refusal::Forbidden("Only the proxy may connect. Open the web app through it."));
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
            "Your sign-in cannot be checked at the moment: Google's keys are not available. Try again in a minute.",
        );
        let missing = Refusal::Nobody("You are not signed in. Open the web app through Google's identity-aware proxy.");
        let mut tokens = headers.get_all(ASSERTION).iter();
        let token = match (tokens.next(), tokens.next()) {
            (Some(token), None) => token.to_str().map_err(|_| missing)?,
            _ => return Err(missing),
        };
        let token = Token::parse(token).map_err(not_signed_in)?;
        let key = self.keys.as_ref().ok_or(unavailable)?.get(&token.kid).await.map_err(|why| match why {
            NoKey::Unknown => not_signed_in("the token is signed with an unknown key"),
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
    warn!(reason = why, "refused a sign-in");
    Refusal::Nobody("You are not signed in: the token from Google's proxy is not valid. Sign in again.")
}

pub(super) fn local(peer: SocketAddr, host: &Host, headers: &HeaderMap) -> Result<(), Refusal> {
    if !peer.ip().to_canonical().is_loopback() {
        return Err(Refusal::Forbidden("Only this machine may connect."));
    }
    if !host.is_local() {
        return Err(Refusal::Forbidden("Open the web app as http://localhost or http://127.0.0.1, with its port."));
    }
    if PASSED_ON.iter().any(|name| headers.contains_key(*name)) {
        // Everybody who reaches the proxy would be taken for somebody on this machine.
        return Err(Refusal::Forbidden(
            "This request came through a proxy, but the server runs with --auth local. Restart it with --auth iap or --auth proxy.",
        ));
    }
    Ok(())
}

fn is_trusted(trusted: &[IpNet], peer: IpAddr) -> bool {
    trusted.iter().any(|network| network.contains(&peer))
}

fn public(host: &Host, hosts: &[Host]) -> Result<(), Refusal> {
    let ours = hosts.iter().any(|public| host.is(public));
    if ours { Ok(()) } else { Err(Refusal::Forbidden("Unknown host name: add it with --public-host.")) }
}

fn named(headers: &HeaderMap, header: &HeaderName) -> Result<String, Refusal> {
    let mut names = headers.get_all(header).iter();
    match (names.next(), names.next()) {
        (None, _) => Err(Refusal::Nobody("You are not signed in: the proxy did not identify a user.")),
        (Some(name), None) => name::plain(name.as_bytes()).ok_or(Refusal::Nobody(
            "You are not signed in: the user name from the proxy must be plain ASCII, at most 254 bytes.",
        )),
        (Some(_), Some(_)) => Err(Refusal::Nobody("You are not signed in: the proxy named more than one user.")),
    }
}

/// Lets in only who is signed in, and gives every answer the headers that keep browsers safe.
///
/// Requests must have the peer's address among their extensions, as `ConnectInfo<SocketAddr>`.
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
        return Refusal::Forbidden("Cannot determine the client address.").answer(request.uri().path());
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
