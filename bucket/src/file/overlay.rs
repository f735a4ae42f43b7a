//! Making and removing the directory of an overlay.

use std::{
    ffi::{CStr, CString},
    fs::File,
    io::{self, ErrorKind, Read as _},
    os::fd::OwnedFd,
    path::Path,
};

use rustix::{
    fs::{AtFlags, FileType, Mode, OFlags, open, renameat, statat, unlinkat},
    io::Errno,
};
use serde::Deserialize;

use super::beneath::{DIRECTORY, open_in};
use crate::{BuildId, Error, layout};

/// Most bytes of a mark.
const MAX_MARK: u64 = 64 << 10;

/// How often what is removed may be written to meanwhile, by what the try has left running.
const MAX_ROUNDS: usize = 100;

/// What became of a directory that was to be removed: in any case nothing of the buildset is in it any more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Removal {
    /// It is gone, or was.
    Gone,
    /// The directory itself stays, for this reason.
    Emptied(String),
    /// It doesn't belong to the buildset, for this reason, and was not touched.
    NotOurs(String),
}

/// What is read of a mark.
#[derive(Deserialize)]
struct Mark {
    buildset: BuildId,
}

/// Makes a directory, with those above it, unless it is there and empty; whether it was made.
pub(crate) fn make_empty(directory: &Path) -> Result<bool, Error> {
    let unusable = |reason: String| unusable(directory, reason);
    let made = directory.parent().map_or(Ok(()), std::fs::create_dir_all).and_then(|()| std::fs::create_dir(directory));
    match made {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            let opened = open(directory, DIRECTORY | OFlags::NOFOLLOW, Mode::empty());
            let opened = opened.map_err(|_| unusable("it is not a directory: choose another place".to_owned()))?;
            match names(&opened).map_err(|error| unusable(error.to_string()))?.first() {
                None => Ok(false),
                Some(name) => Err(unusable(format!(
                    "an overlay begins in an empty directory, and there is something in this one, as `{}`: choose \
                     another, or end the try that is there with `release buildset stop`",
                    name.to_string_lossy().escape_debug()
                ))),
            }
        }
        Err(error) => Err(unusable(error.to_string())),
    }
}

/// Removes a directory that bears the mark of a buildset. As soon as it bears that no more, it may be somebody else's.
pub(crate) fn remove(directory: &Path, id: &BuildId) -> Result<Removal, Error> {
    let opened = match open(directory, DIRECTORY | OFlags::NOFOLLOW, Mode::empty()) {
        Ok(opened) => opened,
        Err(Errno::NOENT) => return Ok(Removal::Gone),
        Err(error @ (Errno::NOTDIR | Errno::LOOP)) => {
            return Ok(Removal::NotOurs(format!("it is no directory of ours: {error}")));
        }
        Err(error) => return Err(unusable(directory, format!("it is not removed: {error}"))),
    };
    let stuck = |error: io::Error| unusable(directory, format!("it could not be removed: {error}"));
    for _ in 0..MAX_ROUNDS {
        if let Some(reason) = not_of(&opened, id).map_err(|error| {
            unusable(directory, format!("it is not removed, because its mark cannot be read: {error}"))
        })? {
            return Ok(Removal::NotOurs(reason));
        }
        match clear(&opened, layout::OVERLAY) {
            Err(error) if error.kind() != ErrorKind::DirectoryNotEmpty => return Err(stuck(error)),
            Ok(()) if names(&opened).map_err(stuck)?.len() <= 1 => return unmark(directory, &opened),
            Ok(()) | Err(_) => {}
        }
    }
    Err(stuck(ErrorKind::DirectoryNotEmpty.into()))
}

/// Removes the mark last of all, so that whoever is killed before leaves what can be found, and then what is empty.
fn unmark(directory: &Path, opened: &OwnedFd) -> Result<Removal, Error> {
    match unlinkat(opened, layout::OVERLAY, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => {}
        Err(error) => return Err(unusable(directory, format!("its mark could not be removed: {error}"))),
    }
    match std::fs::remove_dir(directory) {
        Err(error) if error.kind() != ErrorKind::NotFound => Ok(Removal::Emptied(error.to_string())),
        Ok(()) | Err(_) => Ok(Removal::Gone),
    }
}

/// Why a directory doesn't belong to a buildset; `None` if it does.
pub(super) fn not_of(opened: &OwnedFd, id: &BuildId) -> io::Result<Option<String>> {
    Ok(match mark(opened)? {
        Some(found) if found == *id => None,
        Some(found) => Some(format!("it belongs to the buildset `{found}` by now")),
        None => Some(format!("it has no file `{}` that says it is an overlay", layout::OVERLAY)),
    })
}

fn unusable(directory: &Path, reason: String) -> Error {
    Error::Unusable { url: format!("file://{}", directory.display()), reason }
}

/// The buildset of which a directory bears the mark.
fn mark(directory: &OwnedFd) -> io::Result<Option<BuildId>> {
    let file = match open_in(directory, layout::OVERLAY, OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK) {
        Ok(file) => File::from(file),
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut content = Vec::new();
    file.take(MAX_MARK).read_to_end(&mut content)?;
    let read: Mark = serde_json::from_slice(&content)?;
    Ok(Some(read.buildset))
}

/// Removes everything below a directory but one name in it. A symbolic link is removed itself, and leads nowhere. What is deeper
/// down is moved up first: however deep somebody has built, two directories are open at a time.
fn clear(root: &OwnedFd, but: &str) -> io::Result<()> {
    let moved = BuildId::random();
    let mut left = names(root)?;
    left.retain(|name| name.as_bytes() != but.as_bytes());
    let mut count = 0_u64;
    while let Some(name) = left.pop() {
        if !is_directory(root, &name)? {
            gone(unlinkat(root, &name, AtFlags::empty()))?;
            continue;
        }
        let below = rustix::fs::openat(root, &name, DIRECTORY | OFlags::NOFOLLOW, Mode::empty())?;
        for inner in names(&below)? {
            if !is_directory(&below, &inner)? {
                gone(unlinkat(&below, &inner, AtFlags::empty()))?;
            } else if unlinkat(&below, &inner, AtFlags::REMOVEDIR).is_err() {
                let to = CString::new(format!("{moved}-{count}"))?;
                count += 1;
                gone(renameat(&below, &inner, root, &to))?;
                left.push(to);
            }
        }
        gone(unlinkat(root, &name, AtFlags::REMOVEDIR))?;
    }
    Ok(())
}

fn is_directory(parent: &OwnedFd, name: &CStr) -> io::Result<bool> {
    match statat(parent, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(found) => Ok(FileType::from_raw_mode(found.st_mode) == FileType::Directory),
        Err(Errno::NOENT) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// That somebody else was faster is fine.
fn gone(removed: Result<(), Errno>) -> io::Result<()> {
    match removed {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// What is in a directory.
fn names(directory: &OwnedFd) -> io::Result<Vec<CString>> {
    let mut names = Vec::new();
    for entry in rustix::fs::Dir::read_from(directory)? {
        let entry = entry?;
        if !matches!(entry.file_name().to_bytes(), b"." | b"..") {
            names.push(entry.file_name().to_owned());
        }
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::symlink};

    use super::*;

    fn id() -> BuildId {
        "k3v9".parse().unwrap()
    }

    /// Why it is said not to be ours, and nothing of it is touched.
    #[track_caller]
    fn not_ours(directory: &Path) -> String {
        let before = fs::read_dir(directory).map(Iterator::count).ok();
        let Removal::NotOurs(reason) = remove(directory, &id()).unwrap() else { panic!("it was taken for ours") };
        assert_eq!(fs::read_dir(directory).map(Iterator::count).ok(), before);
        reason
    }

    fn write_mark(directory: &Path, id: &str) {
        fs::write(directory.join("push-overlay"), format!("{{\"buildset\":\"{id}\",\"later\":1}}")).unwrap();
    }

    #[test]
    fn only_what_bears_the_mark_is_removed_and_never_through_a_link() {
        let top = tempfile::tempdir().unwrap();
        let (overlay, theirs, link) =
            (top.path().join("a/overlay"), top.path().join("theirs"), top.path().join("link"));
        assert!(make_empty(&overlay).unwrap());
        assert!(!make_empty(&overlay).unwrap());
        fs::create_dir_all(theirs.join("below")).unwrap();
        fs::write(theirs.join("below/file"), "precious").unwrap();

        assert!(not_ours(&overlay).contains("no file `push-overlay`"), "an empty directory is nobody's");
        fs::write(overlay.join("file"), "").unwrap();
        assert!(not_ours(&overlay).contains("no file `push-overlay`"));
        let kept = make_empty(&overlay).unwrap_err().to_string();
        assert!(kept.contains("there is something in this one, as `file`"), "{kept}");
        write_mark(&overlay, "other");
        assert!(not_ours(&overlay).contains("belongs to the buildset `other`"));
        fs::write(overlay.join("push-overlay"), "{").unwrap();
        assert!(remove(&overlay, &id()).unwrap_err().to_string().contains("its mark cannot be read"));
        fs::remove_file(overlay.join("push-overlay")).unwrap();
        write_mark(&theirs, "k3v9");
        symlink(theirs.join("push-overlay"), overlay.join("push-overlay")).unwrap();
        remove(&overlay, &id()).unwrap_err();
        assert!(overlay.join("file").exists());

        fs::remove_file(overlay.join("push-overlay")).unwrap();
        write_mark(&overlay, "k3v9");
        fs::create_dir_all(overlay.join("debs/web/.push")).unwrap();
        symlink(&theirs, overlay.join("debs/theirs")).unwrap();
        symlink(&overlay, &link).unwrap();
        not_ours(&link);
        assert_eq!(remove(&overlay, &id()).unwrap(), Removal::Gone);
        assert!(!overlay.exists() && overlay.parent().unwrap().exists());
        assert_eq!(fs::read_to_string(theirs.join("below/file")).unwrap(), "precious");
        assert_eq!(remove(&overlay, &id()).unwrap(), Removal::Gone, "it is gone already");
        assert!(make_empty(&link).is_err(), "a link is no directory to begin in");
    }

    #[test]
    fn what_another_buildset_begins_once_the_mark_is_gone_is_its_own() {
        let top = tempfile::tempdir().unwrap();
        let overlay = top.path().join("overlay");
        fs::create_dir_all(overlay.join("debs/web")).unwrap();
        write_mark(&overlay, "k3v9");
        // Between the last look into it and its removal: what is called to be removed is theirs by then.
        let opened = open(&overlay, DIRECTORY, Mode::empty()).unwrap();
        clear(&opened, layout::OVERLAY).unwrap();
        fs::create_dir_all(overlay.join("debs/lib")).unwrap();
        assert!(matches!(unmark(&overlay, &opened).unwrap(), Removal::Emptied(_)));
        write_mark(&overlay, "other");
        assert!(not_ours(&overlay).contains("belongs to the buildset `other`"));
        assert!(overlay.join("debs/lib").exists());
    }

    #[test]
    fn a_directory_that_cannot_be_removed_itself_is_emptied_and_that_is_enough() {
        let top = tempfile::tempdir().unwrap();
        let (overlay, link) = (top.path().join("overlay"), top.path().join("link"));
        fs::create_dir_all(overlay.join("debs/web")).unwrap();
        write_mark(&overlay, "k3v9");
        // By this path nothing can be removed, as of a mount point.
        symlink(&overlay, &link).unwrap();
        let opened = open(&overlay, DIRECTORY, Mode::empty()).unwrap();
        clear(&opened, layout::OVERLAY).unwrap();
        assert!(matches!(unmark(&link, &opened).unwrap(), Removal::Emptied(_)));
        assert_eq!(fs::read_dir(&overlay).unwrap().count(), 0);
        not_ours(&overlay);
    }

    #[test]
    fn however_deep_somebody_has_built_all_of_it_is_removed() {
        let top = tempfile::tempdir().unwrap();
        let overlay = top.path().join("overlay");
        fs::create_dir(&overlay).unwrap();
        write_mark(&overlay, "k3v9");
        let mut inner = open(&overlay, DIRECTORY, Mode::empty()).unwrap();
        for _ in 0..3000 {
            rustix::fs::mkdirat(&inner, "a", Mode::from_raw_mode(0o755)).unwrap();
            inner = open_in(&inner, "a", DIRECTORY).unwrap();
        }
        let before = rustix::process::getrlimit(rustix::process::Resource::Nofile);
        let few = rustix::process::Rlimit { current: Some(1024), ..before };
        rustix::process::setrlimit(rustix::process::Resource::Nofile, few).unwrap();
        assert_eq!(remove(&overlay, &id()).unwrap(), Removal::Gone);
        assert!(!overlay.exists());
    }
}
