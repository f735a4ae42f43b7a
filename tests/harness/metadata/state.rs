//! What the fake knows: the instance's attributes, what was asked, and how it is to misbehave.

use std::{collections::BTreeMap, time::Duration};

/// How the server misbehaves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// Answers with this status, an HTML page and perhaps `Retry-After`, in its raw form.
    Status(u16, Option<&'static str>),
    /// Answers 200 with an HTML page, as a captive portal does, but with the right flavor.
    Html,
    /// Answers rightly but without `Metadata-Flavor`.
    NoFlavor,
    /// Answers rightly but with another `Metadata-Flavor`.
    ForgedFlavor,
    /// Answers rightly but without `ETag`.
    NoEtag,
    /// Redirects to this URL.
    Redirect(String),
    /// Answers at once, `wait_for_change` or not.
    DoesntWait,
    /// Resets the connection instead of answering.
    Reset,
    /// Takes the request and never answers.
    NeverAnswers,
    /// Answers rightly, one byte per this time.
    Slow(Duration),
    /// Promises the whole body and closes in the middle of it.
    Torn,
    /// Sends a body that never ends.
    Endless,
}

/// A request that was received whole.
#[derive(Debug, Clone)]
pub struct Received {
    /// Below `/computeMetadata/v1/`, as in `instance/attributes/`.
    pub path: String,
    /// The query's parameters.
    pub query: BTreeMap<String, String>,
    /// The headers, names in lower case.
    pub headers: BTreeMap<String, String>,
}

/// What was asked of the server so far.
#[derive(Debug, Clone, Default)]
pub struct Seen {
    /// Connections accepted.
    pub connections: usize,
    /// Every request, oldest first.
    pub requests: Vec<Received>,
    /// Requests that hang at this moment, for a change or by a fault.
    pub hanging: usize,
    /// Tokens given out.
    pub tokens: usize,
}

impl Seen {
    /// How many requests there were below `path`.
    pub fn asked(&self, path: &str) -> usize {
        self.requests.iter().filter(|request| request.path.starts_with(path)).count()
    }
}

/// A rule: requests below `path` suffer `fault`, `left` times, or until healed.
#[derive(Debug, Clone)]
pub(super) struct Rule {
    pub(super) path: String,
    pub(super) fault: Fault,
    pub(super) left: Option<usize>,
}

/// Everything the server knows. A change of it wakes all who hang.
#[derive(Debug, Clone)]
pub(super) struct State {
    pub(super) attributes: BTreeMap<String, String>,
    /// Goes into every etag; a live migration changes it.
    pub(super) salt: u64,
    pub(super) token_lifetime: Duration,
    pub(super) rules: Vec<Rule>,
    pub(super) seen: Seen,
}
