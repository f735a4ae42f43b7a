//! Who builds, and where: the `user@host` of a release name.
//!
//! It is what the developer's machine says of itself, recorded for people. Nothing is allowed or refused by it.

use anyhow::{Result, bail};
use console::{Person, safe};

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
    /// From the environment (by `lookup`, normally [`std::env::var`]) and the system; see [`Person::find`].
    pub(crate) fn find(lookup: impl Fn(&str) -> Option<String>) -> Result<Self> {
        let Person { user, host } = Person::find(lookup);
        let Some(user) = name_word(&user) else {
            bail!("login name `{}` cannot be part of a release name: set PUSH_USER", safe(&user));
        };
        let Some(host) = name_word(&host) else {
            bail!("host name `{}` cannot be part of a release name: set PUSH_HOST", safe(&host));
        };
        Ok(Self { user, host })
    }
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
