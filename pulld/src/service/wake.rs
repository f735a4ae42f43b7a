//! What wakes the agent: the poll timer, SIGHUP, `pulld pull`, and a poke.
//!
//! A wake-up during a cycle leads to one more cycle right after it, however many there were.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::{sync::Notify, time::Instant};

/// Why a cycle begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Reason {
    /// The agent just started.
    Start,
    /// The poll interval is over.
    Timer,
    /// SIGHUP.
    Signal,
    /// `pulld pull`.
    Command,
    /// The instance metadata changed, as after a push.
    Poke,
}

impl Reason {
    /// Whether a person or a start asked for it: then retries do not wait for their time.
    pub(crate) fn is_explicit(self) -> bool {
        matches!(self, Self::Start | Self::Signal | Self::Command)
    }
}

/// Requests a pull cycle; every clone is the same signal.
#[derive(Debug, Clone, Default)]
pub(crate) struct WakeSignal(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    reasons: Mutex<BTreeSet<Reason>>,
    notify: Notify,
}

impl WakeSignal {
    /// Requests a cycle.
    pub(crate) fn notify(&self, reason: Reason) {
        self.0.reasons.lock().unwrap_or_else(PoisonError::into_inner).insert(reason);
        self.0.notify.notify_one();
    }

    /// Waits for a wake-up, or until `time`; gives every reason since the last time.
    pub(crate) async fn wait_until(&self, time: Instant) -> BTreeSet<Reason> {
        loop {
            let reasons = std::mem::take(&mut *self.0.reasons.lock().unwrap_or_else(PoisonError::into_inner));
            if !reasons.is_empty() {
                return reasons;
            }
            tokio::select! {
                () = self.0.notify.notified() => {}
                () = tokio::time::sleep_until(time) => self.notify(Reason::Timer),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn rings_during_a_cycle_become_exactly_one_more() {
        let wake_signal = WakeSignal::default();
        wake_signal.notify(Reason::Start);
        let poll = Instant::now() + Duration::from_mins(5);
        assert_eq!(wake_signal.wait_until(poll).await, [Reason::Start].into());
        for _ in 0..100 {
            wake_signal.notify(Reason::Signal);
            wake_signal.notify(Reason::Command);
        }
        assert_eq!(wake_signal.wait_until(poll).await, [Reason::Signal, Reason::Command].into());
        let began = Instant::now();
        assert_eq!(wake_signal.wait_until(poll).await, [Reason::Timer].into());
        assert_eq!(began.elapsed(), Duration::from_mins(5));
    }
}
