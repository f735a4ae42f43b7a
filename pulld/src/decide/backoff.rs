//! How long to wait before the next try, the longer the more have failed.

use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBuilder};

/// The delay after `failures` earlier ones: `first`, then twice as long each time, at most `most`.
pub(crate) fn delay(failures: u32, first: Duration, most: Duration) -> Duration {
    let delays = ExponentialBuilder::new().with_min_delay(first).with_max_delay(most).without_max_times();
    // Far below that many the longest delay is reached.
    let nth = usize::try_from(failures.min(64)).unwrap_or(64);
    delays.build().nth(nth).unwrap_or(most).min(most)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_grow_to_a_bound() {
        let delays =
            [0, 1, 2, 10, u32::MAX].map(|n| delay(n, Duration::from_secs(5), Duration::from_mins(5)).as_secs());
        assert_eq!(delays, [5, 10, 20, 300, 300]);
        assert_eq!(delay(0, Duration::from_secs(5), Duration::from_secs(1)).as_secs(), 1);
    }
}
