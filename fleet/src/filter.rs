//! The filter language of servers: `app:web state:failed group:prod text -app:db`.
//!
//! Terms are separated by spaces and all of them must hold; `-` before one negates it. A word without a key is
//! part of the server's name, whatever its case. With `app:`, `release:` is about that app there, and so is `state:`; else
//! that is the server's own.

use std::{collections::BTreeSet, sync::Arc};

use bucket::{AppState, ServerName, Timestamp};
use console::quoted;
use thiserror::Error;

use crate::{
    condition::{AppRow, Condition, app_label, apps, condition},
    lookup::did_you_mean,
    server::Server,
};

/// Most terms of a filter.
const MAX_TERMS: usize = 20;

/// The `state:` of servers that need attention.
const ATTENTION: &str = "attention";

/// Every state of an app.
const APP_STATES: [AppState; 12] = [
    AppState::Converged,
    AppState::Drifted,
    AppState::Unstable,
    AppState::AptHeld,
    AppState::Paused,
    AppState::Pending,
    AppState::Failed,
    AppState::Quarantined,
    AppState::Degraded,
    AppState::Refused,
    AppState::Orphan,
    AppState::Unknown,
];

/// Every key, for messages and help.
pub const KEYS: [&str; 4] = ["app", "group", "release", "state"];

/// The text isn't a filter.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum FilterError {
    /// A term has a key that there isn't.
    #[error("unknown filter key `{0}:`; valid keys: {keys}", keys = quoted(&KEYS.map(|key| format!("{key}:"))))]
    UnknownKey(String),
    /// A `state:` has a word that no server or app is shown with.
    #[error(
        "unknown state `{0}`; valid states of a server: {servers}; of an app, with `app:`: {apps}",
        servers = quoted(&server_states()),
        apps = quoted(&app_states())
    )]
    UnknownState(String),
    /// A `state:` has the word of an app's state, and no `app:` says of which.
    #[error("`state:{0}` is the state of an app: add `app:` and the app's name")]
    NoApp(String),
    /// A term has a key and nothing else.
    #[error("`{0}` has no value after the colon")]
    NoValue(String),
    /// It has more terms than anybody writes.
    #[error("a filter can have at most {MAX_TERMS} terms")]
    TooLong,
}

/// What a filter wants to know of the policy, which itself has filters in it.
pub trait Groups {
    /// The groups that a server is in.
    fn groups_of(&self, server: &ServerName) -> Vec<&str>;
}

impl<T: Groups> Groups for Arc<T> {
    fn groups_of(&self, server: &ServerName) -> Vec<&str> {
        (**self).groups_of(server)
    }
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

impl Term {
    /// Whether what the others say is about the app that it names.
    fn names_app(&self) -> bool {
        self.key == Key::App && !self.not
    }
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
        let is_about_app = terms.iter().any(Term::names_app);
        let of_app = |term: &&Term| term.key == Key::State && !server_states().contains(&term.value.as_str());
        match terms.iter().find(of_app) {
            Some(term) if !is_about_app => Err(FilterError::NoApp(term.value.clone())),
            _ => Ok(Self { terms }),
        }
    }

    /// Whether everything passes.
    pub fn is_empty(&self) -> bool {
        self.terms.is_empty()
    }

    /// Which of its names none of the `servers` has, and which one was probably meant; `None` when they have them all.
    pub fn unmatched<'a>(
        &self,
        servers: &(impl Iterator<Item = &'a Server> + Clone),
        policy: &impl Groups,
    ) -> Option<String> {
        let says = |what: String, word: &str, known: BTreeSet<&str>| {
            let known: Vec<&str> = known.into_iter().collect();
            match did_you_mean(word, &known) {
                Some(meant) => format!("{what}; {meant}"),
                None => what,
            }
        };
        let servers = || servers.clone();
        // Most words are right: all names are gathered only for one that isn't.
        self.terms.iter().filter(|term| !term.not).find_map(|term| {
            let word = term.value.as_str();
            match term.key {
                Key::App if servers().any(|server| server.has_app(word)) => None,
                Key::App => {
                    let known = servers().flat_map(|server| apps(server).into_iter().map(|row| row.app)).collect();
                    Some(says(format!("no server has an app `{word}`"), word, known))
                }
                Key::Group if servers().any(|server| policy.groups_of(&server.name).contains(&word)) => None,
                Key::Group => {
                    let known = servers().flat_map(|server| policy.groups_of(&server.name)).collect();
                    Some(says(format!("no server is in a group `{word}`"), word, known))
                }
                Key::Text if servers().any(|server| has_in_name(server, word)) => None,
                Key::Text => {
                    let known = servers().map(|server| server.name.as_str()).collect();
                    Some(says(format!("no server has a name with `{word}`"), word, known))
                }
                Key::Release | Key::State => None,
            }
        })
    }

    /// Whether a server passes.
    pub fn matches(&self, server: &Server, policy: &impl Groups, now: Timestamp) -> bool {
        if self.is_empty() {
            return true;
        }
        // What needs no rows comes first: of ten thousand servers few have the app.
        let at_once = |term: &Term| {
            let value = term.value.as_str();
            match term.key {
                Key::App => Some(server.has_app(value)),
                Key::Group => Some(policy.groups_of(&server.name).contains(&value)),
                Key::Text => Some(has_in_name(server, value)),
                Key::Release | Key::State => None,
            }
        };
        if self.terms.iter().any(|term| at_once(term) == Some(term.not)) {
            return false;
        }
        let mut rest = self.terms.iter().filter(|term| matches!(term.key, Key::Release | Key::State)).peekable();
        if rest.peek().is_none() {
            return true;
        }
        let needs_rows = self.terms.iter().any(|term| term.names_app() || term.key == Key::Release);
        let rows = if needs_rows { apps(server) } else { Vec::new() };
        let wanted = |key: Key| self.terms.iter().filter(move |term| term.key == key);
        let is_about_app = wanted(Key::App).any(Term::names_app);
        let chosen: Vec<&AppRow> = if is_about_app {
            let named = |row: &&AppRow| wanted(Key::App).filter(|term| !term.not).any(|term| term.value == row.app);
            rows.iter().filter(named).collect()
        } else {
            rows.iter().collect()
        };
        rest.all(|term| {
            let value = term.value.as_str();
            let holds = match term.key {
                Key::Release => chosen.iter().any(|row| {
                    let of = |commit: &str| commit.starts_with(value);
                    let names = [row.desired, row.installed].into_iter().flatten();
                    names.into_iter().any(|name| of(name.commit().as_str()) || name.stem() == value)
                }),
                Key::State if is_about_app && app_states().contains(&value) => {
                    chosen.iter().any(|row| is_in_state(row.state, value))
                }
                Key::State if value == ATTENTION => condition(server, now).needs_attention(),
                Key::App | Key::Group | Key::State | Key::Text => condition(server, now).label() == value,
            };
            holds != term.not
        })
    }
}

/// Whether a word is part of a server's name, whatever its case.
fn has_in_name(server: &Server, word: &str) -> bool {
    server.name.as_str().to_lowercase().contains(&word.to_lowercase())
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
    if key == Key::State && !server_states().contains(&value) && !app_states().contains(&value) {
        return Err(FilterError::UnknownState(value.to_owned()));
    }
    Ok(Term { not, key, value: value.to_owned() })
}

/// Every word that `state:` takes of a server.
fn server_states() -> Vec<&'static str> {
    Condition::ALL.into_iter().map(Condition::label).chain([ATTENTION]).collect()
}

/// Every word that `state:` takes of an app.
fn app_states() -> [&'static str; APP_STATES.len()] {
    APP_STATES.map(app_label)
}

/// Whether an app in that state is meant by the word. What failed in any way has failed; the other words mean one state.
fn is_in_state(state: AppState, word: &str) -> bool {
    let has_failed = matches!(state, AppState::Failed | AppState::Quarantined | AppState::Refused | AppState::Degraded);
    app_label(state) == word || (has_failed && word == app_label(AppState::Failed))
}

#[cfg(test)]
mod tests {
    use bucket::ServerState;

    use super::*;
    use crate::{
        condition::tests::{now, release, server},
        policy::Policy,
    };

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
            ("app:web state:rolled-back", true),
            ("app:web state:failed", true),
            ("app:web state:degraded", false),
            ("app:web state:attention", true),
            ("app:web -state:silent", true),
            ("app:web app:api state:failed", false),
            ("web state:converged", false),
            ("group:prod", false),
            (&format!("release:{}", commit.commit()), true),
            ("release:abcdef", false),
        ] {
            assert_eq!(Filter::parse(filter).unwrap().matches(&failed, &Policy::default(), now()), want, "{filter}");
        }
    }

    #[test]
    fn the_state_of_a_server_is_its_own() {
        // It is well, whatever one of its apps is.
        let orphaned = server(1, 1, 1, AppState::Orphan, ServerState::Converged);
        let matches = |filter: &str| Filter::parse(filter).unwrap().matches(&orphaned, &Policy::default(), now());
        assert!(matches("state:converged") && matches("app:web state:orphan"));
        assert!(!matches("app:web state:converged") && !matches("app:web state:failed"));
        // One of its apps is, whatever it is itself.
        let failed = server(1, 1, 1, AppState::Converged, ServerState::Failed);
        let matches = |filter: &str| Filter::parse(filter).unwrap().matches(&failed, &Policy::default(), now());
        assert!(!matches("state:converged") && matches("app:web state:converged"));
    }

    #[test]
    fn the_state_of_an_app_needs_to_know_of_which() {
        for filter in ["state:rolled-back", "-state:refused web", "-app:web state:orphan"] {
            let error = Filter::parse(filter).unwrap_err().to_string();
            assert!(error.contains("add `app:` and the app's name"), "{filter}: {error}");
        }
    }

    #[test]
    fn a_name_that_nothing_has_is_named_with_the_nearest() {
        let web = server(1, 1, 1, AppState::Converged, ServerState::Converged);
        let said = |filter: &str| Filter::parse(filter).unwrap().unmatched(&[&web].into_iter(), &Policy::default());
        for (filter, expected) in [
            ("", None),
            ("web app:web -app:api state:failed", None),
            ("app:wbe", Some("no server has an app `wbe`; did you mean `web`?")),
            ("wbe-1", Some("no server has a name with `wbe-1`; did you mean `web-1`?")),
            ("group:production", Some("no server is in a group `production`")),
        ] {
            assert_eq!(said(filter).as_deref(), expected, "{filter}");
        }
    }

    #[test]
    fn a_state_that_does_not_exist_is_refused_with_those_that_do() {
        let error = Filter::parse("state:faild").unwrap_err().to_string();
        assert!(error.contains("unknown state `faild`"), "{error}");
        for state in ["converged", "failed", "rolled-back", "orphan", "silent", "never", "attention"] {
            assert!(error.contains(&format!("`{state}`")), "{state}: {error}");
            assert!(Filter::parse(&format!("app:web -state:{state}")).is_ok());
        }
    }

    #[test]
    fn what_is_no_filter_is_refused() {
        assert!(Filter::parse("stat:failed").unwrap_err().to_string().contains("`state:`"));
        assert!(Filter::parse("app:").is_err());
        assert!(Filter::parse(&"x ".repeat(100)).is_err());
    }
}
