//! What tells a bucket's directory from the empty mount point of a share that is not mounted.

use std::{fmt, io::Write, path::PathBuf};

use super::{directory::Directory, failure::failed, marked::is_marked};
use crate::{Error, Metadata, layout};

/// What the marker says to a person who finds it.
const CONTENT: &str = "\
This directory is a bucket of Push: releases, server documents, status reports and history.
Agents use it only while this file is here, because a directory without it may be a share that is not mounted.
";

/// A directory that was made a bucket just now. Shown, it tells a person so, and what to do if that was a mistake.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewBucket {
    directory: PathBuf,
}

impl fmt::Display for NewBucket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (directory, marker) = (self.directory.display(), layout::MARKER);
        write!(
            f,
            "`{directory}` is a bucket from now on, marked by the file `{marker}`; if a share should have been mounted \
             there, delete what was written there, mount the share and run the command again"
        )
    }
}

impl Directory {
    /// Marks the directory as a bucket, and says so if it wasn't one.
    pub(super) fn mark(&self) -> Result<Option<NewBucket>, Error> {
        if self.is_marked()? {
            return Ok(None);
        }
        let path = layout::marker();
        let mut written = self.begin(&path)?;
        written.file().write_all(CONTENT.as_bytes()).map_err(|e| failed("write", path.as_str(), &e))?;
        written.filled();
        match self.commit(&path, written, &Metadata::new(), None) {
            Ok(_) => Ok(Some(NewBucket { directory: self.path.clone() })),
            // Another program did it at the same moment, and says so.
            Err(Error::AlreadyExists { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Whether the directory is marked as a bucket.
    pub(super) fn is_marked(&self) -> Result<bool, Error> {
        let path = layout::marker();
        let root = self.open_root("read", path.as_str())?;
        is_marked(&root).map_err(|e| failed("read", path.as_str(), &e))
    }
}
