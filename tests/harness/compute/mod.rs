//! A fake of the Compute API, as far as poking servers goes, over real sockets.
//!
//! It follows the reference of `instances.aggregatedList`, `instances.get`, `instances.setMetadata` and
//! `zoneOperations.wait`: pages and partial results, fingerprints that must match, operations that take their time.
//! It misbehaves on request, by [`Fault`], and shows what is set on a fake metadata server if it is given one.

mod serve;
mod state;

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard},
};

use tokio::{net::TcpListener, task::JoinHandle};

use crate::metadata::FakeMetadata;

use self::state::{Instance, State, lock};

pub use self::state::{Fault, Verb};

/// A running fake of one project, `acme-prod`; it ends when dropped.
#[derive(Debug)]
pub struct FakeCompute {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
    server: JoinHandle<()>,
}

impl FakeCompute {
    /// Starts one without instances on a free port of the loopback interface.
    ///
    /// # Panics
    /// When no port can be bound.
    pub async fn start() -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a free port on loopback");
        let address = listener.local_addr().expect("a bound socket has an address");
        let state = Arc::new(Mutex::new(State { page_size: 2, ..State::default() }));
        let server = tokio::spawn(serve::serve(listener, state.clone()));
        Self { address, state, server }
    }

    /// The value for `PUSH_COMPUTE_ENDPOINT`.
    pub fn endpoint(&self) -> String {
        format!("http://{}/", self.address)
    }

    /// Adds an instance with an `ssh-keys` attribute that must survive everything.
    pub fn add(&self, zone: &str, name: &str) {
        let items = vec![("ssh-keys".to_owned(), "dev:ssh-ed25519 AAAA".to_owned())];
        let instance = Instance { fingerprint: 1, items, mirror: None };
        self.lock().instances.insert((zone.to_owned(), name.to_owned()), instance);
    }

    /// Shows the attributes of an instance on a metadata server from the next write on.
    ///
    /// # Panics
    /// When there is no such instance.
    pub fn mirror(&self, zone: &str, name: &str, metadata: Arc<FakeMetadata>) {
        let key = (zone.to_owned(), name.to_owned());
        self.lock().instances.get_mut(&key).expect("an instance that was added").mirror = Some(metadata);
    }

    /// Takes a zone down for lists.
    pub fn unreachable(&self, zone: &str) {
        self.lock().unreachable.push(zone.to_owned());
    }

    /// The next `times` requests of `verb` suffer `fault`.
    pub fn fail_next(&self, verb: Verb, times: usize, fault: Fault) {
        self.lock().rules.push((verb, fault, times));
    }

    /// From now on this `Authorization` gets a 401.
    pub fn refuse(&self, authorization: &str) {
        self.lock().refused_token = Some(authorization.to_owned());
    }

    /// An attribute of an instance.
    pub fn attribute(&self, zone: &str, name: &str, key: &str) -> Option<String> {
        let state = self.lock();
        let instance = state.instances.get(&(zone.to_owned(), name.to_owned()))?;
        instance.items.iter().find(|(name, _)| name == key).map(|(_, value)| value.clone())
    }

    /// How many requests of `verb` there were.
    pub fn asked(&self, verb: Verb) -> usize {
        self.lock().asked.iter().filter(|asked| **asked == verb).count()
    }

    /// How many writes were done.
    pub fn writes(&self) -> usize {
        self.lock().writes
    }

    /// The `Authorization` of every request, oldest first.
    pub fn authorizations(&self) -> Vec<Option<String>> {
        self.lock().authorizations.clone()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }
}

impl Drop for FakeCompute {
    fn drop(&mut self) {
        self.server.abort();
    }
}
