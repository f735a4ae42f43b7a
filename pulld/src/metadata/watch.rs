//! The loop that long-polls the metadata server: request, judge, notify the agent, remember, repeat.

use std::time::Duration;

use tokio::time::{Instant, sleep};
use tracing::{debug, info, warn};

use crate::{random::random_fraction, service::events};

use super::{Answer, Judgement, Known, News, Timing, judge};

/// Watches for as long as it is polled, and calls `poked` after every change of `pushrev`.
///
/// `ask` takes the last etag and is normally [`Client::ask`](super::Client::ask). `poked` must note the poke where it
/// can't be lost, and return at once: only then is the answer remembered, so that a poke is seen twice rather than
/// never. Pokes during a pull cycle are for the listener to merge into one.
pub async fn watch<Asked>(
    ask: impl Fn(Option<String>) -> Asked,
    timing: &Timing,
    mut poked: impl FnMut(),
) -> std::convert::Infallible
where
    Asked: Future<Output = Answer>,
{
    let mut known = Known::default();
    loop {
        let begun = Instant::now();
        let answer = ask(known.etag.clone()).await;
        let judgement = judge(&known, answer, begun.elapsed(), timing, random_fraction());
        log(&judgement);
        if judgement.poked {
            poked();
        }
        known = judgement.known;
        sleep(judgement.pause).await;
    }
}

fn log(judgement: &Judgement) {
    match &judgement.news {
        Some(News::Failing(reason)) => {
            warn!(message_id = events::METADATA, reason = %reason, "cannot watch the metadata server; pokes may be delayed, polling continues");
        }
        Some(News::Recovered(failures)) => {
            info!(message_id = events::METADATA, failures, "watching the metadata server again");
        }
        None if judgement.known.failures > 0 => {
            let pause = Duration::from_millis(u64::try_from(judgement.pause.as_millis()).unwrap_or(u64::MAX));
            debug!(failures = judgement.known.failures, ?pause, "still cannot watch the metadata server");
        }
        None => debug!(poked = judgement.poked, "the metadata server responded"),
    }
}
