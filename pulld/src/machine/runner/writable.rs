//! Whether dpkg can write where a request makes it write. A read-only file system that it meets in the middle leaves a
//! package half-installed, and isn't the release's fault.
//!
//! Looked at by the runner: the agent's own view of the file systems is read-only for its protection.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use rustix::fs::StatVfsMountFlags;

use super::super::{deb, dpkg::database, dpkg_request::DpkgRequest};

/// Makes sure that no file system is read-only in which packages of the request have files, or dpkg its database.
pub(super) fn ensure_writable(request: &DpkgRequest) -> Result<()> {
    let directory = Path::new(database::DIRECTORY);
    ensure_each_writable([directory.to_owned()], "dpkg's database is", is_read_only)?;
    for deb in request.debs() {
        // What the package says of its files was verified with it. One that doesn't list them is left to dpkg.
        let directories = deb::directories(deb).unwrap_or_default();
        ensure_each_writable(directories, "the package has files", is_read_only)?;
    }
    for package in &request.remove {
        let lists = database::file_lists(directory, package);
        let files: String = lists.iter().filter_map(|list| std::fs::read_to_string(list).ok()).collect();
        let directories = files.lines().filter_map(|file| Some(Path::new(file).parent()?.to_owned()));
        ensure_each_writable(directories, "the package has files", is_read_only)?;
    }
    Ok(())
}

fn ensure_each_writable(
    directories: impl IntoIterator<Item = PathBuf>,
    what: &str,
    is_read_only: impl Fn(&Path) -> Result<bool>,
) -> Result<()> {
    let mut last = None;
    for directory in directories {
        // dpkg makes those that don't exist.
        let existing = directory.ancestors().find(|directory| directory.exists()).unwrap_or(Path::new("/")).to_owned();
        if last.as_ref() == Some(&existing) {
            continue;
        }
        let is_here = is_read_only(&existing)?;
        // For people: where it begins, which is where it is mounted unless what is above is read-only too.
        let from = existing.ancestors().take_while(|above| is_read_only(above).unwrap_or(false)).last();
        let from = from.unwrap_or(&existing).display().to_string();
        ensure!(
            !is_here,
            "dpkg was not run: `{from}` is a read-only file system, where {what}; `mount -o remount,rw {from}` makes it \
             writable"
        );
        last = Some(existing);
    }
    Ok(())
}

fn is_read_only(directory: &Path) -> Result<bool> {
    let stat = rustix::fs::statvfs(directory)
        .with_context(|| format!("could not query the file system of `{}`", directory.display()))?;
    Ok(stat.f_flag.contains(StatVfsMountFlags::RDONLY))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_read_only_file_system_is_named_by_where_it_begins() {
        let root = tempfile::tempdir().unwrap();
        let usr = root.path().join("usr");
        std::fs::create_dir_all(usr.join("lib")).unwrap();
        let read_only = |directory: &Path| Ok(directory.starts_with(&usr));
        let check = |directories: &[&str]| {
            let directories: Vec<PathBuf> = directories.iter().map(|directory| root.path().join(directory)).collect();
            ensure_each_writable(directories, "the package has files", read_only)
        };
        check(&["etc", "var/lib/new", "srv"]).unwrap();
        for directory in ["usr/lib", "usr/lib/not/yet", "usr"] {
            let refused = check(&["etc", directory]).unwrap_err().to_string();
            assert!(refused.contains(&format!("`{}` is a read-only file system", usr.display())), "{refused}");
        }
    }

    #[test]
    fn where_this_test_writes_is_no_read_only_file_system() {
        assert!(!is_read_only(tempfile::tempdir().unwrap().path()).unwrap());
    }
}
