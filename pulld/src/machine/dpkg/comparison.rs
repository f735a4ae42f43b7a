//! The files of packages compared with what was shipped, as they were last compared.
//!
//! dpkg reads every byte for that. Whoever asks often gets the last answer again for as long as no file of the package was
//! touched, which takes a look at each of them and reads none.

use std::{
    cell::RefCell,
    collections::{BTreeMap, hash_map::DefaultHasher},
    fs,
    hash::{Hash, Hasher},
    path::{Path, PathBuf},
};

use anyhow::Result;

use super::{database::file_lists, parse::parse_verify, query::run, stamp::FileStamp};
use crate::machine::package_manager::Compare;

/// The packages whose files were compared, each with what its files were like then, and what differed.
#[derive(Debug)]
pub(super) struct Comparisons {
    /// Where dpkg's database is.
    database: PathBuf,
    last: RefCell<BTreeMap<String, (u64, Vec<String>)>>,
}

impl Comparisons {
    /// None yet, of the packages of dpkg's database in that directory.
    pub(super) fn new(database: &Path) -> Self {
        Self { database: database.to_owned(), last: RefCell::default() }
    }

    /// What differs of a package's files.
    pub(super) async fn changed_files(&self, package: &str, compare: Compare) -> Result<Vec<String>> {
        // Before they are read: whoever touches one meanwhile makes the next fingerprint another one.
        let fingerprint = self.fingerprint(package).await;
        let last = self.last.borrow().get(package).cloned();
        if let (Compare::Touched, Some(now), Some((then, changed))) = (compare, fingerprint, last)
            && now == then
        {
            return Ok(changed);
        }
        let changed = match compare {
            Compare::Unpacked => vec![],
            // dpkg(1): it exits with 1 when something differs, which is what is queried, and with 2 when it can't say.
            Compare::All | Compare::Touched => {
                let verified = run("dpkg", &["--verify", "--", package]).await?;
                parse_verify(&verified.of_status("dpkg --verify", &[0, 1])?)
            }
        };
        let mut last = self.last.borrow_mut();
        last.remove(package);
        last.extend(fingerprint.map(|fingerprint| (package.to_owned(), (fingerprint, changed.clone()))));
        Ok(changed)
    }

    /// Of all that dpkg lists of a package; `None` when it has no list by that name.
    async fn fingerprint(&self, package: &str) -> Option<u64> {
        let lists = file_lists(&self.database, package);
        tokio::task::spawn_blocking(move || {
            let mut hasher = DefaultHasher::new();
            for list in &lists {
                FileStamp::of(list).hash(&mut hasher);
                FileStamp::of(&list.with_extension("md5sums")).hash(&mut hasher);
                for path in fs::read_to_string(list).ok()?.lines() {
                    FileStamp::of_link(Path::new(path)).hash(&mut hasher);
                }
            }
            (!lists.is_empty()).then(|| hasher.finish())
        })
        .await
        .ok()?
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_was_just_unpacked_is_not_read_until_it_is_touched() {
        let directory = tempfile::tempdir().unwrap();
        let (database, file) = (directory.path().join("dpkg"), directory.path().join("served"));
        fs::create_dir_all(database.join("info")).unwrap();
        // dpkg has no package of that name, and nothing to say of it.
        fs::write(database.join("info/no-such-package.list"), format!("{}\n", file.display())).unwrap();
        fs::write(&file, "a").unwrap();
        let comparisons = Comparisons::new(&database);
        let changed = async |compare| comparisons.changed_files("no-such-package", compare).await.unwrap();
        assert_eq!(changed(Compare::Unpacked).await, [""; 0]);
        // What dpkg would not say shows whether it was asked.
        let known = vec!["known".to_owned()];
        comparisons.last.borrow_mut().get_mut("no-such-package").unwrap().1.clone_from(&known);
        assert_eq!(changed(Compare::Touched).await, known);
        fs::write(&file, "bb").unwrap();
        assert_eq!(changed(Compare::Touched).await, [""; 0]);
    }

    #[tokio::test]
    async fn whoever_touches_a_file_of_a_package_changes_its_fingerprint() {
        let directory = tempfile::tempdir().unwrap();
        let (database, file) = (directory.path().join("dpkg"), directory.path().join("served"));
        fs::create_dir_all(database.join("info")).unwrap();
        fs::write(database.join("info/web.list"), format!("{}\n/no/such/file\n", file.display())).unwrap();
        fs::write(&file, "a").unwrap();
        let comparisons = Comparisons::new(&database);
        let mut seen = vec![comparisons.fingerprint("web").await.unwrap()];
        assert_eq!(comparisons.fingerprint("web").await, Some(seen[0]));
        let mut now = async |what: &str| {
            let fingerprint = comparisons.fingerprint("web").await.unwrap();
            assert!(!seen.contains(&fingerprint), "{what}");
            seen.push(fingerprint);
        };
        let times = fs::metadata(&file).unwrap();
        fs::write(&file, "b").unwrap();
        let opened = fs::File::options().write(true).open(&file).unwrap();
        opened.set_modified(times.modified().unwrap()).unwrap();
        now("other bytes with the old time").await;
        fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
        now("another mode").await;
        fs::remove_file(&file).unwrap();
        now("gone").await;
        fs::write(database.join("info/web.md5sums"), "").unwrap();
        now("another package").await;
        assert_eq!(comparisons.fingerprint("db").await, None);
    }
}
