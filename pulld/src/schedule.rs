//! When the agent looks again. Pure; `schedule/herd.rs` tries it with a thousand agents.
//!
//! A fleet falls into step when it boots together, when one push reaches all of it, and when a bucket that was away
//! comes back. So every wait has chance in it, and the first one is nothing but chance.

#[cfg(test)]
mod herd;

use std::{
    hash::{BuildHasher, RandomState},
    time::Duration,
};

use crate::backoff;

/// The wait after the first cycle that failed; it doubles with each further one.
const FIRST_RETRY: Duration = Duration::from_secs(10);

/// The wait before a release that couldn't be brought in is tried again, at first and at most.
const SETBACK: (Duration, Duration) = (Duration::from_secs(15), Duration::from_mins(30));

/// How long to rest after a cycle, `fresh` if it was the first, `failures` of the last ones having failed in a row.
/// `dice` is a random number from 0 to 1, here and below.
pub fn rest(poll: Duration, jitter: Duration, fresh: bool, failures: u32, dice: f64) -> Duration {
    let regular = if fresh && !jitter.is_zero() {
        // Machines that booted together are spread over the whole interval at a stroke.
        poll.mul_f64(dice)
    } else {
        around(poll, jitter, dice)
    };
    match failures.checked_sub(1) {
        None => regular,
        Some(earlier) => regular.min(shortened(backoff::delay(earlier, FIRST_RETRY, poll), dice)),
    }
}

/// How long to wait before a release is tried again that couldn't be brought in `tries` times before.
pub fn setback(tries: u32, dice: f64) -> Duration {
    let (first, most) = SETBACK;
    shortened(backoff::delay(tries, first, most), dice)
}

/// How long the report in the bucket may stay as it is, for a heartbeat of that length.
pub fn sign_of_life(heartbeat: Duration, dice: f64) -> Duration {
    around(heartbeat, heartbeat / 10, dice)
}

/// A random number from 0 to 1, good enough to keep machines out of step.
pub fn dice() -> f64 {
    // The standard library seeds each hasher at random; the top 32 bits fill a float exactly.
    let random = u32::try_from(RandomState::new().hash_one(()) >> 32).unwrap_or_default();
    f64::from(random) / f64::from(u32::MAX)
}

fn around(middle: Duration, by: Duration, dice: f64) -> Duration {
    (middle + by.mul_f64(2.0 * dice)).saturating_sub(by)
}

/// Takes off up to half.
fn shortened(wait: Duration, dice: f64) -> Duration {
    wait.mul_f64(1.0 - dice / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLL: Duration = Duration::from_mins(5);
    const JITTER: Duration = Duration::from_secs(30);

    #[test]
    fn a_poll_comes_a_little_earlier_or_later() {
        for (dice, seconds) in [(0.0, 270), (0.5, 300), (1.0, 330)] {
            assert_eq!(rest(POLL, JITTER, false, 0, dice).as_secs(), seconds);
            assert_eq!(rest(POLL, Duration::ZERO, false, 0, dice), POLL);
        }
    }

    #[test]
    fn the_first_rest_is_any_part_of_the_interval() {
        for (dice, seconds) in [(0.0, 0), (0.25, 75), (1.0, 300)] {
            assert_eq!(rest(POLL, JITTER, true, 0, dice).as_secs(), seconds);
            assert_eq!(rest(POLL, Duration::ZERO, true, 0, dice), POLL, "nobody wants chance");
        }
    }

    #[test]
    fn failures_are_tried_again_soon_then_ever_later_but_never_later_than_a_poll() {
        for (failures, dice, seconds) in
            [(1, 0.0, 10.0), (1, 1.0, 5.0), (2, 0.0, 20.0), (4, 0.5, 60.0), (99, 1.0, 150.0)]
        {
            assert_eq!(
                rest(POLL, JITTER, false, failures, dice),
                Duration::from_secs_f64(seconds),
                "{failures} {dice}"
            );
        }
        assert_eq!(rest(Duration::from_secs(1), Duration::ZERO, false, 9, 0.0), Duration::from_secs(1));
        assert!(rest(POLL, JITTER, false, u32::MAX, 0.0) <= POLL);
    }

    #[test]
    fn releases_and_reports_have_chance_too() {
        assert_eq!([setback(0, 0.0), setback(0, 1.0)].map(|wait| wait.as_millis()), [15_000, 7_500]);
        assert_eq!(setback(u32::MAX, 0.0), Duration::from_mins(30));
        assert_eq!(
            [0.0, 1.0].map(|dice| sign_of_life(Duration::from_mins(15), dice)).map(|wait| wait.as_secs()),
            [810, 990]
        );
    }
}
