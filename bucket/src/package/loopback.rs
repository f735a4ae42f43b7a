//! Where a release's check may connect to: this very machine, and nothing else.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    str::FromStr,
};

use crate::NameError;

/// A port of this machine, written `127.0.0.1:5432`, `[::1]:5432` or `localhost:5432`.
///
/// Of addresses, those of 127.0.0.0/8 and `::1`. `localhost` is never looked up: it is 127.0.0.1 and `::1`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoopbackAddress {
    host: Host,
    port: u16,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Host {
    Address(IpAddr),
    Localhost,
}

/// A URL of this machine, written `http://127.0.0.1:8000/healthz`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpProbe {
    host: Host,
    /// `None` when the URL has none, which means 80.
    port: Option<u16>,
    /// With the query; empty when the URL ends after the host.
    path: String,
}

const ADDRESS: &str = "address to check";
const URL: &str = "URL to check";
const SCHEME: &str = "http://";
const HTTP_PORT: u16 = 80;

/// Longest URL, in bytes.
const MAX_URL: usize = 2000;

impl LoopbackAddress {
    /// The addresses to try, one after the other.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.host.addresses(self.port)
    }
}

impl HttpProbe {
    /// The addresses to try, one after the other.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.host.addresses(self.port.unwrap_or(HTTP_PORT))
    }

    /// Host and port as the request's `Host:` has them.
    pub fn authority(&self) -> String {
        let port = self.port.map(|port| format!(":{port}")).unwrap_or_default();
        format!("{}{port}", self.host)
    }

    /// Path and query as the request line has them: visible ASCII, beginning with `/`.
    pub fn path(&self) -> &str {
        if self.path.is_empty() { "/" } else { &self.path }
    }
}

impl Host {
    fn parse(text: &str) -> Option<Self> {
        if text == "localhost" {
            return Some(Self::Localhost);
        }
        let address = match text.strip_prefix('[') {
            Some(rest) => IpAddr::V6(rest.strip_suffix(']')?.parse().ok()?),
            None => IpAddr::V4(text.parse().ok()?),
        };
        address.is_loopback().then_some(Self::Address(address))
    }

    fn addresses(self, port: u16) -> Vec<SocketAddr> {
        let addresses = match self {
            Self::Address(address) => vec![address],
            Self::Localhost => vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()],
        };
        addresses.into_iter().map(|address| SocketAddr::new(address, port)).collect()
    }
}

/// Host and port, if there is one; `None` when either is none of this machine's.
fn parse_authority(text: &str) -> Option<(Host, Option<u16>)> {
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
        _ => (text, None),
    };
    let digits = |port: &&str| !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit());
    let port = match port {
        None => None,
        Some(port) => Some(Some(port).filter(digits)?.parse().ok().filter(|port| *port != 0)?),
    };
    Some((Host::parse(host)?, port))
}

impl FromStr for LoopbackAddress {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        match parse_authority(text) {
            Some((host, Some(port))) => Ok(Self { host, port }),
            _ => Err(NameError::new(
                ADDRESS,
                text,
                "it must be a port of the server itself, as in `127.0.0.1:5432`, `[::1]:5432` or `localhost:5432`",
            )),
        }
    }
}

impl FromStr for HttpProbe {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let wrong = |reason: &str| Err(NameError::new(URL, text, reason));
        let Some(rest) = text.strip_prefix(SCHEME) else {
            return wrong(
                "it must begin with `http://`: a check never leaves the server, so there is nothing to encrypt",
            );
        };
        if text.len() > MAX_URL {
            return wrong("it is too long");
        }
        let (authority, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
        let Some((host, port)) = parse_authority(authority) else {
            return wrong(
                "its host must be the server itself: an address of 127.0.0.0/8, `[::1]` or `localhost`, and a port",
            );
        };
        let good = |b: u8| b.is_ascii_graphic() && b != b'#';
        if !(path.is_empty() || path.starts_with('/')) || !path.bytes().all(good) {
            return wrong("its path must begin with `/` and have only visible ASCII characters without `#`");
        }
        Ok(Self { host, port, path: path.to_owned() })
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Localhost => f.write_str("localhost"),
            Self::Address(IpAddr::V4(address)) => address.fmt(f),
            Self::Address(IpAddr::V6(address)) => write!(f, "[{address}]"),
        }
    }
}

impl fmt::Display for LoopbackAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

impl fmt::Display for HttpProbe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{SCHEME}{}{}", self.authority(), self.path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_this_machine_is_ever_asked() {
        for good in ["127.0.0.1:5432", "127.9.9.9:1", "[::1]:65535", "localhost:80"] {
            assert_eq!(good.parse::<LoopbackAddress>().unwrap().to_string(), good);
            assert!(good.parse::<LoopbackAddress>().unwrap().addresses().iter().all(|at| at.ip().is_loopback()));
            assert_eq!(format!("http://{good}/x").parse::<HttpProbe>().unwrap().authority(), good);
        }
        for bad in [
            "",
            "5432",
            ":5432",
            "127.0.0.1",
            "127.0.0.1:",
            "127.0.0.1:0",
            "127.0.0.1:65536",
            "127.0.0.1:+5",
            "127.1:5",
            "10.0.0.1:5",
            "0.0.0.0:5",
            "::1:5",
            "[::1]",
            "[::]:5",
            "[::ffff:127.0.0.1]:5",
            "[::1%lo]:5",
            "LOCALHOST:5",
            "localhost.:5",
            "example.org:5",
            "a@localhost:5",
            "169.254.169.254:80",
            "127.0.0.1 :5",
        ] {
            assert!(bad.parse::<LoopbackAddress>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_url_is_host_port_and_path() {
        for (text, authority, path) in [
            ("http://127.0.0.1:8000/healthz?deep=1", "127.0.0.1:8000", "/healthz?deep=1"),
            ("http://localhost", "localhost", "/"),
            ("http://[::1]/", "[::1]", "/"),
        ] {
            let url: HttpProbe = text.parse().unwrap();
            assert_eq!((url.authority().as_str(), url.path(), url.to_string().as_str()), (authority, path, text));
        }
        let port = |text: &str| text.parse::<HttpProbe>().unwrap().addresses()[0].port();
        assert_eq!((port("http://localhost"), port("http://localhost:8000")), (80, 8000));
        for bad in [
            "https://127.0.0.1/",
            "127.0.0.1:80",
            "http://",
            "http:///x",
            "http://10.0.0.1/",
            "http://user@127.0.0.1/",
            "http://127.0.0.1#x",
            "http://127.0.0.1/#x",
            "http://127.0.0.1?x",
            "http://127.0.0.1/a b",
            "http://127.0.0.1/ä",
            "http://127.0.0.1/\r\nX: y",
            "http://127.0.0.1.example.org/",
            "http://metadata.google.internal/",
            "HTTP://127.0.0.1/",
        ] {
            assert!(bad.parse::<HttpProbe>().is_err(), "{bad}");
        }
        assert!(format!("http://127.0.0.1/{}", "x".repeat(MAX_URL)).parse::<HttpProbe>().is_err());
    }
}
