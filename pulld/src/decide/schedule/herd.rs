//! A thousand agents and one bucket, in paused time: do they ever fall into step?
//!
//! The agents' wake-up signal and schedule are the real ones. What a cycle requests of the bucket, and how its client retries, is
//! modelled: `make bench` and the conformance suite count the real requests.

use std::{
    cell::{Cell, RefCell},
    pin::pin,
    time::Duration,
};

use backon::{ExponentialBuilder, Retryable};
use futures_util::{
    StreamExt,
    future::{Either, select},
    stream::FuturesUnordered,
};
use tokio::time::{Instant, sleep, sleep_until};

use super::{heartbeat, rest};
use crate::service::wake::{Reason, WakeSignal};

const AGENTS: u64 = 1000;
const POLL: Duration = Duration::from_mins(5);
const JITTER: Duration = Duration::from_secs(30);
const HEARTBEAT: Duration = Duration::from_mins(15);

/// What a healthy fleet asks for in a second on average: a poll per interval, a report per quarter of an hour.
const MEAN: f64 = 1000.0 / 300.0 + 1000.0 / 900.0;

/// A small generator (`SplitMix64`), so that a failing seed can be run again.
struct Random(Cell<u64>);

impl Random {
    fn random(&self) -> f64 {
        self.0.set(self.0.get().wrapping_add(0x9e37_79b9_7f4a_7c15));
        let mut z = self.0.get();
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        f64::from(u32::try_from((z ^ (z >> 31)) >> 32).expect("32 bits")) / f64::from(u32::MAX)
    }
}

/// A bucket that is up or down, and counts its requests by the second.
struct FakeBucket {
    begun: Instant,
    up: Cell<bool>,
    requests: RefCell<Vec<u32>>,
}

impl FakeBucket {
    fn new() -> Self {
        Self { begun: Instant::now(), up: Cell::new(true), requests: RefCell::default() }
    }

    /// One request as the bucket's client makes it: five attempts while the server says 503.
    async fn query(&self) -> bool {
        let attempt = || async {
            let second = usize::try_from(self.begun.elapsed().as_secs()).expect("a short simulation");
            let mut requests = self.requests.borrow_mut();
            let length = requests.len().max(second + 1);
            requests.resize(length, 0);
            requests[second] += 1;
            self.up.get().then_some(()).ok_or(())
        };
        let pauses = ExponentialBuilder::default().with_jitter().with_min_delay(Duration::from_millis(100));
        attempt.retry(pauses.with_max_times(4)).await.is_ok()
    }

    /// The requests in each second from `from` until `to`.
    fn seconds(&self, from: Duration, to: Duration) -> Vec<u32> {
        let index = |time: Duration| usize::try_from(time.as_secs()).expect("a short simulation");
        let mut requests = self.requests.borrow().clone();
        requests.resize(requests.len().max(index(to)), 0);
        requests[index(from)..index(to)].to_vec()
    }
}

/// An agent's life as the bucket sees it: the loop of `agent/mod.rs` and the reports of `agent/report/publish.rs`.
async fn live(bucket: &FakeBucket, boots: Duration, random: Random) {
    sleep(boots).await;
    let wake_signal = WakeSignal::default();
    wake_signal.notify(Reason::Start);
    let (mut next, mut failures) = (Instant::now(), 0);
    let mut report_due = None;
    loop {
        let reasons = wake_signal.wait_until(next).await;
        let read = bucket.query().await;
        failures = if read { 0 } else { failures + 1 };
        // No report is tried while the bucket is unavailable, and afterwards it says nothing new. One of unknown generation
        // is read first.
        if read && report_due.is_none_or(|due| Instant::now() >= due) {
            let looked = report_due.is_some() || bucket.query().await;
            let written = looked && bucket.query().await;
            report_due = written.then(|| Instant::now() + heartbeat(HEARTBEAT, random.random()));
        }
        next = Instant::now() + rest(POLL, JITTER, reasons.contains(&Reason::Start), failures, random.random());
    }
}

/// Runs a fleet whose agents boot within `boots`, while `script` happens to its bucket.
async fn simulate(boots: Duration, script: impl AsyncFnOnce(&FakeBucket)) -> FakeBucket {
    let bucket = FakeBucket::new();
    let agents: FuturesUnordered<_> = (0..AGENTS)
        .map(|seed| {
            let random = Random(Cell::new(seed << 32));
            live(&bucket, boots.mul_f64(random.random()), random)
        })
        .collect();
    let ended = matches!(select(pin!(agents.collect::<Vec<()>>()), pin!(script(&bucket))).await, Either::Right(_));
    assert!(ended, "no agent ends before");
    bucket
}

/// Asserts that no second, and no ten seconds, have more than so many times what a healthy fleet asks for.
///
/// A thousand agents that come by chance have busy seconds too, four times the mean. In step they would make it 225.
fn assert_spread(what: &str, seconds: &[u32], second: f64, ten: f64) {
    let peak = f64::from(*seconds.iter().max().expect("a second")) / MEAN;
    let longer = seconds.windows(10).map(|window| window.iter().sum::<u32>()).max();
    let longer = f64::from(longer.expect("ten seconds")) / 10.0 / MEAN;
    let said = format!("{what}: {peak:.1} times the mean in one second, {longer:.1} times in ten");
    assert!(peak <= second && longer <= ten, "{said}, allowed are {second} and {ten}");
}

const fn minutes(count: u64) -> Duration {
    Duration::from_mins(count)
}

#[tokio::test(start_paused = true)]
async fn a_fleet_in_health_is_spread() {
    let bucket = simulate(POLL, async |_| sleep(minutes(120)).await).await;
    let seconds = bucket.seconds(minutes(30), minutes(120));
    assert_spread("health", &seconds, 6.0, 3.0);
    let mean = seconds.iter().sum::<u32>() / u32::try_from(seconds.len()).expect("some seconds");
    assert!((3..=5).contains(&mean), "{mean} requests in a second on average");
}

#[tokio::test(start_paused = true)]
async fn a_fleet_that_boots_in_one_moment_is_spread_from_then_on() {
    let bucket = simulate(Duration::ZERO, async |_| sleep(minutes(120)).await).await;
    // A document, what was reported before, a new report.
    let first = bucket.seconds(Duration::ZERO, Duration::from_secs(1));
    assert!(first[0] <= 3050, "{} requests in the first second", first[0]);
    assert_spread("after the boot", &bucket.seconds(Duration::from_secs(1), minutes(120)), 6.0, 3.0);
}

#[tokio::test(start_paused = true)]
async fn after_an_outage_nobody_is_in_step() {
    let (down, up) = (minutes(60), minutes(70));
    let bucket = simulate(POLL, async |bucket| {
        sleep_until(bucket.begun + down).await;
        bucket.up.set(false);
        sleep_until(bucket.begun + up).await;
        bucket.up.set(true);
        sleep(minutes(60)).await;
    })
    .await;
    // Each cycle makes five attempts then, and the first few cycles come soon one after the other.
    assert_spread("outage", &bucket.seconds(down, up), 45.0, 35.0);
    assert_spread("after it", &bucket.seconds(up, up + minutes(60)), 7.0, 4.0);
}

#[tokio::test(start_paused = true)]
async fn a_fleet_that_boots_in_one_moment_of_an_outage_is_not_in_step_when_it_ends() {
    let up = minutes(10);
    let bucket = simulate(Duration::ZERO, async |bucket| {
        bucket.up.set(false);
        sleep_until(bucket.begun + up).await;
        bucket.up.set(true);
        sleep(minutes(60)).await;
    })
    .await;
    // An agent that finds the bucket available again reads its document, then its last report, and writes a new one.
    assert_spread("first reports", &bucket.seconds(up, up + minutes(6)), 14.0, 8.0);
    assert_spread("afterwards", &bucket.seconds(up + minutes(6), up + minutes(60)), 6.0, 4.0);
}
