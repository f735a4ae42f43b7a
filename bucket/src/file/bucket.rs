//! The verbs of a directory as a bucket.

use std::{
    fs::File,
    io::{Read, Write},
    path::Path,
    sync::Arc,
};

use bytes::Bytes;
use jiff::{SignedDuration, Timestamp};

use super::{
    copy,
    directory::{Directory, OpenObject},
    download::{CHUNK, FileDownload, blocking},
    failure::{failed, unavailable},
    folder,
    marker::NewBucket,
    walk,
    write::Written,
};
use crate::{
    BuildId, Error, Fetched, Generation, Metadata, Object, ObjectInfo, ObjectPath, Page, PageToken, SimulatedMachine,
    SourceFile, source_file::Summing,
};

/// A directory as a bucket.
#[derive(Debug, Clone)]
pub struct FileBucket {
    directory: Arc<Directory>,
}

impl FileBucket {
    /// Opens a directory. With `needs_marker`, every verb on it is [`Error::Unavailable`] while it has no marker.
    pub(crate) async fn open(directory: &Path, needs_marker: bool) -> Result<Self, Error> {
        let directory = directory.to_owned();
        let directory = blocking(move || Directory::open(&directory, needs_marker, None)).await?;
        Ok(Self { directory: Arc::new(directory) })
    }

    /// Opens a directory as a machine of a simulation does.
    pub(crate) async fn open_simulated(directory: &Path, machine: SimulatedMachine) -> Result<Self, Error> {
        let directory = directory.to_owned();
        let open = move || {
            let directory = Directory::open(&directory, false, Some(machine))?;
            directory.forget_time()?;
            Ok(directory)
        };
        Ok(Self { directory: Arc::new(blocking(open).await?) })
    }

    /// The same directory, in which nothing is written any more once it isn't the overlay of this buildset.
    pub(crate) fn of_overlay(&self, buildset: &BuildId) -> Self {
        Self { directory: Arc::new(self.directory.of_overlay(buildset)) }
    }

    /// The time by the clock of this machine, or of the simulated one.
    pub(crate) fn machine_time(&self) -> Timestamp {
        self.directory.machine_time()
    }

    /// How far the file system's clock is ahead of that, as far as that is known.
    pub(crate) fn clock_offset(&self) -> SignedDuration {
        self.directory.clock_offset()
    }

    pub(crate) async fn mark(&self) -> Result<Option<NewBucket>, Error> {
        let directory = self.directory.clone();
        blocking(move || directory.mark()).await
    }

    pub(crate) async fn is_marked(&self) -> Result<bool, Error> {
        let directory = self.directory.clone();
        blocking(move || directory.is_marked()).await
    }

    pub(crate) async fn get(&self, path: &ObjectPath, limit: u64) -> Result<Option<Object>, Error> {
        self.run(path, move |directory, path| {
            folder::object(directory, path, None, |object| read_all(object, path, limit)).map(Fetched::found)
        })
        .await
    }

    pub(crate) async fn get_if_changed(
        &self,
        path: &ObjectPath,
        seen: Generation,
        limit: u64,
    ) -> Result<Fetched<Object>, Error> {
        self.run(path, move |directory, path| {
            folder::object(directory, path, Some(seen), |object| read_all(object, path, limit))
        })
        .await
    }

    pub(crate) async fn head(&self, path: &ObjectPath) -> Result<Option<ObjectInfo>, Error> {
        self.run(path, folder::info).await
    }

    pub(crate) async fn list(
        &self,
        prefix: &str,
        after: Option<&PageToken>,
        limit: u32,
    ) -> Result<Page<ObjectInfo>, Error> {
        let (prefix, begin) = (prefix.to_owned(), after.and_then(place));
        let directory = self.directory.clone();
        let list = move || {
            directory.learn_time();
            walk::list(&directory, &prefix, begin.as_deref(), limit as usize)
        };
        let mut page = blocking(list).await?;
        if let Some(end) = after.and_then(|after| after.end.as_deref()) {
            let whole = page.items.len();
            page.items.retain(|info| info.path.as_str() < end);
            page.next = page.next.filter(|_| page.items.len() == whole);
        }
        page.next = page.next.and_then(|next| next.page).map(|page| PageToken::next(after, page));
        Ok(page)
    }

    pub(crate) async fn list_directories(
        &self,
        prefix: &str,
        after: Option<&PageToken>,
        limit: u32,
    ) -> Result<Page<String>, Error> {
        let (prefix, after) = (prefix.to_owned(), after.and_then(place));
        let directory = self.directory.clone();
        blocking(move || walk::list_directories(&directory, &prefix, after.as_deref(), limit as usize)).await
    }

    pub(crate) async fn create(
        &self,
        path: &ObjectPath,
        content: Bytes,
        metadata: &Metadata,
    ) -> Result<Generation, Error> {
        let metadata = metadata.clone();
        self.run(path, move |directory, path| {
            let written = write_content(directory, path, &content)?;
            directory.commit(path, written, &metadata, None)
        })
        .await
    }

    pub(crate) async fn create_from_file(
        &self,
        path: &ObjectPath,
        source: &SourceFile,
        metadata: &Metadata,
        progress: &(dyn Fn(u64) + Send + Sync),
    ) -> Result<Generation, Error> {
        if self.head(path).await?.is_some() {
            return Err(Error::AlreadyExists { object: path.to_string() });
        }
        let unreadable = |e: &std::io::Error| {
            unavailable("write", path.as_str(), &format!("could not read `{}`: {e}", source.path.display()))
        };
        let from = File::open(&source.path).map_err(|e| unreadable(&e))?;
        let mut written = self.run(path, Directory::begin).await?;
        let (mut sent, mut sum) = (0, Summing::default());
        loop {
            let (mut from, mut target) = match (from.try_clone(), written.file().try_clone()) {
                (Ok(from), Ok(target)) => (from, target),
                (Err(e), _) | (_, Err(e)) => return Err(failed("write", path.as_str(), &e)),
            };
            let copied = blocking(move || {
                let mut chunk = vec![0; CHUNK];
                let length = from.read(&mut chunk)?;
                sum.add(&chunk[..length]);
                target.write_all(&chunk[..length]).map(|()| (length, sum))
            });
            let length;
            (length, sum) = copied.await.map_err(|e: std::io::Error| failed("write", path.as_str(), &e))?;
            if length == 0 {
                break;
            }
            sent += length as u64;
            progress(sent);
        }
        if sum.finish() != source.sha256 {
            return Err(unavailable("write", path.as_str(), &source.changed()));
        }
        written.filled();
        let metadata = metadata.clone();
        self.run(path, move |directory, path| directory.commit(path, written, &metadata, None)).await
    }

    pub(crate) async fn replace(
        &self,
        path: &ObjectPath,
        content: Bytes,
        metadata: &Metadata,
        seen: Generation,
    ) -> Result<Generation, Error> {
        let metadata = metadata.clone();
        self.run(path, move |directory, path| {
            let written = write_content(directory, path, &content)?;
            directory.commit(path, written, &metadata, Some(seen))
        })
        .await
    }

    pub(crate) async fn copy(
        &self,
        from: &ObjectPath,
        seen: Generation,
        to: &ObjectPath,
        metadata: &Metadata,
    ) -> Result<Generation, Error> {
        let (from, metadata) = (from.clone(), metadata.clone());
        self.run(to, move |directory, to| {
            if directory.object(to)?.is_some() {
                return Err(Error::AlreadyExists { object: to.to_string() });
            }
            let written = copy::content((directory, &from, seen), (directory, to))?;
            directory.commit(to, written, &metadata, None)
        })
        .await
    }

    pub(crate) async fn download(
        &self,
        path: &ObjectPath,
        pinned: Option<Generation>,
        offset: u64,
    ) -> Result<Option<FileDownload>, Error> {
        self.run(path, move |directory, path| FileDownload::begin(directory, path, pinned, offset)).await
    }

    pub(crate) async fn delete(&self, path: &ObjectPath, seen: Generation) -> Result<(), Error> {
        self.run(path, move |directory, path| directory.delete(path, seen)).await
    }

    /// The directory that it is.
    pub(super) fn directory(&self) -> Arc<Directory> {
        self.directory.clone()
    }

    /// Runs blocking work on one object where it may block.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        path: &ObjectPath,
        work: impl FnOnce(&Directory, &ObjectPath) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let (directory, path) = (self.directory.clone(), path.clone());
        blocking(move || work(&directory, &path)).await
    }
}

/// The path after which a page begins: here that is all there is to a token.
fn place(token: &PageToken) -> Option<String> {
    token.page.as_ref().or(token.start.as_ref()).cloned()
}

/// An object's content, at most `limit` bytes.
fn read_all(object: &mut OpenObject, path: &ObjectPath, limit: u64) -> Result<Bytes, Error> {
    let too_large = |size| Error::TooLarge { object: path.to_string(), size, limit };
    if object.size > limit {
        return Err(too_large(object.size));
    }
    let mut content = Vec::new();
    // A file that grows by hand while it is read must not grow in our memory.
    let read = Read::by_ref(&mut object.file).take(limit + 1).read_to_end(&mut content);
    read.map_err(|e| failed("read", path.as_str(), &e))?;
    if content.len() as u64 > limit {
        return Err(too_large(content.len() as u64));
    }
    Ok(content.into())
}

fn write_content(directory: &Directory, path: &ObjectPath, content: &[u8]) -> Result<Written, Error> {
    let mut written = directory.begin(path)?;
    written.file().write_all(content).map_err(|e| failed("write", path.as_str(), &e))?;
    written.filled();
    Ok(written)
}
