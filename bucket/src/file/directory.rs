//! One bucket's directory, and finding objects in it.

use std::{
    fs::File,
    io::ErrorKind,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
};

use jiff::{SignedDuration, Timestamp};
use rustix::fs::{FileType, Mode, OFlags, fstat};

use super::{
    beneath::{DIRECTORY, is_absent, open_beneath},
    failure::{failed, unavailable},
    generation::{check, generation_of, time_of},
    marked,
    metadata::TMP,
    overlay,
    temporary::Temporary,
};
use crate::{BuildId, Error, Generation, ObjectPath, SimulatedMachine, clock::ClockOffset};

/// A bucket's directory.
#[derive(Debug)]
pub(super) struct Directory {
    pub(super) path: PathBuf,
    /// Whether nothing is read or written there while it isn't marked as a bucket.
    needs_marker: bool,
    /// The machine of a simulation that reads and writes it, if one does.
    machine: Option<SimulatedMachine>,
    /// The buildset without whose mark nothing is written there.
    overlay: Option<BuildId>,
    /// How far the file system's clock is ahead of this machine's: that of a share is its server's.
    clock: ClockOffset,
}

/// An object that was opened: its content can't change under the reader, a writer puts a new file in its place.
pub(super) struct OpenObject {
    pub(super) file: File,
    pub(super) generation: Generation,
    pub(super) size: u64,
}

impl Directory {
    pub(super) fn open(path: &Path, needs_marker: bool, machine: Option<SimulatedMachine>) -> Result<Self, Error> {
        let unusable = |reason: String| Error::Unusable { url: format!("file://{}", path.display()), reason };
        match std::fs::metadata(path) {
            Ok(found) if found.is_dir() => {
                Ok(Self { path: path.to_owned(), needs_marker, machine, overlay: None, clock: ClockOffset::unknown() })
            }
            Ok(_) => Err(unusable("it is not a directory".to_owned())),
            Err(e) if e.kind() == ErrorKind::NotFound => {
                Err(unusable(format!("there is no such directory; create it with `mkdir -p {}`", path.display())))
            }
            Err(e) => Err(unusable(e.to_string())),
        }
    }

    /// The same directory, in which nothing is written without the mark of this buildset.
    pub(super) fn of_overlay(&self, buildset: &BuildId) -> Self {
        let Self { path, needs_marker, machine, .. } = self;
        let (path, machine, overlay) = (path.clone(), machine.clone(), Some(buildset.clone()));
        Self { path, needs_marker: *needs_marker, machine, overlay, clock: ClockOffset::unknown() }
    }

    /// The time by the clock of this machine, or of the simulated one.
    pub(super) fn machine_time(&self) -> Timestamp {
        self.machine.as_ref().map_or_else(Timestamp::now, SimulatedMachine::now)
    }

    /// How far the file system's clock is ahead of that, as far as that is known.
    pub(super) fn clock_offset(&self) -> SignedDuration {
        self.clock.get()
    }

    /// The time by the file system's clock, so that machines whose clocks differ date alike what they write.
    pub(super) fn now(&self) -> Timestamp {
        let now = self.machine_time();
        now.saturating_add(self.clock_offset()).unwrap_or(now)
    }

    /// An empty file for new content. What time the file system says that it is of tells its clock.
    pub(super) fn temporary(&self) -> std::io::Result<Temporary> {
        let asked = self.machine_time();
        let file = Temporary::new_in(self.path.join(TMP))?;
        let dated = match &self.machine {
            Some(machine) => machine.file_time(),
            None => time_of(generation_of(&fstat(file.as_file())?)),
        };
        self.clock.note(dated, asked, self.machine_time());
        Ok(file)
    }

    /// Asks the file system what time it is, if it was not asked yet. Whoever may not write here goes by their own clock.
    pub(super) fn learn_time(&self) {
        if !self.clock.is_known() {
            let _ = self.temporary();
        }
    }

    /// The machine of a simulation, if it is one that reads and writes here.
    pub(super) fn machine(&self) -> Option<&SimulatedMachine> {
        self.machine.as_ref()
    }

    /// Opens an object, if there is one.
    pub(super) fn object(&self, path: &ObjectPath) -> Result<Option<OpenObject>, Error> {
        let root = self.root("read", path.as_str())?;
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let file = match open_beneath(&root, path.as_str(), flags) {
            Ok(file) => File::from(file),
            Err(e) if is_absent(&e) => return Ok(None),
            Err(e) => return Err(failed("read", path.as_str(), &e)),
        };
        let stat = fstat(&file).map_err(|e| failed("read", path.as_str(), &e.into()))?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Ok(None);
        }
        let (generation, size) = (generation_of(&stat), u64::try_from(stat.st_size).unwrap_or_default());
        check(&root, path, generation, self.now())?;
        Ok(Some(OpenObject { file, generation, size }))
    }

    /// The directory itself, which must be marked as a bucket for whoever opened it so. That it is gone, or is the empty
    /// mount point of a share, must not look like a bucket without objects.
    pub(super) fn root(&self, verb: &'static str, object: &str) -> Result<OwnedFd, Error> {
        let root = self.open_root(verb, object)?;
        if self.needs_marker && !marked::is_marked(&root).map_err(|e| failed(verb, object, &e))? {
            return Err(unavailable(verb, object, &marked::missing(&self.path)));
        }
        Ok(root)
    }

    /// The directory itself, to be written to.
    pub(super) fn root_to_write(&self, verb: &'static str, object: &str) -> Result<OwnedFd, Error> {
        let root = self.root(verb, object)?;
        self.ensure_overlay(&root, verb, object)?;
        Ok(root)
    }

    /// Makes sure that a directory which is to be that of an overlay is so still.
    pub(super) fn ensure_overlay(&self, root: &OwnedFd, verb: &'static str, object: &str) -> Result<(), Error> {
        let Some(buildset) = &self.overlay else { return Ok(()) };
        match overlay::not_of(root, buildset).map_err(|e| failed(verb, object, &e))? {
            None => Ok(()),
            Some(reason) => Err(Error::Unusable {
                url: format!("file://{}", self.path.display()),
                reason: format!("it is not the overlay of the buildset `{buildset}` any more: {reason}"),
            }),
        }
    }

    /// The directory itself, whether or not it is marked.
    pub(super) fn open_root(&self, verb: &'static str, object: &str) -> Result<OwnedFd, Error> {
        let opened = rustix::fs::open(&self.path, DIRECTORY, Mode::empty());
        opened.map_err(|e| match e.kind() {
            ErrorKind::NotFound | ErrorKind::NotADirectory => {
                unavailable(verb, object, &format!("bucket directory `{}` no longer exists", self.path.display()))
            }
            _ => failed(verb, object, &e.into()),
        })
    }
}
