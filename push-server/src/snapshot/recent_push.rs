//! One of the last pushes, whatever its number of servers: its head, and of the newest ones what became of each row.
//!
//! What became of a row is worked out when its server or the history changes, and not when a page is drawn. It is made of
//! the same documents and reports as everything else in a snapshot, and by the same rules as `push show` has it.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
};

use bucket::{
    AppName, AppState, Generation, HistoryEntry, LastPush, Push, PushEnd, PushHead, PushId, PushRow, ReleaseName,
    ServerName, Timestamp, UnwrittenCause,
};
use fleet::{
    account::{RowState, Stage, in_words, row_state},
    server::{Reading, Server},
};

/// One of the last pushes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecentPush {
    /// What a list shows of it.
    pub head: PushHead,
    /// Whether it has no object of its own: only a document or the history tells of it.
    pub is_foreign: bool,
    /// Its rows; `None` of one that is too large, or older than those whose rows are kept.
    pub rows: Option<RecentRows>,
}

/// The rows of a push, and what became of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecentRows {
    /// The push with its rows, in order.
    pub push: Arc<Push>,
    /// How it ended, if somebody ended it.
    pub end: Option<Arc<PushEnd>>,
    /// What became of each, in the same order.
    pub states: Vec<RowState>,
    /// What became of them, in words.
    pub summary: String,
    written: Vec<Option<Generation>>,
    last: Timestamp,
    is_over: bool,
}

impl RecentPush {
    /// The release before it, if it was the same for all of its servers.
    pub fn from(&self) -> Option<&ReleaseName> {
        let rows = &self.rows.as_ref()?.push.rows;
        let from = rows.first()?.from.as_ref();
        from.filter(|from| rows.iter().all(|row| row.from.as_ref() == Some(from)))
    }

    /// Whether it is under way, as far as that is known.
    pub fn stage(&self, now: Timestamp) -> Stage {
        match &self.rows {
            Some(rows) => rows.stage(now),
            None => Stage::of(self.head.unwritten.is_some(), (!self.head.rollout).then_some(self.head.time), now),
        }
    }

    /// Whether it mentions a text, in whatever case: what [`fleet::account::mentions`] looks at, and all of its servers.
    pub fn mentions(&self, text: &str) -> bool {
        let lower = text.to_lowercase();
        let servers = self.rows.iter().flat_map(|rows| &rows.push.rows).map(|row| row.server.as_str());
        fleet::account::mentions(&self.head, text)
            || servers.into_iter().any(|name| name.to_lowercase().contains(&lower))
    }
}

impl RecentRows {
    /// Of a push of which nothing is known yet.
    pub fn new(push: Push, end: Option<PushEnd>) -> Self {
        let (count, last) = (push.rows.len(), push.time);
        let (states, written) = (vec![RowState::Waiting; count], vec![None; count]);
        Self {
            push: Arc::new(push),
            end: end.map(Arc::new),
            states,
            summary: String::new(),
            written,
            last,
            is_over: false,
        }
    }

    /// Whether it is under way.
    pub fn stage(&self, now: Timestamp) -> Stage {
        let is_whole = self.written.iter().all(Option::is_some);
        let last = (!self.push.rollout).then(|| self.last.max(self.push.time));
        Stage::of(self.end.is_some() || self.is_over || is_whole, last, now)
    }

    /// Each row, the generation of the document that holds it, if it was written, and what became of it.
    pub fn iter(&self) -> impl Iterator<Item = (&PushRow, Option<Generation>, &RowState)> {
        let found = self.push.rows.iter().zip(&self.written).zip(&self.states);
        found.map(|((row, written), state)| (row, *written, state))
    }

    /// Works out what became of those rows whose server is among `changed`, or of all.
    pub fn follow(&mut self, evidence: &mut Evidence<'_>, changed: Option<&HashSet<&ServerName>>) {
        for (place, row) in self.push.rows.iter().enumerate() {
            if changed.is_some_and(|changed| !changed.contains(&row.server)) {
                continue;
            }
            let server = evidence.server(&row.server);
            let is_ended = self.end.as_ref().is_some_and(|end| end.rows.iter().all(|row| row.server != server.name));
            let written = match evidence.written(&self.push, &server) {
                Some((generation, time)) => {
                    self.last = self.last.max(time);
                    Some(generation)
                }
                // It was written, and others have been since.
                None if is_ended => Some(server.document.known().map_or(Generation(0), |(generation, _)| *generation)),
                None => self.written[place],
            };
            self.written[place] = written;
            self.states[place] = row_state(self.push.app.as_ref(), row, &server, written, self.end.as_deref());
        }
        self.summary = in_words(&self.states);
    }

    /// Takes over how this process wrote some rows: what is not in a document or an end that was read yet.
    pub fn learn(
        &mut self,
        evidence: &Evidence<'_>,
        results: &HashMap<&ServerName, Result<Generation, UnwrittenCause>>,
        is_over: bool,
    ) {
        self.is_over |= is_over;
        for (place, row) in self.push.rows.iter().enumerate() {
            match results.get(&row.server) {
                Some(Ok(generation)) if self.written[place].is_none() => {
                    let server = evidence.server(&row.server);
                    self.written[place] = Some(*generation);
                    self.states[place] = match server.document.known() {
                        Some((read, _)) if read >= generation => {
                            row_state(self.push.app.as_ref(), row, &server, Some(*generation), None)
                        }
                        _ => RowState::Written(AppState::Pending),
                    };
                }
                Some(Err(cause)) if self.states[place] == RowState::Waiting => {
                    self.states[place] = RowState::NotWritten(cause.clone());
                }
                _ => {}
            }
        }
        self.summary = in_words(&self.states);
    }
}

/// By what rows are known to be written: documents, which tell of their last pushes, and the history.
pub struct Evidence<'a> {
    servers: &'a BTreeMap<ServerName, Arc<Server>>,
    told: HashMap<ServerName, Vec<LastPush>>,
    entries: HashMap<(&'a str, Option<&'a AppName>, &'a ServerName), &'a HistoryEntry>,
}

impl<'a> Evidence<'a> {
    /// Of what a snapshot has.
    pub fn new(servers: &'a BTreeMap<ServerName, Arc<Server>>, entries: &'a [Arc<HistoryEntry>]) -> Self {
        let entries = entries.iter().map(|entry| ((push_of(entry), entry.app.as_ref(), &entry.server), &**entry));
        Self { servers, told: HashMap::new(), entries: entries.collect() }
    }

    /// A server; one that is gone has nothing.
    fn server(&self, name: &ServerName) -> Arc<Server> {
        let gone =
            || Server { name: name.clone(), document: Reading::Absent, status: Reading::Absent, is_retired: false };
        self.servers.get(name).cloned().unwrap_or_else(|| Arc::new(gone()))
    }

    /// The generation of a server's document that first held a push, and when that was written.
    fn written(&mut self, push: &Push, server: &Server) -> Option<(Generation, Timestamp)> {
        let told = server.document.known().and_then(|(generation, document)| {
            if !self.told.contains_key(&server.name) {
                self.told.insert(server.name.clone(), document.metadata().pushes());
            }
            let told = self.told[&server.name]
                .iter()
                .find(|told| told.id == push.id && Some(&told.app) == push.app.as_ref())?;
            Some((told.generation.unwrap_or(*generation), told.time))
        });
        let entry = || self.entries.get(&(push.id.as_str(), push.app.as_ref(), &server.name));
        told.or_else(|| entry().map(|entry| (entry.generation, entry.time)))
    }
}

/// The ID of the push that an entry of the history belongs to; of one that was written before pushes had IDs its own.
pub fn push_of(entry: &HistoryEntry) -> &str {
    entry.push.as_ref().map_or(entry.id.as_str(), PushId::as_str)
}
