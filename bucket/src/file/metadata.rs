//! Where custom metadata lies: in a file for each generation, apart from the objects.

use std::{fs::File, os::fd::OwnedFd, path::Path};

use rustix::fs::{AtFlags, CWD, renameat, unlinkat};

use super::{
    beneath::{DIRECTORY, make_directories, open_beneath},
    temporary::Temporary,
};
use crate::{Generation, Metadata, ObjectPath};

/// Below it lies what isn't an object. No object's path can begin with it: segments don't begin with a dot.
pub(super) const OURS: &str = ".push";
/// Below it lies the metadata of each object, in a directory at the object's path.
pub(super) const META: &str = ".push/meta";
/// In it are files being written.
pub(super) const TMP: &str = ".push/tmp";

fn metadata_directory(path: &ObjectPath) -> String {
    format!("{META}/{path}")
}

/// Writes the metadata of a generation that is about to be.
pub(super) fn write_metadata(
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
    let mut file = Temporary::new_in(directory.join(TMP))?;
    serde_json::to_writer(file.as_file_mut(), metadata)?;
    set_mode(file.as_file())?;
    file.as_file().sync_all()?;
    let temporary = file.into_temp_path()?;
    renameat(CWD, &*temporary, &parent, generation.to_string())?;
    let _ = temporary.keep();
    rustix::fs::fsync(&parent).map_err(Into::into)
}

/// Removes metadata of every generation but `keep`. Best effort: nobody reads what is left.
pub(super) fn clear_metadata(root: &OwnedFd, path: &ObjectPath, keep: Option<Generation>) {
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

fn set_mode(file: &File) -> Result<(), std::io::Error> {
    file.set_permissions(std::os::unix::fs::PermissionsExt::from_mode(0o644))
}
