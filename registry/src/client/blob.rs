//! A blob that is being read: as long as its descriptor says, with that digest, or an error.

use std::time::Duration;

use bucket::Sha256;
use bytes::Bytes;
use reqwest::Response;
use sha2::Digest as _;
use tokio::time::{Instant, timeout, timeout_at};

use super::failure::Failure;
use crate::{Descriptor, Digest, Error};

/// The slowest that a blob may come or go, on the whole and in each stretch of the time without an answer, in bytes a second.
const SLOWEST: u64 = 16 << 10;

/// The longest that any blob may take.
const LONGEST: Duration = Duration::from_hours(12);

/// The longest that so many bytes may take.
pub(super) fn longest(size: u64, timeout: Duration) -> Duration {
    timeout + Duration::from_secs(size / SLOWEST).min(LONGEST)
}

/// The fewest bytes that come or go in this time.
pub(super) fn fewest(time: Duration) -> u64 {
    SLOWEST.saturating_mul(u64::try_from(time.as_millis()).unwrap_or(u64::MAX)) / 1000
}

/// A blob that is being read.
#[derive(Debug)]
pub struct Blob {
    answer: Response,
    digest: Digest,
    size: u64,
    read: u64,
    hasher: sha2::Sha256,
    timeout: Duration,
    until: Instant,
    /// How much time was spent waiting for its bytes since when so many had come: whoever reads it may take their time.
    waited: Duration,
    before: u64,
}

impl Blob {
    pub(super) fn open(answer: Response, blob: &Descriptor, timeout: Duration) -> Result<Self, Failure> {
        if let Some(length) = answer.content_length().filter(|length| *length != blob.size) {
            return Err(Failure::malformed(format!("it has {length} bytes, and its manifest says {}", blob.size)));
        }
        Ok(Self {
            answer,
            digest: blob.digest.clone(),
            size: blob.size,
            read: 0,
            hasher: sha2::Sha256::new(),
            timeout,
            until: Instant::now() + longest(blob.size, timeout),
            waited: Duration::ZERO,
            before: 0,
        })
    }

    /// The next part; `None` once all of it was read and has the right digest.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, Error> {
        let next = self.next().await;
        next.map_err(|failure| failure.into_error("read", &self.digest))
    }

    pub(super) async fn next(&mut self) -> Result<Option<Bytes>, Failure> {
        let stalled = |_| Failure::silent(format!("stalled after {} of {} bytes", self.read, self.size));
        let begun = Instant::now();
        let chunk = timeout_at(self.until, timeout(self.timeout, self.answer.chunk())).await;
        let chunk = chunk.map_err(stalled)?.map_err(stalled)??;
        self.waited += begun.elapsed();
        if self.waited >= self.timeout {
            if chunk.is_some() && self.read - self.before < fewest(self.waited) {
                let reason = format!("it comes too slowly: {} bytes in {:?}", self.read - self.before, self.waited);
                return Err(Failure::transient(reason));
            }
            (self.waited, self.before) = (Duration::ZERO, self.read);
        }
        if let Some(chunk) = &chunk {
            self.read += chunk.len() as u64;
            self.hasher.update(chunk);
        }
        if self.read > self.size || (chunk.is_none() && self.read < self.size) {
            let reason = format!("it has {} bytes, and its manifest says {}", self.read, self.size);
            return Err(Failure::malformed(reason));
        }
        if chunk.is_none() {
            let digest = Digest::from(Sha256::from(<[u8; 32]>::from(std::mem::take(&mut self.hasher).finalize())));
            if digest != self.digest {
                return Err(Failure::malformed(format!("the registry gave bytes with the digest `{digest}`")));
            }
        }
        Ok(chunk)
    }
}
