//! Copies of the commit that a run is of: each stage has one of its own, and the developer's checkout is never touched.
//!
//! A copy is a repository that takes its objects from the checkout's own store (gitrepository-layout(5),
//! `objects/info/alternates`), so that nothing is fetched and nothing is written twice. What git-lfs keeps is found there too.

use std::{
    ffi::OsStr,
    fs,
    io::ErrorKind,
    os::unix::{ffi::OsStrExt as _, fs::symlink},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};
use bucket::Commit;
use console::{count, note, one_line, warning};

use crate::{
    git::{Git, text},
    source::{Source, uncommitted_paths},
};

/// A checkout that copies are made of.
#[derive(Debug)]
pub(crate) struct Original {
    /// Its top directory.
    top: PathBuf,
    /// The directory of `release.toml`, below that.
    below: PathBuf,
    /// The commit.
    commit: Commit,
    /// The branch; empty when none is checked out.
    branch: String,
    /// Where it is from; empty if that isn't known.
    remote: String,
    /// Where its objects are.
    objects: PathBuf,
    /// Which commits have no parents here, as git keeps that; of a shallow clone.
    shallow: Option<PathBuf>,
    /// `sha1` or `sha256`.
    format: String,
    /// The tags, as git keeps them in one file.
    tags: Vec<u8>,
    /// The repositories in it, each with its place.
    submodules: Vec<(PathBuf, Original)>,
    /// What is not committed and comes with it, below its top directory.
    uncommitted: Vec<PathBuf>,
}

impl Original {
    /// That of a checkout, with its uncommitted changes if they are wanted.
    pub(super) fn of(directory: &Path, source: &Source, is_dirty: bool) -> Result<Self> {
        let below = directory.strip_prefix(&source.top).unwrap_or(Path::new("")).to_owned();
        let uncommitted = if is_dirty { uncommitted_paths(&source.top)? } else { Vec::new() };
        let original = Self::at(&source.top, source.commit.clone(), source.branch.clone(), source.repo.clone())?;
        Ok(Self { below, uncommitted, ..original })
    }

    fn at(top: &Path, commit: Commit, branch: String, remote: String) -> Result<Self> {
        let git = Git::at(top);
        let path = |name: &str| -> Result<PathBuf> {
            let mut printed = git.run(&["rev-parse", "--path-format=absolute", "--git-path", name])?;
            printed.pop();
            Ok(PathBuf::from(OsStr::from_bytes(&printed)))
        };
        let shallow = Some(path("shallow")?).filter(|path| path.is_file());
        let format = git.line(&["rev-parse", "--show-object-format"])?;
        let tags = git.run(&["for-each-ref", "--format=%(objectname) %(refname)", "refs/tags"])?;
        let mut submodules = Vec::new();
        let listed = git.run(&["ls-tree", "-r", "-z", &commit.to_string()])?;
        for line in listed.split(|byte| *byte == 0).filter(|line| line.starts_with(b"160000 ")) {
            let (facts, place) = split_at_tab(line).context("unexpected output of `git ls-tree`")?;
            let place = PathBuf::from(OsStr::from_bytes(place));
            let its = text(&["ls-tree"], facts.to_vec())?;
            let its = its.rsplit(' ').next().unwrap_or_default().parse()?;
            let at = top.join(&place);
            if at.join(".git").exists() {
                submodules.push((place, Self::at(&at, its, String::new(), String::new())?));
            } else {
                let shown = one_line(&place.to_string_lossy());
                note(format_args!("the submodule `{shown}` is not checked out, and is empty in each stage"));
            }
        }
        Ok(Self {
            top: top.to_owned(),
            below: PathBuf::new(),
            commit,
            branch,
            remote,
            objects: path("objects")?,
            shallow,
            format,
            tags,
            submodules,
            uncommitted: Vec::new(),
        })
    }

    /// The commit.
    pub(super) fn commit(&self) -> &Commit {
        &self.commit
    }

    /// The directory of `release.toml`, in a copy.
    pub(super) fn project(&self, copy: &Path) -> PathBuf {
        copy.join(&self.below)
    }

    /// Makes a copy at a path where nothing is.
    pub(super) fn copy(&self, to: &Path) -> Result<()> {
        let git = self.repository(to)?;
        self.check_out(&git, &[])?;
        for (place, submodule) in &self.submodules {
            submodule.copy(&to.join(place))?;
        }
        for path in &self.uncommitted {
            let shown = || format!("could not copy `{}`", path.display());
            take(&self.top.join(path), &to.join(path)).with_context(shown)?;
        }
        Ok(())
    }

    /// Makes a copy that has only these files and directories of the project, as far as there are any.
    pub(super) fn copy_some(&self, to: &Path, names: &[&str]) -> Result<()> {
        let git = self.repository(to)?;
        let wanted: Vec<String> =
            names.iter().map(|name| self.below.join(name).to_string_lossy().into_owned()).collect();
        let mut arguments = vec!["ls-tree", "--name-only", "-z", "--full-tree"];
        let commit = self.commit.to_string();
        arguments.extend([commit.as_str(), "--"]);
        arguments.extend(wanted.iter().map(String::as_str));
        let listed = git.run(&arguments)?;
        let there = |name: &String| listed.split(|byte| *byte == 0).any(|found| found == name.as_bytes());
        let there: Vec<&str> = wanted.iter().filter(|name| there(name)).map(String::as_str).collect();
        if !there.is_empty() {
            self.check_out(&git, &there)?;
        }
        for path in &self.uncommitted {
            if wanted.iter().any(|wanted| path.starts_with(wanted)) {
                take(&self.top.join(path), &to.join(path))
                    .with_context(|| format!("could not copy `{}`", path.display()))?;
            }
        }
        Ok(())
    }

    /// A repository without files that has all that the checkout's has.
    fn repository(&self, to: &Path) -> Result<Git> {
        fs::create_dir_all(to).with_context(|| format!("could not create the directory `{}`", to.display()))?;
        let git = Git::at(to).filled_from_here();
        git.run(&["init", "--quiet", "--template=", &format!("--object-format={}", self.format)])?;
        let at = to.join(".git");
        let write = |name: &str, content: &[u8]| -> Result<()> {
            let path = at.join(name);
            if let Some(directory) = path.parent() {
                fs::create_dir_all(directory)
                    .with_context(|| format!("could not create the directory `{}`", directory.display()))?;
            }
            fs::write(&path, content).with_context(|| format!("could not write `{}`", path.display()))
        };
        if self.objects.as_os_str().as_bytes().contains(&b'\n') {
            bail!("the path of the repository has a line end in it: move it");
        }
        write("objects/info/alternates", &[self.objects.as_os_str().as_bytes(), b"\n"].concat())?;
        write("packed-refs", &self.tags)?;
        if let Some(shallow) = &self.shallow {
            let shallow = fs::read(shallow).with_context(|| format!("could not read `{}`", shallow.display()))?;
            write("shallow", &shallow)?;
        }
        if !self.remote.is_empty() {
            git.run(&["config", "remote.origin.url", &self.remote])?;
        }
        Ok(git)
    }

    fn check_out(&self, git: &Git, paths: &[&str]) -> Result<()> {
        let commit = self.commit.to_string();
        let mut arguments = vec!["-c", "checkout.workers=0", "-c", "advice.detachedHead=false", "checkout", "--quiet"];
        match self.branch.as_str() {
            _ if !paths.is_empty() => arguments.extend([commit.as_str(), "--"]),
            "" => arguments.extend(["--detach", commit.as_str()]),
            branch => arguments.extend(["-B", branch, commit.as_str()]),
        }
        arguments.extend(paths);
        git.run(&arguments).map(drop)
    }
}

/// Says what is not committed and therefore not in any stage.
pub(super) fn tell_left_out(changes: &[String]) {
    if let [first, ..] = changes {
        let others = if changes.len() > 1 { format!(" and {} more", changes.len() - 1) } else { String::new() };
        warning(format_args!(
            "{} left out of this run, which is of the commit: `{}`{others}; --dirty takes them",
            count(changes.len(), "uncommitted change"),
            one_line(first)
        ));
    }
}

fn split_at_tab(line: &[u8]) -> Option<(&[u8], &[u8])> {
    let at = line.iter().position(|byte| *byte == b'\t')?;
    Some((&line[..at], &line[at + 1..]))
}

/// Makes one file in a copy what it is in the checkout: the same, or absent.
fn take(from: &Path, to: &Path) -> std::io::Result<()> {
    let metadata = match from.symlink_metadata() {
        Err(error) if error.kind() == ErrorKind::NotFound => None,
        metadata => Some(metadata?),
    };
    // A repository of its own, which git takes for one file.
    if metadata.as_ref().is_some_and(fs::Metadata::is_dir) {
        return Ok(());
    }
    match fs::remove_file(to) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let Some(metadata) = metadata else { return Ok(()) };
    if let Some(directory) = to.parent() {
        fs::create_dir_all(directory)?;
    }
    if metadata.is_symlink() { symlink(fs::read_link(from)?, to) } else { fs::copy(from, to).map(drop) }
}
