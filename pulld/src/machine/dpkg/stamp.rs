//! What tells that a file was written, replaced or touched, without reading it.

use std::{
    fs::{self, Metadata},
    os::unix::fs::MetadataExt,
    path::Path,
};

/// A file as it was at one moment. Whoever changes it, or puts another in its place, changes one of these: the last of them
/// is set by the kernel alone (inode(7), `st_ctime`).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(in crate::machine) struct FileStamp {
    inode: (u64, u64),
    mode: u32,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl FileStamp {
    /// Of the file that a path leads to; `None` when there is none.
    pub(in crate::machine) fn of(path: &Path) -> Option<Self> {
        fs::metadata(path).ok().map(|found| Self::from(&found))
    }

    /// Of what is at a path, perhaps a link.
    pub(super) fn of_link(path: &Path) -> Option<Self> {
        fs::symlink_metadata(path).ok().map(|found| Self::from(&found))
    }
}

impl From<&Metadata> for FileStamp {
    fn from(found: &Metadata) -> Self {
        Self {
            inode: (found.dev(), found.ino()),
            mode: found.mode(),
            size: found.len(),
            modified: (found.mtime(), found.mtime_nsec()),
            changed: (found.ctime(), found.ctime_nsec()),
        }
    }
}
