//! What git knows of the project: commit, branch, origin, and whether what is built is what was committed.
//!
//! Every fact comes from the `git` command, so that it agrees with what the developer sees.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};
use bucket::{Commit, ReleaseName};
use console::safe;

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
        let top = git(directory, ["rev-parse", "--show-toplevel"]).with_context(|| {
            format!(
                "`{}` is not in a git repository, and a release records the commit it was built from: \
                 run `git init && git add -A && git commit`",
                directory.display()
            )
        })?;
        let head = git(directory, ["log", "-1", "--format=%H %ct", "--no-show-signature"])
            .context("no commits in the repository: commit the files to release")?;
        let Some((commit, time)) = head.split_once(' ') else {
            bail!("unexpected output of `git log`: `{}`", safe(&head))
        };
        let commit = commit.parse()?;
        let commit_time = time.parse().with_context(|| format!("invalid commit time `{}`", safe(time)))?;
        let branch = optional(directory, ["symbolic-ref", "--short", "-q", "HEAD"])?;
        let repo = optional(directory, ["config", "--get", "remote.origin.url"])?;
        Ok(Self { top: PathBuf::from(top), commit, commit_time, branch, repo: without_credentials(&repo) })
    }

    /// What was changed and not committed, or isn't known to git nor ignored, relative to the top directory.
    ///
    /// Releases that were built before don't count, wherever they were put.
    pub(crate) fn changes(&self) -> Result<Vec<String>> {
        let status = git(&self.top, ["status", "--porcelain=v1", "-z", "--untracked-files=all", "--no-renames"])?;
        let is_release = |path: &str| {
            let name = path.rsplit('/').next().unwrap_or_default();
            name.strip_suffix(".deb").is_some_and(|stem| ReleaseName::from_stem(stem).is_ok())
        };
        let paths = status.split('\0').filter_map(|line| Some((line.get(..2)?, line.get(3..)?)));
        let changed = paths.filter(|(state, path)| !(*state == "??" && is_release(path)));
        Ok(changed.map(|(_, path)| path.to_owned()).collect())
    }
}

/// Runs git in a directory; what it printed, without the line end.
fn git<const N: usize>(directory: &Path, arguments: [&str; N]) -> Result<String> {
    let output = Command::new("git")
        .arg("-C")
        .arg(directory)
        .args(arguments)
        // Looking must not write: `git status` would refresh the index and take its lock.
        .env("GIT_OPTIONAL_LOCKS", "0")
        .env("LC_ALL", "C")
        .output()
        .context("could not run `git`: install the package `git`")?;
    if !output.status.success() {
        let words = String::from_utf8_lossy(&output.stderr);
        let words = words.lines().next().unwrap_or_default();
        let words = if words.is_empty() { output.status.to_string() } else { safe(words) };
        bail!("`git {}` in `{}` failed: {words}", arguments.join(" "), directory.display());
    }
    let text = String::from_utf8(output.stdout)
        .with_context(|| format!("output of `git {}` is not UTF-8", arguments.join(" ")))?;
    Ok(text.strip_suffix('\n').map(str::to_owned).unwrap_or(text))
}

/// Like [`git`] for a question whose answer may be "none", which git tells by exit status 1 and silence.
fn optional<const N: usize>(directory: &Path, arguments: [&str; N]) -> Result<String> {
    let output =
        Command::new("git").arg("-C").arg(directory).args(arguments).output().context("could not run `git`")?;
    match output.status.code() {
        Some(0) => Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned()),
        Some(1) => Ok(String::new()),
        _ => bail!("`git {}` failed: {}", arguments.join(" "), String::from_utf8_lossy(&output.stderr).trim()),
    }
}

/// A repository's URL as it may be shown to everybody who can read the bucket.
fn without_credentials(url: &str) -> String {
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
