//! One directory of a bucket, opened: the names in it, and what is known of the objects in it.
//!
//! A listing looks at a thousand objects of the same directory, so what leads there is opened once.

use std::{cell::OnceCell, fs::File, io::Read, os::fd::OwnedFd};

use bytes::Bytes;
use rustix::fs::{AtFlags, FileType, OFlags, Stat, statat};

use super::{
    beneath::{DIRECTORY, is_absent, open_beneath, open_in, split},
    directory::{Directory, OpenObject},
    failure::{failed, unavailable},
    generation::{check, generation_of, time_of},
    metadata::META,
};
use crate::{Error, Fetched, Generation, Metadata, Object, ObjectInfo, ObjectPath};

/// Most bytes of an object's metadata that are read: GCS allows 8 KiB, JSON escapes may grow it sixfold.
const MAX_METADATA: u64 = 64 << 10;

/// How often a reader may be overtaken by writers before it gives up.
const MAX_OVERTAKEN: usize = 100;

/// An opened directory.
pub(super) struct Folder<'a> {
    directory: &'a Directory,
    path: &'a str,
    root: OwnedFd,
    objects: OwnedFd,
    /// Where metadata of its objects lies, once there is some.
    metadata: OnceCell<OwnedFd>,
}

impl<'a> Folder<'a> {
    /// Opens a directory of the bucket, if there is one at `path`.
    pub(super) fn open(directory: &'a Directory, path: &'a str) -> Result<Option<Self>, Error> {
        let root = directory.root("list", path)?;
        let beneath = if path.is_empty() { "." } else { path };
        match open_beneath(&root, beneath, DIRECTORY) {
            Ok(objects) => Ok(Some(Self { directory, path, root, objects, metadata: OnceCell::new() })),
            Err(e) if is_absent(&e) => Ok(None),
            Err(e) => Err(failed("list", path, &e)),
        }
    }

    /// The names in it and whether each is a directory, in no order.
    pub(super) fn names(&self) -> Result<impl Iterator<Item = Result<(String, bool), Error>>, Error> {
        let fail = |e: rustix::io::Errno| failed("list", self.path, &e.into());
        let entries = rustix::fs::Dir::read_from(&self.objects).map_err(fail)?;
        Ok(entries.filter_map(move |entry| {
            let entry = match entry {
                Ok(entry) => entry,
                Err(e) => return Some(Err(fail(e))),
            };
            // Names that aren't UTF-8 aren't objects.
            let name = entry.file_name().to_str().ok().filter(|name| !name.starts_with('.'))?;
            let kind = match entry.file_type() {
                FileType::Unknown => {
                    let stat = statat(&self.objects, name, AtFlags::SYMLINK_NOFOLLOW).ok()?;
                    FileType::from_raw_mode(stat.st_mode)
                }
                kind => kind,
            };
            let is_directory = kind == FileType::Directory;
            (is_directory || kind == FileType::RegularFile).then(|| Ok((name.to_owned(), is_directory)))
        }))
    }

    /// What is known of the object at `path`, which lies here as `name`, if there is one.
    pub(super) fn info(&self, path: &ObjectPath, name: &str) -> Result<Option<ObjectInfo>, Error> {
        for _ in 0..MAX_OVERTAKEN {
            let Some(stat) = self.stat(path, name)? else { return Ok(None) };
            let generation = generation_of(&stat);
            check(&self.root, path, generation, self.directory.now())?;
            let metadata = self.read_metadata(path, name, generation)?;
            // A writer that replaces the object clears its old metadata: none is only none if the object is the same.
            if metadata.is_none() && self.stat(path, name)?.is_none_or(|now| generation_of(&now) != generation) {
                continue;
            }
            return Ok(Some(object_info(path, &stat, metadata.unwrap_or_default())));
        }
        Err(unavailable("read", path.as_str(), "object changes faster than it can be read"))
    }

    /// The same for a listing: an object whose metadata can't be read is listed without any, and hides no other.
    pub(super) fn listed(&self, path: &ObjectPath, name: &str) -> Result<Option<ObjectInfo>, Error> {
        match self.info(path, name) {
            Err(error @ (Error::Malformed { .. } | Error::Forbidden { .. })) => {
                tracing::warn!(%path, %error, "object listed without its metadata");
                Ok(self.stat(path, name)?.map(|stat| object_info(path, &stat, Metadata::new())))
            }
            known => known,
        }
    }

    fn stat(&self, path: &ObjectPath, name: &str) -> Result<Option<Stat>, Error> {
        match statat(&self.objects, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some(stat).filter(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile)),
            Err(e) if is_absent(&e.into()) => Ok(None),
            Err(e) => Err(failed("read", path.as_str(), &e.into())),
        }
    }

    fn read_metadata(&self, path: &ObjectPath, name: &str, generation: Generation) -> Result<Option<Metadata>, Error> {
        let Some(metadata) = self.metadata(path)? else { return Ok(None) };
        let opened = open_in(metadata, name, DIRECTORY).and_then(|of_object| {
            open_in(&of_object, &generation.to_string(), OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK)
        });
        let file = match opened {
            Ok(file) => File::from(file),
            Err(e) if is_absent(&e) => return Ok(None),
            Err(e) => return Err(failed("read", path.as_str(), &e)),
        };
        let mut content = Vec::new();
        file.take(MAX_METADATA).read_to_end(&mut content).map_err(|e| failed("read", path.as_str(), &e))?;
        serde_json::from_slice(&content)
            .map(Some)
            .map_err(|e| Error::Malformed { object: path.to_string(), reason: format!("invalid object metadata: {e}") })
    }

    fn metadata(&self, path: &ObjectPath) -> Result<Option<&OwnedFd>, Error> {
        if let Some(opened) = self.metadata.get() {
            return Ok(Some(opened));
        }
        let root = self.directory.root("read", path.as_str())?;
        match open_beneath(&root, &format!("{META}/{}", self.path), DIRECTORY) {
            Ok(opened) => Ok(Some(self.metadata.get_or_init(|| opened))),
            Err(e) if is_absent(&e) => Ok(None),
            Err(e) => Err(failed("read", path.as_str(), &e)),
        }
    }
}

/// What is known of an object, if there is one.
pub(super) fn info(directory: &Directory, path: &ObjectPath) -> Result<Option<ObjectInfo>, Error> {
    let (parent, name) = split(path.as_str());
    match Folder::open(directory, parent)? {
        Some(folder) => folder.info(path, name),
        None => Ok(None),
    }
}

/// An object with its content, as `read` gives it, and its metadata, unless it is still the generation `seen`.
pub(super) fn object(
    directory: &Directory,
    path: &ObjectPath,
    seen: Option<Generation>,
    read: impl Fn(&mut OpenObject) -> Result<Bytes, Error>,
) -> Result<Fetched<Object>, Error> {
    let (parent, name) = split(path.as_str());
    for _ in 0..MAX_OVERTAKEN {
        let Some(mut object) = directory.object(path)? else { return Ok(Fetched::Absent) };
        let generation = object.generation;
        if seen == Some(generation) {
            return Ok(Fetched::Unchanged);
        }
        let content = read(&mut object)?;
        let Some(folder) = Folder::open(directory, parent)? else { continue };
        let metadata = folder.read_metadata(path, name, generation)?;
        // As above: a writer that replaces the object clears its old metadata.
        if metadata.is_none() && folder.stat(path, name)?.is_none_or(|now| generation_of(&now) != generation) {
            continue;
        }
        let metadata = metadata.unwrap_or_default();
        return Ok(Fetched::Found(generation, Object { generation, content, metadata }));
    }
    Err(unavailable("read", path.as_str(), "object changes faster than it can be read"))
}

fn object_info(path: &ObjectPath, stat: &Stat, metadata: Metadata) -> ObjectInfo {
    let generation = generation_of(stat);
    let size = u64::try_from(stat.st_size).unwrap_or_default();
    ObjectInfo { path: path.clone(), generation, size, updated: time_of(generation), metadata }
}
