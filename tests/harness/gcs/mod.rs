//! A fake of Google Cloud Storage, over real sockets.
//!
//! It speaks what our programs use of the JSON API: insert (multipart and resumable), media with ranges and
//! preconditions, metadata, list with prefix, delimiter and paging, delete. What it says was compared with Google's own
//! `storage-testbench`. And it misbehaves on request, by [`Fault`]. It runs on a thread of its own, so that blocking
//! tests and tests with paused time can use it, and other processes and containers too: it is only a URL.

mod answer;
mod store;
mod upload;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread::JoinHandle,
    time::{Duration, Instant},
};

use bytes::Bytes;
use tokio::sync::oneshot;

use self::store::Store;

/// What a request is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The content of an object.
    Get,
    /// The metadata of an object.
    Head,
    /// A page of a listing.
    List,
    /// A whole object in one request, or the beginning of a resumable upload.
    Insert,
    /// A piece of a resumable upload, or the question how far it got.
    Chunk,
    /// A deletion.
    Delete,
}

/// A request that was received.
#[derive(Debug, Clone)]
pub struct Request {
    /// What it is for.
    pub kind: Kind,
    /// The object's name, or the prefix that is listed.
    pub object: String,
    /// The query's parameters, decoded.
    pub query: BTreeMap<String, String>,
    /// The `Range` header.
    pub range: Option<String>,
    /// The `Authorization` header.
    pub authorization: Option<String>,
    /// When it came.
    pub at: Instant,
    /// The status of the answer; 0 when there was none.
    pub status: u16,
}

/// How the server misbehaves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// Answers with this status, and perhaps `Retry-After` in seconds.
    Status(u16, Option<u32>),
    /// Answers with this status and an HTML page, as a proxy does.
    Html(u16),
    /// Does what was asked, and closes the connection instead of answering.
    LoseAnswer,
    /// Closes the connection and does nothing.
    Reset,
    /// Takes the request, does nothing and never answers.
    NeverAnswer,
    /// Answers only after this time.
    Slow(Duration),
    /// Sends this many bytes of the body, or takes this many of a piece of an upload, then closes the connection.
    Cut(u64),
    /// Takes a piece of an upload whole, keeps nothing of it, and says so.
    Forget,
    /// Sends this many bytes of the body, then nothing more, and keeps the connection.
    Stall(u64),
    /// Sends a body of the right length with the first byte changed.
    WrongBytes,
    /// Sends a body that is this much shorter than the object, with a `Content-Length` to match.
    Shorter(usize),
    /// Sends a body that is this much longer than the object, with a `Content-Length` to match.
    Longer(usize),
    /// Sends the content as if the object were stored with `Content-Encoding: gzip`: unpacked on the way, as Google does
    /// unless it is told not to.
    Unpacked,
    /// The same for an object that Google was told not to unpack.
    Packed,
    /// Answers with the newest generation, whichever was asked for.
    IgnoreGeneration,
    /// Answers a request for a range with the whole object.
    IgnoreRange,
    /// Answers a request for a range with the `Content-Range` of another, one byte shorter.
    WrongRange,
}

/// A rule: requests of this kind whose object contains `object` suffer `fault`, `left` times or until healed.
#[derive(Debug)]
struct Rule {
    kind: Kind,
    object: String,
    fault: Fault,
    left: Option<usize>,
}

/// Everything the server knows.
#[derive(Debug, Default)]
struct State {
    store: Store,
    rules: Vec<Rule>,
    requests: Vec<Request>,
    token: Option<String>,
    address: String,
}

type Shared = Arc<Mutex<State>>;

/// A running fake; it ends when dropped.
#[derive(Debug)]
pub struct FakeGcs {
    /// Base URL of its API, for `PUSH_GCS_ENDPOINT`: `http://127.0.0.1:PORT`.
    pub url: String,
    state: Shared,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl FakeGcs {
    /// Starts a server on a free port of the loopback interface, with one empty bucket.
    ///
    /// # Panics
    /// When no port can be bound.
    pub fn start(bucket: &str) -> Self {
        let state = Shared::default();
        lock(&state).store.make_bucket(bucket);
        let (stop, stopped) = oneshot::channel();
        let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).expect("a free port on loopback");
        listener.set_nonblocking(true).expect("a socket can be made nonblocking");
        let address = listener.local_addr().expect("a bound socket has an address").to_string();
        lock(&state).address.clone_from(&address);
        let shared = state.clone();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let runtime = runtime.expect("a runtime can be made");
            // Connections that hang by a fault end with the runtime.
            runtime.block_on(async {
                let listener = tokio::net::TcpListener::from_std(listener).expect("the socket is nonblocking");
                tokio::select! {
                    () = answer::serve(listener, shared) => {}
                    _ = stopped => {}
                }
            });
        });
        Self { url: format!("http://{address}"), state, stop: Some(stop), thread: Some(thread) }
    }

    /// From now on every request must bear this token, else it is answered 401.
    pub fn require_token(&self, token: &str) {
        lock(&self.state).token = Some(token.to_owned());
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
        lock(&self.state).rules.clear();
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

impl Drop for FakeGcs {
    fn drop(&mut self) {
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(());
        }
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl State {
    /// The fault that a request suffers, used up once. What has `no_content` can't be cut.
    fn take_fault(&mut self, request: &Request, no_content: bool) -> Option<Fault> {
        let hit = |rule: &Rule| {
            let spared = no_content && matches!(rule.fault, Fault::Cut(_) | Fault::Forget);
            rule.kind == request.kind && request.object.contains(&rule.object) && !spared
        };
        let index = self.rules.iter().position(hit)?;
        let rule = &mut self.rules[index];
        let fault = rule.fault.clone();
        if let Some(left) = &mut rule.left {
            *left -= 1;
            if *left == 0 {
                self.rules.remove(index);
            }
        }
        Some(fault)
    }
}

fn lock(state: &Shared) -> MutexGuard<'_, State> {
    // A test that panicked while it looked hasn't broken anything.
    state.lock().unwrap_or_else(PoisonError::into_inner)
}
