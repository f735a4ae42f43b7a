//! One release from the bucket to a verified file in the cache.
//!
//! The bytes are hashed while they come in. An interrupted download of the same generation is resumed, also
//! after a restart of the agent. What does not have the promised size and SHA-256 is deleted and never gets a name.

use std::{
    fs::{self, OpenOptions},
    io::{ErrorKind, Write},
    path::{Path, PathBuf},
    pin::Pin,
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use bucket::{Download, Release, ReleaseMetadata, ReleaseName, Sha256};
use bytes::Bytes;
use sha2::Digest;
use tokio::{sync::mpsc, task::JoinHandle};

use crate::{
    failure::{Content, DownloadFault, FailureKind, Fault},
    service::{events, liveness::Liveness},
    state::{checksum, persist},
};

use super::{
    bucket::Bucket,
    cache::{self, Cache},
};

/// How long a download may go without a byte before the watchdog ends the agent; the bucket's own timeouts come first.
const CHUNK_TIMEOUT: Duration = Duration::from_mins(5);

/// Chunks of a download that wait to be hashed.
const WAITING_CHUNKS: usize = 8;

/// Bytes of a download that the disk is asked to write at once.
const EARLY_SYNC: usize = 2 << 20;

/// With how many bytes missing of a release it is about to be there.
const LAST_BYTES: u64 = 16 << 20;

/// What is done beside a download once it is about to end.
pub(crate) type Beside<'a> = Option<Pin<Box<dyn Future<Output = ()> + 'a>>>;

/// How a search for a release's file ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Found {
    /// It is on disk, verified.
    File(PathBuf),
    /// Neither the cache nor the bucket has it.
    Nowhere,
}

/// The verified file of a release, from the cache or else from the bucket, if there is one to be asked. When it is about to be
/// there, `beside` is done.
///
/// # Errors
/// Why there is none. A retry may help: nothing is known of the release itself.
pub(crate) async fn obtain(
    bucket: Option<&Bucket>,
    cache: &Cache,
    release: &ReleaseName,
    liveness: &Liveness,
    beside: Beside<'_>,
) -> Result<Found, Fault> {
    let found = find_or_fetch(bucket, cache, release, liveness, beside).await;
    found.map_err(|error| Fault::of(error, FailureKind::NotDownloaded))
}

async fn find_or_fetch(
    bucket: Option<&Bucket>,
    cache: &Cache,
    release: &ReleaseName,
    liveness: &Liveness,
    beside: Beside<'_>,
) -> Result<Found> {
    liveness.within(CHUNK_TIMEOUT);
    if let Some(file) = cache.find(release).await? {
        if let Some(beside) = beside {
            beside.await;
        }
        return Ok(Found::File(file));
    }
    let Some(bucket) = bucket else { return Ok(Found::Nowhere) };
    // Of what is to be resumed the beginning is there already.
    let opened = if cache.has_part(release) {
        bucket.release(release).await?.map(|found| (found, None))
    } else {
        Box::pin(bucket.open_release(release)).await?.map(|(found, content)| (found, Some(content)))
    };
    let Some((found, content)) = opened else { return Ok(Found::Nowhere) };
    let no_metadata = |words: &String| Fault::NotDownloaded(DownloadFault::NoMetadata { words: words.clone() });
    let metadata = found.metadata.as_ref().map_err(no_metadata)?;
    ensure!(
        metadata.size == found.size,
        Fault::NotDownloaded(DownloadFault::OtherSize { said: metadata.size, found: found.size })
    );
    let part = cache.part(release, &metadata.sha256, found.generation);
    let place = cache.place(release, &metadata.sha256);
    let directory = part.parent().unwrap_or(Path::new("/"));
    let above = cache.directory()?.to_owned();
    create_directory(directory)?;
    // Meanwhile: it must be durable before the file in it gets its name.
    let created = tokio::task::spawn_blocking(move || persist::sync_directory(&above));
    remove_other_parts(directory, &part)?;
    let there = fs::metadata(&part).map_or(0, |part| part.len());
    cache::ensure_space(directory, metadata.size.saturating_sub(there))?;
    match fetch(bucket, &found, metadata, content, &part, liveness, beside).await? {
        Found::Nowhere => Ok(Found::Nowhere),
        Found::File(_) => {
            created.await?.with_context(|| format!("could not create `{}`", directory.display()))?;
            persist::rename(&part, &place)?;
            tracing::info!(
                message_id = events::DOWNLOADED,
                app = %release.app(),
                release = release.stem(),
                bytes = metadata.size,
                "downloaded and verified `{}`",
                release.stem()
            );
            Ok(Found::File(place))
        }
    }
}

/// Gathers the bytes of a release in `part` and verifies them. They are on their way already if there is `content`.
async fn fetch(
    bucket: &Bucket,
    release: &Release,
    metadata: &ReleaseMetadata,
    content: Option<Download>,
    part: &Path,
    liveness: &Liveness,
    mut beside: Beside<'_>,
) -> Result<Found> {
    let failed = || format!("could not write `{}`", part.display());
    let mut hasher = sha2::Sha256::new();
    let mut length = 0;
    if part.exists() {
        length = checksum::hash_into(part, &mut hasher)?;
        if length > metadata.size {
            persist::remove(part)?;
            (hasher, length) = (sha2::Sha256::new(), 0);
        }
    }
    if length < metadata.size || metadata.size == 0 {
        let download = match content {
            Some(content) if length == 0 => Some(content),
            _ => bucket.download_release(release, length).await?,
        };
        let Some(mut download) = download else { return Ok(Found::Nowhere) };
        fail_point!("download({}).begin", release.name.app());
        let mut file = OpenOptions::new().create(true).append(true).open(part).with_context(failed)?;
        let mut early = EarlySync::default();
        let hashing = Hashing::begin(hasher);
        loop {
            let is_last = metadata.size.saturating_sub(length) <= LAST_BYTES;
            let chunk = match beside.take_if(|_| is_last) {
                // Done before more is written and hashed, which takes what processors there are.
                Some(beside) => tokio::join!(download.chunk(), beside).0,
                None => download.chunk().await,
            };
            let chunk = match chunk {
                Ok(Some(chunk)) => chunk,
                Ok(None) => break,
                // All bytes came, and are not what the bucket has: there is nothing to resume. What counts is the SHA-256.
                Err(error) if length >= metadata.size => {
                    tracing::debug!(%error, "the download of `{}` failed at its end", release.name.stem());
                    break;
                }
                Err(error) => return Err(error.into()),
            };
            liveness.within(CHUNK_TIMEOUT);
            length += chunk.len() as u64;
            if length > metadata.size {
                break;
            }
            file.write_all(&chunk).with_context(failed)?;
            let written = chunk.len();
            hashing.add(chunk).await;
            early.written(&file, written).with_context(failed)?;
            fail_point!("download({}).chunk", release.name.app());
        }
        tokio::task::spawn_blocking(move || file.sync_all()).await?.with_context(failed)?;
        fail_point!("download({}).end", release.name.app());
        hasher = hashing.end().await?;
    }
    let sha256 = Sha256::from(<[u8; 32]>::from(hasher.finalize()));
    if length != metadata.size || sha256 != metadata.sha256 {
        persist::remove(part)?;
        let expected = Content { bytes: metadata.size, sha256: metadata.sha256.clone() };
        bail!(Fault::NotDownloaded(DownloadFault::Corrupt { expected, got: Content { bytes: length, sha256 } }));
    }
    Ok(Found::File(part.to_owned()))
}

/// Hashes what comes in beside the task that receives and writes it.
struct Hashing {
    chunks: mpsc::Sender<Bytes>,
    work: JoinHandle<sha2::Sha256>,
}

impl Hashing {
    /// Goes on with what `hasher` has.
    fn begin(mut hasher: sha2::Sha256) -> Self {
        let (chunks, mut waiting) = mpsc::channel::<Bytes>(WAITING_CHUNKS);
        let work = tokio::task::spawn_blocking(move || {
            while let Some(chunk) = waiting.blocking_recv() {
                hasher.update(&chunk);
            }
            hasher
        });
        Self { chunks, work }
    }

    /// Adds what came next, once there is room.
    async fn add(&self, chunk: Bytes) {
        // It takes chunks until there are no more.
        let _ = self.chunks.send(chunk).await;
    }

    /// What it has when all was added.
    async fn end(self) -> Result<sha2::Sha256> {
        drop(self.chunks);
        Ok(self.work.await?)
    }
}

/// Has the disk write what came so far while more comes in, so that little is left for the sync at the end.
#[derive(Default)]
struct EarlySync {
    /// Bytes since the last one.
    waiting: usize,
    running: Option<JoinHandle<()>>,
}

impl EarlySync {
    fn written(&mut self, file: &fs::File, length: usize) -> std::io::Result<()> {
        self.waiting += length;
        if self.waiting >= EARLY_SYNC && self.running.as_ref().is_none_or(JoinHandle::is_finished) {
            self.waiting = 0;
            let file = file.try_clone()?;
            // If it fails, so does the one at the end.
            self.running = Some(tokio::task::spawn_blocking(move || drop(file.sync_data())));
        }
        Ok(())
    }
}

/// Creates the directory of a release, which may be there already.
fn create_directory(directory: &Path) -> Result<()> {
    match fs::create_dir(directory) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => {
            Err(error).with_context(|| format!("could not create `{}`", directory.display()))
        }
        _ => Ok(()),
    }
}

/// Deletes what is left of downloads of another generation, and files whose checksum is unknown.
fn remove_other_parts(directory: &Path, part: &Path) -> Result<()> {
    for entry in fs::read_dir(directory).with_context(|| format!("could not read `{}`", directory.display()))? {
        let path = entry?.path();
        if path != part {
            persist::remove(&path)?;
        }
    }
    Ok(())
}
