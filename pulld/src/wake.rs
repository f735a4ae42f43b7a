//! What ends the agent's rest: the poll timer, SIGHUP, `pulld pull`, and a poke.
//!
//! A bell that rings during a cycle is heard right after it, once, however often it rang.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::{sync::Notify, time::Instant};

/// Why a cycle begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reason {
    /// The agent just started.
    Start,
    /// It is time to look again.
    Timer,
    /// SIGHUP.
    Signal,
    /// `pulld pull`.
    Command,
    /// The instance metadata changed: somebody pushed, or so it seems.
    Poke,
}

impl Reason {
    /// Whether a person asked: then nothing waits for its time.
    pub fn is_explicit(self) -> bool {
        matches!(self, Self::Start | Self::Signal | Self::Command)
    }
}

/// Rung by whoever wants a cycle; any number of hands hold it.
#[derive(Debug, Clone, Default)]
pub struct Bell(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    rung: Mutex<BTreeSet<Reason>>,
    notify: Notify,
}

impl Bell {
    /// Asks for a cycle.
    pub fn ring(&self, reason: Reason) {
        self.0.rung.lock().unwrap_or_else(PoisonError::into_inner).insert(reason);
        self.0.notify.notify_one();
    }

    /// Waits until somebody rings, or until `time`; gives every reason since the last time.
    pub async fn wait_until(&self, time: Instant) -> BTreeSet<Reason> {
        loop {
            let rung = std::mem::take(&mut *self.0.rung.lock().unwrap_or_else(PoisonError::into_inner));
            if !rung.is_empty() {
                return rung;
            }
            tokio::select! {
                () = self.0.notify.notified() => {}
                () = tokio::time::sleep_until(time) => self.ring(Reason::Timer),
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
        let bell = Bell::default();
        bell.ring(Reason::Start);
        let poll = Instant::now() + Duration::from_mins(5);
        assert_eq!(bell.wait_until(poll).await, [Reason::Start].into());
        for _ in 0..100 {
            bell.ring(Reason::Signal);
            bell.ring(Reason::Command);
        }
        assert_eq!(bell.wait_until(poll).await, [Reason::Signal, Reason::Command].into());
        let began = Instant::now();
        assert_eq!(bell.wait_until(poll).await, [Reason::Timer].into());
        assert_eq!(began.elapsed(), Duration::from_mins(5));
    }
}
