//! Writes: each leaves a mark, so that a write whose answer was lost is recognised as ours.
//!
//! The mark is an id and the generation that was written over, as in `0a1b…/1763…`. Comparing content wouldn't do: two
//! writers may write the same.

use std::{
    hash::{BuildHasher, Hasher, RandomState},
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use google_cloud_gax::retry_throttler::CircuitBreaker;
use google_cloud_storage::client::Storage;
use serde_json::{Value, json};
use tokio::{fs::File, io::AsyncReadExt, time::Instant};

use super::{
    attempt::Failure,
    connection::Connection,
    rest::WRITE,
    upload::{Source, Upload},
};
use crate::{Error, Generation, Metadata, ObjectPath, SourceFile, source_file::Summing};

/// Files from this size on are sent so that a cut upload goes on where it was cut, in bytes; smaller ones at once.
const RESUMABLE_FROM: u64 = 4 << 20;

/// How often `progress` is called.
const TICK: Duration = Duration::from_millis(100);

/// A write: what, over which generation (0: as the first), and by which id it is recognised.
pub(super) struct Write<'a> {
    pub(super) path: &'a ObjectPath,
    pub(super) metadata: &'a Metadata,
    pub(super) over: i64,
    id: String,
    /// An attempt broke off: it may have been carried out or not.
    unsure: AtomicBool,
}

impl<'a> Write<'a> {
    pub(super) fn new(path: &'a ObjectPath, metadata: &'a Metadata, over: Option<Generation>) -> Self {
        // The standard library's hash keys are random, a new pair for every state.
        let id = format!("{:016x}", RandomState::new().build_hasher().finish());
        let over = over.map_or(0, |generation| generation.0);
        Self { path, metadata, over, id, unsure: AtomicBool::new(false) }
    }

    fn marked_metadata(&self) -> impl Iterator<Item = (String, String)> {
        let mark = (WRITE.to_owned(), format!("{}/{}", self.id, self.over));
        self.metadata.clone().into_iter().chain([mark])
    }

    /// The object as the storage API is told of it.
    pub(super) fn resource(&self) -> Value {
        let metadata: Metadata = self.marked_metadata().collect();
        json!({ "contentType": content_type(self.path), "metadata": metadata })
    }

    /// One attempt at the write. Until it is answered, and for good if it isn't, it may have been carried out or not.
    pub(super) async fn attempt<T>(&self, sending: BoxFuture<'_, Result<T, Failure>>) -> Result<T, Failure> {
        // Also when this attempt's time runs out.
        let unsure = self.unsure.swap(true, Ordering::Relaxed);
        let answer = sending.await;
        if answer.as_ref().is_err_and(|failure| !failure.transient) {
            // Refused, hence not carried out: as sure as before.
            self.unsure.store(unsure, Ordering::Relaxed);
        }
        answer
    }

    /// One attempt at writing content that is in memory.
    pub(super) async fn send(&self, storage: &Storage, bucket: &str, content: &Bytes) -> Result<Generation, Failure> {
        let sending = storage
            .write_object(bucket, self.path.as_str(), content.clone())
            .set_if_generation_match(self.over)
            .set_metadata(self.marked_metadata())
            .set_content_type(content_type(self.path))
            // Said at the beginning, so that the server refuses what was damaged on the way.
            .with_known_crc32c(crc32c::crc32c(content))
            .with_resumable_upload_threshold(content.len() + 1)
            .send_unbuffered();
        self.attempt(Box::pin(async { Ok(Generation(Box::pin(sending).await?.generation)) })).await
    }

    /// Sends a file; cut uploads go on where they were cut. Fails when nothing was sent for twice the time limit: once
    /// for the server to answer, once for the wait before another attempt.
    pub(super) async fn send_file(
        &self,
        connection: &Connection,
        source: &SourceFile,
        progress: &(dyn Fn(u64) + Send + Sync),
    ) -> Result<Generation, Failure> {
        let unreadable =
            |e: std::io::Error| Failure::lasting(format!("could not read `{}`: {e}", source.path.display()));
        let mut file = File::open(&source.path).await.map_err(unreadable)?;
        let size = file.metadata().await.map_err(unreadable)?.len();
        if size != source.size {
            return Err(Failure::lasting(source.changed()));
        }
        if size < RESUMABLE_FROM {
            let mut content = Vec::new();
            (&mut file).take(RESUMABLE_FROM).read_to_end(&mut content).await.map_err(unreadable)?;
            let content = Bytes::from(content);
            let mut sum = Summing::default();
            sum.add(&content);
            if sum.finish() != source.sha256 {
                return Err(Failure::lasting(source.changed()));
            }
            let written =
                connection.patiently(|| self.send(&connection.storage, &connection.resource, &content)).await?;
            progress(content.len() as u64);
            return Ok(written);
        }
        let upload = Upload::new(connection.tokens.clone(), connection.attempts);
        let sending = connection
            .storage
            .write_object(&connection.resource, self.path.as_str(), Source { file, size, upload: upload.clone() })
            .set_if_generation_match(self.over)
            .set_metadata(self.marked_metadata())
            .set_content_type(content_type(self.path))
            .with_resumable_upload_threshold(0_usize)
            .with_retry_policy(upload.clone())
            .with_backoff_policy(upload.clone())
            // It drops attempts by dice of its own; ours are few enough. This one costs nothing and never opens.
            .with_retry_throttler(CircuitBreaker::clamp(1, 0, 0))
            // Said at the beginning, so that the server refuses what changed since it was read: hashing it here wouldn't
            // see what a cut upload sent before it was cut.
            .with_known_crc32c(source.crc32c)
            .with_checksum_precomputation(false)
            .send_unbuffered();
        let mut sending = Box::pin(sending);
        let mut tick = tokio::time::interval(TICK);
        let (mut sent, mut moved) = (0, Instant::now());
        loop {
            tokio::select! {
                done = &mut sending => {
                    let written = done.map_err(|error| {
                        let failure = Failure::from(error);
                        let is_other = failure.status == Some(400) && failure.reason.to_ascii_lowercase().contains("crc32c");
                        if is_other { Failure::lasting(format!("{}: {}", source.changed(), failure.reason)) } else { failure }
                    })?;
                    if u64::try_from(written.size) != Ok(size) {
                        return Err(Failure::transient(format!("{} of {size} bytes arrived", written.size)));
                    }
                    progress(size);
                    return Ok(Generation(written.generation));
                }
                _ = tick.tick() => {
                    if upload.is_stuck() {
                        return Err(Failure::transient("server accepted the upload several times and kept none of it"));
                    }
                    moved = moved.max(upload.rests_until());
                    if upload.sent() != sent {
                        (sent, moved) = (upload.sent(), Instant::now());
                        progress(sent.min(size));
                    } else if moved.elapsed() > connection.timeout * 2 {
                        return Err(Failure::transient(format!("upload stalled for {:?}", connection.timeout * 2)));
                    }
                }
            }
        }
    }

    /// How a write ended whose last attempt was refused because of its generation, or broke off with its fate unknown.
    pub(super) async fn settle(&self, connection: &Connection, failure: Failure) -> Result<Generation, Error> {
        let refused = failure.status == Some(412);
        let unsure = self.unsure.load(Ordering::Relaxed) || failure.transient;
        if !refused && !unsure {
            return Err(connection.error(failure, "write", self.path));
        }
        let object = self.path.to_string();
        let lost = || match self.over {
            0 => Error::AlreadyExists { object: object.clone() },
            expected => Error::Conflict { object: object.clone(), expected: Generation(expected) },
        };
        let found = match connection.find(self.path).await {
            Ok(found) => found,
            // Not knowing isn't having lost: "conflict" promises that nothing was written.
            Err(error) if refused => return Err(error),
            Err(_) => return Err(connection.error(failure, "write", self.path)),
        };
        let generation = found.as_ref().map(|found| found.info.generation);
        if !unsure {
            return Err(match generation {
                // As it was when the write stated it: nobody else wrote, and the storage has another reason.
                now if now.map_or(0, |now| now.0) == self.over => connection.error(failure, "write", self.path),
                _ => lost(),
            });
        }
        let mark = found.as_ref().and_then(|found| found.write.as_ref()?.split_once('/'));
        match (mark, generation) {
            (Some((id, _)), Some(generation)) if id == self.id => Ok(generation),
            // Somebody else wrote over the very generation that ours was to replace: ours never took place.
            (Some((_, over)), _) if refused && over == self.over.to_string() => Err(lost()),
            _ if refused => {
                let reason = format!(
                    "unknown result: the response was lost and the object was changed since; read it again to see whether this \
                     write succeeded; the last response was: {}",
                    failure.reason
                );
                Err(Error::Unavailable { verb: "write", object, reason })
            }
            _ => Err(connection.error(failure, "write", self.path)),
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
