//! Telling who makes each request, before any handler sees it.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use anyhow::Result;
use axum::{
    Router,
    extract::{ConnectInfo, Request, State},
    http::{HeaderMap, HeaderName, Method, StatusCode, Uri, header},
    middleware::{self, Next},
    response::{IntoResponse, Response},
};
use bucket::Timestamp;
use fleet::identity::{Identity, Origin};
use ipnet::IpNet;
use tracing::warn;

use super::{
    account::account_of,
    csrf, headers,
    host::Host,
    jwt::Token,
    keys::{Keys, NoKey},
    local_token::LocalToken,
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

/// Most cookies of our name that are looked at: a browser sends one.
const MAX_COOKIES: usize = 8;

/// What somebody without the token can't do.
const NO_TOKEN: Refusal = Refusal::Nobody(
    "Nothing was changed: only who has the token of this web app may push. Open the address that `push serve` printed \
     when it started, or send its token as `Authorization: Bearer TOKEN`.",
);

/// Tells who makes a request.
#[derive(Debug)]
pub struct Authenticator {
    settings: AuthSettings,
    /// Google's, in the mode that needs them.
    keys: Option<Keys>,
    /// Who is on this machine, as the history will say.
    local_name: String,
    /// Where it listens.
    listen: SocketAddr,
    /// What tells the operator from others on this machine, in the mode that needs it.
    token: Option<LocalToken>,
}

impl Authenticator {
    /// Gets ready to tell who makes the requests that arrive at `listen`. `local_name` is whoever is on this machine.
    ///
    /// # Errors
    /// When nobody would sign in and `listen` isn't loopback, or there are no random bytes.
    pub fn new(settings: AuthSettings, listen: SocketAddr, local_name: String) -> Result<Self> {
        let (keys, token) = match &settings {
            AuthSettings::Local => {
                settings::loopback(listen)?;
                (None, Some(LocalToken::make()?))
            }
            AuthSettings::Iap { keys, .. } => (Some(Keys::new(keys.clone())?), None),
            AuthSettings::Proxy { .. } => (None, None),
        };
        Ok(Self { settings, keys, local_name, listen, token })
    }

    /// The token that the operator must show, in the mode that has one. It is valid as long as this is there.
    pub fn token(&self) -> Option<&str> {
        self.token.as_ref().map(LocalToken::text)
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
                let origin = if self.knows_token(parts).await { Origin::Local } else { Origin::Visitor };
                Identity { name: self.local_name.clone(), origin }
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
        if who.origin == Origin::Visitor && !is_reading(parts.method) {
            return Err(NO_TOKEN);
        }
        Ok(who)
    }

    /// Whether a request shows the token, or the cookie that the account it comes from got for it.
    async fn knows_token(&self, head: &Head<'_>) -> bool {
        let Some(token) = &self.token else { return false };
        let shown = head.headers.get(header::AUTHORIZATION).and_then(|shown| shown.to_str().ok());
        if shown.and_then(|shown| shown.strip_prefix("Bearer ")).is_some_and(|shown| token.is(shown.trim())) {
            return true;
        }
        let name = self.cookie_name();
        let cookies: Vec<&str> = cookies(head.headers, &name).take(MAX_COOKIES).collect();
        if cookies.is_empty() {
            return false;
        }
        let account = self.account(head.peer).await;
        account.is_some_and(|account| cookies.iter().any(|cookie| token.allows(cookie, account)))
    }

    /// The answer to the address that is printed at the start: a cookie for the token, and the way to the overview.
    async fn sign_in(&self, head: &Head<'_>) -> Result<Option<Response>, Refusal> {
        let Some(token) = self.token.as_ref().filter(|_| is_reading(head.method) && head.uri.path() == "/") else {
            return Ok(None);
        };
        let query = url::form_urlencoded::parse(head.uri.query().unwrap_or_default().as_bytes());
        let Some((_, shown)) = query.into_iter().find(|(key, _)| key == "token") else { return Ok(None) };
        if !token.is(&shown) {
            return Err(Refusal::Nobody(
                "This address is no longer valid: `push serve` prints a new one each time it starts.",
            ));
        }
        let account = self.account(head.peer).await;
        let account =
            account.ok_or(Refusal::Forbidden("Cannot determine which account of this machine this request is of."))?;
        let cookie = format!("{}={}; Path=/; HttpOnly; SameSite=Strict", self.cookie_name(), token.cookie(account));
        let headers = [(header::LOCATION, "/".to_owned()), (header::SET_COOKIE, cookie)];
        Ok(Some((StatusCode::SEE_OTHER, headers).into_response()))
    }

    /// Browsers keep one set of cookies for all ports of a host: each web app has its own name for it.
    fn cookie_name(&self) -> String {
        format!("push-{}", self.listen.port())
    }

    async fn account(&self, peer: SocketAddr) -> Option<u32> {
        let ours = self.listen;
        tokio::task::spawn_blocking(move || account_of(peer, ours)).await.ok()?
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
    // The addresses of pages name servers and apps, and one has the token. Browsers need `same-origin` to send `Origin` with
    // our own forms where they don't tell otherwise where these come from; of this machine they do.
    let referrer = if authenticator.token.is_some() { "no-referrer" } else { "same-origin" };
    router
        .layer(middleware::from_fn_with_state(authenticator, authenticate))
        .layer(middleware::map_response_with_state(referrer, headers::secure))
}

async fn authenticate(State(authenticator): State<Arc<Authenticator>>, mut request: Request, next: Next) -> Response {
    // Whoever got in by another door isn't in by this one.
    request.extensions_mut().remove::<Identity>();
    if is_reading(request.method()) && OPEN.contains(&request.uri().path()) {
        return next.run(request).await;
    }
    let Some(ConnectInfo(peer)) = request.extensions().get::<ConnectInfo<SocketAddr>>().copied() else {
        return Refusal::Forbidden("Cannot determine the client address.").answer(request.uri().path());
    };
    let head = Head { peer, method: request.method(), uri: request.uri(), headers: request.headers() };
    let admitted = match authenticator.admit(&head).await {
        Ok(who) => authenticator.sign_in(&head).await.map(|signed_in| (who, signed_in)),
        Err(refusal) => Err(refusal),
    };
    match admitted {
        Ok((_, Some(signed_in))) => signed_in,
        Ok((who, None)) => {
            request.extensions_mut().insert(who);
            next.run(request).await
        }
        Err(refusal) => refusal.answer(request.uri().path()),
    }
}

fn is_reading(method: &Method) -> bool {
    [Method::GET, Method::HEAD].contains(method)
}

/// The values of the cookies of a name.
fn cookies<'a>(headers: &'a HeaderMap, name: &'a str) -> impl Iterator<Item = &'a str> {
    let all = headers.get_all(header::COOKIE).iter().filter_map(|cookies| cookies.to_str().ok());
    all.flat_map(|cookies| cookies.split(';'))
        .filter_map(move |cookie| cookie.trim().strip_prefix(name)?.strip_prefix('='))
}
