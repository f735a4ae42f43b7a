//! What the fake knows: its objects, what was asked of it, and how it is to misbehave.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use super::store::Store;

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
    /// A copy, or a request to go on with one.
    Rewrite,
    /// A deletion.
    Delete,
}

/// A request that was received.
#[derive(Debug, Clone)]
pub struct Request {
    /// What it is for.
    pub kind: Kind,
    /// The bucket.
    pub bucket: String,
    /// The object's name, or the prefix that is listed; of a copy that of what is made.
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
    /// Answers with this status and this text, as something does that isn't the storage.
    Text(u16, &'static str),
    /// Does what was asked, and closes the connection instead of answering.
    LoseAnswer,
    /// Does what was asked, and never answers.
    KeepAnswer,
    /// Closes the connection and does nothing.
    Reset,
    /// Takes the request, does nothing and never answers.
    NeverAnswer,
    /// Answers only after this time.
    Slow(Duration),
    /// Sends this many bytes of the body, or takes this many of a piece of an upload, then closes the connection.
    Cut(u64),
    /// Copies at most this many bytes, and says by which token the copy goes on.
    Part(usize),
    /// Takes a piece of an upload whole, keeps nothing of it, and says so.
    Forget,
    /// Sends this many bytes of the body, then nothing more, and keeps the connection.
    Stall(u64),
    /// Sends a body of the right length with the first byte changed.
    WrongBytes,
    /// Sends a body that is this much shorter than the object, with a `Content-Length` to match; of a copy, makes such a one.
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
pub(super) struct Rule {
    pub(super) kind: Kind,
    pub(super) object: String,
    pub(super) fault: Fault,
    pub(super) left: Option<usize>,
}

/// What an account may do with objects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Right {
    /// List them and read them (`storage.objects.list`, `storage.objects.get`).
    Read,
    /// Make those that are not there yet (`storage.objects.create`).
    Create,
    /// Delete them, and with [`Right::Create`] write over them (`storage.objects.delete`).
    Delete,
}

/// A right of an account on what begins with a prefix in a bucket.
#[derive(Debug)]
pub(super) struct Grant {
    pub(super) account: String,
    pub(super) right: Right,
    pub(super) bucket: String,
    pub(super) prefix: String,
}

/// Everything the server knows.
#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) store: Store,
    pub(super) rules: Vec<Rule>,
    pub(super) requests: Vec<Request>,
    pub(super) token: Option<String>,
    pub(super) grants: Vec<Grant>,
    /// How many requests are answered yet, if that is limited.
    pub(super) answers_left: Option<usize>,
    pub(super) address: String,
}

/// The state, as the threads that answer share it.
pub(super) type Shared = Arc<Mutex<State>>;

impl State {
    /// The fault that a request suffers, used up once. What has `no_content` can't be cut.
    pub(super) fn take_fault(&mut self, request: &Request, no_content: bool) -> Option<Fault> {
        let hit = |rule: &Rule| {
            let spared = no_content && matches!(rule.fault, Fault::Cut(_) | Fault::Forget);
            rule.kind == request.kind && request.object.contains(&rule.object) && !spared
        };
        if let Some(left) = &mut self.answers_left {
            let Some(fewer) = left.checked_sub(1) else { return Some(Fault::KeepAnswer) };
            *left = fewer;
        }
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

/// The state, until the guard is dropped.
pub(super) fn lock(state: &Shared) -> MutexGuard<'_, State> {
    // A test that panicked while it looked hasn't broken anything.
    state.lock().unwrap_or_else(PoisonError::into_inner)
}
