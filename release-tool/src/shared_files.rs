//! Files where what is run or tried may write too: a link or a pipe in the place of a file is neither followed nor waited for.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, ErrorKind, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
};

use anyhow::{Context as _, Result};
use rustix::fs::OFlags;

/// Of a file that is read or locked.
const FLAGS: OFlags = OFlags::NOFOLLOW.union(OFlags::NONBLOCK);

/// Writes a file for its owner alone, anew.
pub(crate) fn write_private(path: &Path, content: &str) -> Result<()> {
    write(path, content, 0o600)
}

/// Writes a file that everybody may read, anew.
pub(crate) fn write_public(path: &Path, content: &str) -> Result<()> {
    write(path, content, 0o644)
}

fn write(path: &Path, content: &str, mode: u32) -> Result<()> {
    let write = || {
        match fs::remove_file(path) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
        OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?.write_all(content.as_bytes())
    };
    write().with_context(|| format!("could not write `{}`", path.display()))
}

/// Opens a regular file to read it.
pub(crate) fn open_to_read(path: &Path) -> io::Result<File> {
    regular(OpenOptions::new().read(true).custom_flags(flags()).open(path)?)
}

/// Opens a file to lock it, which is made if it isn't there.
pub(crate) fn open_to_lock(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    regular(options.write(true).create(true).truncate(false).custom_flags(flags()).open(path)?)
}

fn flags() -> i32 {
    FLAGS.bits().cast_signed()
}

fn regular(file: File) -> io::Result<File> {
    if file.metadata()?.is_file() {
        Ok(file)
    } else {
        Err(io::Error::new(ErrorKind::InvalidInput, "it is not a regular file"))
    }
}
