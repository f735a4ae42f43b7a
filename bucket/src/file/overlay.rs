//! Making and removing the directory of an overlay.

use std::{
    fs::File,
    io::{self, ErrorKind, Read as _},
    os::fd::OwnedFd,
    path::Path,
};

use rustix::{
    fs::{AtFlags, FileType, Mode, OFlags, open, statat, unlinkat},
    io::Errno,
};
use serde::Deserialize;

use super::beneath::{DIRECTORY, open_in};
use crate::{BuildId, Error, layout};

/// Most bytes of a mark.
const MAX_MARK: u64 = 64 << 10;

/// How often what is removed may be written to meanwhile, by what the try has left running.
const MAX_ROUNDS: usize = 100;

/// What is read of a mark.
#[derive(Deserialize)]
struct Mark {
    buildset: BuildId,
}

/// Makes a directory, with those above it, unless it is there and empty.
pub(crate) fn make_empty(directory: &Path) -> Result<(), Error> {
    let unusable = |reason: String| Error::Unusable { url: format!("file://{}", directory.display()), reason };
    let made = directory.parent().map_or(Ok(()), std::fs::create_dir_all).and_then(|()| std::fs::create_dir(directory));
    match made {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            let opened = open(directory, DIRECTORY | OFlags::NOFOLLOW, Mode::empty());
            let opened = opened.map_err(|_| unusable("it is not a directory: choose another place".to_owned()))?;
            match names(&opened).map_err(|error| unusable(error.to_string()))?.first() {
                None => Ok(()),
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

/// Removes a directory that bears the mark of a buildset; `false` when there is no such directory.
pub(crate) fn remove(directory: &Path, id: &BuildId) -> Result<bool, Error> {
    let unusable = |reason: String| Error::Unusable { url: format!("file://{}", directory.display()), reason };
    let opened = match open(directory, DIRECTORY | OFlags::NOFOLLOW, Mode::empty()) {
        Ok(opened) => opened,
        Err(Errno::NOENT) => return Ok(false),
        Err(error) => return Err(unusable(format!("it is not removed, because it is no directory of ours: {error}"))),
    };
    match mark(&opened) {
        Ok(Some(found)) if found == *id => {}
        Ok(Some(found)) => {
            return Err(unusable(format!("it is not removed: it belongs to the buildset `{found}` by now")));
        }
        // Whoever began was killed before the mark was there, or removing it was cut off after that.
        Ok(None) if names(&opened).is_ok_and(|names| names.is_empty()) => {}
        Ok(None) => {
            return Err(unusable(format!(
                "it is not removed, because it has no file `{}` that says it is an overlay",
                layout::OVERLAY
            )));
        }
        Err(error) => return Err(unusable(format!("it is not removed, because its mark cannot be read: {error}"))),
    }
    let mut removed = Ok(());
    for _ in 0..MAX_ROUNDS {
        removed = clear(&opened, Some(layout::OVERLAY)).and_then(|()| {
            // Last of all: until then whoever is killed leaves what can be found.
            match unlinkat(&opened, layout::OVERLAY, AtFlags::empty()) {
                Ok(()) | Err(Errno::NOENT) => std::fs::remove_dir(directory),
                Err(error) => Err(error.into()),
            }
        });
        if removed.as_ref().err().is_none_or(|error| error.kind() != ErrorKind::DirectoryNotEmpty) {
            break;
        }
    }
    removed.map(|()| true).map_err(|error| unusable(format!("it could not be removed: {error}")))
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

/// Removes everything below a directory but one name in it. A symbolic link is removed itself, and leads nowhere.
fn clear(directory: &OwnedFd, but: Option<&str>) -> io::Result<()> {
    for name in names(directory)?.iter().filter(|name| but.is_none_or(|but| name.as_bytes() != but.as_bytes())) {
        let removed = match statat(directory, name.as_c_str(), AtFlags::SYMLINK_NOFOLLOW) {
            Ok(found) if FileType::from_raw_mode(found.st_mode) == FileType::Directory => {
                let below = rustix::fs::openat(directory, name.as_c_str(), DIRECTORY | OFlags::NOFOLLOW, Mode::empty());
                clear(&below?, None)?;
                unlinkat(directory, name.as_c_str(), AtFlags::REMOVEDIR)
            }
            Ok(_) => unlinkat(directory, name.as_c_str(), AtFlags::empty()),
            Err(error) => Err(error),
        };
        match removed {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// What is in a directory.
fn names(directory: &OwnedFd) -> io::Result<Vec<std::ffi::CString>> {
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

    fn refused(result: Result<bool, Error>) -> String {
        result.unwrap_err().to_string()
    }

    #[test]
    fn only_what_bears_the_mark_is_removed_and_never_through_a_link() {
        let top = tempfile::tempdir().unwrap();
        let (overlay, theirs, link) =
            (top.path().join("a/overlay"), top.path().join("theirs"), top.path().join("link"));
        make_empty(&overlay).unwrap();
        make_empty(&overlay).unwrap();
        fs::create_dir_all(theirs.join("below")).unwrap();
        fs::write(theirs.join("below/file"), "precious").unwrap();

        fs::write(overlay.join("file"), "").unwrap();
        assert!(refused(remove(&overlay, &id())).contains("no file `push-overlay`"));
        let kept = make_empty(&overlay).unwrap_err().to_string();
        assert!(kept.contains("there is something in this one, as `file`"), "{kept}");
        fs::write(overlay.join("push-overlay"), "{\"buildset\":\"other\"}").unwrap();
        assert!(refused(remove(&overlay, &id())).contains("belongs to the buildset `other`"));
        fs::write(overlay.join("push-overlay"), "{").unwrap();
        assert!(refused(remove(&overlay, &id())).contains("its mark cannot be read"));
        fs::remove_file(overlay.join("push-overlay")).unwrap();
        fs::write(theirs.join("push-overlay"), "{\"buildset\":\"k3v9\"}").unwrap();
        symlink(theirs.join("push-overlay"), overlay.join("push-overlay")).unwrap();
        refused(remove(&overlay, &id()));
        assert!(overlay.join("file").exists());

        fs::remove_file(overlay.join("push-overlay")).unwrap();
        fs::write(overlay.join("push-overlay"), "{\"buildset\":\"k3v9\",\"later\":1}").unwrap();
        fs::create_dir_all(overlay.join("debs/web/.push")).unwrap();
        symlink(&theirs, overlay.join("debs/theirs")).unwrap();
        symlink(&overlay, &link).unwrap();
        refused(remove(&link, &id()));
        assert!(remove(&overlay, &id()).unwrap());
        assert!(!overlay.exists() && overlay.parent().unwrap().exists());
        assert_eq!(fs::read_to_string(theirs.join("below/file")).unwrap(), "precious");
        assert!(!remove(&overlay, &id()).unwrap(), "it is gone already");
        assert!(make_empty(&link).is_err(), "a link is no directory to begin in");
    }
}
