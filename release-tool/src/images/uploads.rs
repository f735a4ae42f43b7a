//! Blobs on their way into the overlay: each is summed while it is written, and is a blob only when it has the digest that is said.

use std::{
    collections::HashMap,
    io::Write as _,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use anyhow::{Context as _, Result, ensure};
use axum::body::Body;
use bucket::{BuildId, Sha256};
use futures_util::TryStreamExt as _;
use registry::Digest;
use sha2::Digest as _;
use tempfile::NamedTempFile;

/// Most uploads that are open at a time: one that is given up stays until the registry ends.
const MAX_OPEN: usize = 1000;

/// Most bytes of a blob.
const MAX_SIZE: u64 = 1 << 40;

/// The uploads that are open, by their names.
pub(super) struct Uploads {
    directory: PathBuf,
    open: Mutex<HashMap<String, Arc<tokio::sync::Mutex<Upload>>>>,
}

/// One of them.
pub(super) struct Upload {
    file: NamedTempFile,
    hasher: sha2::Sha256,
    /// How many bytes have come.
    pub(super) size: u64,
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
        ensure!(open.len() < MAX_OPEN, "{MAX_OPEN} uploads are open: end the buildset, or fewer at a time");
        let file = NamedTempFile::new_in(&self.directory).context("could not begin an upload")?;
        let id = BuildId::random().to_string();
        let upload = Upload { file, hasher: sha2::Sha256::new(), size: 0 };
        open.insert(id.clone(), Arc::new(tokio::sync::Mutex::new(upload)));
        Ok(id)
    }

    /// One that is open.
    pub(super) fn find(&self, id: &str) -> Option<Arc<tokio::sync::Mutex<Upload>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner).get(id).cloned()
    }

    /// Ends one: nobody else finds it from here on.
    pub(super) fn end(&self, id: &str) -> Option<Arc<tokio::sync::Mutex<Upload>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner).remove(id)
    }
}

impl Upload {
    /// Writes what comes to its end.
    pub(super) async fn append(&mut self, body: Body) -> Result<()> {
        let mut body = body.into_data_stream();
        while let Some(part) = body.try_next().await.context("the upload was cut off")? {
            ensure!(self.size + part.len() as u64 <= MAX_SIZE, "a blob has at most {MAX_SIZE} bytes");
            self.file.write_all(&part).context("could not write an upload")?;
            self.hasher.update(&part);
            self.size += part.len() as u64;
        }
        Ok(())
    }

    /// The file, and the digest of all that came.
    pub(super) fn finish(self) -> (NamedTempFile, Digest) {
        (self.file, Digest::from(Sha256::from(<[u8; 32]>::from(self.hasher.finalize()))))
    }
}
