//! The `git` command, kept from running anything else.
//!
//! A repository's own configuration names programs: a monitor of the file system, hooks, pagers, filters, and what a
//! fetch goes through. Whoever looks at a directory that came from elsewhere doesn't mean to run them, so they are off.
//! What the person's own configuration says (global or of the system) holds as ever.

use std::{
    ffi::OsString,
    os::unix::{ffi::OsStringExt as _, process::CommandExt as _},
    path::{Path, PathBuf},
    process::{Command, Output},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use console::safe;
use fleet::channel::repo::OF_ANOTHER_REPOSITORY;

/// Settings that name programs, and what they are for us.
const OFF: [(&str, &str); 5] = [
    ("core.fsmonitor", "false"),
    ("core.hooksPath", "/dev/null"),
    ("core.pager", "cat"),
    ("column.ui", "never"),
    ("log.showSignature", "false"),
];

/// git in a directory.
#[derive(Debug)]
pub(crate) struct Git {
    directory: PathBuf,
    place: Place,
    /// What wins over every configuration file.
    settings: Vec<(OsString, OsString)>,
    /// Variables beside those that it always has.
    variables: Vec<(&'static str, &'static str)>,
}

/// What a directory is to git.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// It is in a checkout, and no other repository is spoken to.
    Checkout,
    /// It is a repository without files, which fetches from another one. No command there may take longer than this.
    Fetching(Duration),
}

impl Git {
    /// git in `directory`.
    pub(crate) fn at(directory: &Path) -> Self {
        Self::placed(directory, Place::Checkout)
    }

    fn placed(directory: &Path, place: Place) -> Self {
        let settings = OFF.iter().map(|(key, value)| (key.into(), value.into())).collect();
        Self { directory: directory.to_owned(), place, settings, variables: Vec::new() }
    }

    /// git in an empty directory, into which the newest commits of a branch of another repository are fetched, as `FETCH_HEAD`.
    /// Their files stay there where that repository can leave them out. No command takes longer than `limit`.
    pub(crate) fn fetched(
        directory: &Path,
        (url, branch): (&str, &str),
        newest: usize,
        limit: Duration,
    ) -> Result<Self> {
        let git = Self::placed(directory, Place::Fetching(limit));
        git.run(&["init", "--quiet", "--bare"])?;
        let (depth, reference) = (format!("--depth={newest}"), format!("refs/heads/{branch}"));
        git.run(&["fetch", "--quiet", "--no-tags", &depth, "--filter=tree:0", "--", url, &reference])?;
        Ok(git)
    }

    /// Also such that what git-lfs keeps is taken from this machine and never asked of another: what is not here stays a pointer.
    pub(crate) fn filled_from_here(mut self) -> Self {
        // `GIT_LFS_SKIP_SMUDGE` would leave pointers of all. No repository is there, and of any other kind of address a host is asked.
        self.settings.push(("lfs.url".into(), "file:///dev/null".into()));
        self.variables.push(("GIT_LFS_SKIP_DOWNLOAD_ERRORS", "1"));
        self
    }

    /// Also without the filters that the repository's own configuration names, for what compares the files with it.
    pub(crate) fn without_own_filters(mut self) -> Result<Self> {
        let listed = self.ask(&["config", "--show-scope", "-z", "--get-regexp", r"^filter\."])?.unwrap_or_default();
        self.settings.extend(without_own(&listed));
        Ok(self)
    }

    /// What a command printed, byte for byte.
    pub(crate) fn run(&self, arguments: &[&str]) -> Result<Vec<u8>> {
        let output = self.output(arguments)?;
        if output.status.success() { Ok(output.stdout) } else { Err(self.failed(arguments, &output)) }
    }

    /// What a command complained of though it went well, line by line.
    pub(crate) fn complaints(&self, arguments: &[&str]) -> Result<Vec<String>> {
        let output = self.output(arguments)?;
        if !output.status.success() {
            return Err(self.failed(arguments, &output));
        }
        Ok(String::from_utf8_lossy(&output.stderr).lines().map(str::to_owned).collect())
    }

    /// The one line that a command printed.
    pub(crate) fn line(&self, arguments: &[&str]) -> Result<String> {
        text(arguments, self.run(arguments)?)
    }

    /// Like [`Git::run`] for a question whose answer may be "none", which git tells by exit status 1 and silence.
    pub(crate) fn ask(&self, arguments: &[&str]) -> Result<Option<Vec<u8>>> {
        let output = self.output(arguments)?;
        match output.status.code() {
            Some(0) => Ok(Some(output.stdout)),
            Some(1) => Ok(None),
            _ => Err(self.failed(arguments, &output)),
        }
    }

    fn output(&self, arguments: &[&str]) -> Result<Output> {
        let mut git = match self.place {
            Place::Checkout => {
                let mut git = Command::new("git");
                git.arg("-C").arg(&self.directory);
                git
            }
            Place::Fetching(limit) => {
                let mut git = Command::new("timeout");
                git.arg("--signal=KILL").arg(limit.as_secs_f64().to_string());
                git.args(["git", "--git-dir"]).arg(&self.directory);
                git
            }
        };
        git.arg("--no-pager").args(arguments);
        for variable in OF_ANOTHER_REPOSITORY {
            git.env_remove(variable);
        }
        // What a person set in this way stays.
        let first = std::env::var("GIT_CONFIG_COUNT").ok().and_then(|count| count.parse().ok()).unwrap_or(0);
        for (number, (key, value)) in (first..).zip(&self.settings) {
            git.env(format!("GIT_CONFIG_KEY_{number}"), key).env(format!("GIT_CONFIG_VALUE_{number}"), value);
        }
        let begun = Instant::now();
        let output = git
            .env("GIT_CONFIG_COUNT", (first + self.settings.len()).to_string())
            // Looking must not write: `git status` would refresh the index and take its lock.
            .env("GIT_OPTIONAL_LOCKS", "0")
            // In a partial clone git fetches what is missing, by a program that the repository names.
            .env("GIT_NO_LAZY_FETCH", "1")
            .env("GIT_ALLOW_PROTOCOL", if self.place == Place::Checkout { "none" } else { "https:ssh:file" })
            .env("GIT_TERMINAL_PROMPT", "0")
            // A path is that path, whatever is in it.
            .env("GIT_LITERAL_PATHSPECS", "1")
            .envs(self.variables.iter().copied())
            .env("LC_ALL", "C")
            // What is typed on a terminal ends us, and not what we have begun: that is up to us.
            .process_group(0)
            .output()
            .context("could not run `git`: install the package `git`")?;
        match self.place {
            Place::Fetching(limit) if !output.status.success() && begun.elapsed() >= limit => bail!(
                "no answer within {}: run the command again, or in a checkout of that repository, which needs no --repo",
                console::duration::show(limit)
            ),
            Place::Fetching(_) | Place::Checkout => Ok(output),
        }
    }

    fn failed(&self, arguments: &[&str], output: &Output) -> anyhow::Error {
        let words = String::from_utf8_lossy(&output.stderr);
        let words = words.lines().next().unwrap_or_default();
        // An address may have credentials in it, and git says it again in what it complains of.
        let command = match self.place {
            Place::Fetching(_) => "`git fetch`".to_owned(),
            Place::Checkout => format!("`git {}` in `{}`", arguments.join(" "), self.directory.display()),
        };
        if let Some((_, repository)) = words.split_once("detected dubious ownership in repository at '") {
            let repository = safe(repository.trim_end_matches('\''));
            return anyhow::Error::new(NotOurs { repository });
        }
        let words = if words.is_empty() { output.status.to_string() } else { safe(words) };
        anyhow::anyhow!("{command} failed: {words}")
    }
}

/// A repository that belongs to another user, whose configuration git refuses to read.
#[derive(Debug)]
pub(crate) struct NotOurs {
    /// Its top directory.
    repository: String,
}

impl std::fmt::Display for NotOurs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let repository = &self.repository;
        write!(
            f,
            "git does not read the repository `{repository}`, because it belongs to another user: if you trust it, run \
             `git config --global --add safe.directory '{repository}'`"
        )
    }
}

impl std::error::Error for NotOurs {}

/// A line without its end.
pub(crate) fn text(arguments: &[&str], mut printed: Vec<u8>) -> Result<String> {
    if printed.last() == Some(&b'\n') {
        printed.pop();
    }
    match String::from_utf8(printed) {
        Ok(text) => Ok(text),
        Err(_) => bail!("output of `git {}` is not UTF-8", arguments.join(" ")),
    }
}

/// For each filter that the repository defines, what the person's own configuration says of it, or nothing at all.
/// `listed` is of `git config --show-scope -z --get-regexp`.
fn without_own(listed: &[u8]) -> Vec<(OsString, OsString)> {
    let mut fields = listed.split(|byte| *byte == 0);
    let mut settings = Vec::new();
    let mut own = Vec::new();
    while let (Some(scope), Some(setting)) = (fields.next(), fields.next()) {
        let mut parts = setting.splitn(2, |byte| *byte == b'\n');
        let (key, value) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
        if matches!(scope, b"local" | b"worktree") {
            own.push(key);
        } else {
            settings.push((key, value));
        }
    }
    let theirs = |key: &[u8]| settings.iter().rev().find(|(other, _)| *other == key).map(|(_, value)| *value);
    let os = |bytes: &[u8]| OsString::from_vec(bytes.to_vec());
    // Whatever is empty is no filter, and one that isn't there can't be required.
    let none = |key: &[u8]| if key.ends_with(b".required") { &b"false"[..] } else { b"" };
    own.iter().map(|key| (os(key), os(theirs(key).unwrap_or_else(|| none(key))))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_of_the_repository_give_way_to_the_persons_own() {
        let listed = b"global\0filter.lfs.clean\ngit-lfs clean\0local\0filter.lfs.clean\nevil\0local\0filter.x=y.process\nevil\0worktree\0filter.x=y.required\ntrue\0";
        let settings = without_own(listed);
        let settings: Vec<_> =
            settings.iter().map(|(key, value)| (key.to_str().unwrap(), value.to_str().unwrap())).collect();
        assert_eq!(
            settings,
            [("filter.lfs.clean", "git-lfs clean"), ("filter.x=y.process", ""), ("filter.x=y.required", "false")]
        );
    }
}
