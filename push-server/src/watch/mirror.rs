//! Copies of the repositories that channels follow, and the order in which commits landed in them.
//!
//! A mirror has the branches of its repository with all their history, and nothing else. It can be deleted at any time.
//! One process at a time changes it; whoever is killed leaves nothing that keeps the next one from going on.

use std::{
    collections::HashMap,
    ffi::OsStr,
    fs::DirBuilder,
    io,
    os::unix::fs::DirBuilderExt as _,
    panic::resume_unwind,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bucket::Commit;
use console::{cut, duration};
use fleet::channel::{branch::Branch, line::Line, repo::RepoUrl};
use sha2::{Digest as _, Sha256};
use tokio::{task::spawn_blocking, time::Instant};
use tracing::{info, warn};

use super::{
    git::{Git, GitError},
    history::History,
    unused::{note_use, remove_unused},
    upkeep::{Lock, remove_leftovers},
};

/// The longest that a fetch may take.
pub(super) const LIMIT: Duration = Duration::from_mins(2);

/// How long nobody has fetched a repository whose mirror is removed.
const UNUSED: Duration = Duration::from_hours(30 * 24);

/// Where git keeps branches, and all of them.
const HEADS: &str = "refs/heads/";
const ALL_HEADS: &str = "+refs/heads/*:refs/heads/*";

/// Most commits that are read of what landed since; with more than that the line is read anew.
const MAX_NEW: usize = 1000;

/// Most characters of a mirror's name that say whose it is.
const MAX_READABLE: usize = 40;

/// The mirrors below one directory, and the lines that were read from them.
#[derive(Debug, Clone)]
pub struct Mirrors(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    directory: PathBuf,
    limit: Duration,
    /// As last read, so that only what is new must be.
    lines: Mutex<HashMap<(RepoUrl, Branch), Line>>,
}

/// A repository as it was when it was fetched.
#[derive(Debug, Clone)]
pub struct Mirror {
    mirrors: Mirrors,
    repo: RepoUrl,
    directory: PathBuf,
    /// The newest commit of each branch, by its name.
    tips: HashMap<String, Commit>,
}

/// Why it isn't known what is in a repository.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// git isn't there, or what ends it when it takes too long.
    #[error("could not fetch `{repo}`, because there is no `{program}`: install the package `{package}`")]
    NotInstalled {
        /// What was to be fetched.
        repo: RepoUrl,
        /// The program that isn't there.
        program: &'static str,
        /// The package that has it.
        package: &'static str,
    },
    /// The mirror could not be written.
    #[error(
        "could not fetch `{repo}`, because its mirror in `{}` cannot be written: {source}; check the directory's owner \
         and the free space, or name another one with --mirrors",
        directory.display()
    )]
    Directory {
        /// What was to be fetched.
        repo: RepoUrl,
        /// Where mirrors are.
        directory: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// Another process fetched the same repository all the time.
    #[error(
        "could not fetch `{repo}`, because another process was fetching it for {limit}: the next round tries again"
    )]
    Busy {
        /// What was to be fetched.
        repo: RepoUrl,
        /// How long was waited.
        limit: String,
    },
    /// The repository took too long.
    #[error(
        "could not fetch `{repo}` within {limit}: check by `git ls-remote {repo}` that it answers; if it is only large, \
         make the first copy by hand: `git clone --bare --no-tags {repo} {}`",
        mirror.display()
    )]
    TimedOut {
        /// What was to be fetched.
        repo: RepoUrl,
        /// How long it may take.
        limit: String,
        /// Where its copy would be.
        mirror: PathBuf,
    },
    /// git refused, or the repository did.
    #[error(
        "could not fetch `{repo}`: {messages}; check that `git ls-remote {repo}` works without a question for the user \
         that runs `push watch`; if it does, delete `{}`, and it is copied anew",
        mirror.display()
    )]
    Failed {
        /// What was to be fetched.
        repo: RepoUrl,
        /// Its copy, which may be what is broken.
        mirror: PathBuf,
        /// What git says, safe to show.
        messages: String,
    },
    /// The mirror is there, and what it says is unusable.
    #[error(
        "could not read the history of `{repo}` from its mirror: {reason}; delete `{}`, and it is copied anew",
        mirror.display()
    )]
    Unreadable {
        /// Whose mirror it is.
        repo: RepoUrl,
        /// Where it is.
        mirror: PathBuf,
        /// What is wrong with it, safe to show.
        reason: String,
    },
}

impl Mirrors {
    /// Mirrors below a directory, which is made when it is needed.
    pub fn new(directory: PathBuf) -> Self {
        Self::with_limit(directory, LIMIT)
    }

    /// The same, with another time that a fetch may take.
    pub fn with_limit(directory: PathBuf, limit: Duration) -> Self {
        Self(Arc::new(Shared { directory, limit, lines: Mutex::default() }))
    }

    /// Brings the mirror of a repository up to date, or makes it.
    ///
    /// # Errors
    /// When it isn't known what the repository has now. What an earlier fetch brought doesn't count.
    pub async fn fetch(&self, repo: &RepoUrl) -> Result<Mirror, FetchError> {
        let directory = self.0.directory.join(format!("{}.git", mirror_name(repo)));
        let mut mirror = Mirror { mirrors: self.clone(), repo: repo.clone(), directory, tips: HashMap::new() };
        mirror.update().await?;
        Ok(mirror)
    }

    /// Removes the mirrors of repositories that nobody has fetched for [`UNUSED`], another watcher with another configuration neither.
    pub(super) async fn remove_unused(&self) {
        let name_of = |repo: &str| repo.parse().ok().map(|repo: RepoUrl| mirror_name(&repo));
        match remove_unused(&self.0.directory, UNUSED, name_of).await {
            Ok(removed) => {
                for repo in removed {
                    info!(repo, "removed a mirror that nobody has used for long");
                }
            }
            Err(error) => warn!(%error, "could not remove mirrors that nobody uses any more"),
        }
    }

    fn lines(&self) -> MutexGuard<'_, HashMap<(RepoUrl, Branch), Line>> {
        self.0.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Mirror {
    /// The first-parent history of a branch; `None` if there is no such branch any more.
    ///
    /// # Errors
    /// When the mirror can't be read, or what git says of it isn't one unbroken line to its oldest commit.
    pub async fn line(&self, branch: &Branch) -> Result<Option<Line>, FetchError> {
        let key = (self.repo.clone(), branch.clone());
        let Some(tip) = self.tips.get(branch.as_str()) else {
            self.mirrors.lines().remove(&key);
            return Ok(None);
        };
        let known = self.mirrors.lines().get(&key).cloned();
        let line = match known {
            Some(known) if known.tip() == Some(tip) => return Ok(Some(known)),
            Some(known) => self.continued(&known, tip).await?,
            None => None,
        };
        let line = match line {
            Some(line) => line,
            None => self.whole(tip).await?,
        };
        self.mirrors.lines().insert(key, line.clone());
        Ok(Some(line))
    }

    /// A line with what landed since; `None` if it doesn't go on, because history was rewritten, or is read as fast anew.
    async fn continued(&self, known: &Line, tip: &Commit) -> Result<Option<Line>, FetchError> {
        // Not `^known`: for that git walks the whole history when the clock of a committer was wrong.
        let newest = self.history(&[&format!("--max-count={MAX_NEW}"), tip.as_str()]).await?.commits;
        let last = newest.iter().position(|commit| Some(commit) == known.tip());
        Ok(last.filter(|_| newest.last() == Some(tip)).map(|last| known.extended(newest[last + 1..].to_vec())))
    }

    async fn whole(&self, tip: &Commit) -> Result<Line, FetchError> {
        let history = self.history(&[tip.as_str()]).await?;
        match history.parent {
            None if history.commits.last() == Some(tip) => Ok(Line::new(history.commits)),
            _ => Err(self.unreadable(format!("the history of `{tip}` is not complete"))),
        }
    }

    async fn history(&self, revisions: &[&str]) -> Result<History, FetchError> {
        let git = self.git();
        let options = ["rev-list", "--first-parent", "--parents", "--reverse"];
        let printed = git.run(&[&options, revisions].concat()).await.map_err(|error| self.not_read(error))?;
        match spawn_blocking(move || History::parse(&printed)).await {
            Ok(history) => history.map_err(|reason| self.unreadable(reason)),
            Err(panicked) => resume_unwind(panicked.into_panic()),
        }
    }

    /// Whose mirror it is.
    pub(super) fn repo(&self) -> &RepoUrl {
        &self.repo
    }

    /// The newest commit of a branch, if there is one of that name.
    pub(super) fn tip(&self, branch: &Branch) -> Option<&Commit> {
        self.tips.get(branch.as_str())
    }

    /// That a branch has another newest commit, which was made here and pushed.
    pub(super) fn pushed(&mut self, branch: &Branch, commit: Commit) {
        self.tips.insert(branch.to_string(), commit);
    }

    /// The same mirror, up to date.
    pub(super) async fn fetched_anew(&self) -> Result<Self, FetchError> {
        self.mirrors.fetch(&self.repo).await
    }

    /// Git in this mirror, as it may be run from now on.
    pub(super) fn git(&self) -> Git<'_> {
        let deadline = Instant::now() + self.mirrors.0.limit;
        Git { directory: Some(&self.directory), reaches: None, deadline, input: None, index: None }
    }

    /// The right to write it.
    pub(super) async fn lock(&self, deadline: Instant) -> Result<Lock, FetchError> {
        match Lock::take(&self.directory.with_extension("lock"), deadline).await {
            Ok(lock) => Ok(lock),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                let limit = duration::show(self.mirrors.0.limit);
                Err(FetchError::Busy { repo: self.repo.clone(), limit })
            }
            Err(error) => Err(self.not_written(error)),
        }
    }

    async fn update(&mut self) -> Result<(), FetchError> {
        let Shared { directory, limit, .. } = &*self.mirrors.0;
        let deadline = Instant::now() + *limit;
        DirBuilder::new().recursive(true).mode(0o700).create(directory).map_err(|error| self.not_written(error))?;
        let lock = self.lock(deadline).await?;
        note_use(&self.directory, self.repo.as_str()).map_err(|error| self.not_written(error))?;
        let mut git =
            Git { directory: None, reaches: Some(&self.repo), deadline, input: Some(lock.file()), index: None };
        let is_there = self.directory.exists();
        if !is_there {
            self.copy(&git).await?;
        }
        git.directory = Some(&self.directory);
        if is_there {
            remove_leftovers(&self.directory).map_err(|error| self.not_written(error))?;
            let options = ["fetch", "--prune", "--no-tags", "--no-recurse-submodules", "--no-write-fetch-head"];
            let rest = ["--no-auto-maintenance", "--quiet", "--end-of-options", self.repo.as_str(), ALL_HEADS];
            git.run(&[options, rest].concat()).await.map_err(|error| self.not_fetched(error))?;
        }
        git.reaches = None;
        self.tips = self.read_tips(&git).await?;
        // In what is left of the time. It keeps nobody from going on: what isn't tidied up now is the next time.
        if let Err(error) = git.run(&["gc", "--auto", "--quiet"]).await {
            let reason = self.not_read(error);
            warn!(repo = %self.repo, %reason, "could not tidy up a mirror");
        }
        Ok(())
    }

    /// Makes the mirror, under another name until it is complete.
    async fn copy(&self, git: &Git<'_>) -> Result<(), FetchError> {
        let unfinished = self.directory.with_extension("new");
        match tokio::fs::remove_dir_all(&unfinished).await {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(self.not_written(error)),
            _ => {}
        }
        let options =
            ["clone", "--bare", "--no-tags", "--template=", "--reject-shallow", "--quiet", "--end-of-options"];
        let mut arguments: Vec<&OsStr> = options.iter().map(OsStr::new).collect();
        arguments.extend([OsStr::new(self.repo.as_str()), unfinished.as_os_str()]);
        git.run(&arguments).await.map_err(|error| self.not_fetched(error))?;
        tokio::fs::rename(&unfinished, &self.directory).await.map_err(|error| self.not_written(error))
    }

    async fn read_tips(&self, git: &Git<'_>) -> Result<HashMap<String, Commit>, FetchError> {
        let printed = git.run(&["for-each-ref", "--format=%(objectname) %(refname)", HEADS]).await;
        let printed = printed.map_err(|error| self.not_read(error))?;
        let tip = |line: &str| {
            let (commit, branch) = line.split_once(' ')?;
            Some((branch.strip_prefix(HEADS)?.to_owned(), commit.parse().ok()?))
        };
        // A name that isn't UTF-8 is none that a channel can have.
        let printed = String::from_utf8_lossy(&printed);
        let tips = printed.lines().map(|line| tip(line).ok_or_else(|| not_a_tip(line)));
        tips.collect::<Result<_, _>>().map_err(|reason| self.unreadable(reason))
    }

    fn not_fetched(&self, error: GitError) -> FetchError {
        let repo = self.repo.clone();
        let limit = || duration::show(self.mirrors.0.limit);
        match error {
            GitError::NotInstalled { program, package } => FetchError::NotInstalled { repo, program, package },
            GitError::TimedOut => FetchError::TimedOut { repo, limit: limit(), mirror: self.directory.clone() },
            GitError::TooMuch => self.unreadable(TOO_MUCH.to_owned()),
            GitError::Failed(messages) => FetchError::Failed { repo, mirror: self.directory.clone(), messages },
            GitError::Io(error) => self.not_written(error),
        }
    }

    fn not_read(&self, error: GitError) -> FetchError {
        match error {
            GitError::Failed(messages) => self.unreadable(messages),
            GitError::TimedOut => self.unreadable("git took too long".to_owned()),
            error => self.not_fetched(error),
        }
    }

    fn not_written(&self, source: io::Error) -> FetchError {
        FetchError::Directory { repo: self.repo.clone(), directory: self.mirrors.0.directory.clone(), source }
    }

    fn unreadable(&self, reason: String) -> FetchError {
        FetchError::Unreadable { repo: self.repo.clone(), mirror: self.directory.clone(), reason }
    }
}

const TOO_MUCH: &str = "git printed more than is read of it";

fn not_a_tip(line: &str) -> String {
    format!("`{}` is no branch and its commit", cut(line, 200))
}

/// The name of a repository's mirror: what a person knows it by, and what no other has.
fn mirror_name(repo: &RepoUrl) -> String {
    let readable = |part: &str| -> String {
        let part = part.trim_end_matches(".git");
        part.chars().filter(char::is_ascii_alphanumeric).take(MAX_READABLE).collect()
    };
    let mut parts = repo.as_str().rsplit(['/', ':']).map(readable);
    let readable = parts.find(|part| !part.is_empty()).unwrap_or_default();
    format!("{readable}-{}", hex::encode(Sha256::digest(repo.as_str())))
}
