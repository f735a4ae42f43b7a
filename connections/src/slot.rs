//! One connection: what happens on it, since when, and for how long that may be.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{sync::Notify, time::Instant};

/// What happens on a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// The first request hasn't begun, or one has and its headers are incomplete.
    Head,
    /// The headers of a request are here, its body is incomplete; since when its last part came, where bodies are long.
    Body,
    /// A request is here and is being worked on.
    Working,
    /// The answer is being sent; since when its last part went.
    Sending,
    /// The answer is sent, and another request may come.
    Idle,
}

impl Phase {
    /// How long it may last.
    fn limit(self) -> Option<Duration> {
        match self {
            Self::Head => Some(Duration::from_secs(10)),
            // The longest page's form in this time is about one Mbit/s; a stream of events sends something every 15 seconds.
            Self::Body | Self::Sending => Some(Duration::from_mins(1)),
            Self::Working => None,
            // Google's load balancer expects a backend to wait longer than its own 10 minutes.
            Self::Idle => Some(Duration::from_secs(620)),
        }
    }
}

/// How often the time is looked at.
const LOOK: Duration = Duration::from_secs(5);

/// What the time for the body of a request is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bodies {
    /// The whole body.
    Short,
    /// Each part of it: files are sent that may take long.
    Long,
}

/// One connection.
#[derive(Debug)]
pub(super) struct Slot {
    bodies: Bodies,
    state: Mutex<(Phase, Instant)>,
    close: Notify,
}

impl Slot {
    /// That of a new connection.
    pub(super) fn new(bodies: Bodies) -> Self {
        Self { bodies, state: Mutex::new((Phase::Head, Instant::now())), close: Notify::new() }
    }

    /// Notes what happens from now on.
    pub(super) fn enter(&self, phase: Phase) {
        *self.state() = (phase, Instant::now());
    }

    /// Notes that bytes have come: a request begins if none was under way.
    pub(super) fn note_read(&self) {
        let mut state = self.state();
        if state.0 == Phase::Idle {
            *state = (Phase::Head, Instant::now());
        }
    }

    /// Notes that a part of a request's body has come.
    pub(super) fn note_part(&self) {
        let mut state = self.state();
        if state.0 == Phase::Body && self.bodies == Bodies::Long {
            state.1 = Instant::now();
        }
    }

    /// Notes that a part of an answer went.
    pub(super) fn note_write(&self) {
        let mut state = self.state();
        if state.0 == Phase::Sending {
            state.1 = Instant::now();
        }
    }

    /// Since when it has kept us waiting, if it does.
    pub(super) fn waiting_since(&self) -> Option<Instant> {
        let (phase, since) = *self.state();
        matches!(phase, Phase::Head | Phase::Body | Phase::Idle).then_some(since)
    }

    /// Has [`Slot::over`] end.
    pub(super) fn close(&self) {
        self.close.notify_one();
    }

    /// Waits until its time is up or it was closed.
    pub(super) async fn over(&self) {
        loop {
            tokio::select! {
                () = self.close.notified() => return,
                () = tokio::time::sleep(LOOK) => {}
            }
            let (phase, since) = *self.state();
            if phase.limit().is_some_and(|limit| since.elapsed() >= limit) {
                return;
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, (Phase, Instant)> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
