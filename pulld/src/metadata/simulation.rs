//! Thousands of random lives of a watch, in paused time: no change is lost, and the server isn't hammered.
//!
//! The server here is a model with the hanging semantics of the real one and any of its faults; the watch is the real
//! one, and the agent is a loop that pulls whenever it was woken, as the real one does.

use std::{
    cell::{Cell, RefCell},
    pin::pin,
    rc::Rc,
    time::Duration,
};

use futures_util::future::{Either, select};
use tokio::{
    sync::Notify,
    time::{Instant, sleep, timeout},
};

use super::{Answer, Timing, watch};

/// A small generator (`SplitMix64`), so that a failing seed can be run again.
struct Random(Cell<u64>);

impl Random {
    fn below(&self, end: u64) -> u64 {
        self.0.set(self.0.get().wrapping_add(0x9e37_79b9_7f4a_7c15));
        let mut z = self.0.get();
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % end
    }

    fn millis(&self, end: u64) -> Duration {
        Duration::from_millis(self.below(end))
    }
}

struct Server {
    random: Random,
    timing: Timing,
    pushrev: RefCell<Option<u64>>,
    etag: Cell<u64>,
    changed: Notify,
    /// Of a hundred requests, how many fail in some way.
    faulty: Cell<u64>,
    requests: RefCell<Vec<Instant>>,
}

impl Server {
    fn change(&self, pushrev: Option<u64>) {
        if let Some(value) = pushrev {
            *self.pushrev.borrow_mut() = Some(value);
        }
        self.etag.set(self.etag.get() + 1);
        self.changed.notify_waiters();
    }

    fn answer(&self) -> Answer {
        let pushrev = self.pushrev.borrow().map(|value| value.to_string());
        Answer::Attributes { etag: Some(self.etag.get().to_string()), pushrev }
    }

    async fn ask(self: Rc<Self>, etag: Option<String>) -> Answer {
        self.requests.borrow_mut().push(Instant::now());
        if self.random.below(100) < self.faulty.get() {
            return self.misbehave().await;
        }
        let hang = async {
            loop {
                let changed = self.changed.notified();
                if etag.as_deref() != Some(&self.etag.get().to_string()) {
                    return;
                }
                changed.await;
            }
        };
        let _ = timeout(self.timing.hang, hang).await;
        let answer = self.answer();
        // The answer is on its way while things go on changing.
        sleep(self.random.millis(30)).await;
        answer
    }

    async fn misbehave(&self) -> Answer {
        let failure = |retry_after| Answer::Failure { reason: "a fault".to_owned(), retry_after };
        match self.random.below(7) {
            0 => failure(None),
            1 => failure(Some(self.random.millis(20_000))),
            2 => Answer::NoAttributes,
            3 => {
                sleep(self.timing.hang + self.timing.slack).await;
                failure(None)
            }
            4 => self.answer(),
            5 => match self.answer() {
                Answer::Attributes { pushrev, .. } => Answer::Attributes { etag: None, pushrev },
                other => other,
            },
            // A torn answer: the change was sent, but never arrived.
            _ => {
                sleep(self.random.millis(500)).await;
                failure(None)
            }
        }
    }
}

/// One life: some minutes of changes, faults and migrations, then calm. Times of changes, and of pulls begun.
async fn live(seed: u64) -> (Vec<Instant>, Vec<Instant>, Vec<Instant>) {
    let timing = Timing::default();
    let server = Rc::new(Server {
        random: Random(Cell::new(seed)),
        timing,
        pushrev: RefCell::new(None),
        etag: Cell::new(1),
        changed: Notify::new(),
        faulty: Cell::new(0),
        requests: RefCell::default(),
    });
    server.faulty.set([0, 10, 50, 90, 100][usize::try_from(server.random.below(5)).unwrap()]);
    let woken = Notify::new();
    let pulls = RefCell::new(Vec::new());
    let agent = async {
        loop {
            woken.notified().await;
            pulls.borrow_mut().push(Instant::now());
            sleep(server.random.millis(8000)).await;
        }
    };
    let changes = async {
        let mut changes = Vec::new();
        for value in 0..=server.random.below(20) {
            sleep(server.random.millis([5, 900, 20_000, 150_000][usize::try_from(server.random.below(4)).unwrap()]))
                .await;
            match server.random.below(10) {
                // Another attribute, or a live migration.
                0 | 1 => server.change(None),
                _ => {
                    server.change(Some(value));
                    changes.push(Instant::now());
                }
            }
        }
        server.faulty.set(0);
        // The longest that is still owed: a dead connection, Retry-After, and the pull that is under way.
        sleep(timing.hang + timing.slack + timing.longest_retry + timing.longest_retry_after + Duration::from_secs(10))
            .await;
        changes
    };
    let asked = server.clone();
    let watching = pin!(watch(move |etag| asked.clone().ask(etag), &timing, || woken.notify_one()));
    let agent = pin!(agent);
    let machine = select(watching, agent);
    let changes = match select(machine, pin!(changes)).await {
        Either::Right((changes, _)) => changes,
        Either::Left(_) => unreachable!("neither the watch nor the agent ends"),
    };
    (changes, pulls.take(), server.requests.take())
}

#[tokio::test(start_paused = true)]
async fn no_change_is_ever_lost_and_the_server_is_not_hammered() {
    for seed in 0..3000 {
        let (changes, pulls, requests) = live(seed).await;
        for change in &changes {
            assert!(pulls.iter().any(|pull| pull >= change), "seed {seed}: no pull after the change at {change:?}");
        }
        assert!(pulls.len() <= changes.len(), "seed {seed}: {} pulls for {} changes", pulls.len(), changes.len());
        for pair in requests.windows(2) {
            let apart = pair[1] - pair[0];
            assert!(apart >= Duration::from_millis(500), "seed {seed}: two requests only {apart:?} apart");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_healthy_server_wakes_the_agent_within_a_second() {
    let timing = Timing::default();
    let server = Rc::new(Server {
        random: Random(Cell::new(1)),
        timing,
        pushrev: RefCell::new(None),
        etag: Cell::new(1),
        changed: Notify::new(),
        faulty: Cell::new(0),
        requests: RefCell::default(),
    });
    let woken = Notify::new();
    let asked = server.clone();
    let watching = watch(move |etag| asked.clone().ask(etag), &timing, || woken.notify_one());
    let pushing = async {
        for value in 0..500 {
            sleep(server.random.millis(200_000)).await;
            server.change(Some(value));
            let changed = Instant::now();
            woken.notified().await;
            assert!(changed.elapsed() <= Duration::from_millis(1100), "poke {value} took {:?}", changed.elapsed());
        }
    };
    select(pin!(watching), pin!(pushing)).await;
}
