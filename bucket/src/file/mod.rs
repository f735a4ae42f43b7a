//! A directory as a bucket: one machine's own, or a shared mount.
//!
//! An object is an ordinary file at its path, so that people can look at it. Its modification time, in
//! microseconds, *is* its generation: one rename puts content and generation in place together, and a file that
//! somebody edits by hand becomes a new generation by itself. Custom metadata lies apart, in a file named after
//! the generation it belongs to and written before that rename; a writer that dies in between leaves metadata of
//! a generation that never came to be, which nobody reads and the next writer of the object clears away.
//!
//! ```text
//! DIR/server/web-1.json                          content
//! DIR/.push/meta/debs/web/web:….deb/1763…123     metadata of generation 1763…123
//! DIR/.push/tmp/…                                files being written
//! DIR/.push/lock                                 held by whoever writes; its own time is the last generation given out
//! ```
//!
//! Writers exclude each other with flock(2), on this machine and, where the mount carries it, between machines.
//! Readers take no lock. No path is followed through a symbolic link.

mod directory;
mod folder;
mod walk;

use std::{
    fs::File,
    io::{Read, Seek, SeekFrom, Write},
    path::Path,
    sync::Arc,
};

use bytes::Bytes;
use jiff::Timestamp;

use self::directory::{Directory, Written};
use crate::{
    Download, Error, Fetched, Generation, Metadata, ObjectInfo, ObjectPath, Page, PageToken, object::DownloadSource,
};

/// How much of a file is read or copied at a time, in bytes.
const CHUNK: usize = 256 << 10;

/// A directory as a bucket.
#[derive(Debug, Clone)]
pub struct FileBucket {
    directory: Arc<Directory>,
}

/// A file's content on its way.
#[derive(Debug)]
pub(crate) struct FileDownload {
    path: ObjectPath,
    file: File,
    left: u64,
}

impl FileDownload {
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
            return Err(unavailable("read", self.path.as_str(), "the file became shorter while it was read"));
        }
        self.left -= chunk.len() as u64;
        Ok(Some(chunk.into()))
    }
}

impl FileBucket {
    pub(crate) async fn open(directory: &Path) -> Result<Self, Error> {
        let directory = directory.to_owned();
        let directory = blocking(move || Directory::open(&directory)).await?;
        Ok(Self { directory: Arc::new(directory) })
    }

    pub(crate) async fn get_if_changed(
        &self,
        path: &ObjectPath,
        seen: Option<Generation>,
        limit: u64,
    ) -> Result<Fetched<Bytes>, Error> {
        self.run(path, move |directory, path| {
            let Some(mut object) = directory.object(path)? else { return Ok(Fetched::Absent) };
            if seen == Some(object.generation) {
                return Ok(Fetched::Unchanged);
            }
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
            Ok(Fetched::Found(object.generation, content.into()))
        })
        .await
    }

    pub(crate) async fn head(&self, path: &ObjectPath) -> Result<Option<ObjectInfo>, Error> {
        self.run(path, Directory::info).await
    }

    pub(crate) async fn list(
        &self,
        prefix: &str,
        after: Option<&PageToken>,
        limit: u32,
    ) -> Result<Page<ObjectInfo>, Error> {
        let (prefix, after) = (prefix.to_owned(), after.and_then(place));
        let directory = self.directory.clone();
        blocking(move || walk::list(&directory, &prefix, after.as_deref(), limit as usize)).await
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
        source: &Path,
        metadata: &Metadata,
        progress: &(dyn Fn(u64) + Send + Sync),
    ) -> Result<Generation, Error> {
        if self.head(path).await?.is_some() {
            return Err(Error::AlreadyExists { object: path.to_string() });
        }
        let unreadable = |e: &std::io::Error| {
            unavailable("write", path.as_str(), &format!("could not read `{}`: {e}", source.display()))
        };
        let from = File::open(source).map_err(|e| unreadable(&e))?;
        let mut written = self.run(path, Directory::begin).await?;
        let mut sent = 0;
        loop {
            let (mut source, mut target) = match (from.try_clone(), written.file().try_clone()) {
                (Ok(source), Ok(target)) => (source, target),
                (Err(e), _) | (_, Err(e)) => return Err(failed("write", path.as_str(), &e)),
            };
            let copied = blocking(move || {
                let mut chunk = vec![0; CHUNK];
                let length = source.read(&mut chunk)?;
                target.write_all(&chunk[..length]).map(|()| length)
            });
            let length = copied.await.map_err(|e: std::io::Error| failed("write", path.as_str(), &e))?;
            if length == 0 {
                break;
            }
            sent += length as u64;
            progress(sent);
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

    pub(crate) async fn download(
        &self,
        path: &ObjectPath,
        pinned: Option<Generation>,
        offset: u64,
    ) -> Result<Option<Download>, Error> {
        self.run(path, move |directory, path| {
            let gone = || Error::Gone { object: path.to_string() };
            let Some(mut object) = directory.object(path)? else {
                return if pinned.is_some() { Err(gone()) } else { Ok(None) };
            };
            if pinned.is_some_and(|pinned| pinned != object.generation) {
                return Err(gone());
            }
            let Some(left) = object.size.checked_sub(offset) else {
                return Err(unavailable("read", path.as_str(), &format!("it has no byte {offset}")));
            };
            object.file.seek(SeekFrom::Start(offset)).map_err(|e| failed("read", path.as_str(), &e))?;
            let download = FileDownload { path: path.clone(), file: object.file, left };
            let source = DownloadSource::File(download);
            Ok(Some(Download { generation: object.generation, size: object.size, source }))
        })
        .await
    }

    pub(crate) async fn delete(&self, path: &ObjectPath, seen: Generation) -> Result<(), Error> {
        self.run(path, move |directory, path| directory.delete(path, seen)).await
    }

    /// Runs blocking work on one object where it may block.
    async fn run<T: Send + 'static>(
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

fn write_content(directory: &Directory, path: &ObjectPath, content: &[u8]) -> Result<Written, Error> {
    let mut written = directory.begin(path)?;
    written.file().write_all(content).map_err(|e| failed("write", path.as_str(), &e))?;
    written.filled();
    Ok(written)
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}

/// An I/O error as the bucket's callers know it.
fn failed(verb: &'static str, object: &str, error: &std::io::Error) -> Error {
    match error.kind() {
        std::io::ErrorKind::PermissionDenied | std::io::ErrorKind::ReadOnlyFilesystem => {
            Error::Forbidden { verb, object: object.to_owned(), reason: error.to_string() }
        }
        _ => unavailable(verb, object, &error.to_string()),
    }
}

fn unavailable(verb: &'static str, object: &str, reason: &str) -> Error {
    Error::Unavailable { verb, object: object.to_owned(), reason: reason.to_owned() }
}

/// The time that a generation was made from.
fn time_of(generation: Generation) -> Timestamp {
    Timestamp::from_microsecond(generation.0).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn bucket() -> (tempfile::TempDir, FileBucket) {
        let directory = tempfile::tempdir().unwrap();
        let bucket = FileBucket::open(directory.path()).await.unwrap();
        (directory, bucket)
    }

    fn at(path: &str) -> ObjectPath {
        path.parse().unwrap()
    }

    #[tokio::test]
    async fn what_a_person_edits_is_a_new_generation() {
        let (directory, bucket) = bucket().await;
        let path = at("server/web-1.json");
        let first = bucket.create(&path, "[]".into(), &Metadata::new()).await.unwrap();
        std::fs::write(directory.path().join(path.as_str()), "[ ]").unwrap();
        let Fetched::Found(second, content) = bucket.get_if_changed(&path, Some(first), 100).await.unwrap() else {
            panic!("the edit wasn't seen");
        };
        assert_eq!((second > first, &content[..]), (true, &b"[ ]"[..]));
        let stale = bucket.replace(&path, "[]".into(), &Metadata::new(), first).await;
        assert!(matches!(stale, Err(Error::Conflict { .. })), "{stale:?}");
    }

    #[tokio::test]
    async fn metadata_of_a_writer_that_died_is_not_read() {
        let (directory, bucket) = bucket().await;
        let path = at("debs/web/x.deb");
        let metadata = |note: &str| Metadata::from([("note".to_owned(), note.to_owned())]);
        let first = bucket.create(&path, "one".into(), &metadata("one")).await.unwrap();
        // What a writer leaves that dies after its metadata and before its content was renamed into place.
        let meta = directory.path().join(".push/meta").join(path.as_str());
        std::fs::write(meta.join((first.0 + 1000).to_string()), r#"{"note":"never"}"#).unwrap();
        assert_eq!(bucket.head(&path).await.unwrap().unwrap().metadata, metadata("one"));
        bucket.replace(&path, "two".into(), &metadata("two"), first).await.unwrap();
        assert_eq!(bucket.head(&path).await.unwrap().unwrap().metadata, metadata("two"));
        assert_eq!(std::fs::read_dir(&meta).unwrap().count(), 1);
    }

    #[tokio::test]
    async fn unreadable_metadata_hides_no_other_object() {
        let (directory, bucket) = bucket().await;
        let metadata = Metadata::from([("note".to_owned(), "one".to_owned())]);
        let mut generations = Vec::new();
        for name in ["debs/web/a.deb", "debs/web/b.deb"] {
            generations.push(bucket.create(&at(name), "x".into(), &metadata).await.unwrap());
        }
        let broken = directory.path().join(format!(".push/meta/debs/web/a.deb/{}", generations[0]));
        std::fs::write(broken, "{").unwrap();
        let listed = bucket.list("debs/", None, 10).await.unwrap().items;
        let notes: Vec<_> = listed.iter().map(|info| info.metadata.get("note").map(String::as_str)).collect();
        assert_eq!(notes, [None, Some("one")]);
        assert_eq!((listed[0].generation, listed[0].size), (generations[0], 1));
        let alone = bucket.head(&at("debs/web/a.deb")).await;
        assert!(matches!(alone, Err(Error::Malformed { .. })), "{alone:?}");
        assert_eq!(bucket.list_directories("debs/", None, 10).await.unwrap().items, ["web"]);
    }

    #[tokio::test]
    async fn a_symbolic_link_is_not_an_object() {
        let (directory, bucket) = bucket().await;
        std::os::unix::fs::symlink("/etc", directory.path().join("server")).unwrap();
        std::os::unix::fs::symlink("/etc/passwd", directory.path().join("link")).unwrap();
        assert_eq!(bucket.head(&at("server/passwd")).await.unwrap(), None);
        assert_eq!(bucket.head(&at("link")).await.unwrap(), None);
        assert!(bucket.create(&at("server/new"), "x".into(), &Metadata::new()).await.is_err());
        assert!(!Path::new("/etc/new").exists());
    }

    #[tokio::test]
    async fn a_directory_that_went_away_is_not_an_empty_bucket() {
        let (directory, bucket) = bucket().await;
        drop(directory);
        let answer = bucket.head(&at("server/web-1.json")).await;
        assert!(matches!(answer, Err(Error::Unavailable { .. })), "{answer:?}");
    }
}
