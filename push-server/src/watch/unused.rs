//! Mirrors that nobody uses any more: beside each lies a mark that names its repository, and whose time is that of the last use.
//!
//! Several watchers with other channels may use one directory: none knows which repositories the others fetch, but each touches its
//! marks in every round.

use std::{
    fs::{self, OpenOptions},
    io::{self, Read as _, Seek as _, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
    time::{Duration, SystemTime},
};

use rustix::fs::OFlags;
use tokio::time::Instant;

use super::upkeep::Lock;

/// What the name of a mark ends with; that of the mirror ends with `git`, or `new` before it is complete.
const MARK: &str = "used";

/// Most bytes that a mark has.
const MAX_MARK: u64 = 4 << 10;

/// Marks a mirror as ours and in use. Only for who has its [`Lock`].
pub(super) fn note_use(mirror: &Path, repo: &str) -> io::Result<()> {
    let nofollow = i32::try_from(OFlags::NOFOLLOW.bits()).expect("flags are as in C");
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false).mode(0o600).custom_flags(nofollow);
    let mut mark = options.open(mirror.with_extension(MARK))?;
    let mut known = Vec::new();
    (&mark).take(MAX_MARK).read_to_end(&mut known)?;
    if known != repo.as_bytes() {
        mark.set_len(0)?;
        mark.rewind()?;
        mark.write_all(repo.as_bytes())?;
    }
    mark.set_modified(SystemTime::now())
}

/// Removes the mirrors below a directory that nobody has used for so long, and gives their repositories. `name_of` says what the mirror
/// of a repository is called: what is called otherwise is not ours.
pub(super) async fn remove_unused(
    directory: &Path,
    unused: Duration,
    name_of: impl Fn(&str) -> Option<String>,
) -> io::Result<Vec<String>> {
    let mut removed = Vec::new();
    let entries = match fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(removed),
        entries => entries?,
    };
    for entry in entries {
        let mark = entry?.path();
        if mark.extension().is_none_or(|extension| extension != MARK) || !is_unused(&mark, unused)? {
            continue;
        }
        let repo = fs::read_to_string(&mark)?;
        if mark.file_stem().and_then(|stem| stem.to_str()) != name_of(&repo).as_deref() {
            continue;
        }
        // Who has it is fetching, and who has had it may have begun to use the mirror again.
        let Ok(_lock) = Lock::take(&mark.with_extension("lock"), Instant::now()).await else { continue };
        let parts = ["git", "new"].map(|extension| mark.with_extension(extension));
        if !is_unused(&mark, unused)? || parts.iter().any(|part| part.symlink_metadata().is_ok_and(|it| !it.is_dir())) {
            continue;
        }
        for part in &parts {
            match tokio::fs::remove_dir_all(part).await {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        // Last, so that whoever is killed leaves what says that the rest is ours. The lock stays: who waits for it would have another
        // one than who comes after them.
        fs::remove_file(&mark)?;
        removed.push(repo);
    }
    Ok(removed)
}

/// Whether a mark, which is no link, says that nobody has used its mirror for so long.
fn is_unused(mark: &Path, unused: Duration) -> io::Result<bool> {
    let found = match mark.symlink_metadata() {
        // Another watcher has removed it.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        found => found?,
    };
    // Of a clock that was wrong nothing is known.
    let is_old = found.modified()?.elapsed().is_ok_and(|age| age >= unused);
    Ok(found.is_file() && found.len() <= MAX_MARK && is_old)
}

#[cfg(test)]
mod tests {
    use std::{fs::File, os::unix::fs::symlink};

    use super::*;

    const DAY: Duration = Duration::from_hours(24);

    fn name_of(repo: &str) -> Option<String> {
        repo.strip_prefix("https://").map(|host| format!("{host}-1"))
    }

    /// A mirror with its mark, as if it had been used that long ago.
    fn mirror(directory: &Path, name: &str, repo: &str, age: Duration) {
        let mirror = directory.join(format!("{name}.git"));
        fs::create_dir_all(mirror.join("objects")).unwrap();
        note_use(&mirror, repo).unwrap();
        let mark = File::options().write(true).open(mirror.with_extension(MARK)).unwrap();
        mark.set_modified(SystemTime::now() - age).unwrap();
    }

    /// All but locks.
    fn names(directory: &Path) -> Vec<String> {
        let paths = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
        let paths = paths.filter(|path| path.extension().is_none_or(|extension| extension != "lock"));
        let mut names: Vec<String> = paths.map(|path| path.file_name().unwrap().to_str().unwrap().to_owned()).collect();
        names.sort();
        names
    }

    #[tokio::test]
    async fn only_what_is_ours_and_nobody_has_used_for_long_is_removed() {
        let (directory, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let at = directory.path();
        mirror(at, "old-1", "https://old", 2 * DAY);
        mirror(at, "new-1", "https://new", Duration::ZERO);
        // Of another name than its mark says, and without any mark.
        mirror(at, "foreign-1", "https://other", 2 * DAY);
        mirror(at, "unmarked-1", "https://unmarked", 2 * DAY);
        fs::remove_file(at.join("unmarked-1.used")).unwrap();
        // Links lead elsewhere.
        mirror(elsewhere.path(), "linked-1", "https://linked", 2 * DAY);
        for part in ["git", "used"] {
            symlink(elsewhere.path().join(format!("linked-1.{part}")), at.join(format!("linked-1.{part}"))).unwrap();
        }
        mirror(at, "half-1", "https://half", 2 * DAY);
        fs::rename(at.join("half-1.git"), elsewhere.path().join("half-1.git")).unwrap();
        symlink(elsewhere.path().join("half-1.git"), at.join("half-1.git")).unwrap();
        let kept: Vec<String> = names(at).into_iter().filter(|name| !name.starts_with("old-1")).collect();
        assert_eq!(remove_unused(at, DAY, name_of).await.unwrap(), ["https://old"]);
        assert_eq!(names(at), kept);
        assert_eq!(names(elsewhere.path()), ["half-1.git", "linked-1.git", "linked-1.used"]);
        assert!(elsewhere.path().join("half-1.git/objects").exists());
        assert_eq!(remove_unused(&at.join("nowhere"), DAY, name_of).await.unwrap(), Vec::<String>::new());
    }

    #[tokio::test]
    async fn what_somebody_fetches_stays_and_a_use_counts_from_then() {
        let directory = tempfile::tempdir().unwrap();
        let at = directory.path();
        mirror(at, "old-1", "https://old", 2 * DAY);
        let lock = Lock::take(&at.join("old-1.lock"), Instant::now()).await.unwrap();
        assert_eq!(remove_unused(at, DAY, name_of).await.unwrap(), Vec::<String>::new());
        note_use(&at.join("old-1.git"), "https://old").unwrap();
        drop(lock);
        assert_eq!(remove_unused(at, DAY, name_of).await.unwrap(), Vec::<String>::new());
        assert_eq!(fs::read_to_string(at.join("old-1.used")).unwrap(), "https://old");
        // A mark never leads elsewhere.
        fs::write(at.join("precious"), "as it was").unwrap();
        fs::remove_file(at.join("old-1.used")).unwrap();
        symlink(at.join("precious"), at.join("old-1.used")).unwrap();
        note_use(&at.join("old-1.git"), "https://old").unwrap_err();
        assert_eq!(fs::read_to_string(at.join("precious")).unwrap(), "as it was");
    }
}
