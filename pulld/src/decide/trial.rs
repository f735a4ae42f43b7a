//! How often a release's own check is tried, and when it has failed. Pure: no I/O, no clock.

use std::time::Duration;

use bucket::{Check, CheckPace};

/// The least time for one attempt of a check that has no pace of its own.
const MIN_TIMEOUT: Duration = Duration::from_secs(10);

/// How a check is tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Trial {
    /// How long one attempt may take.
    pub(crate) timeout: Duration,
    interval: Duration,
    until: Until,
}

/// Up to when another attempt is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Until {
    /// As many were made.
    Attempts(u32),
    /// As much time has passed since the first began.
    Elapsed(Duration),
}

/// What follows an attempt that did not pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum After {
    /// The next one, after this pause.
    Pause(Duration),
    /// The check has failed.
    Failure,
}

impl Trial {
    /// How `check` is tried where the health window is `window`: within another window if it has no pace of its own.
    pub(crate) fn of(check: &Check, window: Duration) -> Self {
        match check.pace {
            Some(pace) => {
                Self { timeout: pace.timeout(), interval: pace.interval(), until: Until::Attempts(pace.attempts()) }
            }
            None => Self {
                timeout: window.max(MIN_TIMEOUT),
                interval: CheckPace::DEFAULT.interval(),
                until: Until::Elapsed(window),
            },
        }
    }

    /// What follows the last of `attempts` that did not pass, the first of which began `elapsed` ago.
    pub(crate) fn after(self, attempts: u32, elapsed: Duration) -> After {
        let over = match self.until {
            Until::Attempts(most) => attempts >= most,
            Until::Elapsed(window) => elapsed >= window,
        };
        if over { After::Failure } else { After::Pause(self.interval) }
    }

    /// Longest time that all attempts can take.
    pub(crate) fn longest(self) -> Duration {
        match self.until {
            Until::Attempts(most) => (self.timeout + self.interval).saturating_mul(most),
            Until::Elapsed(window) => window + self.interval + self.timeout,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOW: Duration = Duration::from_secs(20);

    fn trial(check: &str) -> Trial {
        Trial::of(&check.parse().unwrap(), WINDOW)
    }

    #[test]
    fn a_pace_counts_attempts_whatever_time_they_take() {
        let trial = trial("timeout=2s interval=500ms attempts=3 tcp://127.0.0.1:1");
        assert_eq!((trial.timeout, trial.longest()), (Duration::from_secs(2), Duration::from_millis(7500)));
        for elapsed in [Duration::ZERO, Duration::from_hours(1)] {
            assert_eq!(trial.after(1, elapsed), After::Pause(Duration::from_millis(500)));
            assert_eq!(trial.after(2, elapsed), After::Pause(Duration::from_millis(500)));
            assert_eq!(trial.after(3, elapsed), After::Failure);
        }
    }

    #[test]
    fn without_a_pace_it_is_tried_for_a_health_window() {
        let trial = trial("/usr/bin/web --health");
        assert_eq!(trial.timeout, WINDOW);
        for attempts in [1, 1000] {
            assert_eq!(trial.after(attempts, Duration::from_secs(19)), After::Pause(Duration::from_secs(1)));
            assert_eq!(trial.after(attempts, WINDOW), After::Failure);
        }
        let short = Trial::of(&"/usr/bin/web".parse().unwrap(), Duration::from_secs(2));
        assert_eq!(short.timeout, MIN_TIMEOUT);
    }
}
