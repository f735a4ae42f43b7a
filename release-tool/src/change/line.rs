//! What git says of changes: the commit that is checked out, the branch that they are merged into, and its line.

use anyhow::{Context as _, Result};
use bucket::Commit;
use console::{UsageError, safe};

use crate::git::{Git, text};

/// The branch that changes are merged into when neither the file nor git says one.
const USUAL_BRANCH: &str = "main";

/// How many of a branch's newest commits are looked through.
const NEWEST: usize = 1000;

/// The commit that is checked out, and its tree.
pub(crate) fn checked_out(git: &Git) -> Result<(Commit, Commit)> {
    let head = git.line(&["log", "-1", "--format=%H %T", "--no-show-signature"]);
    let head = head.context("could not read which commit is checked out")?;
    commit_and_tree(&head)
}

/// The branch that changes are merged into: the one that is said, or that `origin` has as its own.
pub(crate) fn target_branch(git: &Git, said: Option<String>) -> Result<String> {
    let arguments = ["symbolic-ref", "--short", "-q", "refs/remotes/origin/HEAD"];
    let branch = match (said, git.ask(&arguments)?) {
        (Some(said), _) => said,
        (None, Some(printed)) => text(&arguments, printed)?.trim_start_matches("origin/").to_owned(),
        (None, None) => USUAL_BRANCH.to_owned(),
    };
    if git.ask(&["check-ref-format", &format!("refs/heads/{branch}")])?.is_none() || branch.starts_with('-') {
        return Err(UsageError::new(format!("`{}` is no name of a branch", safe(&branch))).into());
    }
    Ok(branch)
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
        for (reference, shown) in [
            (format!("refs/remotes/origin/{branch}"), format!("origin/{branch}")),
            (format!("refs/heads/{branch}"), branch.to_owned()),
        ] {
            if git.ask(&["rev-parse", "--verify", "--quiet", &format!("{reference}^{{commit}}")])?.is_some() {
                return Self::read(git, &reference, shown);
            }
        }
        anyhow::bail!("there is no branch `{branch}` in this repository: `git fetch` gets it, --branch names another")
    }

    /// That of a branch of another repository.
    pub(crate) fn of_repository(url: &str, branch: &str) -> Result<Self> {
        let directory = tempfile::tempdir().context("could not create a temporary directory")?;
        let shown = format!("{branch} of {}", safe(url));
        let git = Git::fetched(directory.path(), url, branch, NEWEST);
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

    /// The commit that brought a tree: of the newest ones in a row that have it the oldest, since those after it changed nothing.
    pub(crate) fn landed(&self, tree: &Commit) -> Option<&Commit> {
        let with_tree =
            self.commits.iter().skip_while(|(_, of_it)| of_it != tree).take_while(|(_, of_it)| of_it == tree);
        with_tree.last().map(|(commit, _)| commit)
    }

    /// How many commits there are.
    pub(crate) fn len(&self) -> usize {
        self.commits.len()
    }
}

/// `COMMIT TREE`
fn commit_and_tree(line: &str) -> Result<(Commit, Commit)> {
    let names = line.split_once(' ').and_then(|(commit, tree)| Some((commit.parse().ok()?, tree.parse().ok()?)));
    names.with_context(|| format!("unexpected output of `git log`: `{}`", safe(line)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_brought_a_tree_is_the_oldest_of_the_newest_commits_in_a_row_that_have_it() {
        let name = |digit: char| -> Commit { digit.to_string().repeat(40).parse().unwrap() };
        // Newest first: a revert (7) brought back what 5 had, which came with 4 and was changed by 6.
        let line = [('9', 'c'), ('8', 'b'), ('7', 'b'), ('6', 'a'), ('5', 'b'), ('4', 'b'), ('3', 'd')];
        let commits = line.map(|(commit, tree)| (name(commit), name(tree))).to_vec();
        let line = Line { branch: "main".to_owned(), commits };
        for (tree, landed) in [('c', Some('9')), ('b', Some('7')), ('a', Some('6')), ('d', Some('3')), ('e', None)] {
            assert_eq!(line.landed(&name(tree)), landed.map(name).as_ref(), "{tree}");
        }
    }
}
