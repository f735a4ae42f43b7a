//! The filter language of servers: `app:web state:failed group:prod text -app:db`.
//!
//! Terms are separated by spaces and all of them must hold; `-` before one negates it. A word without a key is
//! part of the server's name, whatever its case. With `app:`, `state:` and `release:` are about that app there.

use bucket::Timestamp;
use console::quoted;
use thiserror::Error;

use crate::{
    condition::{AppRow, app_label, apps, condition},
    policy::Policy,
    server::Server,
};

/// Most terms of a filter.
const MAX_TERMS: usize = 20;

/// Every key, for messages and help.
pub const KEYS: [&str; 4] = ["app", "group", "release", "state"];

/// The text isn't a filter.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum FilterError {
    /// A term has a key that there isn't.
    #[error("unknown filter key `{0}:`; valid keys: {keys}", keys = quoted(&KEYS.map(|key| format!("{key}:"))))]
    UnknownKey(String),
    /// A term has a key and nothing else.
    #[error("`{0}` has no value after the colon")]
    NoValue(String),
    /// It has more terms than anybody writes.
    #[error("a filter can have at most {MAX_TERMS} terms")]
    TooLong,
}

/// A parsed filter.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    terms: Vec<Term>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Term {
    /// Whether it must not hold.
    not: bool,
    key: Key,
    value: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Key {
    App,
    Group,
    Release,
    State,
    Text,
}

impl Filter {
    /// Parses a filter.
    ///
    /// # Errors
    /// The first term that isn't one.
    pub fn parse(text: &str) -> Result<Self, FilterError> {
        let terms: Vec<Term> = text.split_whitespace().map(term).collect::<Result<_, _>>()?;
        if terms.len() > MAX_TERMS {
            return Err(FilterError::TooLong);
        }
        Ok(Self { terms })
    }

    /// Whether everything passes.
    pub fn is_empty(&self) -> bool {
        self.terms.is_empty()
    }

    /// Whether a server passes.
    pub fn matches(&self, server: &Server, policy: &Policy, now: Timestamp) -> bool {
        if self.is_empty() {
            return true;
        }
        let rows = apps(server);
        let wanted = |key: Key| self.terms.iter().filter(move |term| term.key == key);
        let chosen: Vec<&AppRow> = if wanted(Key::App).any(|term| !term.not) {
            let named = |row: &&AppRow| wanted(Key::App).filter(|term| !term.not).any(|term| term.value == row.app);
            rows.iter().filter(named).collect()
        } else {
            rows.iter().collect()
        };
        let about_app = chosen.len() < rows.len() || wanted(Key::App).any(|term| !term.not);
        self.terms.iter().all(|term| {
            let value = term.value.as_str();
            let holds = match term.key {
                Key::App => rows.iter().any(|row| row.app == value),
                Key::Group => policy.groups_of(&server.name).contains(&value),
                Key::Release => chosen.iter().any(|row| {
                    let of = |commit: &str| commit.starts_with(value);
                    let names = [row.desired, row.installed].into_iter().flatten();
                    names.into_iter().any(|name| of(name.commit().as_str()) || name.stem() == value)
                }),
                Key::State if about_app => chosen.iter().any(|row| app_label(row.state) == value),
                Key::State if value == "attention" => condition(server, now).needs_attention(),
                Key::State => {
                    condition(server, now).label() == value || rows.iter().any(|row| app_label(row.state) == value)
                }
                Key::Text => server.name.as_str().to_lowercase().contains(&value.to_lowercase()),
            };
            holds != term.not
        })
    }
}

fn term(word: &str) -> Result<Term, FilterError> {
    let (not, word) = match word.strip_prefix('-') {
        Some(rest) if !rest.is_empty() => (true, rest),
        _ => (false, word),
    };
    let Some((key, value)) = word.split_once(':') else {
        return Ok(Term { not, key: Key::Text, value: word.to_owned() });
    };
    let key = match key {
        "app" => Key::App,
        "group" => Key::Group,
        "release" => Key::Release,
        "state" => Key::State,
        _ => return Err(FilterError::UnknownKey(key.to_owned())),
    };
    if value.is_empty() {
        return Err(FilterError::NoValue(word.to_owned()));
    }
    Ok(Term { not, key, value: value.to_owned() })
}

#[cfg(test)]
mod tests {
    use bucket::{AppState, ServerState};

    use super::*;
    use crate::condition::tests::{now, release, server};

    #[test]
    fn all_terms_must_hold() {
        let failed = server(2, 2, 1, AppState::Quarantined, ServerState::Failed);
        let commit = release(1);
        for (filter, want) in [
            ("", true),
            ("web", true),
            ("WEB-1", true),
            ("db", false),
            ("-db", true),
            ("app:web", true),
            ("app:api", false),
            ("-app:api", true),
            ("state:failed", true),
            ("state:attention", true),
            ("state:converged", false),
            ("state:rolled-back", true),
            ("app:web state:rolled-back", true),
            ("app:web state:failed", false),
            ("web state:converged", false),
            ("group:prod", false),
            (&format!("release:{}", commit.commit()), true),
            ("release:abcdef", false),
        ] {
            assert_eq!(Filter::parse(filter).unwrap().matches(&failed, &Policy::default(), now()), want, "{filter}");
        }
    }

    #[test]
    fn what_is_no_filter_is_refused() {
        assert!(Filter::parse("stat:failed").unwrap_err().to_string().contains("`state:`"));
        assert!(Filter::parse("app:").is_err());
        assert!(Filter::parse(&"x ".repeat(100)).is_err());
    }
}
