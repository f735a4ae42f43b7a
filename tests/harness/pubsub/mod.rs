//! A fake of Google Pub/Sub, over real sockets: one topic with one subscription.
//!
//! It follows the reference of `topics.publish` and of `subscriptions.pull`, `acknowledge` and `modifyAckDeadline`: content in
//! base64, an id for each delivery, deadlines after which a message comes again, pulls that wait. And it misbehaves on
//! request, by [`Fault`]. It runs on a thread of its own: it is only a URL.

mod serve;
mod state;

use std::{collections::BTreeMap, time::Duration};

use self::state::{Shared, lock};
use crate::{background::Background, base64::base64};

pub use self::state::{Call, Fault, Verb};

/// A running fake; it ends when dropped.
#[derive(Debug)]
pub struct FakePubSub {
    address: String,
    state: Shared,
    _server: Background,
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
        let state = Shared::default();
        let shared = state.clone();
        let server = Background::start(|listener, _| serve::serve(listener, shared));
        Self { address: server.address().to_string(), state, _server: server }
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
