//! Which servers a choice is for: those named, or all that a filter matches.

use std::{collections::BTreeSet, sync::Arc};

use bucket::{NameError, ServerName};
use fleet::{
    filter::{Filter, FilterError},
    server::Server,
};
use thiserror::Error;

use super::{params::Params, view::View};

/// The request doesn't say which servers.
#[derive(Debug, PartialEq, Eq, Error)]
pub(crate) enum TargetError {
    /// One of the names isn't a server's.
    #[error(transparent)]
    Name(#[from] NameError),
    /// The filter isn't one.
    #[error(transparent)]
    Filter(#[from] FilterError),
}

/// What says that a choice is for the servers named alone, whatever filter is sent along.
pub(crate) const SELECTED: (&str, &str) = ("for", "selected");

/// The filter that a request's choice is for.
pub(crate) fn filter_of(params: &Params) -> Option<&str> {
    params.get("q").filter(|_| params.get(SELECTED.0) != Some(SELECTED.1))
}

/// Servers that a choice is for.
pub(crate) struct Targets {
    /// Those that the bucket knows, by name.
    pub(crate) servers: Vec<Arc<Server>>,
    /// Those named that it doesn't know: a push would create them.
    pub(crate) unknown: Vec<ServerName>,
}

impl Targets {
    /// Of a request: `server=…`, repeated, or `q=FILTER`, where `*` is all; `for=selected` says that the filter is for no choice.
    ///
    /// # Errors
    /// The first name or term that isn't one.
    pub(crate) fn of(view: &View, params: &Params) -> Result<Self, TargetError> {
        let mut named = BTreeSet::new();
        for name in params.all("server") {
            named.insert(name.parse::<ServerName>()?);
        }
        if let Some(text) = filter_of(params) {
            let filter = Filter::parse(if text == "*" { "" } else { text })?;
            let matches = |server: &&Arc<Server>| filter.matches(server, &view.policy, view.now);
            named.extend(view.snapshot.servers.values().filter(matches).map(|server| server.name.clone()));
        }
        let (known, unknown): (Vec<_>, Vec<_>) =
            named.into_iter().partition(|name| view.snapshot.servers.contains_key(name));
        Ok(Self { servers: known.iter().map(|name| view.snapshot.servers[name].clone()).collect(), unknown })
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.servers.len() + self.unknown.len()
    }

    /// Their names, known ones first.
    pub(crate) fn names(&self) -> impl Iterator<Item = &ServerName> {
        self.servers.iter().map(|server| &server.name).chain(&self.unknown)
    }

    /// Up to three by name, more by number.
    pub(crate) fn summary(&self) -> String {
        let names: Vec<&str> = self.names().map(ServerName::as_str).collect();
        match names.as_slice() {
            [one] => (*one).to_owned(),
            [one, two] => format!("{one} and {two}"),
            [one, two, three] => format!("{one}, {two} and {three}"),
            names => format!("{} servers", names.len()),
        }
    }
}
