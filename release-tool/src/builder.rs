//! Who builds, and where: the `user@host` of a release name.
//!
//! It is what the developer's machine says of itself, recorded for people. Nothing is allowed or refused by it.

use std::process::Command;

use anyhow::{Result, bail};

/// Longest user or host in a release name: with 32 there is room for a long app name too.
const LONGEST: usize = 32;

/// User and host of a release name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Builder {
    /// Login name.
    pub(crate) user: String,
    /// Short host name.
    pub(crate) host: String,
}

impl Builder {
    /// From the environment (by `lookup`, normally [`std::env::var`]) and the system.
    ///
    /// `PUSH_USER` and `PUSH_HOST` win: a build server names the person it builds for. Root is whoever called `sudo`.
    pub(crate) fn find(lookup: impl Fn(&str) -> Option<String>) -> Result<Self> {
        let set = |key: &str| lookup(key).filter(|value| !value.is_empty());
        let user = set("PUSH_USER")
            .or_else(|| set("SUDO_USER").filter(|_| rustix::process::getuid().is_root()))
            .or_else(login_name)
            .or_else(|| set("LOGNAME"))
            .or_else(|| set("USER"));
        let host =
            set("PUSH_HOST").unwrap_or_else(|| rustix::system::uname().nodename().to_string_lossy().into_owned());
        let host = host.split('.').next().unwrap_or_default();
        let Some(user) = user.as_deref().and_then(name_word) else {
            bail!("could not find out your login name: set the environment variable PUSH_USER");
        };
        let Some(host) = name_word(host) else {
            bail!("could not find out this machine's name: set the environment variable PUSH_HOST");
        };
        Ok(Self { user, host })
    }
}

/// The name of the user that this process runs as, from the system's user database.
fn login_name() -> Option<String> {
    let output = Command::new("id").arg("-un").output().ok()?;
    let name = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    (output.status.success() && !name.is_empty()).then_some(name)
}

/// The nearest word that a release name may have: letters, digits and `+ . _ ~ -`, without `..`.
fn name_word(name: &str) -> Option<String> {
    let mut word = String::new();
    for c in name.chars() {
        let c = if c.is_ascii_alphanumeric() || "+._~-".contains(c) { c } else { '-' };
        let fits = if word.is_empty() { c.is_ascii_alphanumeric() } else { !(c == '.' && word.ends_with('.')) };
        if fits && word.len() < LONGEST {
            word.push(c);
        }
    }
    (!word.is_empty()).then_some(word)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_become_words() {
        let table = [
            ("dev", Some("dev")),
            ("ACME\\dev", Some("ACME-dev")),
            ("dev@acme.example", Some("dev-acme.example")),
            ("..dev..b", Some("dev.b")),
            ("-dev", Some("dev")),
            ("Zoë", Some("Zo-")),
            ("", None),
            ("…", None),
        ];
        for (name, expected) in table {
            assert_eq!(name_word(name).as_deref(), expected, "{name}");
        }
    }

    #[test]
    fn environment_wins() {
        let builder = Builder::find(|key| match key {
            "PUSH_USER" => Some("ci".to_owned()),
            "PUSH_HOST" => Some("runner-7.acme.example".to_owned()),
            _ => None,
        });
        assert_eq!(builder.unwrap(), Builder { user: "ci".to_owned(), host: "runner-7".to_owned() });
    }
}
