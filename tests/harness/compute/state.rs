//! What the fake knows: instances, what was asked of it, and how it is to misbehave.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use crate::metadata::FakeMetadata;

/// What a request is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    /// `instances.aggregatedList`
    List,
    /// `instances.get`
    Get,
    /// `instances.setMetadata`
    Set,
    /// `zoneOperations.wait`
    Wait,
}

/// How the API misbehaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// An error with this status and short reason, and perhaps `Retry-After` in seconds.
    Status(u16, &'static str, Option<u64>),
    /// 200 with an HTML page.
    Html,
    /// Somebody else writes another attribute just before this write.
    OtherWriter,
    /// The write is accepted, and its operation fails with this code.
    OperationFails(&'static str),
    /// The write is accepted, and its operation takes this many waits.
    OperationTakes(usize),
    /// The write is done, but the answer is a 503.
    AnswerLost,
}

#[derive(Debug, Default)]
pub(super) struct Instance {
    pub(super) fingerprint: u64,
    pub(super) items: Vec<(String, String)>,
    pub(super) mirror: Option<Arc<FakeMetadata>>,
}

#[derive(Debug, Default)]
pub(super) struct State {
    /// By zone and name.
    pub(super) instances: BTreeMap<(String, String), Instance>,
    pub(super) unreachable: Vec<String>,
    pub(super) page_size: usize,
    pub(super) rules: Vec<(Verb, Fault, usize)>,
    /// Operations under way: waits left, and the error at the end.
    pub(super) operations: BTreeMap<String, (usize, Option<&'static str>)>,
    pub(super) asked: Vec<Verb>,
    pub(super) writes: usize,
    pub(super) authorizations: Vec<Option<String>>,
    pub(super) refused_token: Option<String>,
}

/// A test that panicked elsewhere leaves a state that is good enough to be looked at.
pub(super) fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}
