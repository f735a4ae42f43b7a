//! A file's content as a stream.

use std::{
    fs::File,
    io::{Read, Seek, SeekFrom},
};

use bytes::Bytes;

use super::{
    directory::{Directory, OpenObject},
    failure::{failed, unavailable},
};
use crate::{Error, Generation, ObjectPath};

/// How much of a file is read or copied at a time, in bytes.
pub(super) const CHUNK: usize = 256 << 10;

/// A file's content on its way.
#[derive(Debug)]
pub(crate) struct FileDownload {
    path: ObjectPath,
    file: File,
    left: u64,
    pub(crate) generation: Generation,
    pub(crate) size: u64,
}

impl FileDownload {
    /// Starts to read an object from byte `offset`; `None` if there is none.
    pub(super) fn begin(
        directory: &Directory,
        path: &ObjectPath,
        pinned: Option<Generation>,
        offset: u64,
    ) -> Result<Option<Self>, Error> {
        let gone = || Error::Gone { object: path.to_string() };
        let Some(OpenObject { mut file, generation, size }) = directory.object(path)? else {
            return if pinned.is_some() { Err(gone()) } else { Ok(None) };
        };
        if pinned.is_some_and(|pinned| pinned != generation) {
            return Err(gone());
        }
        let Some(left) = size.checked_sub(offset) else {
            return Err(unavailable("read", path.as_str(), &format!("object has no byte {offset}")));
        };
        file.seek(SeekFrom::Start(offset)).map_err(|e| failed("read", path.as_str(), &e))?;
        Ok(Some(Self { path: path.clone(), file, left, generation, size }))
    }

    pub(crate) async fn chunk(&mut self) -> Result<Option<Bytes>, Error> {
        if self.left == 0 {
            return Ok(None);
        }
        let mut file = self.file.try_clone().map_err(|e| failed("read", self.path.as_str(), &e))?;
        let wanted = usize::try_from(self.left).unwrap_or(usize::MAX).min(CHUNK);
        let read = blocking(move || {
            let mut chunk = vec![0; wanted];
            let length = file.read(&mut chunk)?;
            chunk.truncate(length);
            Ok(chunk)
        });
        let chunk: Vec<u8> = read.await.map_err(|e: std::io::Error| failed("read", self.path.as_str(), &e))?;
        if chunk.is_empty() {
            return Err(unavailable("read", self.path.as_str(), "file was truncated while it was being read"));
        }
        self.left -= chunk.len() as u64;
        Ok(Some(chunk.into()))
    }
}

/// Runs blocking work where it may block.
pub(crate) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}
