//! The upload of a large file, as polite as every other request.
//!
//! Google's client sends it and goes on after a cut; when it may try again, and after how long, is decided here. What
//! counts is whether the upload gets on: a gigabyte over a bad line may be cut a hundred times.

use std::{
    io::SeekFrom,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use google_cloud_gax::{
    backoff_policy::BackoffPolicy, error::Error, exponential_backoff::ExponentialBackoff,
    exponential_backoff::ExponentialBackoffBuilder, retry_policy::RetryPolicy, retry_result::RetryResult,
    retry_state::RetryState,
};
use google_cloud_storage::streaming_source::{SizeHint, StreamingSource};
use tokio::{
    fs::File,
    io::{AsyncReadExt, AsyncSeekExt},
    time::Instant,
};

use super::{
    attempt::{Failure, MAX_RETRY_AFTER},
    tokens::Tokens,
};

/// How much of a file is read at a time, in bytes.
const CHUNK: usize = 256 << 10;

/// How an upload gets on, and the policy for when it doesn't; all clones share it.
#[derive(Debug, Clone)]
pub(super) struct Upload(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    tokens: Tokens,
    /// Failures in a row after which it is given up.
    attempts: usize,
    backoff: ExponentialBackoff,
    /// Bytes read of the file so far.
    sent: AtomicU64,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// The most bytes that the server ever said it has.
    kept: u64,
    /// Failures since it had more.
    failures: usize,
    /// Whether another token was asked for since then.
    renewed: bool,
    /// How long the server asked to wait.
    asked: Option<Duration>,
    /// Until when nothing is sent.
    rests_until: Instant,
}

impl Upload {
    pub(super) fn new(tokens: Tokens, attempts: usize) -> Self {
        let backoff = ExponentialBackoffBuilder::new()
            .with_initial_delay(Duration::from_millis(200))
            .with_maximum_delay(Duration::from_secs(5))
            .clamp();
        let state = State { kept: 0, failures: 0, renewed: false, asked: None, rests_until: Instant::now() };
        Self(Arc::new(Inner { tokens, attempts, backoff, sent: AtomicU64::new(0), state: Mutex::new(state) }))
    }

    /// Bytes read of the file so far.
    pub(super) fn sent(&self) -> u64 {
        self.0.sent.load(Ordering::Relaxed)
    }

    /// Until when nothing is sent because that was decided here; in the past when it isn't.
    pub(super) fn rests_until(&self) -> Instant {
        self.state().rests_until
    }

    /// Whether it goes in circles: the server takes everything and keeps nothing.
    pub(super) fn is_stuck(&self) -> bool {
        self.state().failures > self.0.attempts
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl RetryPolicy for Upload {
    fn on_error(&self, _: &RetryState, error: Error) -> RetryResult {
        let failure = Failure::from(&error);
        let mut state = self.state();
        if failure.status == Some(401) && !state.renewed && self.0.tokens.renew(self.0.tokens.renewals()) {
            state.renewed = true;
            tracing::info!(reason = failure.reason, "the access token is refused: a fresh one is asked for");
            return RetryResult::Continue(error);
        }
        if !failure.transient {
            return RetryResult::Permanent(error);
        }
        if state.failures + 1 >= self.0.attempts || failure.retry_after.is_some_and(|wait| wait > MAX_RETRY_AFTER) {
            return RetryResult::Exhausted(error);
        }
        state.asked = failure.retry_after;
        tracing::info!(reason = failure.reason, "upload goes on after a failure");
        RetryResult::Continue(error)
    }
}

impl BackoffPolicy for Upload {
    fn on_failure(&self, library: &RetryState) -> Duration {
        let mut state = self.state();
        state.failures += 1;
        let count = u32::try_from(state.failures).unwrap_or(u32::MAX);
        let delay = self.0.backoff.on_failure(&library.clone().set_attempt_count(count));
        let delay = delay.max(state.asked.take().unwrap_or_default());
        state.rests_until = Instant::now() + delay;
        delay
    }
}

/// The file of an upload.
pub(super) struct Source {
    pub(super) file: File,
    pub(super) size: u64,
    pub(super) upload: Upload,
}

impl StreamingSource for Source {
    type Error = std::io::Error;

    async fn next(&mut self) -> Option<Result<Bytes, Self::Error>> {
        let mut chunk = vec![0; CHUNK];
        match self.file.read(&mut chunk).await {
            Ok(0) => None,
            Ok(length) => {
                chunk.truncate(length);
                self.upload.0.sent.fetch_add(length as u64, Ordering::Relaxed);
                Some(Ok(chunk.into()))
            }
            Err(error) => Some(Err(error)),
        }
    }

    async fn size_hint(&self) -> Result<SizeHint, Self::Error> {
        Ok(SizeHint::with_exact(self.size))
    }
}

impl google_cloud_storage::streaming_source::Seek for Source {
    type Error = std::io::Error;

    /// To where the server has everything before.
    async fn seek(&mut self, offset: u64) -> Result<(), Self::Error> {
        self.upload.0.sent.store(offset, Ordering::Relaxed);
        {
            let mut state = self.upload.state();
            if offset > state.kept {
                (state.kept, state.failures, state.renewed) = (offset, 0, false);
            }
        }
        self.file.seek(SeekFrom::Start(offset)).await.map(drop)
    }
}
