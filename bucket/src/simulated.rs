//! The machine of a program in a simulation, as far as a bucket that is a directory sees it: its clock, and that it can die at any
//! write.

use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicI64, Ordering},
};

use jiff::{SignedDuration, Timestamp};

use crate::{Generation, ServerName};

/// A machine that goes by a simulation's clock. Clones are the same machine.
#[derive(Debug, Clone)]
pub struct SimulatedMachine {
    /// The time of the simulation, in microseconds.
    clock: Arc<AtomicI64>,
    /// How far its own clock is ahead of that.
    ahead: SignedDuration,
    /// How many objects it writes before it dies.
    writes_left: Arc<AtomicI64>,
    /// The server documents that it wrote, oldest first.
    documents: Arc<Mutex<Vec<(ServerName, Generation)>>>,
}

impl SimulatedMachine {
    /// The first machine of a simulation that begins at that time.
    pub fn new(start: Timestamp) -> Self {
        Self::at(Arc::new(AtomicI64::new(start.as_microsecond())), SignedDuration::ZERO)
    }

    /// Another machine of the same simulation, whose clock is ahead by so much.
    #[must_use]
    pub fn another(&self, ahead: SignedDuration) -> Self {
        Self::at(self.clock.clone(), ahead)
    }

    fn at(clock: Arc<AtomicI64>, ahead: SignedDuration) -> Self {
        Self { clock, ahead, writes_left: Arc::new(AtomicI64::new(i64::MAX)), documents: Arc::default() }
    }

    /// What its clock says.
    pub fn now(&self) -> Timestamp {
        let now = self.file_time();
        now.checked_add(self.ahead).unwrap_or(now)
    }

    /// What the clock of the file system says: that of the simulation.
    pub(crate) fn file_time(&self) -> Timestamp {
        Timestamp::from_microsecond(self.clock.load(Ordering::SeqCst)).unwrap_or_default()
    }

    /// Sets the time of the simulation, for all of its machines.
    pub fn set(&self, time: Timestamp) {
        self.clock.store(time.as_microsecond(), Ordering::SeqCst);
    }

    /// Has it die after so many writes: from then on nothing that it does reaches the bucket.
    pub fn dies_after(&self, writes: i64) {
        self.writes_left.store(writes, Ordering::SeqCst);
    }

    /// Whether it has died.
    pub fn is_dead(&self) -> bool {
        self.writes_left.load(Ordering::SeqCst) < 0
    }

    /// The server documents that it wrote since this was asked last, each with the generation that it became.
    pub fn take_documents(&self) -> Vec<(ServerName, Generation)> {
        std::mem::take(&mut self.documents.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Whether it lives to write one object more.
    pub(crate) fn lives_to_write(&self) -> bool {
        self.writes_left.fetch_sub(1, Ordering::SeqCst) > 0
    }

    pub(crate) fn wrote(&self, server: ServerName, generation: Generation) {
        self.documents.lock().unwrap_or_else(PoisonError::into_inner).push((server, generation));
    }
}
