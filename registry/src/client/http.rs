//! The HTTP clients, and where they may go: to the registry that was named, and from there where [`Reach`] lets it lead.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::{Arc, OnceLock},
    time::Duration,
};

use bucket::no_tls;
use reqwest::{
    ClientBuilder, Method, Response, StatusCode,
    dns::{Addrs, Name, Resolve, Resolving},
    header::{ACCEPT, LOCATION},
    redirect::Policy,
};
use url::Url;

use super::{failure::Failure, reach::Reach};

/// How every request names its sender.
const USER_AGENT: &str = concat!("push/", env!("CARGO_PKG_VERSION"));

/// Most redirects of one request.
const MAX_REDIRECTS: usize = 5;

/// Clients for the registries that were named, and for where these lead.
#[derive(Debug)]
pub(super) struct Http {
    timeout: Duration,
    named: reqwest::Client,
    /// Made when they are needed: most registries lead nowhere.
    led: [(Reach, OnceLock<reqwest::Client>); 3],
}

impl Http {
    pub(super) fn new(timeout: Duration) -> Result<Self, String> {
        // Every TLS client here is built without a provider of its own. Somebody may have installed one already.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let named = builder(timeout).build().map_err(|error| no_tls(&error))?;
        let led = [Reach::Public, Reach::Private, Reach::Loopback].map(|reach| (reach, OnceLock::new()));
        Ok(Self { timeout, named, led })
    }

    /// The client for what a person named.
    pub(super) fn named(&self) -> &reqwest::Client {
        &self.named
    }

    /// The client for an address that an answer from there names, if that may be.
    pub(super) fn led(&self, from: &Response, to: &Url) -> Result<&reqwest::Client, Failure> {
        let from = from.remote_addr().map_or(Reach::Public, |address| Reach::of(address.ip()));
        admit(from, to).map_err(Failure::lasting)?;
        let Some((_, client)) = self.led.iter().find(|(reach, _)| *reach == from) else {
            return Err(Failure::lasting(
                "the registry redirects and is at a link-local or reserved address: nothing is followed from there",
            ));
        };
        if let Some(client) = client.get() {
            return Ok(client);
        }
        let made = builder(self.timeout).dns_resolver(Arc::new(Within(from))).build()?;
        Ok(client.get_or_init(|| made))
    }

    /// What an answer leads to, when it is a redirect: asked for without any credential.
    pub(super) async fn follow(
        &self,
        method: &Method,
        accepted: Option<&str>,
        mut answer: Response,
    ) -> Result<Response, Failure> {
        for _ in 0..MAX_REDIRECTS {
            if !matches!(answer.status().as_u16(), 301 | 302 | 303 | 307 | 308) {
                return Ok(answer);
            }
            let to = answer.headers().get(LOCATION).and_then(|to| to.to_str().ok());
            let to = to.and_then(|to| answer.url().join(to).ok());
            let to = to.ok_or_else(|| Failure::transient("redirected, and not to an address"))?;
            let mut request = self.led(&answer, &to)?.request(method.clone(), to);
            if let Some(accepted) = accepted {
                request = request.header(ACCEPT, accepted);
            }
            answer = request.send().await?;
        }
        Err(Failure::lasting(format!("redirected more than {MAX_REDIRECTS} times")))
    }
}

fn builder(timeout: Duration) -> ClientBuilder {
    let loopback =
        [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)].map(|address| (address, 0).into());
    reqwest::Client::builder()
        .user_agent(USER_AGENT)
        .http1_only()
        .pool_max_idle_per_host(2)
        .pool_idle_timeout(Duration::from_secs(30))
        .connect_timeout(timeout)
        // It is never looked up: plain HTTP is spoken with it.
        .resolve_to_addrs("localhost", &loopback)
        // With a proxy nobody here would know which address is spoken with.
        .no_proxy()
        .redirect(Policy::none())
}

/// Whether an answer from there may lead to this address, as far as that can be known before its name is looked up.
fn admit(from: Reach, to: &Url) -> Result<(), String> {
    let shown = to.host_str().unwrap_or_default();
    let reach = match to.host() {
        Some(url::Host::Ipv4(address)) => Some(Reach::of(address.into())),
        Some(url::Host::Ipv6(address)) => Some(Reach::of(address.into())),
        Some(url::Host::Domain("localhost")) => Some(Reach::Loopback),
        Some(url::Host::Domain(_)) => None,
        None => return Err("the registry leads to what is no address".to_owned()),
    };
    if reach.is_some_and(|reach| !from.may_lead_to(reach)) {
        return Err(refusal(shown));
    }
    match to.scheme() {
        "https" => Ok(()),
        "http" if reach == Some(Reach::Loopback) => Ok(()),
        scheme => Err(format!("the registry leads to `{shown}` over `{scheme}`, and only TLS is trusted")),
    }
}

fn refusal(host: &str) -> String {
    format!("the registry leads to `{host}`, an address inside of a network: it is not followed there")
}

/// Looks names up, and leaves out where nobody may be led from there.
#[derive(Debug)]
struct Within(Reach);

impl Resolve for Within {
    fn resolve(&self, name: Name) -> Resolving {
        let from = self.0;
        Box::pin(async move {
            let found = tokio::net::lookup_host((name.as_str(), 0)).await?;
            let open: Vec<_> = found.filter(|address| from.may_lead_to(Reach::of(address.ip()))).collect();
            if open.is_empty() {
                return Err(refusal(name.as_str()).into());
            }
            Ok(Box::new(open.into_iter()) as Addrs)
        })
    }
}

/// An answer with the status that was hoped for.
pub(super) async fn expect(answer: Response, hoped: StatusCode) -> Result<Response, Failure> {
    if answer.status() == hoped { Ok(answer) } else { Err(Failure::answered(answer).await) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_tls_leads_off_this_machine_and_nothing_leads_inside() {
        let admit = |from: Reach, to: &str| admit(from, &Url::parse(to).unwrap());
        for (from, to, expected) in [
            (Reach::Public, "https://storage.example/x", ""),
            (Reach::Public, "http://storage.example/x", "over `http`"),
            (Reach::Public, "https://10.0.0.1/x", "an address inside of a network"),
            (Reach::Public, "https://[::1]/x", "an address inside of a network"),
            (Reach::Public, "https://localhost/x", "an address inside of a network"),
            (Reach::Public, "http://127.0.0.1/x", "an address inside of a network"),
            (Reach::Private, "https://10.0.0.1/x", ""),
            (Reach::Private, "http://10.0.0.1/x", "over `http`"),
            (Reach::Loopback, "http://127.0.0.1:1/x", ""),
            (Reach::Loopback, "http://localhost:1/x", ""),
            (Reach::Loopback, "https://169.254.169.254/x", "an address inside of a network"),
            (Reach::Loopback, "https://0xa9fea9fe/x", "an address inside of a network"),
            (Reach::Loopback, "file:///etc/passwd", "no address"),
        ] {
            let admitted = admit(from, to).err().unwrap_or_default();
            assert!(admitted.contains(expected) && admitted.is_empty() == expected.is_empty(), "{to}: {admitted}");
        }
    }

    #[tokio::test]
    async fn a_name_of_an_inner_address_is_not_followed() {
        let resolve = |from: Reach| Within(from).resolve("localhost".parse().unwrap());
        assert!(resolve(Reach::Public).await.err().unwrap().to_string().contains("inside of a network"));
        assert!(resolve(Reach::Loopback).await.unwrap().all(|address| address.ip().is_loopback()));
    }
}
