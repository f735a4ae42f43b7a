//! What is counted from one request to the next, for `/metrics`.

use std::sync::atomic::{AtomicU64, Ordering};

/// Pushes of this process.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    written: AtomicU64,
    refused: AtomicU64,
}

impl Counters {
    /// Counts one push to one server.
    pub(crate) fn count_push(&self, written: bool) {
        let counter = if written { &self.written } else { &self.refused };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    /// How many pushes were written.
    pub(crate) fn written(&self) -> u64 {
        self.written.load(Ordering::Relaxed)
    }

    /// How many pushes were not written.
    pub(crate) fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }
}
