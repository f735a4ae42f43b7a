//! One bucket's directory: finding objects in it, and the one way to change one.

use std::{
    fs::File,
    io::ErrorKind,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use backon::{BlockingRetryable, ConstantBuilder};
use rustix::fs::{
    AtFlags, CWD, FileType, FlockOperation, Mode, OFlags, Timespec, Timestamps, flock, fstat, futimens, mkdirat,
    openat, renameat, unlinkat,
};

use super::{failed, folder::Folder, unavailable};
use crate::{Error, Generation, Metadata, ObjectInfo, ObjectPath};

/// Below it lies what isn't an object. No object's path can begin with it: segments don't begin with a dot.
pub(super) const OURS: &str = ".push";
pub(super) const META: &str = ".push/meta";
const TMP: &str = ".push/tmp";
const LOCK: &str = ".push/lock";

/// How long a writer waits for the lock: it is held for a few renames, or by a program that was stopped.
const LOCK_PAUSE: Duration = Duration::from_millis(5);
const LOCK_TRIES: usize = 6000;

/// A file that a writer left in `.push/tmp` is cleared away after this long: no upload takes a day.
const ABANDONED: Duration = Duration::from_hours(24);

pub(super) const DIRECTORY: OFlags = OFlags::DIRECTORY.union(OFlags::RDONLY).union(OFlags::CLOEXEC);

/// A bucket's directory.
#[derive(Debug)]
pub(super) struct Directory {
    path: PathBuf,
}

/// An object that was opened: its content can't change under the reader, a writer puts a new file in its place.
pub(super) struct OpenObject {
    pub(super) file: File,
    pub(super) generation: Generation,
    pub(super) size: u64,
}

/// New content, not yet an object. Removed when dropped before it became one.
pub(super) struct Written {
    file: tempfile::NamedTempFile,
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
    pub(super) fn open(path: &Path) -> Result<Self, Error> {
        let unusable = |reason: String| Error::Unusable { url: format!("file://{}", path.display()), reason };
        match std::fs::metadata(path) {
            Ok(found) if found.is_dir() => Ok(Self { path: path.to_owned() }),
            Ok(_) => Err(unusable("it isn't a directory".to_owned())),
            Err(e) if e.kind() == ErrorKind::NotFound => {
                Err(unusable(format!("there is no such directory; make it with `mkdir -p {}`", path.display())))
            }
            Err(e) => Err(unusable(e.to_string())),
        }
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
        let size = u64::try_from(stat.st_size).unwrap_or_default();
        Ok(Some(OpenObject { file, generation: generation_of(&stat), size }))
    }

    /// What is known of an object, if there is one.
    pub(super) fn info(&self, path: &ObjectPath) -> Result<Option<ObjectInfo>, Error> {
        let (parent, name) = split(path.as_str());
        match Folder::open(self, parent)? {
            Some(folder) => folder.info(path, name),
            None => Ok(None),
        }
    }

    /// Begins to write an object's new content.
    pub(super) fn begin(&self, path: &ObjectPath) -> Result<Written, Error> {
        let fail = |e: std::io::Error| failed("write", path.as_str(), &e);
        let root = self.root("write", path.as_str())?;
        make_directories(&root, TMP).map_err(fail)?;
        let builder_directory = self.path.join(TMP);
        let file = tempfile::Builder::new()
            .permissions(std::os::unix::fs::PermissionsExt::from_mode(0o644))
            .tempfile_in(builder_directory)
            .map_err(fail)?;
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
        let root = self.root("write", path.as_str())?;
        // The slow part first, so that the lock is held for renames only.
        written.file.as_file().sync_data().map_err(fail)?;
        let lock = Self::lock(&root, path)?;
        let now = self.object(path)?.map(|object| object.generation);
        match (seen, now) {
            (None, Some(_)) => return Err(Error::AlreadyExists { object: path.to_string() }),
            (Some(expected), now) if now != Some(expected) => {
                return Err(Error::Conflict { object: path.to_string(), expected });
            }
            _ => {}
        }
        let generation = next_generation(&lock, now).map_err(fail)?;
        write_metadata(&self.path, &root, path, generation, metadata).map_err(fail)?;
        set_time(written.file.as_file(), generation).map_err(fail)?;
        written.file.as_file().sync_all().map_err(fail)?;
        let (parent, name) = split(path.as_str());
        let parent = make_directories(&root, parent).map_err(fail)?;
        let temporary = written.file.into_temp_path();
        renameat(CWD, &*temporary, &parent, name).map_err(|e| fail(e.into()))?;
        // Renamed: there is nothing left to remove.
        let _ = temporary.keep();
        rustix::fs::fsync(&parent).map_err(|e| fail(e.into()))?;
        clear_metadata(&root, path, Some(generation));
        self.clear_abandoned();
        Ok(generation)
    }

    /// Deletes an object of generation `seen`.
    pub(super) fn delete(&self, path: &ObjectPath, seen: Generation) -> Result<(), Error> {
        let fail = |e: std::io::Error| failed("delete", path.as_str(), &e);
        let root = self.root("delete", path.as_str())?;
        let _lock = Self::lock(&root, path)?;
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

    /// The directory itself. That it is gone (an unmounted share) must not look like a bucket without objects.
    pub(super) fn root(&self, verb: &'static str, object: &str) -> Result<OwnedFd, Error> {
        let opened = rustix::fs::open(&self.path, DIRECTORY, Mode::empty());
        opened.map_err(|e| match e.kind() {
            ErrorKind::NotFound | ErrorKind::NotADirectory => {
                unavailable(verb, object, &format!("the bucket's directory `{}` is gone", self.path.display()))
            }
            _ => failed(verb, object, &e.into()),
        })
    }

    /// Waits until nobody else writes. The lock goes with the file that is returned, or with the process.
    fn lock(root: &OwnedFd, path: &ObjectPath) -> Result<File, Error> {
        let fail = |e: rustix::io::Errno| failed("write", path.as_str(), &e.into());
        make_directories(root, OURS).map_err(|e| failed("write", path.as_str(), &e))?;
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::CLOEXEC;
        let lock = open_beneath(root, LOCK, flags).map_err(|e| failed("write", path.as_str(), &e))?;
        inherit_mode(&lock, root, 0o666);
        let taken = (|| flock(&lock, FlockOperation::NonBlockingLockExclusive))
            .retry(ConstantBuilder::default().with_delay(LOCK_PAUSE).with_max_times(LOCK_TRIES))
            .when(|errno| matches!(*errno, rustix::io::Errno::WOULDBLOCK | rustix::io::Errno::INTR))
            .call();
        match taken {
            Ok(()) => Ok(lock.into()),
            Err(rustix::io::Errno::WOULDBLOCK) => {
                let patience = LOCK_PAUSE * u32::try_from(LOCK_TRIES).unwrap_or(u32::MAX);
                let reason = format!("another program has held the bucket's lock `{LOCK}` for {patience:?}");
                Err(unavailable("write", path.as_str(), &reason))
            }
            Err(errno) => Err(fail(errno)),
        }
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

/// Opens what lies at a path below a directory, segment by segment, so that no symbolic link is followed on the way.
///
/// Not openat2(2), which does this in one call: seccomp filters deny it, those of containers and systemd's
/// `RestrictSUIDSGID=` among them.
pub(super) fn open_beneath(root: &OwnedFd, path: &str, flags: OFlags) -> Result<OwnedFd, std::io::Error> {
    let (parents, name) = split(path);
    let mut parent = root.try_clone()?;
    for segment in parents.split('/').filter(|segment| !segment.is_empty()) {
        parent = open_in(&parent, segment, DIRECTORY)?;
    }
    open_in(&parent, name, flags)
}

pub(super) fn open_in(directory: &OwnedFd, name: &str, flags: OFlags) -> Result<OwnedFd, std::io::Error> {
    if name == ".." {
        return Err(ErrorKind::NotFound.into());
    }
    openat(directory, name, flags | OFlags::NOFOLLOW, Mode::from_raw_mode(0o644)).map_err(Into::into)
}

/// Whether an error says that there is no such object. A symbolic link isn't one either.
pub(super) fn is_absent(error: &std::io::Error) -> bool {
    use rustix::io::Errno;
    let errno = Errno::from_io_error(error);
    error.kind() == ErrorKind::NotFound
        || matches!(errno, Some(Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::NAMETOOLONG))
}

/// Opens a directory of the bucket, made as needed, each new one durable in its parent.
fn make_directories(root: &OwnedFd, path: &str) -> Result<OwnedFd, std::io::Error> {
    let mut parent = open_beneath(root, ".", DIRECTORY)?;
    for segment in path.split('/').filter(|segment| !segment.is_empty()) {
        parent = match open_beneath(&parent, segment, DIRECTORY) {
            Err(e) if e.kind() == ErrorKind::NotFound => {
                match mkdirat(&parent, segment, Mode::from_raw_mode(0o755)) {
                    // Somebody else made it just now.
                    Ok(()) | Err(rustix::io::Errno::EXIST) => {}
                    Err(e) => return Err(e.into()),
                }
                rustix::fs::fsync(&parent)?;
                let made = open_beneath(&parent, segment, DIRECTORY)?;
                inherit_mode(&made, &parent, 0o7777);
                made
            }
            opened => opened?,
        };
    }
    Ok(parent)
}

/// Gives what was made in a directory that directory's mode, so that whoever may write there may go on writing there.
/// Best effort: it is refused where somebody else made it, who has done it then.
fn inherit_mode(made: &OwnedFd, parent: &OwnedFd, mask: u32) {
    if let (Ok(found), Ok(wanted)) = (fstat(made), fstat(parent)) {
        let wanted = wanted.st_mode & mask;
        if found.st_mode & 0o7777 != wanted {
            let _ = rustix::fs::fchmod(made, Mode::from_raw_mode(wanted));
        }
    }
}

fn split(path: &str) -> (&str, &str) {
    path.rsplit_once('/').unwrap_or(("", path))
}

pub(super) fn generation_of(stat: &rustix::fs::Stat) -> Generation {
    #[allow(clippy::cast_possible_wrap, reason = "nanoseconds are below 10^9")]
    let micros = stat.st_mtime_nsec as i64 / 1000;
    Generation(stat.st_mtime.saturating_mul(1_000_000).saturating_add(micros).max(1))
}

fn set_time(file: &File, generation: Generation) -> Result<(), std::io::Error> {
    let time =
        Timespec { tv_sec: generation.0.div_euclid(1_000_000), tv_nsec: generation.0.rem_euclid(1_000_000) * 1000 };
    futimens(file, &Timestamps { last_access: time, last_modification: time })?;
    if generation_of(&fstat(file)?) != generation {
        return Err(std::io::Error::other("the file system keeps no times of a microsecond, which generations need"));
    }
    Ok(())
}

/// A generation later than now, than the object's last and than any that was given out: it is never used twice,
/// whatever the clock does.
fn next_generation(lock: &File, now: Option<Generation>) -> Result<Generation, std::io::Error> {
    let clock = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_micros();
    let clock = i64::try_from(clock).unwrap_or(i64::MAX);
    // A lock file that was only just made has the time of now.
    let last = generation_of(&fstat(lock)?).0;
    let next = clock.max(last + 1).max(now.map_or(0, |now| now.0 + 1));
    set_time(lock, Generation(next))?;
    // Else a power cut and a clock that went back could give it out again.
    lock.sync_all()?;
    Ok(Generation(next))
}

fn metadata_directory(path: &ObjectPath) -> String {
    format!("{META}/{path}")
}

fn write_metadata(
    directory: &Path,
    root: &OwnedFd,
    path: &ObjectPath,
    generation: Generation,
    metadata: &Metadata,
) -> Result<(), std::io::Error> {
    if metadata.is_empty() {
        return Ok(());
    }
    let parent = make_directories(root, &metadata_directory(path))?;
    let mut file = tempfile::NamedTempFile::new_in(directory.join(TMP))?;
    serde_json::to_writer(&mut file, metadata)?;
    set_mode(file.as_file())?;
    file.as_file().sync_all()?;
    let temporary = file.into_temp_path();
    renameat(CWD, &*temporary, &parent, generation.to_string())?;
    let _ = temporary.keep();
    rustix::fs::fsync(&parent).map_err(Into::into)
}

fn set_mode(file: &File) -> Result<(), std::io::Error> {
    file.set_permissions(std::os::unix::fs::PermissionsExt::from_mode(0o644))
}

/// Removes metadata of every generation but `keep`. Best effort: nobody reads what is left.
fn clear_metadata(root: &OwnedFd, path: &ObjectPath, keep: Option<Generation>) {
    let at = metadata_directory(path);
    let Ok(directory) = open_beneath(root, &at, DIRECTORY) else { return };
    let Ok(entries) = rustix::fs::Dir::read_from(&directory) else { return };
    let keep = keep.map(|generation| generation.to_string());
    for entry in entries.flatten() {
        if let Ok(name) = entry.file_name().to_str()
            && !name.starts_with('.')
            && keep.as_deref() != Some(name)
        {
            let _ = unlinkat(&directory, name, AtFlags::empty());
        }
    }
    if keep.is_none() {
        let _ = unlinkat(root, at.as_str(), AtFlags::REMOVEDIR);
    }
}
