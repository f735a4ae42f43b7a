//! Messages that begin a round at once: pulled all the time, and acknowledged after the round that they caused.
//!
//! They are hints, and may be lost, doubled, late or forged: without any the poll does everything. Whoever is told to end gives
//! back those that it has, so that another watcher has them at once; of one that is killed they come again in time.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use backon::{BackoffBuilder as _, ExponentialBuilder};
use bucket::{AppName, PubSubError, Pulled, Subscription};
use fleet::{
    channel::message::{Heard, heard},
    policy::watched::Watched,
};
use tokio::{
    sync::mpsc::{self, error::SendError},
    task::JoinSet,
    time::{Instant, sleep, timeout, timeout_at},
};
use tracing::{debug, warn};

use super::{counts::Counts, outcome::Outcome};

/// Messages that are asked for at once.
const MOST: u32 = 100;

/// Batches of them that wait for their round; as long as there are so many, none are pulled.
const BATCHES: usize = 100;

/// A burst comes in several pulls: its round begins when none came for so long,
const QUIET: Duration = Duration::from_millis(100);
/// or this long after the first.
const LONGEST_BURST: Duration = Duration::from_secs(1);

/// Pause after a pull that brought nothing, which with Google lasts 90 seconds, and elsewhere perhaps none.
const EMPTY_PAUSE: Duration = Duration::from_millis(200);

/// After this time messages come again whose round failed; it doubles with each such round.
const FIRST_RETURN: Duration = Duration::from_secs(5);

/// The longest that the end waits for what Pub/Sub is being told, and to give back the rest.
const LONGEST_END: Duration = Duration::from_secs(5);

/// Deliveries that are acknowledged in one request, which has at most 512 KiB.
const AT_ONCE: usize = 500;

/// A message that waits for its round, or for the end of it.
#[derive(Debug)]
pub(crate) struct Accepted {
    ack_id: String,
    apps: BTreeSet<AppName>,
}

/// The messages of a subscription, or none at all. Pulling ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Messages {
    subscription: Option<Arc<Subscription>>,
    /// What pulls, and what tells Pub/Sub of what became of messages.
    background: JoinSet<()>,
    received: mpsc::Receiver<Vec<Accepted>>,
    waiting: Vec<Accepted>,
    /// Rounds in a row after which some were given back.
    failures: u32,
}

impl Messages {
    /// None, ever.
    pub(crate) fn none() -> Self {
        let (background, received) = (JoinSet::new(), mpsc::channel(1).1);
        Self { subscription: None, background, received, waiting: Vec::new(), failures: 0 }
    }

    /// Begins to pull. `bucket` is the name of the bucket, if Google has it.
    pub(crate) fn of(
        subscription: Subscription,
        policy: Arc<Watched>,
        bucket: Option<String>,
        counts: Arc<Counts>,
    ) -> Self {
        let subscription = Arc::new(subscription);
        let (accepted, received) = mpsc::channel(BATCHES);
        let puller = Puller { subscription: subscription.clone(), policy, bucket, counts, accepted };
        let mut background = JoinSet::new();
        background.spawn(puller.pull());
        Self { subscription: Some(subscription), background, received, waiting: Vec::new(), failures: 0 }
    }

    /// Waits for messages that are to begin a round, and for the rest of their burst.
    pub(crate) async fn come(&mut self) {
        // Some wait already if this was given up while their burst came.
        if self.waiting.is_empty() {
            let Some(first) = self.received.recv().await else { return std::future::pending().await };
            self.waiting.extend(first);
        }
        let end = Instant::now() + LONGEST_BURST;
        while let Ok(Some(more)) = timeout_at(end.min(Instant::now() + QUIET), self.received.recv()).await {
            self.waiting.extend(more);
        }
    }

    /// All that are here when a round begins, which is for them.
    pub(crate) fn take(&mut self) -> Vec<Accepted> {
        while let Ok(more) = self.received.try_recv() {
            self.waiting.extend(more);
        }
        std::mem::take(&mut self.waiting)
    }

    /// After their round, which is `None` if it could not look at any channel: acknowledges those whose channels it did all
    /// for, and has the others come again, later each time, or at once if this process ends.
    pub(crate) fn settle(&mut self, caused: Vec<Accepted>, round: Option<&[Outcome]>, ends: bool) {
        let Some(subscription) = self.subscription.clone().filter(|_| !caused.is_empty()) else { return };
        let round = round.unwrap_or_default();
        let failed: BTreeSet<&AppName> = round.iter().filter(|of| of.has_failed()).map(|of| &of.app).collect();
        let looked_at: BTreeSet<&AppName> = round.iter().map(|of| &of.app).collect();
        let is_done = |app: &AppName| looked_at.contains(app) && !failed.contains(app);
        let (done, back): (Vec<_>, Vec<_>) = caused.into_iter().partition(|message| message.apps.iter().all(is_done));
        let [done, back] = [done, back].map(ids);
        self.failures = if back.is_empty() { 0 } else { self.failures.saturating_add(1) };
        let pause = FIRST_RETURN.saturating_mul(1 << self.failures.saturating_sub(1).min(10));
        let pause = if ends { Duration::ZERO } else { pause };
        while self.background.try_join_next().is_some() {}
        // No round waits for that: what is lost of it comes again.
        self.background.spawn(async move {
            tokio::join!(acknowledge(&subscription, done), keep(&subscription, back, pause));
        });
    }

    /// Gives back what waits for its round, and waits until Pub/Sub knows what became of the others.
    pub(crate) async fn end(mut self) {
        let Some(subscription) = self.subscription else { return };
        // What is being pulled at this moment the puller gives back itself.
        self.received.close();
        while let Some(more) = self.received.recv().await {
            self.waiting.extend(more);
        }
        // It may be saying still how long these are kept: the last word counts.
        let told = async { while self.background.join_next().await.is_some() {} };
        let back = keep(&subscription, ids(self.waiting), Duration::ZERO);
        if timeout(LONGEST_END, told).await.is_err() || timeout(LONGEST_END, back).await.is_err() {
            debug!("Pub/Sub did not hear in time of messages that are given back: they come again");
        }
    }
}

fn ids(messages: Vec<Accepted>) -> Vec<String> {
    messages.into_iter().map(|message| message.ack_id).collect()
}

/// What pulls, and tells apart what it gets.
struct Puller {
    subscription: Arc<Subscription>,
    policy: Arc<Watched>,
    bucket: Option<String>,
    counts: Arc<Counts>,
    accepted: mpsc::Sender<Vec<Accepted>>,
}

impl Puller {
    async fn pull(self) {
        let delays =
            ExponentialBuilder::default().with_jitter().with_max_delay(Duration::from_mins(1)).without_max_times();
        let (mut waits, mut most, mut told) = (delays.build(), MOST, String::new());
        loop {
            let pulled = tokio::select! {
                biased;
                pulled = self.subscription.pull(most) => pulled,
                () = self.accepted.closed() => return,
            };
            match pulled {
                Ok(pulled) => {
                    (waits, most) = (delays.build(), MOST.min(most * 10));
                    told.clear();
                    if pulled.is_empty() {
                        self.pause(EMPTY_PAUSE).await;
                    } else {
                        self.hear(pulled).await;
                    }
                }
                Err(PubSubError::TooLong) if most > 1 => most /= 10,
                Err(error) => {
                    let reason = error.to_string();
                    if told != reason {
                        warn!("cannot pull messages, will retry; polling continues: {}", console::safe(&reason));
                        told = reason;
                    }
                    self.pause(waits.next().unwrap_or_default()).await;
                }
            }
        }
    }

    /// Waits, unless the process ends.
    async fn pause(&self, time: Duration) {
        tokio::select! {
            () = sleep(time) => {}
            () = self.accepted.closed() => {}
        }
    }

    /// Passes on what begins a round, and acknowledges the rest.
    async fn hear(&self, pulled: Vec<Pulled>) {
        let (policy, _) = self.policy.get();
        let (mut accepted, mut done) = (Vec::new(), Vec::new());
        for Pulled { ack_id, content, attributes } in pulled {
            let channels = policy.channels().iter().map(|rules| (&rules.app, &rules.repo));
            let heard = heard(content.as_deref(), &attributes, channels, self.bucket.as_deref());
            self.counts.count_message(&heard);
            if let Heard::Accepted(apps) = heard {
                accepted.push(Accepted { ack_id, apps });
            } else {
                done.push(ack_id);
            }
        }
        let kept: Vec<String> = accepted.iter().map(|message: &Accepted| message.ack_id.clone()).collect();
        // A round may take longer than the subscription waits before it delivers again.
        let mut time = Subscription::MAX_KEPT;
        if !accepted.is_empty()
            && let Err(SendError(_)) = self.accepted.send(accepted).await
        {
            // The process ends, and there is no round any more.
            time = Duration::ZERO;
        }
        tokio::join!(acknowledge(&self.subscription, done), keep(&self.subscription, kept, time));
    }
}

async fn acknowledge(subscription: &Subscription, ack_ids: Vec<String>) {
    for some in ack_ids.chunks(AT_ONCE) {
        let mut acknowledged = subscription.acknowledge(some).await;
        // One that has expired, perhaps: the others are none the worse.
        if matches!(acknowledged, Err(PubSubError::Invalid(_))) && some.len() > 1 {
            for ack_id in some {
                acknowledged = subscription.acknowledge(std::slice::from_ref(ack_id)).await;
                if matches!(acknowledged, Err(PubSubError::Failed(_))) {
                    break;
                }
            }
        }
        if let Err(error) = acknowledged {
            debug!(%error, "could not acknowledge messages: they come again");
        }
    }
}

async fn keep(subscription: &Subscription, ack_ids: Vec<String>, time: Duration) {
    for some in ack_ids.chunks(AT_ONCE) {
        if let Err(error) = subscription.keep(some, time).await {
            debug!(%error, "could not say when messages are to come again");
        }
    }
}
