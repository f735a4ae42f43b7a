//! The watchdog's proof that the loop is alive, not merely the process.
//!
//! Before each wait the loop promises its maximum length; while the promise holds, systemd's watchdog is fed. A wait that
//! exceeds it lets the watchdog end the process, and the next process completes the transaction.

use std::{cell::Cell, time::Duration};

use tokio::time::Instant;

/// Time on top of every promise: another limit ends the wait first, normally.
const GRACE: Duration = Duration::from_mins(2);

/// Until when the loop promised to move on.
#[derive(Debug)]
pub(crate) struct Liveness {
    until: Cell<Instant>,
}

impl Liveness {
    /// Promises the next step within the grace.
    pub(crate) fn new() -> Self {
        Self { until: Cell::new(Instant::now() + GRACE) }
    }

    /// Promises to move on within `wait`.
    pub(crate) fn within(&self, wait: Duration) {
        self.until.set(Instant::now() + wait + GRACE);
    }

    /// Whether the last promise still holds.
    pub(crate) fn holds(&self) -> bool {
        Instant::now() < self.until.get()
    }
}

impl Default for Liveness {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_wait_beyond_its_promise_starves_the_watchdog() {
        let liveness = Liveness::new();
        liveness.within(Duration::from_mins(30));
        tokio::time::advance(Duration::from_mins(31)).await;
        assert!(liveness.holds());
        tokio::time::advance(Duration::from_mins(2)).await;
        assert!(!liveness.holds());
    }
}
