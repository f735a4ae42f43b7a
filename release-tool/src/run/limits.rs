//! Until when a stage may go on.

use std::time::Duration;

use anyhow::Result;
use tokio::{
    sync::watch,
    time::{Instant, sleep_until},
};

/// Why a stage ended before it had done all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Unfinished {
    /// Something in it went wrong: what, as a sentence without its end.
    Failed(String),
    /// It was ended from outside.
    Stopped,
}

impl From<anyhow::Error> for Unfinished {
    fn from(error: anyhow::Error) -> Self {
        Self::Failed(format!("{error:#}"))
    }
}

/// When a stage ends whether it is ready or not.
#[derive(Debug, Clone)]
pub(super) struct Limits {
    /// Then.
    pub(super) deadline: Instant,
    /// How long that was when it began, for people.
    pub(super) time: Duration,
    /// When this says so.
    pub(super) stop: watch::Receiver<bool>,
}

impl Limits {
    /// Waits until the stage is to end, and says why.
    pub(super) async fn reached(&mut self) -> Unfinished {
        tokio::select! {
            () = sleep_until(self.deadline) => {
                Unfinished::Failed(format!("it took longer than {}", console::duration::show(self.time)))
            }
            // That nobody can stop it any more never happens: whoever can waits for it.
            _ = self.stop.wait_for(|stop| *stop) => Unfinished::Stopped,
        }
    }

    /// Does something as long as the stage may.
    pub(super) async fn within<T>(
        &mut self,
        work: impl Future<Output = Result<T, Unfinished>>,
    ) -> Result<T, Unfinished> {
        tokio::select! {
            done = work => done,
            reached = self.reached() => Err(reached),
        }
    }
}
