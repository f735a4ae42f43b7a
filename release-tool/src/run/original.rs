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
    sync::atomic::{AtomicBool, Ordering},
};

use anyhow::{Context as _, Result, bail};
use bucket::Commit;
use console::{count, note, one_line, warning};
use pipeline::Leads;

use crate::{
    git::{Git, text},
    run::files,
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
    /// Where git-lfs keeps its files, if the checkout's own configuration says so.
    lfs: Option<PathBuf>,
    /// The links in the commit, below its top directory.
    links: Vec<PathBuf>,
    /// The repositories in it, each with its place.
    submodules: Vec<(PathBuf, Original)>,
    /// What is not committed and comes with it, below its top directory.
    uncommitted: Vec<PathBuf>,
    /// Where that is as it was when the run began.
    taken: PathBuf,
    /// Whether it was said that something of it is not here.
    is_told: AtomicBool,
}

impl Original {
    /// That of a checkout.
    pub(super) fn of(directory: &Path, source: &Source) -> Result<Self> {
        let below = directory.strip_prefix(&source.top).unwrap_or(Path::new("")).to_owned();
        let original = Self::at(&source.top, source.commit.clone(), source.branch.clone(), source.repo.clone())?;
        Ok(Self { below, ..original })
    }

    /// With what is not committed but for what is below `out`, as it is now: it is kept in the directory `taken`.
    pub(super) fn with_uncommitted(mut self, out: &Path, taken: &Path) -> Result<Self> {
        let is_taken = |path: &PathBuf| !self.top.join(path).starts_with(out);
        self.uncommitted = uncommitted_paths(&self.top)?.into_iter().filter(is_taken).collect();
        taken.clone_into(&mut self.taken);
        fs::create_dir_all(taken).with_context(|| format!("could not create the directory `{}`", taken.display()))?;
        for path in &self.uncommitted {
            take(&self.top.join(path), taken, path).with_context(|| format!("could not copy `{}`", path.display()))?;
        }
        for (place, submodule) in &self.submodules {
            let source = Source::of(&submodule.top)?;
            if source.commit != submodule.commit || !source.changes()?.is_empty() {
                let shown = one_line(&place.to_string_lossy());
                warning(format_args!("what is not committed in the submodule `{shown}`, or not as that, is left out"));
            }
        }
        Ok(self)
    }

    /// What a path of the project leads to in the commit, with what comes with it. Where links have a say in that, it is looked at
    /// in a copy, which is made in `whole`.
    pub(super) fn leads(&self, path: &str, whole: &Path) -> Result<Leads> {
        let at = files::normal(&self.below.join(path).to_string_lossy());
        let links = self.all_links();
        if !self.uncommitted.is_empty() || files::touches(&links, &at) {
            if !whole.exists() {
                self.copy(whole)?;
            }
            return Ok(files::leads(whole, &self.project(whole), &links, path));
        }
        Ok(if self.is_directory(&at)? { Leads::Directory } else { Leads::Elsewhere })
    }

    /// The links of the commit and of its submodules.
    fn all_links(&self) -> Vec<PathBuf> {
        let of_submodules = self
            .submodules
            .iter()
            .flat_map(|(place, submodule)| submodule.all_links().into_iter().map(move |link| place.join(link)));
        self.links.iter().cloned().chain(of_submodules).collect()
    }

    /// Whether a path without links is a directory in the commit.
    fn is_directory(&self, path: &Path) -> Result<bool> {
        if path.as_os_str().is_empty() {
            return Ok(true);
        }
        for (place, submodule) in &self.submodules {
            if let Ok(below) = path.strip_prefix(place) {
                return submodule.is_directory(below);
            }
        }
        let (commit, path) = (self.commit.to_string(), path.to_string_lossy());
        let listed = Git::at(&self.top).run(&["ls-tree", "-z", "--full-tree", &commit, "--", &path])?;
        // A submodule that isn't checked out is an empty one.
        Ok(listed.starts_with(b"040000 ") || listed.starts_with(b"160000 "))
    }

    /// What of a copy is not as it was committed, for people. It is looked at afresh: a stage may have written whatever git
    /// remembers there. What git doesn't know doesn't count.
    pub(super) fn changes_in(&self, copy: &Path, afresh: &Path) -> Result<Vec<String>> {
        let git = self.repository(&afresh.join("own"))?;
        let commit = self.commit.to_string();
        git.run(&["update-ref", "--no-deref", "HEAD", &commit])?;
        git.run(&["read-tree", &commit])?;
        let tree = format!("--work-tree={}", copy.display());
        let status = [
            &tree,
            "status",
            "--porcelain=v1",
            "-z",
            "--untracked-files=no",
            "--no-renames",
            "--ignore-submodules=all",
        ];
        let status = git.run(&status)?;
        let mut changed = shown_changes(&status);
        for (nth, (place, submodule)) in self.submodules.iter().enumerate() {
            let shown = place.to_string_lossy();
            let below = submodule.changes_in(&copy.join(place), &afresh.join(nth.to_string()))?;
            changed.extend(below.iter().map(|below| format!("{shown}/{below}")));
        }
        Ok(changed)
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
        let links = listed.split(|byte| *byte == 0).filter(|line| line.starts_with(b"120000 "));
        let links = links.filter_map(split_at_tab).map(|(_, link)| PathBuf::from(OsStr::from_bytes(link))).collect();
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
            lfs: lfs_storage(&git)?,
            links,
            submodules,
            uncommitted: Vec::new(),
            taken: PathBuf::new(),
            is_told: AtomicBool::new(false),
        })
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
            take(&self.taken.join(path), to, path).with_context(shown)?;
        }
        Ok(())
    }

    /// Makes a copy that has only these files and directories of the project, as far as there are any; a whole one, if there are
    /// links among them, which may lead to any other.
    pub(super) fn copy_some(&self, to: &Path, names: &[&str]) -> Result<()> {
        let wanted: Vec<String> =
            names.iter().map(|name| self.below.join(name).to_string_lossy().into_owned()).collect();
        let commit = self.commit.to_string();
        let mut arguments = vec!["ls-tree", "-r", "-z", "--full-tree", commit.as_str(), "--"];
        arguments.extend(wanted.iter().map(String::as_str));
        let listed = Git::at(&self.top).run(&arguments)?;
        let entries: Vec<&[u8]> = listed.split(|byte| *byte == 0).collect();
        if !self.uncommitted.is_empty() || entries.iter().any(|entry| entry.starts_with(b"120000 ")) {
            return self.copy(to);
        }
        let paths = entries.iter().filter_map(|entry| split_at_tab(entry)).map(|(_, path)| OsStr::from_bytes(path));
        let there: Vec<&str> = wanted
            .iter()
            .filter(|name| paths.clone().any(|path| Path::new(path).starts_with(name)))
            .map(String::as_str)
            .collect();
        let git = self.repository(to)?;
        if there.is_empty() { Ok(()) } else { self.check_out(&git, &there) }
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
        let mut alternates = [self.objects.as_os_str().as_bytes(), b"\n"].concat();
        if let Some(storage) = &self.lfs {
            // git-lfs looks for its files beside the objects of each other store, and a store that has none is one, too.
            let beside = at.join("beside");
            let made = fs::create_dir_all(beside.join("objects")).and_then(|()| symlink(storage, beside.join("lfs")));
            made.with_context(|| format!("could not make `{}`", beside.display()))?;
            alternates.extend([beside.join("objects").as_os_str().as_bytes(), b"\n"].concat());
        }
        write("objects/info/alternates", &alternates)?;
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
        let complaints = git.complaints(&arguments)?;
        // As git-lfs says it of each file that stays a pointer.
        let missing = complaints.iter().filter(|line| line.starts_with("Error downloading object: ")).count();
        if missing > 0 && !self.is_told.swap(true, Ordering::Relaxed) {
            warning(format_args!(
                "{} of the commit {} kept by git-lfs and not here: each stage has pointers in their place; run \
                 `git lfs pull` in `{}`",
                count(missing, "file"),
                if missing == 1 { "is" } else { "are" },
                self.top.display()
            ));
        }
        Ok(())
    }
}

/// Where git-lfs keeps its files, if that is elsewhere than usual (git-lfs-config(5), `lfs.storage`).
fn lfs_storage(git: &Git) -> Result<Option<PathBuf>> {
    let Some(mut said) = git.ask(&["config", "--type=path", "--get", "lfs.storage"])? else { return Ok(None) };
    said.pop();
    let mut directory = git.run(&["rev-parse", "--path-format=absolute", "--git-common-dir"])?;
    directory.pop();
    Ok(Some(Path::new(OsStr::from_bytes(&directory)).join(OsStr::from_bytes(&said))))
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

/// What `git status` says, for people.
fn shown_changes(status: &[u8]) -> Vec<String> {
    let lines = status.split(|byte| *byte == 0).filter(|line| !line.is_empty());
    lines.map(|line| String::from_utf8_lossy(line.get(3..).unwrap_or_default()).into_owned()).collect()
}

/// Makes one file below a directory what it is elsewhere: the same, or absent. What is in its way and of another kind is removed,
/// and no link is followed.
fn take(from: &Path, to: &Path, path: &Path) -> std::io::Result<()> {
    let metadata = match from.symlink_metadata() {
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => None,
        metadata => Some(metadata?),
    };
    // A repository of its own, which git takes for one file.
    if metadata.as_ref().is_some_and(fs::Metadata::is_dir) {
        return Ok(());
    }
    let mut at = to.to_owned();
    for part in path.parent().unwrap_or(Path::new("")).components() {
        at.push(part);
        match at.symlink_metadata() {
            Ok(there) if there.is_dir() => {}
            Ok(_) if metadata.is_none() => return Ok(()),
            Ok(_) => {
                fs::remove_file(&at)?;
                fs::create_dir(&at)?;
            }
            Err(error) if error.kind() == ErrorKind::NotFound && metadata.is_none() => return Ok(()),
            Err(error) if error.kind() == ErrorKind::NotFound => fs::create_dir(&at)?,
            Err(error) => return Err(error),
        }
    }
    let to = to.join(path);
    match to.symlink_metadata() {
        // Files in it that are gone are listed one by one, and whatever is left is none of git's.
        Ok(there) if there.is_dir() && metadata.is_none() => return Ok(()),
        Ok(there) if there.is_dir() => fs::remove_dir_all(&to)?,
        Ok(_) => fs::remove_file(&to)?,
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    match metadata {
        Some(metadata) if metadata.is_symlink() => symlink(fs::read_link(from)?, to),
        Some(metadata) if metadata.is_file() => fs::copy(from, to).map(drop),
        // It is gone; or a socket, a pipe or a device, which are nothing that git knows.
        _ => Ok(()),
    }
}
