//! A fake of the instance metadata server of Compute Engine, over real sockets.
//!
//! It follows "Access VM metadata" and "Query metadata" of Google's documentation: `Metadata-Flavor` wanted and sent,
//! `recursive`, `alt`, `wait_for_change` with `last_etag` and `timeout_sec` that really hang, listings of directories,
//! redirects to them, tokens. And it misbehaves on request, by [`Fault`]. HTTP is written by hand here, because a
//! proper server library refuses most of what has to be tested.

mod serve;
mod state;
mod tree;

use std::{collections::BTreeMap, net::SocketAddr, sync::Arc, time::Duration};

use tokio::{net::TcpListener, sync::watch, task::JoinHandle};

use self::state::{Rule, State};

pub use self::state::{Fault, Received, Seen};

/// A running fake; it ends when dropped.
#[derive(Debug)]
pub struct FakeMetadata {
    address: SocketAddr,
    state: Arc<watch::Sender<State>>,
    server: JoinHandle<()>,
}

impl FakeMetadata {
    /// Starts a server on a free port of the loopback interface, without attributes.
    ///
    /// # Panics
    /// When no port can be bound.
    pub async fn start() -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a free port on loopback");
        let address = listener.local_addr().expect("a bound socket has an address");
        let state = Arc::new(watch::Sender::new(State {
            attributes: BTreeMap::new(),
            salt: 1,
            token_lifetime: Duration::from_hours(1),
            rules: Vec::new(),
            seen: Seen::default(),
        }));
        let server = tokio::spawn(serve::accept(listener, state.clone()));
        Self { address, state, server }
    }

    /// The value for `GCE_METADATA_HOST`: `127.0.0.1:PORT`.
    pub fn host(&self) -> String {
        self.address.to_string()
    }

    /// Sets a custom attribute, as the Compute API does.
    pub fn set(&self, key: &str, value: &str) {
        self.state.send_modify(|state| {
            state.attributes.insert(key.to_owned(), value.to_owned());
        });
    }

    /// Removes a custom attribute.
    pub fn remove(&self, key: &str) {
        self.state.send_modify(|state| {
            state.attributes.remove(key);
        });
    }

    /// What a live migration looks like from inside: all etags are others, the values are the same.
    pub fn live_migrate(&self) {
        self.state.send_modify(|state| state.salt += 1);
    }

    /// How long tokens last from now on.
    pub fn token_lifetime(&self, lifetime: Duration) {
        self.state.send_modify(|state| state.token_lifetime = lifetime);
    }

    /// The next `times` requests below `path` (empty for all) suffer `fault`.
    pub fn fail_next(&self, path: &str, times: usize, fault: Fault) {
        self.add(Rule { path: path.to_owned(), fault, left: Some(times) });
    }

    /// All requests below `path` (empty for all) suffer `fault`, until [`Self::heal`].
    pub fn fail(&self, path: &str, fault: Fault) {
        self.add(Rule { path: path.to_owned(), fault, left: None });
    }

    /// Ends all faults. What hangs by one goes on hanging.
    pub fn heal(&self) {
        self.state.send_modify(|state| state.rules.clear());
    }

    /// What was asked so far.
    pub fn seen(&self) -> Seen {
        self.state.borrow().seen.clone()
    }

    /// Waits until what was asked satisfies `enough`.
    ///
    /// # Panics
    /// After 30 seconds, with what was asked until then.
    pub async fn until(&self, enough: impl Fn(&Seen) -> bool) -> Seen {
        let mut changes = self.state.subscribe();
        let found = changes.wait_for(|state| enough(&state.seen));
        if let Ok(Ok(state)) = tokio::time::timeout(Duration::from_secs(30), found).await {
            return state.seen.clone();
        }
        panic!("the metadata server waited 30 s in vain; it saw {:#?}", self.seen());
    }

    fn add(&self, rule: Rule) {
        self.state.send_modify(|state| state.rules.push(rule));
    }
}

impl Drop for FakeMetadata {
    fn drop(&mut self) {
        self.server.abort();
    }
}
