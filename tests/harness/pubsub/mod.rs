//! A fake of Google Pub/Sub, over real sockets: one topic with one subscription.
//!
//! It follows the reference of `topics.publish` and of `subscriptions.pull`, `acknowledge` and `modifyAckDeadline`: content in
//! base64, an id for each delivery, deadlines after which a message comes again, pulls that wait. And it misbehaves on
//! request, by [`Fault`]. It runs on a thread of its own: it is only a URL.

mod serve;
mod state;

use std::{collections::BTreeMap, thread::JoinHandle, time::Duration};

use tokio::sync::oneshot;

use self::state::{Shared, lock};
use crate::base64::base64;

pub use self::state::{Call, Fault, Verb};

/// A running fake; it ends when dropped.
#[derive(Debug)]
pub struct FakePubSub {
    address: String,
    state: Shared,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl FakePubSub {
    /// The topic that there is.
    pub const TOPIC: &str = "projects/acme-prod/topics/push";
    /// Its subscription.
    pub const SUBSCRIPTION: &str = "projects/acme-prod/subscriptions/push-watch";

    /// Starts one without messages on a free port of the loopback interface.
    ///
    /// # Panics
    /// When no port can be bound.
    pub fn start() -> Self {
        let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).expect("a free port on loopback");
        listener.set_nonblocking(true).expect("a socket can be made nonblocking");
        let address = listener.local_addr().expect("a bound socket has an address").to_string();
        let state = Shared::default();
        let (stop, stopped) = oneshot::channel();
        let shared = state.clone();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let runtime = runtime.expect("a runtime can be made");
            // Connections that hang end with the runtime.
            runtime.block_on(async {
                let listener = tokio::net::TcpListener::from_std(listener).expect("the socket is nonblocking");
                tokio::select! {
                    () = serve::serve(listener, shared) => {}
                    _ = stopped => {}
                }
            });
        });
        Self { address, state, stop: Some(stop), thread: Some(thread) }
    }

    /// The value for `PUBSUB_EMULATOR_HOST`.
    pub fn host(&self) -> &str {
        &self.address
    }

    /// Publishes a message.
    pub fn publish(&self, content: &[u8], attributes: &[(&str, &str)]) {
        let attributes = attributes.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        self.publish_data(&base64(content), attributes);
    }

    /// Publishes what `data` of a message can't be.
    pub fn publish_data(&self, data: &str, attributes: BTreeMap<String, String>) {
        lock(&self.state).publish(data.to_owned(), attributes);
    }

    /// From now on a message comes again after this time, unless its deadline is changed.
    pub fn set_deadline(&self, deadline: Duration) {
        lock(&self.state).deadline = deadline;
    }

    /// From now on each answer has at most so many messages.
    pub fn set_most(&self, most: usize) {
        lock(&self.state).most = most;
    }

    /// The next `times` requests of `verb` suffer `fault`.
    pub fn fail_next(&self, verb: Verb, times: usize, fault: Fault) {
        lock(&self.state).rules.push((verb, fault, Some(times)));
    }

    /// All requests of `verb` suffer `fault`, until [`Self::heal`].
    pub fn fail(&self, verb: Verb, fault: Fault) {
        lock(&self.state).rules.push((verb, fault, None));
    }

    /// Lets the deadlines pass of everything that was delivered so far.
    pub fn expire(&self) {
        lock(&self.state).expire();
    }

    /// Ends all faults.
    pub fn heal(&self) {
        lock(&self.state).rules.clear();
    }

    /// The messages that were published and not acknowledged.
    pub fn left(&self) -> usize {
        lock(&self.state).messages.iter().filter(|message| !message.is_acknowledged).count()
    }

    /// How often messages were delivered.
    pub fn deliveries(&self) -> usize {
        lock(&self.state).deliveries
    }

    /// The requests so far, oldest first.
    pub fn calls(&self) -> Vec<Call> {
        lock(&self.state).calls.clone()
    }

    /// The contents of all messages, oldest first, in base64.
    pub fn published(&self) -> Vec<String> {
        lock(&self.state).messages.iter().map(|message| message.data.clone()).collect()
    }
}

impl Drop for FakePubSub {
    fn drop(&mut self) {
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(());
        }
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
