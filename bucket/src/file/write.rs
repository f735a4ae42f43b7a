//! The one way to change an object: whole content, renamed into place under the lock.

use std::{fs::File, time::Duration};

use rustix::{
    fs::{AtFlags, CWD, Mode, OFlags, openat, renameat, unlinkat},
    io::Errno,
};

use super::{
    beneath::{make_directories, split},
    directory::Directory,
    failure::{failed, unavailable},
    generation::{next_generation, set_time},
    lock::{LOCK, lock},
    metadata::{OURS, TMP, clear_metadata, write_metadata},
    temporary::Temporary,
};
use crate::{Error, Generation, Metadata, ObjectPath, layout};

/// A file that a writer left in `.push/tmp` is cleared away after this long: no upload takes a day.
const ABANDONED: Duration = Duration::from_hours(24);

/// New content, not yet an object. Removed when dropped before it became one.
pub(super) struct Written {
    file: Temporary,
    full: bool,
}

impl Written {
    /// Where the content is written to.
    pub(super) fn file(&mut self) -> &mut File {
        self.file.as_file_mut()
    }

    /// Says that all of the content is there.
    pub(super) fn filled(&mut self) {
        self.full = true;
    }
}

impl Directory {
    /// Begins to write an object's new content.
    pub(super) fn begin(&self, path: &ObjectPath) -> Result<Written, Error> {
        let fail = |e: std::io::Error| failed("write", path.as_str(), &e);
        let root = self.root_to_write("write", path.as_str())?;
        make_directories(&root, TMP).map_err(fail)?;
        let file = self.temporary().map_err(fail)?;
        Ok(Written { file, full: false })
    }

    /// Puts new content in an object's place: as the first if `seen` is `None`, else over that generation.
    pub(super) fn commit(
        &self,
        path: &ObjectPath,
        written: Written,
        metadata: &Metadata,
        seen: Option<Generation>,
    ) -> Result<Generation, Error> {
        assert!(written.full, "only whole content becomes an object");
        let fail = |e: std::io::Error| failed("write", path.as_str(), &e);
        let root = self.root_to_write("write", path.as_str())?;
        // The slow part first, so that the lock is held for renames only.
        written.file.as_file().sync_data().map_err(fail)?;
        let lock = lock(&root, path)?;
        self.ensure_overlay(&root, "write", path.as_str())?;
        self.ensure_alive(path)?;
        let now = self.object(path)?.map(|object| object.generation);
        match (seen, now) {
            (None, Some(_)) => return Err(Error::AlreadyExists { object: path.to_string() }),
            (Some(expected), now) if now != Some(expected) => {
                return Err(Error::Conflict { object: path.to_string(), expected });
            }
            _ => {}
        }
        let generation = next_generation(&lock, now, self.now()).map_err(fail)?;
        write_metadata(&self.path, &root, path, generation, metadata).map_err(fail)?;
        set_time(written.file.as_file(), generation).map_err(fail)?;
        written.file.as_file().sync_all().map_err(fail)?;
        let (parent, name) = split(path.as_str());
        let parent = make_directories(&root, parent).map_err(fail)?;
        let temporary = written.file.into_temp_path().map_err(fail)?;
        renameat(CWD, &*temporary, &parent, name).map_err(|e| fail(e.into()))?;
        // Renamed: there is nothing left to remove.
        let _ = temporary.keep();
        rustix::fs::fsync(&parent).map_err(|e| fail(e.into()))?;
        clear_metadata(&root, path, Some(generation));
        self.clear_abandoned();
        if let (Some(machine), Some(server)) = (self.machine(), layout::server_at(path)) {
            machine.wrote(server, generation);
        }
        Ok(generation)
    }

    /// A machine of a simulation that has died writes nothing more.
    fn ensure_alive(&self, path: &ObjectPath) -> Result<(), Error> {
        match self.machine() {
            Some(machine) if !machine.lives_to_write() => {
                Err(unavailable("write", path.as_str(), "this simulated machine is dead"))
            }
            _ => Ok(()),
        }
    }

    /// Has the next generation be that of the clock: the time of a lock that nobody holds yet is that of the real machine.
    pub(super) fn forget_time(&self) -> Result<(), Error> {
        let fail = |e: std::io::Error| failed("write", LOCK, &e);
        let root = self.root("write", LOCK)?;
        make_directories(&root, OURS).map_err(fail)?;
        let (flags, mode) = (OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC, Mode::from(0o666));
        match openat(&root, LOCK, flags, mode) {
            Ok(lock) => set_time(&File::from(lock), Generation(1)).map_err(fail),
            // Another machine of the simulation was here first.
            Err(Errno::EXIST) => Ok(()),
            Err(error) => Err(fail(error.into())),
        }
    }

    /// Deletes an object of generation `seen`.
    pub(super) fn delete(&self, path: &ObjectPath, seen: Generation) -> Result<(), Error> {
        let fail = |e: std::io::Error| failed("delete", path.as_str(), &e);
        let root = self.root_to_write("delete", path.as_str())?;
        let _lock = lock(&root, path)?;
        self.ensure_overlay(&root, "delete", path.as_str())?;
        self.ensure_alive(path)?;
        match self.object(path)? {
            None => return Ok(()),
            Some(object) if object.generation != seen => {
                return Err(Error::Conflict { object: path.to_string(), expected: seen });
            }
            Some(_) => {}
        }
        let (parent, name) = split(path.as_str());
        let parent = make_directories(&root, parent).map_err(fail)?;
        unlinkat(&parent, name, AtFlags::empty()).map_err(|e| fail(e.into()))?;
        rustix::fs::fsync(&parent).map_err(|e| fail(e.into()))?;
        clear_metadata(&root, path, None);
        Ok(())
    }

    /// Clears away what writers that were killed left behind. Best effort: it is only disk space.
    fn clear_abandoned(&self) {
        let Ok(entries) = std::fs::read_dir(self.path.join(TMP)) else { return };
        for entry in entries.flatten() {
            let age = entry.metadata().and_then(|found| found.modified()).ok().and_then(|time| time.elapsed().ok());
            if age.is_some_and(|age| age > ABANDONED) {
                let _ = std::fs::remove_file(entry.path());
            }
        }
    }
}
