//! What rounds and messages are counted as, for `/metrics`: pure, but for the clock.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use bucket::{AppName, ChannelName, ReleaseName};
use fleet::{channel::message::Heard, policy::ChannelRules};
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::{Registry, Unit},
};

use super::outcome::{Done, Fate, Outcome};

/// What was counted since the process began.
#[derive(Debug)]
pub(crate) struct Counts(Mutex<State>);

#[derive(Debug)]
struct State {
    /// When a round last looked at all channels; before the first one, when the process began.
    round: Instant,
    channels: BTreeMap<(AppName, ChannelName), OfChannel>,
    /// By [`Heard::label`].
    messages: BTreeMap<&'static str, u64>,
}

#[derive(Debug, Default)]
struct OfChannel {
    moves: u64,
    stale: u64,
    /// Rounds in a row that failed.
    failures: u64,
    /// By [`Fate::label`].
    followers: BTreeMap<&'static str, usize>,
    /// What the channel pointed to when a round last looked, and how many stale releases there were then.
    looked: Option<(Option<ReleaseName>, usize)>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Labels {
    app: String,
    channel: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct FollowerLabels {
    app: String,
    channel: String,
    state: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct MessageLabels {
    result: &'static str,
}

impl Counts {
    /// Nothing yet, of these channels.
    pub(crate) fn new(channels: &[ChannelRules]) -> Self {
        let mut state = State { round: Instant::now(), channels: BTreeMap::new(), messages: BTreeMap::new() };
        state.configure(channels);
        Self(Mutex::new(state))
    }

    /// Counts a round over these channels; `None` if it failed before it looked at any.
    pub(crate) fn count(&self, channels: &[ChannelRules], outcomes: Option<&[Outcome]>) {
        let mut state = self.state();
        state.configure(channels);
        let Some(outcomes) = outcomes else {
            state.channels.values_mut().for_each(|of_channel| of_channel.failures += 1);
            return;
        };
        state.round = Instant::now();
        for outcome in outcomes {
            if let Some(of_channel) = state.channels.get_mut(&(outcome.app.clone(), outcome.channel.clone())) {
                of_channel.failures = if outcome.has_failed() { of_channel.failures + 1 } else { 0 };
                of_channel.moves += u64::from(outcome.moved.is_some());
                // What could not be looked at is as it was last seen.
                if let Ok(done) = &outcome.result {
                    of_channel.count(done);
                }
            }
        }
    }

    /// Counts a message.
    pub(crate) fn count_message(&self, heard: &Heard) {
        *self.state().messages.entry(heard.label()).or_default() += 1;
    }

    /// As `/metrics` has it: every series of every channel.
    pub(crate) fn registry(&self) -> Registry {
        let known = self.state();
        let (moves, stale) = (Family::<Labels, Counter>::default(), Family::<Labels, Counter>::default());
        let failures = Family::<Labels, Gauge>::default();
        let followers = Family::<FollowerLabels, Gauge>::default();
        for ((app, channel), of_channel) in &known.channels {
            let (app, channel) = (app.to_string(), channel.to_string());
            let labels = Labels { app: app.clone(), channel: channel.clone() };
            moves.get_or_create(&labels).inc_by(of_channel.moves);
            stale.get_or_create(&labels).inc_by(of_channel.stale);
            failures.get_or_create(&labels).set(signed(of_channel.failures));
            for state in Fate::LABELS {
                let labels = FollowerLabels { app: app.clone(), channel: channel.clone(), state };
                followers.get_or_create(&labels).set(signed(of_channel.followers.get(state).copied().unwrap_or(0)));
            }
        }
        let messages = Family::<MessageLabels, Counter>::default();
        for result in Heard::LABELS {
            let count = known.messages.get(result).copied().unwrap_or(0);
            messages.get_or_create(&MessageLabels { result }).inc_by(count);
        }
        let age = Gauge::<i64>::default();
        age.set(signed(known.round.elapsed().as_secs()));
        let mut registry = Registry::with_prefix("push_watch");
        let help = "Time since a round last looked at all channels, at first since the start";
        registry.register_with_unit("round_age", help, Unit::Seconds, age);
        registry.register("moves", "Moves of the channel forward on its branch", moves);
        registry.register("stale", "Builds of older commits that finished after the channel had passed them", stale);
        registry.register("failures", "Rounds in a row in which something of the channel failed", failures);
        registry.register("followers", "Servers that follow the channel, by what the last round did", followers);
        registry.register("messages", "Messages of the subscription, by what became of them", messages);
        registry
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Keeps the channels that there still are, and begins with those that are new.
    fn configure(&mut self, channels: &[ChannelRules]) {
        let key = |rules: &ChannelRules| (rules.app.clone(), rules.channel.clone());
        let mut kept = std::mem::take(&mut self.channels);
        let mut of_channel = |key: &(AppName, ChannelName)| kept.remove(key).unwrap_or_default();
        self.channels = channels.iter().map(key).map(|key| (key.clone(), of_channel(&key))).collect();
    }
}

impl OfChannel {
    fn count(&mut self, done: &Done) {
        // Of what is not on its branch nothing is older; that may be back in the next round.
        if done.release.is_none() || done.place.is_some() {
            self.stale += match &self.looked {
                Some((from, known)) if *from == done.from => done.stale.saturating_sub(*known) as u64,
                Some(_) => done.stale as u64,
                // They came before this process.
                None => 0,
            };
            self.looked = Some((done.from.clone(), done.stale));
        }
        self.followers.clear();
        for fate in done.followers.values() {
            *self.followers.entry(fate.label()).or_default() += 1;
        }
    }
}

fn signed(count: impl TryInto<i64>) -> i64 {
    count.try_into().unwrap_or(i64::MAX)
}
