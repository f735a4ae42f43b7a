//! dpkg's database as it was last read, kept for as long as its files are the same.
//!
//! Reading it is a process that parses every package of the machine, and a cycle asks several times; an agent that has
//! nothing to do should start none. dpkg stays the truth: what is kept is only used while the files that dpkg-query(1)
//! would read are those that it has read.

use std::{
    cell::RefCell,
    fs,
    path::{Path, PathBuf},
    rc::Rc,
};

use anyhow::Result;
use bucket::ReleaseFields;

use super::{
    parse::{FIELD, RECORD},
    query::query,
    stamp::FileStamp,
};

/// Where dpkg keeps it (dpkg(1), `--admindir`).
pub(in crate::machine) const DIRECTORY: &str = "/var/lib/dpkg";

/// The fields of a record that [`super::parse`] reads, in its order.
const FIELDS: [&str; 6] =
    ["Package", "Version", "db:Status-Abbrev", "Provides", ReleaseFields::RELEASE, ReleaseFields::UNITS];

/// dpkg's database.
#[derive(Debug)]
pub(super) struct Database {
    directory: PathBuf,
    read: RefCell<Option<(Stamp, Rc<str>)>>,
}

/// What tells whether dpkg has written since: `None` for a file that isn't there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::machine) struct Stamp([Option<FileStamp>; 3]);

impl Database {
    pub(super) fn new(directory: impl Into<PathBuf>) -> Self {
        Self { directory: directory.into(), read: RefCell::new(None) }
    }

    /// Every package that dpkg knows, a record each.
    pub(super) async fn listing(&self) -> Result<Rc<str>> {
        // Before it is read: what dpkg writes meanwhile makes the next stamp another one.
        let stamp = Stamp::of(&self.directory);
        let read = self.read.borrow().clone();
        if let (Some(stamp), Some((as_read, listing))) = (&stamp, read)
            && *stamp == as_read
        {
            return Ok(listing);
        }
        let admindir = format!("--admindir={}", self.directory.display());
        let format = FIELDS.map(|field| format!("${{{field}}}")).join(&FIELD.to_string());
        let listing: Rc<str> =
            query("dpkg-query", &[&admindir, "-W", "-f", &format!("{format}{RECORD}")]).await?.into();
        *self.read.borrow_mut() = stamp.map(|stamp| (stamp, listing.clone()));
        Ok(listing)
    }
}

impl Stamp {
    /// Of the database in that directory; `None` while dpkg is at work, or was interrupted: its journal has what its
    /// main file doesn't yet.
    pub(in crate::machine) fn of(directory: &Path) -> Option<Self> {
        if fs::read_dir(directory.join("updates")).ok()?.next().is_some() {
            return None;
        }
        let stamp = Self(["status", "updates", "triggers/Unincorp"].map(|name| FileStamp::of(&directory.join(name))));
        stamp.0[0].is_some().then_some(stamp)
    }
}

/// dpkg's lists of the files of a package: one, unless it is there for several architectures (dpkg(1), `info`).
pub(in crate::machine) fn file_lists(database: &Path, package: &str) -> Vec<PathBuf> {
    let directory = database.join("info");
    let plain = directory.join(format!("{package}.list"));
    if plain.exists() {
        return vec![plain];
    }
    let qualified = format!("{package}:");
    let is_of_package = |path: &PathBuf| {
        let name = path.file_stem().and_then(|name| name.to_str()).unwrap_or_default();
        name.starts_with(&qualified) && path.extension().is_some_and(|extension| extension == "list")
    };
    let entries = fs::read_dir(&directory).into_iter().flatten();
    let mut lists: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).filter(is_of_package).collect();
    lists.sort();
    lists
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A directory as dpkg keeps it, that knows one package in this state.
    fn database(status: &str) -> (tempfile::TempDir, Database) {
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir(directory.path().join("updates")).unwrap();
        write(directory.path(), "status", status);
        let database = Database::new(directory.path());
        (directory, database)
    }

    /// As dpkg writes: a new file in place of the old.
    fn write(directory: &Path, name: &str, status: &str) {
        let package = format!(
            "Package: web\nStatus: {status}\nMaintainer: A <a@example.com>\nRchitecture: all\nVersion: 1\nDescription: x\n\n"
        );
        fs::write(directory.join("new"), package).unwrap();
        fs::rename(directory.join("new"), directory.join(name)).unwrap();
    }

    #[tokio::test]
    async fn it_is_read_again_when_dpkg_has_written_and_only_then() {
        let (directory, database) = database("install ok installed");
        let first = database.listing().await.unwrap();
        assert!(first.contains("ii "), "{first}");
        assert!(Rc::ptr_eq(&first, &database.listing().await.unwrap()));
        write(directory.path(), "status", "hold ok installed");
        let second = database.listing().await.unwrap();
        assert!(second.contains("hi "), "{second}");
        assert!(Rc::ptr_eq(&second, &database.listing().await.unwrap()));
    }

    #[tokio::test]
    async fn while_dpkg_is_at_work_nothing_is_kept() {
        let (directory, database) = database("install ok installed");
        database.listing().await.unwrap();
        write(directory.path(), "updates/0000", "install ok half-configured");
        let during = database.listing().await.unwrap();
        assert!(during.contains("iF "), "{during}");
        assert!(!Rc::ptr_eq(&during, &database.listing().await.unwrap()));
        fs::remove_file(directory.path().join("updates/0000")).unwrap();
        assert!(database.listing().await.unwrap().contains("ii "));
    }

    #[test]
    fn a_package_of_several_architectures_has_a_list_for_each() {
        let directory = tempfile::tempdir().unwrap();
        let info = directory.path().join("info");
        fs::create_dir(&info).unwrap();
        for name in ["web.list", "web.md5sums", "libc6:i386.list", "libc6:amd64.list", "libc6:amd64.md5sums"] {
            fs::write(info.join(name), "").unwrap();
        }
        assert_eq!(file_lists(directory.path(), "web"), [info.join("web.list")]);
        assert_eq!(
            file_lists(directory.path(), "libc6"),
            ["libc6:amd64.list", "libc6:i386.list"].map(|name| info.join(name))
        );
        assert!(file_lists(directory.path(), "lib").is_empty());
    }
}
