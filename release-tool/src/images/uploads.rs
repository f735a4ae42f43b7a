//! Blobs on their way into the overlay: each is summed while it is written, and is a blob only when it has the digest that is said.

use std::{
    collections::HashMap,
    io::Write as _,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, anyhow, ensure};
use axum::body::Body;
use bucket::{BuildId, Sha256};
use futures_util::TryStreamExt as _;
use registry::Digest;
use sha2::Digest as _;
use tempfile::NamedTempFile;

/// Most uploads that are open at a time.
const MAX_OPEN: usize = 1000;

/// One that nothing has come of for this long is given up when another begins.
const IDLE: Duration = Duration::from_hours(1);

/// Most bytes of a blob.
const MAX_SIZE: u64 = 1 << 40;

/// The uploads that are open, by their names.
pub(super) struct Uploads {
    directory: PathBuf,
    open: Mutex<HashMap<String, Shared>>,
}

/// One upload, for one request at a time; `None` once it has ended.
pub(super) type Shared = Arc<tokio::sync::Mutex<Option<Upload>>>;

/// What has come of a blob.
pub(super) struct Upload {
    file: NamedTempFile,
    hasher: sha2::Sha256,
    /// How many bytes have come.
    pub(super) size: u64,
    touched: Instant,
}

/// Why what came of a blob could not be taken.
#[derive(Debug)]
pub(super) enum Refused {
    /// It is the sender's fault, or the network's.
    Sender(anyhow::Error),
    /// It is ours: a full disk, mostly.
    Own(anyhow::Error),
}

impl Uploads {
    /// None yet. What those of a registry that was killed have left goes.
    pub(super) fn new(directory: &Path) -> Result<Self> {
        let made = || {
            if directory.exists() {
                std::fs::remove_dir_all(directory)?;
            }
            std::fs::create_dir_all(directory)
        };
        made().with_context(|| format!("could not make `{}`", directory.display()))?;
        Ok(Self { directory: directory.to_owned(), open: Mutex::default() })
    }

    /// Begins one.
    pub(super) fn begin(&self) -> Result<String> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        // One that is locked is being written.
        open.retain(|_, upload| {
            upload.try_lock().map_or(true, |upload| upload.as_ref().is_some_and(|it| !it.is_idle()))
        });
        ensure!(open.len() < MAX_OPEN, "{MAX_OPEN} uploads are open: end the buildset, or fewer at a time");
        let file = NamedTempFile::new_in(&self.directory).context("could not begin an upload")?;
        let id = BuildId::random().to_string();
        let upload = Upload { file, hasher: sha2::Sha256::new(), size: 0, touched: Instant::now() };
        open.insert(id.clone(), Arc::new(tokio::sync::Mutex::new(Some(upload))));
        Ok(id)
    }

    /// One that is open.
    pub(super) fn find(&self, id: &str) -> Option<Shared> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner).get(id).cloned()
    }

    /// Nobody finds it from here on.
    pub(super) fn forget(&self, id: &str) {
        self.open.lock().unwrap_or_else(PoisonError::into_inner).remove(id);
    }
}

impl Upload {
    /// Writes what comes to its end. After an error of ours it is of no use any more: part of what was sent may be in the file.
    pub(super) async fn append(&mut self, body: Body) -> Result<(), Refused> {
        let mut body = body.into_data_stream();
        while let Some(part) = body.try_next().await.context("the upload was cut off").map_err(Refused::Sender)? {
            if self.size + part.len() as u64 > MAX_SIZE {
                return Err(Refused::Sender(anyhow!("a blob has at most {MAX_SIZE} bytes")));
            }
            self.file.write_all(&part).context("could not write an upload").map_err(Refused::Own)?;
            self.hasher.update(&part);
            self.size += part.len() as u64;
            self.touched = Instant::now();
        }
        Ok(())
    }

    /// The file, and the digest of all that came.
    pub(super) fn finish(self) -> (NamedTempFile, Digest) {
        (self.file, Digest::from(Sha256::from(<[u8; 32]>::from(self.hasher.finalize()))))
    }

    fn is_idle(&self) -> bool {
        self.touched.elapsed() >= IDLE
    }
}
