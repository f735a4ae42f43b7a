//! Writes: each carries an id of its own, so that a write whose answer was lost is recognised as ours.

use std::{
    hash::{BuildHasher, Hasher, RandomState},
    io::SeekFrom,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use google_cloud_gax::{exponential_backoff::ExponentialBackoffBuilder, retry_policy::RetryPolicyExt};
use google_cloud_storage::{
    client::Storage,
    retry_policy::RetryableErrors,
    streaming_source::{Seek, SizeHint, StreamingSource},
};
use tokio::{
    fs::File,
    io::{AsyncReadExt, AsyncSeekExt},
};

use super::{GcsBucket, WRITE_ID, attempt::Failure};
use crate::{Error, Generation, Metadata, ObjectPath};

/// How much of a file is read at a time, in bytes.
const CHUNK: usize = 256 << 10;

/// Files from this size on are sent so that a cut upload goes on where it was cut, in bytes.
const RESUMABLE_FROM: usize = 4 << 20;

/// How often `progress` is told.
const TICK: Duration = Duration::from_millis(100);

/// A write: what, over which generation (0: as the first), and by which id it is recognised.
pub(super) struct Write<'a> {
    pub(super) path: &'a ObjectPath,
    pub(super) metadata: &'a Metadata,
    pub(super) over: i64,
    id: String,
}

impl<'a> Write<'a> {
    pub(super) fn new(path: &'a ObjectPath, metadata: &'a Metadata, over: Option<Generation>) -> Self {
        // The standard library's hash keys are random, a new pair for every state.
        let id = format!("{:016x}", RandomState::new().build_hasher().finish());
        Self { path, metadata, over: over.map_or(0, |generation| generation.0), id }
    }

    fn all_metadata(&self) -> impl Iterator<Item = (String, String)> {
        let own = (WRITE_ID.to_owned(), self.id.clone());
        self.metadata.clone().into_iter().chain([own])
    }

    /// One attempt at writing content that is in memory.
    pub(super) async fn send(&self, storage: &Storage, bucket: &str, content: Bytes) -> Result<Generation, Failure> {
        let length = content.len();
        let sending = storage
            .write_object(bucket, self.path.as_str(), content)
            .set_if_generation_match(self.over)
            .set_metadata(self.all_metadata())
            .set_content_type(content_type(self.path))
            .with_resumable_upload_threshold(length + 1)
            .send_unbuffered();
        let written = Box::pin(sending).await?;
        Ok(Generation(written.generation))
    }

    /// Sends a file; cut uploads go on where they were cut. Fails when nothing was sent for twice `timeout`: once for
    /// the server to answer, once for the wait before another attempt.
    pub(super) async fn send_file(
        &self,
        storage: &Storage,
        bucket: &str,
        source: &Path,
        timeout: Duration,
        progress: &(dyn Fn(u64) + Send + Sync),
    ) -> Result<Generation, Failure> {
        let unreadable = |e: std::io::Error| Failure {
            status: None,
            reason: format!("could not read `{}`: {e}", source.display()),
            transient: false,
            retry_after: None,
        };
        let file = File::open(source).await.map_err(unreadable)?;
        let size = file.metadata().await.map_err(unreadable)?.len();
        let sent = Arc::new(AtomicU64::new(0));
        let shortest = timeout.min(Duration::from_millis(200));
        let longest = timeout.min(Duration::from_secs(5));
        let backoff = ExponentialBackoffBuilder::new().with_initial_delay(shortest).with_maximum_delay(longest).clamp();
        let upload = storage
            .write_object(bucket, self.path.as_str(), FileSource { file, size, sent: sent.clone() })
            .set_if_generation_match(self.over)
            .set_metadata(self.all_metadata())
            .set_content_type(content_type(self.path))
            .with_resumable_upload_threshold(RESUMABLE_FROM)
            .with_retry_policy(RetryableErrors.with_attempt_limit(5))
            .with_backoff_policy(backoff)
            // The machine that downloads it verifies a SHA-256: a second pass over the file would add nothing.
            .with_checksum_precomputation(false)
            .send_unbuffered();
        let mut upload = Box::pin(upload);
        let mut tick = tokio::time::interval(TICK);
        let mut last = (0, tokio::time::Instant::now());
        loop {
            tokio::select! {
                done = &mut upload => {
                    let written = done?;
                    if u64::try_from(written.size) != Ok(size) {
                        return Err(Failure::transient(format!("{} of {size} bytes arrived", written.size)));
                    }
                    progress(size);
                    return Ok(Generation(written.generation));
                }
                _ = tick.tick() => {
                    let now = sent.load(Ordering::Relaxed);
                    if now != last.0 {
                        last = (now, tokio::time::Instant::now());
                        progress(now.min(size));
                    } else if last.1.elapsed() > timeout * 2 {
                        return Err(Failure::transient(format!("the upload stood still for {:?}", timeout * 2)));
                    }
                }
            }
        }
    }
}

impl GcsBucket {
    /// How a write ended whose last attempt was refused because of its generation, or broke off with its fate unknown.
    pub(super) async fn settle(&self, write: &Write<'_>, failure: Failure) -> Result<Generation, Error> {
        let refused = failure.status == Some(412);
        if !refused && !failure.transient {
            return Err(self.error(failure, "write", write.path));
        }
        // Ours may have been written although its answer never came.
        match self.find(write.path).await {
            Ok(Some(found)) if found.write_id.as_deref() == Some(&write.id) => return Ok(found.info.generation),
            // Not knowing isn't having lost: "conflict" promises that nothing was written.
            Err(error) if refused => return Err(error),
            _ => {}
        }
        let object = write.path.to_string();
        match (refused, write.over) {
            (false, _) => Err(self.error(failure, "write", write.path)),
            (true, 0) => Err(Error::AlreadyExists { object }),
            (true, expected) => Err(Error::Conflict { object, expected: Generation(expected) }),
        }
    }
}

fn content_type(path: &ObjectPath) -> &'static str {
    match path.as_str().rsplit_once('.') {
        Some((_, "json")) => "application/json",
        Some((_, "deb")) => "application/vnd.debian.binary-package",
        _ => "application/octet-stream",
    }
}

/// A file that counts what is read of it.
struct FileSource {
    file: File,
    size: u64,
    sent: Arc<AtomicU64>,
}

impl StreamingSource for FileSource {
    type Error = std::io::Error;

    async fn next(&mut self) -> Option<Result<Bytes, Self::Error>> {
        let mut chunk = vec![0; CHUNK];
        match self.file.read(&mut chunk).await {
            Ok(0) => None,
            Ok(length) => {
                chunk.truncate(length);
                self.sent.fetch_add(length as u64, Ordering::Relaxed);
                Some(Ok(chunk.into()))
            }
            Err(error) => Some(Err(error)),
        }
    }

    async fn size_hint(&self) -> Result<SizeHint, Self::Error> {
        Ok(SizeHint::with_exact(self.size))
    }
}

impl Seek for FileSource {
    type Error = std::io::Error;

    async fn seek(&mut self, offset: u64) -> Result<(), Self::Error> {
        self.sent.store(offset, Ordering::Relaxed);
        self.file.seek(SeekFrom::Start(offset)).await.map(drop)
    }
}
