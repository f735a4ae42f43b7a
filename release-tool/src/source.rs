//! What git knows of the project: commit, branch, origin, and whether what is built is what was committed.
//!
//! Every fact comes from the `git` command ([`crate::git`]), so that it agrees with what the developer sees.

use std::{
    ffi::OsString,
    os::unix::ffi::OsStringExt as _,
    path::{Path, PathBuf},
    thread::{self, ScopedJoinHandle},
};

use anyhow::{Context, Result, bail};
use bucket::{Commit, ReleaseName};
use console::safe;

use crate::git::{Git, NotOurs, text};

/// The state of the repository that a release is built from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Source {
    /// The repository's top directory.
    pub(crate) top: PathBuf,
    /// The commit checked out.
    pub(crate) commit: Commit,
    /// When it was committed, in seconds since 1970: the time of all files in the package.
    pub(crate) commit_time: u64,
    /// The branch checked out; empty when none is.
    pub(crate) branch: String,
    /// URL of `origin`, without credentials; empty when there is none.
    pub(crate) repo: String,
}

impl Source {
    /// The repository around `directory`.
    pub(crate) fn of(directory: &Path) -> Result<Self> {
        let git = &Git::at(directory);
        let optional = |arguments: &[&str]| match git.ask(arguments)? {
            Some(printed) => text(arguments, printed),
            None => Ok(String::new()),
        };
        // Each is a process of its own, so they run side by side.
        let (top, head, branch, repo) = thread::scope(|scope| {
            let head = scope.spawn(|| git.line(&["log", "-1", "--format=%H %ct", "--no-show-signature"]));
            let branch = scope.spawn(|| optional(&["symbolic-ref", "--short", "-q", "HEAD"]));
            let repo = scope.spawn(|| optional(&["config", "--get", "remote.origin.url"]));
            (top(git), joined(head), joined(branch), joined(repo))
        });
        let top = top.map_err(|error| no_repository(directory, error))?;
        let head = head.context("no commits in the repository: commit the files to release")?;
        let Some((commit, time)) = head.split_once(' ') else {
            bail!("unexpected output of `git log`: `{}`", safe(&head))
        };
        let commit = commit.parse()?;
        let commit_time = time.parse().with_context(|| format!("invalid commit time `{}`", safe(time)))?;
        Ok(Self { top, commit, commit_time, branch: branch?, repo: without_credentials(&repo?) })
    }

    /// The tree of its commit.
    pub(crate) fn tree(&self) -> Result<Commit> {
        let tree = format!("{}^{{tree}}", self.commit);
        Ok(Git::at(&self.top).line(&["rev-parse", "--verify", &tree])?.parse()?)
    }

    /// Whether its commit is still the one that is checked out.
    pub(crate) fn is_checked_out(&self) -> Result<bool> {
        Ok(Git::at(&self.top).line(&["rev-parse", "--verify", "HEAD"])? == self.commit.to_string())
    }

    /// What was changed and not committed, or isn't known to git nor ignored, relative to the top directory, for people.
    ///
    /// Releases that were built before don't count, wherever they were put.
    pub(crate) fn changes(&self) -> Result<Vec<String>> {
        changes(&self.top)
    }
}

/// Who the person is, as `Name <mail>`, if they told git.
pub(crate) fn identity(directory: &Path) -> Option<String> {
    // Otherwise git makes one up from the login and the host.
    let arguments = ["-c", "user.useConfigOnly=true", "var", "GIT_AUTHOR_IDENT"];
    let printed = Git::at(directory).line(&arguments).ok()?;
    let (person, _) = printed.rsplit_once('>')?;
    Some(format!("{person}>"))
}

fn top(git: &Git) -> Result<PathBuf> {
    let mut top = git.run(&["rev-parse", "--show-toplevel"])?;
    top.pop();
    Ok(PathBuf::from(OsString::from_vec(top)))
}

fn no_repository(directory: &Path, error: anyhow::Error) -> anyhow::Error {
    if error.is::<NotOurs>() {
        return error;
    }
    error.context(format!(
        "`{}` is not in a git repository, and a release records the commit it was built from: \
         run `git init && git add -A && git commit`",
        directory.display()
    ))
}

/// What of a checkout is not committed, below its top directory: also what is gone. Of repositories inside of it nothing.
pub(crate) fn uncommitted_paths(top: &Path) -> Result<Vec<PathBuf>> {
    let git = Git::at(top).without_own_filters()?;
    let status = git.run(&STATUS)?;
    let changed = lines(&status).filter(|line| is_change(line));
    Ok(changed.map(|line| PathBuf::from(OsString::from_vec(line.get(3..).unwrap_or_default().to_vec()))).collect())
}

/// The question what was changed. git would look into submodules with the filters of their own configuration: they are asked one
/// by one.
const STATUS: [&str; 6] =
    ["status", "--porcelain=v1", "-z", "--untracked-files=all", "--no-renames", "--ignore-submodules=dirty"];

/// The changes in a repository and in those inside of it.
fn changes(directory: &Path) -> Result<Vec<String>> {
    let git = Git::at(directory).without_own_filters()?;
    let (status, listed) = thread::scope(|scope| {
        let listed = scope.spawn(|| git.run(&["ls-files", "--stage", "-z"]));
        (git.run(&STATUS), joined(listed))
    });
    let mut changed: Vec<String> =
        lines(&status?).filter(|line| is_change(line)).map(|line| shown(line.get(3..))).collect();
    for line in lines(&listed?).filter(|line| line.starts_with(b"160000 ")) {
        let path = line.splitn(2, |byte| *byte == b'\t').nth(1).unwrap_or_default();
        let submodule = directory.join(OsString::from_vec(path.to_vec()));
        if !submodule.join(".git").exists() {
            continue;
        }
        if top(&Git::at(&submodule))? == submodule {
            let below = changes(&submodule)?;
            changed.extend(below.into_iter().map(|below| format!("{}/{below}", shown(Some(path)))));
        } else {
            changed.push(shown(Some(path)));
        }
    }
    Ok(changed)
}

/// The links that git knows in a repository, below its top directory.
pub(crate) fn tracked_links(top: &Path) -> Result<Vec<PathBuf>> {
    let listed = Git::at(top).run(&["ls-files", "--stage", "-z"])?;
    let links = lines(&listed).filter(|line| line.starts_with(b"120000 "));
    let path = |line: &[u8]| line.splitn(2, |byte| *byte == b'\t').nth(1).map(<[u8]>::to_vec);
    Ok(links.filter_map(path).map(|path| OsString::from_vec(path).into()).collect())
}

/// What a thread found out.
fn joined<T>(thread: ScopedJoinHandle<'_, T>) -> T {
    thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

fn lines(printed: &[u8]) -> impl Iterator<Item = &[u8]> {
    printed.split(|byte| *byte == 0).filter(|line| !line.is_empty())
}

/// Whether a line of `git status` is about anything else than a release that was built before.
fn is_change(line: &[u8]) -> bool {
    let path = shown(line.get(3..));
    let name = path.rsplit('/').next().unwrap_or_default();
    let is_release = name.strip_suffix(".deb").is_some_and(|stem| ReleaseName::from_stem(stem).is_ok());
    !(line.starts_with(b"??") && is_release)
}

/// A path as people read it: names of files need not be UTF-8.
fn shown(path: Option<&[u8]>) -> String {
    String::from_utf8_lossy(path.unwrap_or_default()).into_owned()
}

/// A repository's URL as it may be shown to everybody who can read the bucket.
pub(crate) fn without_credentials(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return url.to_owned() };
    // Access tokens travel in the query too.
    let rest = rest.split(['?', '#']).next().unwrap_or_default();
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let authority = match authority.rsplit_once('@') {
        // With ssh the user is part of the address (`git@`), not a secret; a password is.
        Some((user, host)) if scheme.ends_with("ssh") => {
            format!("{}@{host}", user.split(':').next().unwrap_or_default())
        }
        Some((_, host)) => host.to_owned(),
        None => authority.to_owned(),
    };
    format!("{scheme}://{authority}{path}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origin_loses_its_credentials() {
        let table = [
            ("", ""),
            ("https://git.example/web.git", "https://git.example/web.git"),
            ("https://dev:s3cret@git.example/web.git", "https://git.example/web.git"),
            ("https://token@git.example:8443/web?access_token=x#y", "https://git.example:8443/web"),
            ("https://a@b:p@ss@git.example/web", "https://git.example/web"),
            ("ssh://git:pw@git.example/web.git", "ssh://git@git.example/web.git"),
            ("git@git.example:acme/web.git", "git@git.example:acme/web.git"),
            ("/srv/git/web.git", "/srv/git/web.git"),
        ];
        for (url, expected) in table {
            assert_eq!(without_credentials(url), expected, "{url}");
        }
    }
}
