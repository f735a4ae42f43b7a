//! A fake of Google Cloud Storage, over real sockets.
//!
//! It speaks what our programs use of the JSON API: insert (multipart and resumable), media with ranges and
//! preconditions, metadata, list with prefix, delimiter and paging, rewrite, delete. What it says was compared with Google's own
//! `storage-testbench`. And it misbehaves on request, by [`Fault`]. It runs on a thread of its own, so that blocking
//! tests and tests with paused time can use it, and other processes and containers too: it is only a URL.

mod address;
mod answer;
mod reply;
mod rewrite;
mod rights;
mod state;
mod store;
mod upload;

use std::{collections::BTreeMap, time::Duration};

use bytes::Bytes;
use jiff::SignedDuration;

use self::state::{Grant, Rule, Shared, lock};
use crate::background::Background;

pub use self::state::{Fault, Kind, Request, Right};

/// A running fake; it ends when dropped.
#[derive(Debug)]
pub struct FakeGcs {
    /// Base URL of its API, for `PUSH_GCS_ENDPOINT`: `http://127.0.0.1:PORT`.
    pub url: String,
    state: Shared,
    _server: Background,
}

impl FakeGcs {
    /// Starts a server on a free port of the loopback interface, with one empty bucket.
    ///
    /// # Panics
    /// When no port can be bound.
    pub fn start(bucket: &str) -> Self {
        let state = Shared::default();
        lock(&state).store.make_bucket(bucket);
        let shared = state.clone();
        let server = Background::start(|listener, address| {
            lock(&shared).address = address.to_string();
            answer::serve(listener, shared)
        });
        Self { url: format!("http://{}", server.address()), state, _server: server }
    }

    /// Makes another empty bucket.
    pub fn make_bucket(&self, name: &str) {
        lock(&self.state).store.make_bucket(name);
    }

    /// From now on every request must bear this token, else it is answered 401.
    pub fn require_token(&self, token: &str) {
        lock(&self.state).token = Some(token.to_owned());
    }

    /// An account may do this with what begins with `prefix`. From the first time on, nobody may do anything else; who bears no
    /// token is `anonymous`, and of others the token says who they are.
    pub fn grant(&self, account: &str, rights: &[Right], bucket: &str, prefix: &str) {
        let (account, bucket, prefix) = (account.to_owned(), bucket.to_owned(), prefix.to_owned());
        let grant = |right: &Right| Grant {
            account: account.clone(),
            right: *right,
            bucket: bucket.clone(),
            prefix: prefix.clone(),
        };
        lock(&self.state).grants.extend(rights.iter().map(grant));
    }

    /// The next `requests` are answered. Those after them are carried out, and whoever sent them waits in vain, until
    /// [`Self::heal`].
    pub fn fall_silent_after(&self, requests: usize) {
        lock(&self.state).answers_left = Some(requests);
    }

    /// From now on its clock is that far ahead of ours.
    pub fn set_clock_ahead(&self, ahead: SignedDuration) {
        lock(&self.state).store.ahead = ahead;
    }

    /// The next `times` requests of a kind whose object contains `object` suffer `fault`.
    pub fn fail_next(&self, kind: Kind, object: &str, times: usize, fault: Fault) {
        let rule = Rule { kind, object: object.to_owned(), fault, left: Some(times) };
        lock(&self.state).rules.push(rule);
    }

    /// All requests of a kind whose object contains `object` suffer `fault`, until [`Self::heal`].
    pub fn fail(&self, kind: Kind, object: &str, fault: Fault) {
        lock(&self.state).rules.push(Rule { kind, object: object.to_owned(), fault, left: None });
    }

    /// Ends all faults.
    pub fn heal(&self) {
        let mut state = lock(&self.state);
        state.rules.clear();
        state.answers_left = None;
    }

    /// Puts an object where our programs wouldn't, or as they wouldn't.
    ///
    /// # Panics
    /// When there is no such bucket.
    pub fn put(&self, bucket: &str, name: &str, content: impl Into<Bytes>) {
        self.put_with(bucket, name, content, BTreeMap::new());
    }

    /// Puts an object with metadata, without asking anybody: a million in a few seconds.
    ///
    /// # Panics
    /// When there is no such bucket.
    pub fn put_with(&self, bucket: &str, name: &str, content: impl Into<Bytes>, metadata: BTreeMap<String, String>) {
        let mut state = lock(&self.state);
        let put = state.store.put(bucket, name, content.into(), metadata, String::new(), &BTreeMap::new());
        assert!(put.is_ok(), "no such bucket: {bucket}");
    }

    /// The requests so far, oldest first.
    pub fn requests(&self) -> Vec<Request> {
        lock(&self.state).requests.clone()
    }

    /// Waits until the requests satisfy `enough`.
    ///
    /// # Panics
    /// After 30 seconds, with the requests until then.
    pub async fn until(&self, enough: impl Fn(&[Request]) -> bool) {
        let satisfied = async {
            while !enough(&self.requests()) {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let satisfied = tokio::time::timeout(Duration::from_secs(30), satisfied).await;
        assert!(satisfied.is_ok(), "waited 30 s in vain; the requests were {:#?}", self.requests());
    }

    /// How many requests of a kind there were so far.
    pub fn count(&self, kind: Kind) -> usize {
        lock(&self.state).requests.iter().filter(|request| request.kind == kind).count()
    }
}
