//! When the agent pulls next. Pure: no I/O, no clock; `schedule/herd.rs` tries it with a thousand agents.
//!
//! A fleet falls into step when it boots together, when one push reaches all of it, and when a bucket that was away
//! comes back. So every wait is partly random, and the first one is nothing else.

#[cfg(test)]
mod herd;

use std::time::Duration;

use super::backoff;

/// The wait after the first cycle that failed; it doubles with each further one.
const FIRST_RETRY: Duration = Duration::from_secs(10);

/// The first and the longest wait before a release that could not be installed is retried.
const RETRY: (Duration, Duration) = (Duration::from_secs(15), Duration::from_mins(30));

/// How long to wait after a cycle, `fresh` if it was the first, `failures` of the last ones having failed in a row.
/// `random` is a number from 0 to 1, here and below.
pub(crate) fn rest(poll: Duration, jitter: Duration, fresh: bool, failures: u32, random: f64) -> Duration {
    let regular = if fresh && !jitter.is_zero() {
        // Machines that booted together are spread over the whole interval at a stroke.
        poll.mul_f64(random)
    } else {
        around(poll, jitter, random)
    };
    match failures.checked_sub(1) {
        None => regular,
        Some(earlier) => regular.min(shortened(backoff::delay(earlier, FIRST_RETRY, poll), random)),
    }
}

/// How long to wait before a release is retried that could not be installed `tries` times before.
pub(crate) fn retry(tries: u32, random: f64) -> Duration {
    let (first, most) = RETRY;
    shortened(backoff::delay(tries, first, most), random)
}

/// How long the report in the bucket may stay as it is, for a heartbeat of that length.
pub(crate) fn heartbeat(heartbeat: Duration, random: f64) -> Duration {
    around(heartbeat, heartbeat / 10, random)
}

fn around(middle: Duration, by: Duration, random: f64) -> Duration {
    (middle + by.mul_f64(2.0 * random)).saturating_sub(by)
}

/// Takes off up to half.
fn shortened(wait: Duration, random: f64) -> Duration {
    wait.mul_f64(1.0 - random / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLL: Duration = Duration::from_mins(5);
    const JITTER: Duration = Duration::from_secs(30);

    #[test]
    fn a_poll_comes_a_little_earlier_or_later() {
        for (random, seconds) in [(0.0, 270), (0.5, 300), (1.0, 330)] {
            assert_eq!(rest(POLL, JITTER, false, 0, random).as_secs(), seconds);
            assert_eq!(rest(POLL, Duration::ZERO, false, 0, random), POLL);
        }
    }

    #[test]
    fn the_first_rest_is_any_part_of_the_interval() {
        for (random, seconds) in [(0.0, 0), (0.25, 75), (1.0, 300)] {
            assert_eq!(rest(POLL, JITTER, true, 0, random).as_secs(), seconds);
            assert_eq!(rest(POLL, Duration::ZERO, true, 0, random), POLL, "nobody wants chance");
        }
    }

    #[test]
    fn failures_are_tried_again_soon_then_ever_later_but_never_later_than_a_poll() {
        for (failures, random, seconds) in
            [(1, 0.0, 10.0), (1, 1.0, 5.0), (2, 0.0, 20.0), (4, 0.5, 60.0), (99, 1.0, 150.0)]
        {
            assert_eq!(
                rest(POLL, JITTER, false, failures, random),
                Duration::from_secs_f64(seconds),
                "{failures} {random}"
            );
        }
        assert_eq!(rest(Duration::from_secs(1), Duration::ZERO, false, 9, 0.0), Duration::from_secs(1));
        assert!(rest(POLL, JITTER, false, u32::MAX, 0.0) <= POLL);
    }

    #[test]
    fn releases_and_reports_have_chance_too() {
        assert_eq!([retry(0, 0.0), retry(0, 1.0)].map(|wait| wait.as_millis()), [15_000, 7_500]);
        assert_eq!(retry(u32::MAX, 0.0), Duration::from_mins(30));
        assert_eq!(
            [0.0, 1.0].map(|random| heartbeat(Duration::from_mins(15), random)).map(|wait| wait.as_secs()),
            [810, 990]
        );
    }
}
