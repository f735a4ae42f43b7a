//! Verified `.deb`s on this machine's disk: what is installed, the rollback targets, and what comes next.
//!
//! A release lies at `{stem}/{sha256}.deb`: both facts are in the path, and no list can disagree with the files.
//! A file has its name only after it was verified and synced. Deleting the directory does no harm: what is needed is
//! downloaded again, by name.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    time::SystemTime,
};

use anyhow::{Context, Result};
use bucket::{AppName, Generation, ReleaseName, Sha256};

use crate::{
    failure::Fault,
    state::{checksum::hash_file, persist},
};

/// The cache below a directory.
#[derive(Debug, Clone)]
pub(crate) struct Cache {
    directory: PathBuf,
}

impl Cache {
    /// The cache in `directory`, which needn't exist yet.
    pub(crate) fn new(directory: PathBuf) -> Self {
        Self { directory }
    }

    /// Its directory, created if it does not exist.
    pub(crate) fn directory(&self) -> Result<&Path> {
        persist::create_directory(&self.directory)?;
        Ok(&self.directory)
    }

    /// The file of a release, if it is there and still has the checksum it was verified with. Otherwise it is deleted.
    pub(crate) async fn find(&self, release: &ReleaseName) -> Result<Option<PathBuf>> {
        let Some((path, sha256)) = self.file_of(release) else { return Ok(None) };
        let file = path.clone();
        let actual = tokio::task::spawn_blocking(move || hash_file(&file)).await??;
        if actual == sha256 {
            // The age of use decides what is cleared first.
            let file = fs::File::open(&path)?;
            let _ = file.set_modified(SystemTime::now());
            return Ok(Some(path));
        }
        tracing::warn!(release = %release.stem(), "deleting cached `{}`: checksum mismatch", release.stem());
        persist::remove(&path)?;
        Ok(None)
    }

    /// All releases whose file is there, as far as the names say, newest first; none if the cache can't be read.
    pub(crate) fn releases(&self) -> Vec<ReleaseName> {
        let entries = fs::read_dir(&self.directory).into_iter().flatten();
        let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        let releases = names.filter_map(|stem| ReleaseName::from_stem(&stem).ok());
        let mut releases: Vec<ReleaseName> = releases.filter(|release| self.file_of(release).is_some()).collect();
        releases.sort_by(|a, b| b.cmp(a));
        releases
    }

    /// The releases of an app whose file is there, as far as the names say.
    pub(crate) fn releases_of(&self, app: &AppName) -> Result<Vec<ReleaseName>> {
        let entries = match fs::read_dir(&self.directory) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(vec![]),
            Err(error) => return Err(error).with_context(|| format!("could not read `{}`", self.directory.display())),
        };
        let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        let releases = names.filter_map(|stem| ReleaseName::from_stem(&stem).ok());
        let mut releases: Vec<ReleaseName> =
            releases.filter(|release| release.app() == app && self.file_of(release).is_some()).collect();
        releases.sort();
        Ok(releases)
    }

    /// Where the file of a release goes once it is verified.
    pub(crate) fn place(&self, release: &ReleaseName, sha256: &Sha256) -> PathBuf {
        self.of(release).join(format!("{sha256}.deb"))
    }

    /// Where the bytes of a release are gathered; another generation's are never added to.
    pub(crate) fn part(&self, release: &ReleaseName, sha256: &Sha256, generation: Generation) -> PathBuf {
        self.of(release).join(format!("{sha256}.{generation}.part"))
    }

    /// Whether a download of a release was begun and not ended.
    pub(crate) fn has_part(&self, release: &ReleaseName) -> bool {
        let entries = fs::read_dir(self.of(release)).into_iter().flatten().flatten();
        entries.map(|entry| entry.path()).any(|path| path.extension().is_some_and(|extension| extension == "part"))
    }

    /// Deletes what is not needed: leftovers of interrupted downloads, and of each app all but the `keep` releases used
    /// last. What `needed` names stays in any case.
    pub(crate) fn clear(&self, keep: usize, needed: &[ReleaseName]) -> Result<()> {
        let mut releases: Vec<(AppName, SystemTime, PathBuf)> = Vec::new();
        let entries = match fs::read_dir(&self.directory) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error).with_context(|| format!("could not read `{}`", self.directory.display())),
        };
        for path in entries.filter_map(|entry| Some(entry.ok()?.path())) {
            let stem = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            let Ok(release) = ReleaseName::from_stem(stem) else {
                tracing::debug!(path = %path.display(), "ignoring a file that is not pulld's");
                continue;
            };
            if needed.contains(&release) {
                continue;
            }
            match self.file_of(&release) {
                Some((file, _)) => {
                    let used = fs::metadata(&file).and_then(|file| file.modified()).unwrap_or(SystemTime::UNIX_EPOCH);
                    releases.push((release.app().clone(), used, path));
                }
                None => remove_all(&path)?,
            }
        }
        // Newest first within an app; those that are needed count too.
        releases.sort_by(|a, b| (&a.0, b.1).cmp(&(&b.0, a.1)));
        // One that is installed and asked for is still one.
        let needed: BTreeSet<&ReleaseName> = needed.iter().collect();
        let mut app: Option<&AppName> = None;
        let mut kept = 0;
        for (of, _, path) in &releases {
            if app != Some(of) {
                app = Some(of);
                kept = needed.iter().filter(|release| release.app() == of).count();
            }
            if kept < keep {
                kept += 1;
            } else {
                remove_all(path)?;
            }
        }
        Ok(())
    }

    fn of(&self, release: &ReleaseName) -> PathBuf {
        self.directory.join(release.stem())
    }

    fn file_of(&self, release: &ReleaseName) -> Option<(PathBuf, Sha256)> {
        fs::read_dir(self.of(release)).ok()?.find_map(|entry| {
            let path = entry.ok()?.path();
            let sha256 = path.file_name()?.to_str()?.strip_suffix(".deb")?.parse().ok()?;
            Some((path, sha256))
        })
    }
}

/// Makes sure `needed` bytes can be written below `directory`, and some remain.
pub(crate) fn ensure_space(directory: &Path, needed: u64) -> Result<(), Fault> {
    const RESERVE: u64 = 32 << 20;
    let stat = rustix::fs::statvfs(directory)
        .with_context(|| format!("could not query the free space of `{}`", directory.display()))
        .map_err(|error| Fault::machines(&error))?;
    let free = stat.f_bavail.saturating_mul(stat.f_frsize);
    if free >= needed.saturating_add(RESERVE) {
        return Ok(());
    }
    Err(Fault::NoSpace { directory: directory.to_owned(), needed, reserve: RESERVE, free })
}

fn remove_all(directory: &Path) -> Result<()> {
    between_fail_points!(fs::remove_dir_all(directory), "cache.clear")
        .with_context(|| format!("could not clear `{}`", directory.display()))
}

#[cfg(test)]
mod tests {
    use sha2::Digest;

    use super::*;
    use crate::machine::fake::release;

    fn put(cache: &Cache, release: &ReleaseName, age: u64) {
        let path = cache.place(release, &Sha256::from(<[u8; 32]>::from(sha2::Sha256::digest(b"deb"))));
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, b"deb").unwrap();
        let used = SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000 - age);
        fs::File::open(&path).unwrap().set_modified(used).unwrap();
    }

    #[tokio::test]
    async fn a_rotten_file_is_not_found() {
        let directory = tempfile::tempdir().unwrap();
        let cache = Cache::new(directory.path().join("cache"));
        let web = release("web", 1);
        assert_eq!(cache.find(&web).await.unwrap(), None);
        put(&cache, &web, 0);
        let path = cache.find(&web).await.unwrap().unwrap();
        fs::write(&path, b"rot").unwrap();
        assert_eq!(cache.find(&web).await.unwrap(), None);
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn clearing_keeps_what_was_used_last_and_what_is_needed() {
        let directory = tempfile::tempdir().unwrap();
        let cache = Cache::new(directory.path().join("cache"));
        for minute in 0..5 {
            put(&cache, &release("web", minute), u64::from(minute));
        }
        fs::create_dir_all(cache.of(&release("db", 1))).unwrap();
        fs::write(cache.part(&release("db", 1), &Sha256::from([0; 32]), Generation(1)), b"half").unwrap();
        cache.clear(3, &[release("web", 4), release("web", 4)]).unwrap();
        let mut left = Vec::new();
        for minute in 0..5 {
            if cache.find(&release("web", minute)).await.unwrap().is_some() {
                left.push(minute);
            }
        }
        assert_eq!(left, [0, 1, 4]);
        let web = |minute| release("web", minute);
        assert_eq!(cache.releases_of(web(0).app()).unwrap(), [web(0), web(1), web(4)]);
        assert!(!cache.of(&release("db", 1)).exists());
    }
}
