//! Files with the password in them.

use std::{
    fs::{self, OpenOptions},
    io::{ErrorKind, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
};

use anyhow::{Context as _, Result};

/// Writes a file for its owner alone, anew.
pub(super) fn write_private(path: &Path, content: &str) -> Result<()> {
    let write = || {
        match fs::remove_file(path) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
        OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?.write_all(content.as_bytes())
    };
    write().with_context(|| format!("could not write `{}`", path.display()))
}
