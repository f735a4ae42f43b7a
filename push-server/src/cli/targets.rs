//! Which servers a verb is for: named one by one, all that a filter matches, or either on stdin.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::Read,
};

use anyhow::{Context as _, Result, bail, ensure};
use bucket::{ServerName, Timestamp};
use console::UsageError;
use fleet::{
    filter::Filter,
    server::{self, Server},
};
use futures_util::{StreamExt, stream};

use super::command::Command;

/// Servers that are read at the same time.
const AT_ONCE: usize = 16;

/// Most bytes that are read on stdin.
const MAX_STDIN: u64 = 4 << 20;

/// What the arguments say.
pub(crate) struct Targets {
    /// In the order given, each once.
    names: Vec<ServerName>,
    /// One filter, quoted or not: all of its terms must hold. Empty if there is none.
    filter: Filter,
    /// As it was written.
    text: String,
}

/// A server that a verb is for, as it was read just now.
#[derive(Debug)]
pub(crate) struct Chosen {
    /// The server.
    pub(crate) server: Server,
    /// Whether its own name was given, and not only a filter that it matches.
    pub(crate) is_named: bool,
}

impl Targets {
    /// Of a verb's arguments: names, and the terms of a filter, which have a `:` that no name has; `-` stands for a line each
    /// on stdin.
    ///
    /// # Errors
    /// What isn't one, or that there is none.
    pub(crate) fn parse(arguments: &[String]) -> Result<Self> {
        let usage = |error: String| UsageError::new(error);
        let (terms, names): (Vec<String>, Vec<String>) =
            with_stdin(arguments)?.into_iter().partition(|text| text.contains(':'));
        let text = terms.join(" ");
        let filter = Filter::parse(&text).map_err(|error| usage(error.to_string()))?;
        let names = names.iter().map(|name| name.parse::<ServerName>());
        let mut names: Vec<_> = names.collect::<Result<_, _>>().map_err(|error| usage(error.to_string()))?;
        let mut seen = BTreeSet::new();
        names.retain(|name| seen.insert(name.clone()));
        ensure!(!names.is_empty() || !filter.is_empty(), usage("no server given: stdin was empty".to_owned()));
        Ok(Self { names, filter, text })
    }

    /// The servers, each once: those named, then those that the filter matches by name.
    ///
    /// # Errors
    /// When the filter matches none.
    pub(crate) async fn read(&self, command: &Command) -> Result<Vec<Chosen>> {
        let named = read_named(command, &self.names).await;
        let mut chosen: Vec<Chosen> = named.into_iter().map(|server| Chosen { server, is_named: true }).collect();
        if !self.filter.is_empty() {
            let all = read(command, server::listed(&command.bucket).await?).await;
            let new = self.matching(command, &all)?.into_iter().filter(|server| !self.names.contains(&server.name));
            chosen.extend(new.map(|server| Chosen { server: server.clone(), is_named: false }));
        }
        Ok(chosen)
    }

    /// Those that the filter matches.
    fn matching<'a>(&self, command: &Command, all: &'a [Server]) -> Result<Vec<&'a Server>> {
        let now = command.now();
        let matched = all.iter().filter(|server| self.filter.matches(server, &command.policy, now));
        let matched: Vec<&Server> = matched.collect();
        if matched.is_empty() {
            let hint = self.filter.unmatched(&all.iter(), &command.policy);
            bail!("no server matches `{}`{}", self.text, hint.map_or(String::new(), |hint| format!(": {hint}")));
        }
        Ok(matched)
    }
}

/// The arguments, with what is on stdin in place of `-`.
fn with_stdin(arguments: &[String]) -> Result<Vec<String>> {
    let mut texts = Vec::new();
    for argument in arguments {
        if argument == "-" {
            let mut input = String::new();
            let stdin = std::io::stdin().lock().take(MAX_STDIN + 1).read_to_string(&mut input);
            let read = stdin.context("could not read the servers from stdin")?;
            ensure!(read as u64 <= MAX_STDIN, UsageError::new("too many servers on stdin"));
            texts.extend(input.lines().map(str::trim).filter(|line| !line.is_empty()).map(str::to_owned));
        } else {
            texts.push(argument.clone());
        }
    }
    Ok(texts)
}

async fn read_named(command: &Command, names: &[ServerName]) -> Vec<Server> {
    let servers = stream::iter(names).map(async |name| server::read_dated(&command.bucket, name).await);
    servers.buffered(AT_ONCE).collect().await
}

async fn read(command: &Command, listed: BTreeMap<ServerName, Option<Timestamp>>) -> Vec<Server> {
    let servers =
        stream::iter(listed).map(async |(name, written)| server::read_listed(&command.bucket, &name, written).await);
    servers.buffered(AT_ONCE).collect().await
}
