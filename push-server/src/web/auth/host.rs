//! To whom a request believes to be speaking. Pure.
//!
//! A page of another site can make its own name point at us (DNS rebinding); its requests then look to the browser as if
//! they stayed at home, but they still carry that name in `Host`.

use axum::http::{HeaderMap, Uri, header};

/// A name or an address, with a port unless it is the scheme's own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Host {
    name: String,
    port: Option<u16>,
}

impl Host {
    /// Understands what a `Host` header has.
    pub fn parse(text: &str) -> Option<Self> {
        let (name, port) = match text.rsplit_once(':') {
            // The colon of an address in brackets is no port's.
            Some((name, port)) if !port.ends_with(']') => (name, Some(port)),
            _ => (text, None),
        };
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
        let address = |text: &str| text.parse::<std::net::Ipv6Addr>().is_ok();
        let good = match name.strip_prefix('[').and_then(|name| name.strip_suffix(']')) {
            Some(inner) => address(inner),
            None => !name.is_empty() && name.len() <= 253 && name.bytes().all(plain),
        };
        let port = match port {
            Some(port) if port.bytes().all(|byte| byte.is_ascii_digit()) => Some(port.parse().ok()?),
            Some(_) => return None,
            None => None,
        };
        good.then(|| Self { name: name.to_ascii_lowercase(), port })
    }

    /// The one host that a request names; none when it names none, several, or a different one in its first line.
    pub(super) fn of(uri: &Uri, headers: &HeaderMap) -> Option<Self> {
        let mut hosts = headers.get_all(header::HOST).iter();
        let host = Self::parse(hosts.next()?.to_str().ok()?)?;
        let same = uri.authority().is_none_or(|authority| Self::parse(authority.as_str()).as_ref() == Some(&host));
        (hosts.next().is_none() && same).then_some(host)
    }

    /// Whether this is the machine itself, at any port.
    pub(super) fn is_local(&self) -> bool {
        ["localhost", "127.0.0.1", "[::1]"].contains(&self.name.as_str())
    }

    /// Whether a page with this `Origin` came from here. A proxy in front may have ended TLS, so either scheme will do
    /// unless `https` is asked for.
    pub(super) fn is_origin(&self, origin: &str, https: bool) -> bool {
        let (authority, default) = match (origin.strip_prefix("https://"), origin.strip_prefix("http://")) {
            (Some(authority), _) => (authority, 443),
            (_, Some(authority)) if !https => (authority, 80),
            _ => return false,
        };
        Self::parse(authority)
            .is_some_and(|from| from.name == self.name && from.port.unwrap_or(default) == self.port.unwrap_or(default))
    }

    /// Whether a request to this host is meant for `public`, which may leave the port open: rebinding needs another name.
    pub(super) fn is(&self, public: &Self) -> bool {
        self.name == public.name && (public.port.is_none() || public.port == self.port)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_hosts_are_hosts() {
        for good in ["localhost", "localhost:8000", "127.0.0.1:1", "[::1]", "[::1]:8000", "Push.Acme.example"] {
            assert!(Host::parse(good).is_some(), "{good}");
        }
        let bad =
            ["", ":80", "a:b", "a:", "a:+1", "a:65536", "::1", "[::1", "[x]", "a/b", "a b", "u@a", "https://a", "a,b"];
        for bad in bad {
            assert_eq!(Host::parse(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn local_is_this_machine_only() {
        let local = |text: &str| Host::parse(text).unwrap().is_local();
        for good in ["localhost", "LOCALHOST:1", "127.0.0.1:8000", "[::1]:8000"] {
            assert!(local(good), "{good}");
        }
        let foreign = [
            "localhost.evil.example",
            "127.0.0.1.nip.example:8000",
            "evil.example",
            "0.0.0.0",
            "127.0.0.2",
            "localhost.",
        ];
        for foreign in foreign {
            assert!(!local(foreign), "{foreign}");
        }
    }

    #[test]
    fn origins_are_compared_whole() {
        let cases = [
            ("push.example", "https://push.example", false, true),
            ("push.example", "http://push.example", false, true),
            ("push.example", "http://push.example", true, false),
            ("push.example:443", "https://push.example", true, true),
            ("localhost:8000", "http://localhost:8000", false, true),
            ("localhost:8000", "http://localhost:3000", false, false),
            ("localhost:8000", "http://localhost", false, false),
            ("localhost:8000", "http://127.0.0.1:8000", false, false),
            ("push.example", "https://push.example.evil.example", false, false),
            ("push.example", "https://evil.example/push.example", false, false),
            ("push.example", "null", false, false),
            ("push.example", "", false, false),
            ("push.example", "file://push.example", false, false),
        ];
        for (host, origin, https, expected) in cases {
            assert_eq!(Host::parse(host).unwrap().is_origin(origin, https), expected, "{host} {origin} {https}");
        }
    }

    #[test]
    fn a_public_host_may_leave_its_port_open() {
        let is = |host: &str, public: &str| Host::parse(host).unwrap().is(&Host::parse(public).unwrap());
        assert!(is("push.example", "Push.example") && is("push.example:8443", "push.example"));
        assert!(is("push.example:8443", "push.example:8443"));
        assert!(!is("push.example", "push.example:8443") && !is("push.example:1", "push.example:8443"));
        assert!(!is("push.example.evil.example", "push.example") && !is("evil.example", "push.example"));
    }

    #[test]
    fn a_request_names_one_host() {
        let of = |uri: &str, hosts: &[&str]| {
            let mut headers = HeaderMap::new();
            for host in hosts {
                headers.append(header::HOST, host.parse().unwrap());
            }
            Host::of(&uri.parse().unwrap(), &headers)
        };
        assert_eq!(of("/", &["localhost"]), Host::parse("localhost"));
        assert_eq!(of("http://localhost/", &["localhost"]), Host::parse("localhost"));
        assert_eq!(of("http://evil.example/", &["localhost"]), None);
        assert_eq!(of("/", &["localhost", "localhost"]), None);
        assert_eq!(of("/", &[]), None);
    }
}
