//! Copying an object's content inside the file system: a reflink where it has those, else by the kernel.
//!
//! Never a hard link: a file's time is its generation, and two names of one file would share it.

use std::io::Error as IoError;

use rustix::fs::{fstat, ioctl_ficlone};

use super::{
    directory::Directory,
    failure::{failed, unavailable},
    generation::generation_of,
    write::Written,
};
use crate::{Error, Generation, ObjectPath};

/// The content of the generation `seen` of `from`, to be put in the place of `to`, which may be in another directory.
pub(super) fn content(
    (source, from, seen): (&Directory, &ObjectPath, Generation),
    (target, to): (&Directory, &ObjectPath),
) -> Result<Written, Error> {
    let gone = || Error::Gone { object: from.to_string() };
    let mut source = source.object(from)?.filter(|object| object.generation == seen).ok_or_else(gone)?;
    let mut written = target.begin(to)?;
    let target = written.file();
    if ioctl_ficlone(&*target, &source.file).is_err() {
        // The standard library has the kernel do it: copy_file_range(2), where that can't sendfile(2).
        std::io::copy(&mut source.file, target).map_err(|e| failed("write", to.as_str(), &e))?;
    }
    let unreadable = |e: rustix::io::Errno| failed("read", from.as_str(), &IoError::from(e));
    // A person may edit the file meanwhile, which is another generation then; a writer puts another file in its place.
    if generation_of(&fstat(&source.file).map_err(unreadable)?) != seen {
        return Err(gone());
    }
    let copied = fstat(&*target).map_err(unreadable)?.st_size;
    if u64::try_from(copied) != Ok(source.size) {
        let reason = format!("{copied} of {} bytes were copied", source.size);
        return Err(unavailable("write", to.as_str(), &reason));
    }
    written.filled();
    Ok(written)
}
