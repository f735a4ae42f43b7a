//! A registry, and one repository in it.

use std::{fmt, str::FromStr};

use bucket::{NameError, text_name};
use serde::{Deserialize, Serialize};

/// Where a registry is: `images.example`, `127.0.0.1:5000`, `[::1]:5000`. In lower case, so that one registry has one name.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Host(String);

/// All versions of one image in one registry: `images.example/acme/web`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Repository {
    host: Host,
    path: String,
}

/// The longest name of a repository, with its registry, in bytes.
const MAX: usize = 255;

/// Other names of `docker.io`: one registry has one name.
const ALIASES: [&str; 2] = ["index.docker.io", "registry-1.docker.io"];

text_name!(Host);

impl Host {
    /// The name or the address, without the port; that of an IPv6 address in brackets.
    pub fn name(&self) -> &str {
        match self.0.rsplit_once(':') {
            Some((name, port)) if !port.ends_with(']') => name,
            _ => &self.0,
        }
    }

    /// Whether it is this very machine, by an address of 127.0.0.0/8, `[::1]` or `localhost`: there plain HTTP is spoken.
    pub fn is_loopback(&self) -> bool {
        match url::Host::parse(self.name()) {
            Ok(url::Host::Ipv4(address)) => address.is_loopback(),
            Ok(url::Host::Ipv6(address)) => address.is_loopback(),
            _ => self.name() == "localhost",
        }
    }
}

impl FromStr for Host {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let wrong = |reason: &str| Err(NameError::new("registry", text, reason));
        let (name, port) = match text.rsplit_once(':') {
            Some((name, port)) if !port.ends_with(']') => (name, Some(port)),
            _ => (text, None),
        };
        if port.is_some_and(|port| !is_port(port)) {
            return wrong("its port must be a number from 1 to 65535");
        }
        if name.bytes().any(|byte| byte.is_ascii_uppercase()) {
            return wrong("write it in lower case");
        }
        // A number is an address in many ways of writing (`127.1`), of which one is taken.
        let is_in_one_form = url::Host::parse(name).is_ok_and(|host| host.to_string() == name);
        let is_address = name.starts_with('[');
        if text.len() > MAX || !is_in_one_form || !(is_address || name.split('.').all(is_label)) {
            return wrong("write it as in `images.example`, `images.example:5000` or `[::1]:5000`");
        }
        // As everybody does who reads references: what has none of these is the first part of a path.
        if port.is_none() && !is_address && !name.contains('.') && name != "localhost" {
            return wrong("it has neither a dot nor a port: begin with the registry, as in `images.example/acme/web`");
        }
        if ALIASES.contains(&text) {
            return wrong("it is known as `docker.io`: write that");
        }
        let host = Self(text.to_owned());
        // One registry has one name: that is the port without it. On this machine it is another, and what has no dot is a registry
        // by its port alone.
        match text.strip_suffix(":443").filter(|name| is_address || name.contains('.')) {
            Some(name) if !host.is_loopback() => name.parse(),
            _ => Ok(host),
        }
    }
}

/// A number as it is written, from 1 to 65535.
fn is_port(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_digit()) && !text.starts_with('0') && text.parse::<u16>().is_ok()
}

/// A part of a domain's name.
fn is_label(label: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    !label.is_empty()
        && label.len() <= 63
        && label.bytes().all(inner)
        && !label.starts_with('-')
        && !label.ends_with('-')
}

impl Repository {
    /// The registry that it is in.
    pub fn host(&self) -> &Host {
        &self.host
    }

    /// What it is called there: `acme/web`.
    pub fn path(&self) -> &str {
        &self.path
    }
}

impl FromStr for Repository {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let wrong = |reason: &str| Err(NameError::new("name of an image", text, reason));
        if text.contains("://") {
            return wrong("leave out `https://`: write it as in `images.example/acme/web`");
        }
        let Some((host, path)) = text.split_once('/') else {
            return wrong("it must be a registry and a path, as in `images.example/acme/web`");
        };
        if text.len() > MAX {
            return wrong("it is longer than 255 characters");
        }
        let host: Host = match host.parse() {
            Ok(host) => host,
            Err(NameError { reason, .. }) => return wrong(&format!("of its registry: {reason}")),
        };
        if !path.split('/').all(is_component) {
            return wrong(
                "each part of its path must be lower-case letters and digits, with one of `.`, `_`, `__` or some `-` in between",
            );
        }
        if host.as_str() == "docker.io" && !path.contains('/') {
            return wrong("write it with the path that it has there, as in `docker.io/library/debian`");
        }
        Ok(Self { host, path: path.to_owned() })
    }
}

/// A part of a path: letters and digits, in between `.`, `_`, `__` or any number of `-`.
fn is_component(text: &str) -> bool {
    let is_letter = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let is_separator = |part: &str| matches!(part, "" | "." | "_" | "__") || part.bytes().all(|byte| byte == b'-');
    text.starts_with(is_letter) && text.ends_with(is_letter) && text.split(is_letter).all(is_separator)
}

impl fmt::Display for Repository {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.host, self.path)
    }
}

impl TryFrom<String> for Repository {
    type Error = NameError;

    fn try_from(text: String) -> Result<Self, NameError> {
        text.parse()
    }
}

impl From<Repository> for String {
    fn from(repository: Repository) -> Self {
        repository.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_http_is_for_this_machine_alone() {
        for (host, expected) in [
            ("127.0.0.1:5000", true),
            ("127.9.9.9", true),
            ("[::1]:5000", true),
            ("[::1]", true),
            ("localhost", true),
            ("localhost:5000", true),
            ("localhost.example", false),
            ("127.0.0.1.example:5000", false),
            ("10.0.0.1:5000", false),
            ("[::2]:5000", false),
        ] {
            assert_eq!(host.parse::<Host>().unwrap().is_loopback(), expected, "{host}");
        }
    }
}
