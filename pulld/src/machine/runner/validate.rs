//! What a dpkg request may name. The runner is root's, and reads the request from a file.

use std::{
    collections::BTreeMap,
    io::BufRead,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, ensure};
use bucket::Sha256;

use crate::state::checksum::hash_file;

use super::super::{dpkg::stamp::FileStamp, dpkg_request::DpkgRequest};

/// Most bytes of names of files that are read.
const MAX_NAMES: u64 = 1 << 20;

/// Makes sure that a request names verified packages by path and others by name: nothing that could be another file or
/// an option.
pub(super) fn validate(request: &DpkgRequest, cache: &Path) -> Result<()> {
    for deb in request.debs() {
        ensure!(is_plain_file_below(deb, cache), "`{}` is not a file of the cache", deb.display());
    }
    for package in &request.remove {
        let good = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "+-.".contains(c);
        let begins = package.starts_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit());
        ensure!(begins && package.chars().all(good), "`{}` is not a package name", package.escape_debug());
    }
    Ok(())
}

/// The checksums of files that were read before there was a request, each with how the file was before it was read.
#[derive(Debug, Default)]
pub(super) struct Foreseen(BTreeMap<PathBuf, (FileStamp, Sha256)>);

impl Foreseen {
    /// Reads each file of the cache that `input` names, one in a line, until that ends.
    pub(super) fn until_end(input: impl BufRead, cache: &Path) -> std::io::Result<Self> {
        let mut foreseen = BTreeMap::new();
        for line in input.take(MAX_NAMES).lines() {
            let deb = PathBuf::from(line?);
            if !is_plain_file_below(&deb, cache) {
                continue;
            }
            // Before it is read: whoever writes meanwhile makes the next stamp another one.
            if let (Some(stamp), Ok(sha256)) = (FileStamp::of(&deb), hash_file(&deb)) {
                foreseen.insert(deb, (stamp, sha256));
            }
        }
        Ok(Self(foreseen))
    }

    /// The SHA-256 of a file: that which it had, unless it was touched since.
    fn hash(&self, deb: &Path) -> Result<Sha256> {
        match self.0.get(deb) {
            Some((stamp, sha256)) if FileStamp::of(deb).as_ref() == Some(stamp) => Ok(sha256.clone()),
            _ => hash_file(deb),
        }
    }
}

/// Makes sure that each package of a request is what was verified when it came from the bucket, which its name says: days
/// and a power cut may lie between, when a request is resumed.
pub(super) fn ensure_verified(request: &DpkgRequest, foreseen: &Foreseen) -> Result<()> {
    for deb in request.debs() {
        let name = deb.file_stem().and_then(|name| name.to_str()).unwrap_or_default();
        let verified: Sha256 = name.parse().with_context(|| format!("`{}` has no checksum", deb.display()))?;
        let actual = foreseen.hash(deb)?;
        ensure!(
            actual == verified,
            "dpkg was not run: `{}` is another file than was verified, with the sha256 `{actual}`; the release is \
             downloaded again",
            deb.display()
        );
    }
    Ok(())
}

/// Whether a path is a plain file below a directory, reached through no link and no `..`.
fn is_plain_file_below(path: &Path, directory: &Path) -> bool {
    let (Ok(real), Ok(root)) = (path.canonicalize(), directory.canonicalize()) else { return false };
    let below = path.strip_prefix(directory).is_ok_and(|below| root.join(below) == real);
    below && real.symlink_metadata().is_ok_and(|found| found.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_files_of_the_cache_may_be_installed() {
        let directory = tempfile::tempdir().unwrap();
        let cache = directory.path().join("cache");
        std::fs::create_dir_all(cache.join("web")).unwrap();
        std::fs::write(cache.join("web/a.deb"), "").unwrap();
        std::fs::write(directory.path().join("b.deb"), "").unwrap();
        std::os::unix::fs::symlink(directory.path().join("b.deb"), cache.join("web/link.deb")).unwrap();
        assert!(is_plain_file_below(&cache.join("web/a.deb"), &cache));
        for other in ["web", "web/none.deb", "web/link.deb", "../b.deb", "web/../../b.deb"] {
            assert!(!is_plain_file_below(&cache.join(other), &cache), "{other}");
        }
        assert!(!is_plain_file_below(Path::new("web/a.deb"), &cache));
    }

    #[test]
    fn a_file_that_changed_since_it_was_verified_is_not_installed() {
        let directory = tempfile::tempdir().unwrap();
        let empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        let deb = directory.path().join(format!("{empty}.deb"));
        let timeout = std::time::Duration::ZERO;
        let request = DpkgRequest { install: vec![deb.clone()], timeout, ..DpkgRequest::default() };
        std::fs::write(&deb, "").unwrap();
        ensure_verified(&request, &Foreseen::default()).unwrap();
        std::fs::write(&deb, "other").unwrap();
        let refused = ensure_verified(&request, &Foreseen::default()).unwrap_err().to_string();
        assert!(refused.contains("dpkg was not run") && refused.contains(empty), "{refused}");
        let unnamed = DpkgRequest { install: vec![directory.path().join("web.deb")], ..request };
        assert!(ensure_verified(&unnamed, &Foreseen::default()).is_err());
    }

    #[test]
    fn what_was_read_before_the_request_counts_unless_it_was_touched_since() {
        let directory = tempfile::tempdir().unwrap();
        let cache = directory.path().join("cache");
        std::fs::create_dir(&cache).unwrap();
        let deb = cache.join("e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855.deb");
        std::fs::write(&deb, "").unwrap();
        let elsewhere = directory.path().join("b.deb");
        std::fs::write(&elsewhere, "").unwrap();
        let names = format!("{}\n{}\nno file\n", deb.display(), elsewhere.display());
        let foreseen = Foreseen::until_end(names.as_bytes(), &cache).unwrap();
        assert_eq!(foreseen.0.keys().collect::<Vec<_>>(), [&deb]);
        let timeout = std::time::Duration::ZERO;
        let request = DpkgRequest { install: vec![deb.clone()], timeout, ..DpkgRequest::default() };
        ensure_verified(&request, &foreseen).unwrap();
        // Of the same size.
        let other = cache.join("other");
        std::fs::write(&other, "").unwrap();
        std::fs::rename(&other, &deb).unwrap();
        assert_ne!(FileStamp::of(&deb).as_ref(), foreseen.0.get(&deb).map(|(stamp, _)| stamp));
        std::fs::write(&deb, "other").unwrap();
        assert!(ensure_verified(&request, &foreseen).is_err());
    }
}
