//! Changing files of a repository without a checkout: what a branch has is read from its mirror, one commit is made there with
//! git's plumbing, and pushed. Neither a work tree nor a hook has a part in it.

use std::{
    ffi::OsStr,
    fs::File,
    io::{self, Seek as _, Write as _},
};

use anyhow::{Context as _, Result, anyhow, ensure};
use bucket::Commit;
use console::{cut, safe};
use fleet::channel::branch::Branch;
use tokio::time::Instant;

use super::{
    git::{Git, GitError},
    mirror::{LIMIT, Mirror},
};

/// Most files of a branch that are read, and most bytes of one of them.
const MAX_FILES: usize = 1000;
const MAX_BYTES: u64 = 1 << 20;

/// A regular file as a branch has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct BranchFile {
    /// From the top of the repository.
    pub(super) path: String,
    /// `100644`, or `100755` of one that can be executed.
    mode: String,
    pub(super) content: Vec<u8>,
}

impl BranchFile {
    /// The same file with another content.
    pub(super) fn with(&self, content: Vec<u8>) -> Self {
        Self { content, ..self.clone() }
    }
}

/// Who makes a commit, and what it is about.
#[derive(Debug)]
pub(super) struct Words<'a> {
    /// The name of the author, who commits too.
    pub(super) who: &'a str,
    /// All of its message.
    pub(super) message: &'a str,
}

impl Mirror {
    /// The regular files of the commit `tip` whose paths are `wanted`. Links, submodules and paths that are no text are none.
    ///
    /// # Errors
    /// When the mirror can't be read, or has more of them than is read.
    pub(super) async fn files(&self, tip: &Commit, wanted: impl Fn(&str) -> bool) -> Result<Vec<BranchFile>> {
        let listed = self.plumbing(&["ls-tree", "-r", "-l", "-z", "--full-tree", tip.as_str()], b"", None).await?;
        let entries = listed.split(|byte| *byte == 0).filter_map(|entry| str::from_utf8(entry).ok());
        let mut files = Vec::new();
        for entry in entries {
            let Some((facts, path)) = entry.split_once('\t').filter(|(_, path)| wanted(path)) else { continue };
            let facts: Vec<&str> = facts.split_ascii_whitespace().collect();
            let &[mode @ ("100644" | "100755"), "blob", object, size] = &facts[..] else { continue };
            let size: u64 = size.parse().with_context(|| format!("git gave `{}` no size", safe(path)))?;
            ensure!(size <= MAX_BYTES, "`{}` has more than {MAX_BYTES} bytes: name other files", safe(path));
            ensure!(files.len() < MAX_FILES, "there are more than {MAX_FILES} such files: name fewer");
            files.push((path.to_owned(), mode.to_owned(), object.to_owned()));
        }
        let asked: Vec<&str> = files.iter().flat_map(|(.., object)| [object.as_str(), "\n"]).collect();
        let printed = self.plumbing(&["cat-file", "--batch"], asked.concat().as_bytes(), None).await?;
        let mut rest = &printed[..];
        let mut read = |(path, mode, object): (String, String, String)| {
            let content = next_object(&mut rest, &object)?.to_owned();
            Some(BranchFile { path, mode, content })
        };
        files.into_iter().map(|file| read(file).context("git printed something else than its files")).collect()
    }

    /// Makes a commit after `tip` that has these contents of its files.
    ///
    /// # Errors
    /// When the mirror can't be written.
    pub(super) async fn commit(&self, tip: &Commit, files: &[BranchFile], words: &Words<'_>) -> Result<Commit> {
        let _lock = self.lock(Instant::now() + LIMIT).await?;
        let scratch = tempfile::tempdir().context("could not make a directory for an index")?;
        let index = scratch.path().join("index");
        self.plumbing(&["read-tree", tip.as_str()], b"", Some(index.as_os_str())).await?;
        let mut entries = Vec::new();
        for BranchFile { path, mode, content } in files {
            let object = object_name(&self.plumbing(&["hash-object", "-w", "--stdin"], content, None).await?)?;
            entries.extend_from_slice(format!("{mode} {object}\t{path}\0").as_bytes());
        }
        self.plumbing(&["update-index", "-z", "--index-info"], &entries, Some(index.as_os_str())).await?;
        let tree = object_name(&self.plumbing(&["write-tree"], b"", Some(index.as_os_str())).await?)?;
        let name = words.who;
        let address = if name.contains('@') { name.to_owned() } else { format!("{name}@push.invalid") };
        // These win over `user.name`, which somebody may have configured as well (git-config(1)).
        let who = ["author", "committer"].map(|of| [format!("{of}.name={name}"), format!("{of}.email={address}")]);
        let settings = who.iter().flatten().map(String::as_str).chain(["i18n.commitEncoding=UTF-8"]);
        let commit = ["commit-tree", tree.as_str(), "-p", tip.as_str(), "-F", "-"];
        let arguments: Vec<&str> = settings.flat_map(|setting| ["-c", setting]).chain(commit).collect();
        let made = self.plumbing(&arguments, words.message.as_bytes(), None).await?;
        Ok(object_name(&made)?.parse()?)
    }

    /// Pushes a commit to a branch, which must have what the commit stands on.
    ///
    /// # Errors
    /// What git or the repository says, as when somebody else was faster.
    pub(super) async fn push(&self, commit: &Commit, branch: &Branch) -> Result<()> {
        let to = format!("{commit}:refs/heads/{branch}");
        let push = ["push", "--quiet", "--no-follow-tags", "--no-recurse-submodules", "--end-of-options"];
        let git = Git { reaches: Some(self.repo()), ..self.git() };
        let pushed = git.run(&[&push[..], &[self.repo().as_str(), &to]].concat()).await;
        let failed = || format!("could not push to the branch `{branch}` of `{}`", self.repo());
        pushed.map(drop).map_err(explained).with_context(failed)
    }

    /// Runs a command that reaches no other repository, with `input` as its standard input.
    async fn plumbing(&self, arguments: &[&str], input: &[u8], index: Option<&OsStr>) -> Result<Vec<u8>> {
        let input = input_file(input).context("could not write a temporary file")?;
        let git = Git { input: Some(&input), index: index.map(OsStr::to_owned), ..self.git() };
        let failed = || format!("could not work in the mirror of `{}`", self.repo());
        git.run(arguments).await.map_err(explained).with_context(failed)
    }
}

/// A file without a name that is read from its beginning.
fn input_file(content: &[u8]) -> io::Result<File> {
    let mut file = tempfile::tempfile()?;
    file.write_all(content)?;
    file.rewind()?;
    Ok(file)
}

/// The content that `git cat-file --batch` prints next, if it is of that object.
fn next_object<'a>(rest: &mut &'a [u8], object: &str) -> Option<&'a [u8]> {
    let end = rest.iter().position(|byte| *byte == b'\n')?;
    let (head, after) = (str::from_utf8(&rest[..end]).ok()?, &rest[end + 1..]);
    let size: usize = head.strip_prefix(object)?.strip_prefix(" blob ")?.parse().ok()?;
    let (content, after) = after.split_at_checked(size)?;
    *rest = after.strip_prefix(b"\n")?;
    Some(content)
}

/// The name of an object, as git printed it alone. Commits have such names, as have all objects.
fn object_name(printed: &[u8]) -> Result<String> {
    let name = String::from_utf8_lossy(printed).trim().to_owned();
    let is_name = name.parse::<Commit>().is_ok();
    ensure!(is_name, "git printed no object's name: `{}`", safe(&cut(&name, 200)));
    Ok(name)
}

fn explained(error: GitError) -> anyhow::Error {
    match error {
        GitError::NotInstalled { program, package } => {
            anyhow!("there is no `{program}`: install the package `{package}`")
        }
        GitError::TimedOut => anyhow!("git took too long"),
        GitError::TooMuch => anyhow!("git printed more than is read of it"),
        GitError::Failed(words) => anyhow!(words),
        GitError::Io(error) => anyhow!(error),
    }
}
