//! How far a bucket's clock is ahead of this machine's.

use std::sync::atomic::{AtomicI64, Ordering};

use jiff::{SignedDuration, Timestamp};

/// A difference that can't be told from none: dates in answers have whole seconds, and file systems look at their clock rarely.
const PRECISION: SignedDuration = SignedDuration::from_secs(2);

/// A difference in milliseconds that stands for one that nobody knows yet.
const UNKNOWN: i64 = i64::MIN;

/// How far the bucket's clock is ahead, as it was last seen.
#[derive(Debug)]
pub(crate) struct ClockOffset(AtomicI64);

impl ClockOffset {
    /// Of a bucket that has not said what time it is.
    pub(crate) fn unknown() -> Self {
        Self(AtomicI64::new(UNKNOWN))
    }

    /// Whether it has.
    pub(crate) fn is_known(&self) -> bool {
        self.0.load(Ordering::Relaxed) != UNKNOWN
    }

    /// How far it is ahead; none as long as that is unknown, or too little to be told from none.
    pub(crate) fn get(&self) -> SignedDuration {
        let ahead = if self.is_known() { self.0.load(Ordering::Relaxed) } else { 0 };
        Some(SignedDuration::from_millis(ahead)).filter(|ahead| ahead.abs() >= PRECISION).unwrap_or_default()
    }

    /// Takes note of the time that the bucket told between two moments of this machine's clock.
    pub(crate) fn note(&self, told: Timestamp, asked: Timestamp, answered: Timestamp) {
        let taken = answered.duration_since(asked);
        // It was told when about half of the time had passed.
        let ahead = told.duration_since(asked) - taken / 2;
        if taken < PRECISION {
            self.0.store(i64::try_from(ahead.as_millis()).unwrap_or_default(), Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_told_too_slowly_or_can_not_be_told_from_none_counts_for_nothing() {
        let at = |seconds: i64| Timestamp::from_second(1_700_000_000 + seconds).unwrap();
        let clock = ClockOffset::unknown();
        assert_eq!((clock.is_known(), clock.get()), (false, SignedDuration::ZERO));
        clock.note(at(3600), at(0), at(0));
        assert_eq!((clock.is_known(), clock.get()), (true, SignedDuration::from_hours(1)));
        clock.note(at(60), at(0), at(3));
        assert_eq!(clock.get(), SignedDuration::from_hours(1));
        clock.note(at(-1), at(0), at(0));
        assert_eq!(clock.get(), SignedDuration::ZERO);
    }
}
