//! Whether a directory is a bucket.

use std::{os::fd::OwnedFd, path::Path};

use rustix::fs::{AtFlags, FileType, statat};

use crate::layout;

/// Whether a directory is a bucket: by its marker, or, as buckets made before there were markers, by what it holds.
pub(super) fn is_marked(root: &OwnedFd) -> Result<bool, std::io::Error> {
    let known = [
        (layout::MARKER, FileType::RegularFile),
        (layout::DEBS.trim_end_matches('/'), FileType::Directory),
        (layout::SERVER.trim_end_matches('/'), FileType::Directory),
    ];
    for (name, kind) in known {
        match statat(root, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) if FileType::from_raw_mode(stat.st_mode) == kind => return Ok(true),
            Ok(_) | Err(rustix::io::Errno::NOENT) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(false)
}

/// Why a directory without a marker is not used: what follows is what to do.
pub(super) fn missing(directory: &Path) -> String {
    format!(
        "`{}` is not a bucket yet, or its share is not mounted, because it has no file `{}`: mount the share, or begin \
         the bucket by releasing something into it with `release`",
        directory.display(),
        layout::MARKER
    )
}
