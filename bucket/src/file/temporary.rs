//! A file on its way to its name: without any, where the system has such files, so that a writer that is killed leaves
//! nothing behind.

use std::{fs::File, io, os::fd::AsFd, path::Path, path::PathBuf};

use rustix::{
    fs::{AtFlags, CWD, Mode, OFlags, linkat, open},
    io::Errno,
};
use tempfile::TempPath;

/// Who may do what with an object's file.
const MODE: u32 = 0o644;

/// New content in the directory for it.
pub(super) struct Temporary {
    directory: PathBuf,
    file: File,
    /// Its name, where it had to have one from the beginning.
    named: Option<TempPath>,
}

impl Temporary {
    /// An empty file.
    pub(super) fn new_in(directory: PathBuf) -> io::Result<Self> {
        // Only O_TMPFILE makes files without a name that can be given one (open(2)).
        match open(&directory, OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC, Mode::from_raw_mode(MODE)) {
            Ok(file) => Ok(Self { directory, file: file.into(), named: None }),
            // No file system has to know it, and an old kernel takes it for a directory to be opened.
            Err(Errno::OPNOTSUPP | Errno::ISDIR | Errno::INVAL | Errno::NOSYS) => Self::with_name_in(directory),
            Err(error) => Err(error.into()),
        }
    }

    fn with_name_in(directory: PathBuf) -> io::Result<Self> {
        let mode = std::os::unix::fs::PermissionsExt::from_mode(MODE);
        let (file, named) = tempfile::Builder::new().permissions(mode).tempfile_in(&directory)?.into_parts();
        Ok(Self { directory, file, named: Some(named) })
    }

    pub(super) fn as_file(&self) -> &File {
        &self.file
    }

    pub(super) fn as_file_mut(&mut self) -> &mut File {
        &mut self.file
    }

    /// Gives it a name for the moment until it is renamed: only renaming replaces what is there.
    pub(super) fn into_temp_path(self) -> io::Result<TempPath> {
        let Self { directory, file, named } = self;
        if let Some(named) = named {
            return Ok(named);
        }
        let made = tempfile::Builder::new().make_in(directory, |path| link(&file, path))?;
        Ok(made.into_temp_path())
    }
}

/// Gives a file without a name this one.
fn link(file: &File, path: &Path) -> io::Result<()> {
    match linkat(file.as_fd(), "", CWD, path, AtFlags::EMPTY_PATH) {
        // Only root could name a file by its descriptor before Linux 6.10.
        Err(Errno::NOENT | Errno::PERM) => {
            let descriptor = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(file));
            linkat(CWD, descriptor, CWD, path, AtFlags::SYMLINK_FOLLOW).map_err(Into::into)
        }
        linked => linked.map_err(Into::into),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn what_is_never_finished_leaves_nothing_behind() {
        let directory = tempfile::tempdir().unwrap();
        let mut file = Temporary::new_in(directory.path().to_owned()).unwrap();
        file.as_file_mut().write_all(b"half of it").unwrap();
        // As after kill -9: nobody removes anything.
        std::mem::forget(file);
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
    }

    #[test]
    fn what_is_finished_has_a_name_with_its_content_by_either_way() {
        for make in [Temporary::new_in, Temporary::with_name_in] {
            let directory = tempfile::tempdir().unwrap();
            let mut file = make(directory.path().to_owned()).unwrap();
            file.as_file_mut().write_all(b"all of it").unwrap();
            let path = file.into_temp_path().unwrap();
            assert_eq!(std::fs::read(&path).unwrap(), b"all of it");
            let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&path).unwrap().permissions());
            assert_eq!(mode & 0o777 & MODE, mode & 0o777, "{mode:o}");
            drop(path);
            assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
        }
    }
}
