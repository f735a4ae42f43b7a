//! What git says of changes: the commit that is checked out, the branch that they are merged into, and its line.

use std::time::Duration;

use anyhow::{Context as _, Result};
use bucket::Commit;
use console::{UsageError, safe};

use crate::{
    git::{Git, text},
    source::without_credentials,
};

/// The branch that changes are merged into when neither the file nor git says one.
const USUAL_BRANCH: &str = "main";

/// How many of a branch's newest commits are looked through.
const NEWEST: usize = 1000;

/// How long another repository may take to give them.
const FETCHING: Duration = Duration::from_mins(2);

/// The commit that is checked out, and its tree.
pub(crate) fn checked_out(git: &Git) -> Result<(Commit, Commit)> {
    let head = git.line(&["log", "-1", "--format=%H %T", "--no-show-signature"]);
    let head = head.context("could not read which commit is checked out")?;
    commit_and_tree(&head)
}

/// The branch that changes are merged into: the one that is said, or that `origin` has as its own.
pub(crate) fn target_branch(git: &Git, said: Option<String>) -> Result<String> {
    let branch = match said {
        Some(branch) => branch,
        None => branch_of_origin(git)?.unwrap_or_else(|| USUAL_BRANCH.to_owned()),
    };
    if git.ask(&["check-ref-format", &format!("refs/heads/{branch}")])?.is_none() || branch.starts_with('-') {
        return Err(UsageError::new(format!("`{}` is no name of a branch", safe(&branch))).into());
    }
    Ok(branch)
}

/// The branch that `origin` has as its own, if that is known.
pub(crate) fn branch_of_origin(git: &Git) -> Result<Option<String>> {
    let arguments = ["symbolic-ref", "-q", "refs/remotes/origin/HEAD"];
    let name = git.ask(&arguments)?.map(|printed| text(&arguments, printed)).transpose()?;
    Ok(name.and_then(|name| name.strip_prefix("refs/remotes/origin/").map(str::to_owned)))
}

/// The newest commits of a branch's first-parent line, each with its tree.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Line {
    /// The branch, for people.
    pub(crate) branch: String,
    /// Newest first.
    commits: Vec<(Commit, Commit)>,
}

impl Line {
    /// That of a branch as the checkout knows it: of `origin` if it has it from there, else its own.
    pub(crate) fn of_checkout(git: &Git, branch: &str) -> Result<Self> {
        let (reference, shown) = reference(git, branch)?;
        Self::read(git, &reference, shown)
    }

    /// That of a branch of another repository.
    pub(crate) fn of_repository(url: &str, branch: &str) -> Result<Self> {
        Self::fetched(url, branch, FETCHING)
    }

    fn fetched(url: &str, branch: &str, limit: Duration) -> Result<Self> {
        let directory = tempfile::tempdir().context("could not create a temporary directory")?;
        let shown = format!("{branch} of {}", safe(&without_credentials(url)));
        let git = Git::fetched(directory.path(), (url, branch), NEWEST, limit);
        let git = git.with_context(|| format!("could not fetch `{shown}`"))?;
        Self::read(&git, "FETCH_HEAD", shown)
    }

    fn read(git: &Git, reference: &str, branch: String) -> Result<Self> {
        let newest = NEWEST.to_string();
        // What a person has put in the place of a commit, on this machine only, isn't what was merged (git-replace(1)).
        let printed = git.run(&[
            "--no-replace-objects",
            "log",
            "--first-parent",
            "-n",
            &newest,
            "--format=%H %T",
            "--no-show-signature",
            reference,
            "--",
        ])?;
        let commits = String::from_utf8_lossy(&printed).lines().map(commit_and_tree).collect::<Result<_>>()?;
        Ok(Self { branch, commits })
    }

    /// Whether a commit is on it.
    pub(crate) fn has(&self, commit: &Commit) -> bool {
        self.age(commit).is_some()
    }

    /// How many commits are newer than one that is on it.
    pub(crate) fn age(&self, commit: &Commit) -> Option<usize> {
        self.commits.iter().position(|(of_line, _)| of_line == commit)
    }

    /// The commit that brought the tree of a commit which was built on `base`: of the newest ones in a row that have it the
    /// oldest, since those after it changed nothing. What was there before is not it, unless it is that commit itself.
    pub(crate) fn landed(&self, base: &Commit, (commit, tree): (&Commit, &Commit)) -> Option<&Commit> {
        let newer = self.commits.iter().take_while(|(of_line, _)| of_line != base);
        let with_tree = newer.skip_while(|(_, of_it)| of_it != tree).take_while(|(_, of_it)| of_it == tree);
        let itself = || self.commits.iter().find(|(of_line, of_it)| (of_line, of_it) == (commit, tree));
        with_tree.last().or_else(itself).map(|(commit, _)| commit)
    }

    /// How many commits there are.
    pub(crate) fn len(&self) -> usize {
        self.commits.len()
    }
}

/// Where the checkout has a branch, `origin`'s before its own, and what people call that.
pub(crate) fn reference(git: &Git, branch: &str) -> Result<(String, String)> {
    for (reference, shown) in [
        (format!("refs/remotes/origin/{branch}"), format!("origin/{branch}")),
        (format!("refs/heads/{branch}"), branch.to_owned()),
    ] {
        if git.ask(&["rev-parse", "--verify", "--quiet", &format!("{reference}^{{commit}}")])?.is_some() {
            return Ok((reference, shown));
        }
    }
    anyhow::bail!("there is no branch `{branch}` in this repository: `git fetch` gets it, or name another")
}

/// The newest commit of a branch's first-parent line that is in what is checked out.
///
/// # Errors
/// Also when there is none, as far as this repository knows.
pub(crate) fn base(git: &Git, branch: &str) -> Result<Commit> {
    let (reference, shown) = reference(git, branch)?;
    let later = ["--no-replace-objects", "rev-list", "--first-parent", "--boundary", &reference, "^HEAD", "--"];
    let later = String::from_utf8_lossy(&git.run(&later)?).into_owned();
    let base = match later.lines().find_map(|line| line.strip_prefix('-')) {
        Some(boundary) => boundary.to_owned(),
        // Nothing is on it that isn't checked out.
        None if later.is_empty() => git.line(&["rev-parse", "--verify", &format!("{reference}^{{commit}}")])?,
        None => anyhow::bail!(
            "what is checked out and `{shown}` have no commit in common in this repository: `git fetch --unshallow` gets their \
             history"
        ),
    };
    base.parse().with_context(|| format!("unexpected output of `git rev-list`: `{}`", safe(&base)))
}

/// `COMMIT TREE`
fn commit_and_tree(line: &str) -> Result<(Commit, Commit)> {
    let names = line.split_once(' ').and_then(|(commit, tree)| Some((commit.parse().ok()?, tree.parse().ok()?)));
    names.with_context(|| format!("unexpected output of `git log`: `{}`", safe(line)))
}

#[cfg(test)]
mod tests {
    use std::{
        fs,
        net::TcpListener,
        time::{Duration, Instant},
    };

    use super::*;

    /// Whether a process has a text among its arguments.
    fn is_running_with(text: &str) -> bool {
        let processes = fs::read_dir("/proc").unwrap().map(|entry| entry.unwrap().path().join("cmdline"));
        let arguments = processes.filter_map(|arguments| fs::read(arguments).ok());
        arguments.into_iter().any(|arguments| String::from_utf8_lossy(&arguments).contains(text))
    }

    #[test]
    fn a_repository_that_hangs_is_given_up_and_leaves_nothing_behind() {
        // The system takes the connection, and nobody ever reads from it.
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let url = format!("https://dev:s3cret@{address}/web.git");
        let begun = Instant::now();
        let error = Line::fetched(&url, "main", Duration::from_secs(1)).unwrap_err();
        let said = format!("{error:#}");
        assert!(said.starts_with("could not fetch `main of https://"), "{said}");
        assert!(said.contains("no answer within 1s: run the command again") && !said.contains("s3cret"), "{said}");
        assert!(begun.elapsed() < FETCHING, "{:?}", begun.elapsed());
        // It was told to end, which takes a moment.
        while is_running_with(&address.to_string()) {
            assert!(begun.elapsed() < FETCHING, "git is running still");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    #[test]
    fn what_brought_a_tree_is_the_oldest_of_the_newest_commits_in_a_row_that_have_it() {
        let name = |digit: char| -> Commit { digit.to_string().repeat(40).parse().unwrap() };
        // Newest first: a revert (7) brought back what 5 had, which came with 4 and was changed by 6.
        let line = [('9', 'c'), ('8', 'b'), ('7', 'b'), ('6', 'a'), ('5', 'b'), ('4', 'b'), ('3', 'd')];
        let commits = line.map(|(commit, tree)| (name(commit), name(tree))).to_vec();
        let line = Line { branch: "main".to_owned(), commits };
        for (base, tree, landed) in [
            ('3', 'c', Some('9')),
            ('3', 'b', Some('7')),
            ('3', 'a', Some('6')),
            ('3', 'd', None),
            ('3', 'e', None),
            // It was there before anything was changed: a revert that was not merged.
            ('6', 'a', None),
            ('7', 'a', None),
        ] {
            let own = (&name('1'), &name(tree));
            assert_eq!(line.landed(&name(base), own), landed.map(name).as_ref(), "{tree} on {base}");
        }
        // What was built is on the line as it is.
        assert_eq!(line.landed(&name('4'), (&name('4'), &name('b'))), Some(&name('7')));
        assert_eq!(line.landed(&name('7'), (&name('7'), &name('b'))), Some(&name('8')));
        assert_eq!(line.landed(&name('6'), (&name('6'), &name('a'))), Some(&name('6')));
        assert!(line.has(&name('3')) && !line.has(&name('1')));
        assert_eq!([name('9'), name('3'), name('1')].map(|commit| line.age(&commit)), [Some(0), Some(6), None]);
    }
}
