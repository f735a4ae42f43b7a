//! What the fake knows: its messages, what was asked of it, and how it is to misbehave.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use serde_json::{Value, json};

/// What a request is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    /// `topics.publish`
    Publish,
    /// `subscriptions.pull`
    Pull,
    /// `subscriptions.acknowledge`
    Acknowledge,
    /// `subscriptions.modifyAckDeadline`
    Modify,
}

/// How the API misbehaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// An error with this status.
    Status(u16),
    /// This status with an HTML page, as a proxy gives it.
    Html(u16),
    /// Answers only after this time.
    Slow(Duration),
    /// Delivers each message twice in one answer.
    Twice,
}

/// A request that was received.
#[derive(Debug, Clone)]
pub struct Call {
    /// What it is for.
    pub verb: Verb,
    /// Its body.
    pub body: Value,
    /// When it came.
    pub at: Instant,
    /// The `Authorization` header.
    pub authorization: Option<String>,
}

#[derive(Debug)]
pub(super) struct Message {
    pub(super) data: String,
    attributes: BTreeMap<String, String>,
    pub(super) is_acknowledged: bool,
    /// The ids of the deliveries that count, and until when.
    leases: Vec<(String, Instant)>,
}

#[derive(Debug)]
pub(super) struct State {
    pub(super) messages: Vec<Message>,
    pub(super) deadline: Duration,
    pub(super) most: usize,
    pub(super) rules: Vec<(Verb, Fault, Option<usize>)>,
    pub(super) deliveries: usize,
    pub(super) calls: Vec<Call>,
}

impl Default for State {
    fn default() -> Self {
        let deadline = Duration::from_secs(10);
        Self { messages: Vec::new(), deadline, most: 1000, rules: Vec::new(), deliveries: 0, calls: Vec::new() }
    }
}

/// The state, as the threads share it.
pub(super) type Shared = Arc<Mutex<State>>;

impl State {
    pub(super) fn publish(&mut self, data: String, attributes: BTreeMap<String, String>) {
        self.messages.push(Message { data, attributes, is_acknowledged: false, leases: Vec::new() });
    }

    /// The fault that a request suffers, used up once.
    pub(super) fn take_fault(&mut self, verb: Verb) -> Option<Fault> {
        let index = self.rules.iter().position(|(of, ..)| *of == verb)?;
        let (_, fault, left) = &mut self.rules[index];
        let fault = *fault;
        if let Some(left) = left {
            *left -= 1;
            if *left == 0 {
                self.rules.remove(index);
            }
        }
        Some(fault)
    }

    /// Messages that nobody has at the moment, each delivered so many times.
    pub(super) fn deliver(&mut self, most: usize, times: usize) -> Vec<Value> {
        let now = Instant::now();
        let is_free =
            |message: &Message| !message.is_acknowledged && message.leases.iter().all(|(_, until)| *until <= now);
        let mut delivered = Vec::new();
        for message in self.messages.iter_mut().filter(|message| is_free(message)).take(most.min(self.most)) {
            for _ in 0..times {
                self.deliveries += 1;
                let ack_id = format!("delivery-{}", self.deliveries);
                message.leases.push((ack_id.clone(), now + self.deadline));
                let content = json!({ "data": message.data, "attributes": message.attributes });
                delivered.push(json!({ "ackId": ack_id, "message": content }));
            }
        }
        delivered
    }

    /// Whether all of these deliveries are in force.
    pub(super) fn has(&self, ack_ids: &[String]) -> bool {
        let now = Instant::now();
        let is_good = |ack_id: &String| {
            self.messages.iter().any(|message| message.leases.iter().any(|(id, until)| id == ack_id && *until > now))
        };
        ack_ids.iter().all(is_good)
    }

    pub(super) fn expire(&mut self) {
        self.messages.iter_mut().for_each(|message| message.leases.clear());
    }

    pub(super) fn acknowledge(&mut self, ack_ids: &[String]) {
        for message in &mut self.messages {
            message.is_acknowledged |= message.leases.iter().any(|(id, _)| ack_ids.contains(id));
        }
    }

    pub(super) fn modify(&mut self, ack_ids: &[String], deadline: Duration) {
        let until = Instant::now() + deadline;
        let leases = self.messages.iter_mut().flat_map(|message| &mut message.leases);
        leases.filter(|(id, _)| ack_ids.contains(id)).for_each(|(_, of)| *of = until);
    }
}

/// The state, until the guard is dropped.
pub(super) fn lock(state: &Shared) -> MutexGuard<'_, State> {
    // A test that panicked while it looked hasn't broken anything.
    state.lock().unwrap_or_else(PoisonError::into_inner)
}
