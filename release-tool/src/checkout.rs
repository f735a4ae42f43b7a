//! A checkout of what is released, with what is chosen of it, and how that is packed.

use std::{
    fs::{self, File, TryLockError},
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use bucket::{Note, ReleaseName, Timestamp};
use console::{UsageError, nearest, one_line, quoted, size};
use serde::Serialize;

use crate::{
    builder::Builder,
    manifest::{FILE, Manifest, Package},
    options::Options,
    pack::BuildContext,
    source::{Source, identity},
    tree::Walk,
};

/// How long a build waits for another one to have its names, and how often it looks.
const PATIENCE: Duration = Duration::from_mins(1);
const PAUSE: Duration = Duration::from_millis(20);

/// A package that was built.
#[derive(Debug, Serialize)]
pub(crate) struct Built {
    /// The release name, which also names its object in the bucket.
    pub(crate) release: ReleaseName,
    /// Path of the `.deb`.
    pub(crate) path: PathBuf,
}

/// What is said of packages, whatever is in them.
pub(crate) struct Packing {
    note: Note,
    builder: Builder,
    maintainer: Option<String>,
    /// The time of all files in them, in seconds since 1970.
    pub(crate) file_time: u64,
    /// When they were built, if that is not now.
    time: Option<Timestamp>,
}

impl Packing {
    /// `directory` is where git knows who builds.
    pub(crate) fn new(checkout: &Checkout<'_>, directory: &Path, note: Note, time: Option<Timestamp>) -> Result<Self> {
        let builder = Builder::find(|key| std::env::var(key).ok())?;
        let file_time = match std::env::var("SOURCE_DATE_EPOCH") {
            Ok(text) => text.parse().with_context(|| format!("invalid SOURCE_DATE_EPOCH `{}`", one_line(&text)))?,
            Err(_) => checkout.source.commit_time,
        };
        let maintainer = maintainer(directory, &checkout.packages)?;
        Ok(Self { note, builder, maintainer, file_time, time })
    }

    /// Packs what is chosen of a checkout, once it was built; `changes` is what of it is not as it was committed.
    pub(crate) fn pack(&self, checkout: &Checkout<'_>, changes: &[String], dirty: Dirty) -> Result<Vec<Built>> {
        let Checkout { source, packages, walk } = checkout;
        match dirty {
            _ if changes.is_empty() => {}
            Dirty::Recorded => console::warning(format_args!("dirty build, {}", uncommitted(changes))),
            Dirty::Refused => return Err(refused(changes)),
        }
        // Held until the packages have their names: two builds at once would take the same ones.
        let _turn = wait_for_turn(&walk.out);
        let context = |time| BuildContext {
            source: source.clone(),
            dirty: !changes.is_empty(),
            maintainer: self.maintainer.clone(),
            builder: self.builder.clone(),
            time,
            file_time: self.file_time,
            note: self.note.clone(),
        };
        let context = match self.time {
            Some(time) => context(whole_seconds(time)?),
            None => unused_time(walk, packages, context)?,
        };
        packages.iter().map(|package| pack(&context, walk, package)).collect()
    }
}

/// What becomes of a build that is not what was committed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dirty {
    /// The packages say so.
    Recorded,
    /// There is none.
    Refused,
}

/// A checkout with what is chosen of it, and where its packages go.
pub(crate) struct Checkout<'a> {
    /// What git knows of it.
    pub(crate) source: Source,
    /// The packages that are chosen.
    pub(crate) packages: Vec<&'a Package>,
    walk: Walk,
}

impl<'a> Checkout<'a> {
    /// The packages of these names, all of them without any, and the directory for them, which is made.
    pub(crate) fn of(options: &Options, manifest: &'a Manifest, names: &[String]) -> Result<Self> {
        let packages = choose(manifest, names)?;
        let source = Source::of(&manifest.directory)?;
        let out = make_directory(&options.out(&manifest.directory), &source)?;
        let walk = Walk::new(manifest.directory.clone(), out);
        Ok(Self { source, packages, walk })
    }

    /// A package of a copy of a commit, the directory of `release.toml` in it, and where its packages go.
    pub(crate) fn of_copy(source: Source, directory: PathBuf, package: &'a Package, out: PathBuf) -> Self {
        let walk = Walk::new(directory, out);
        Self { source, packages: vec![package], walk }
    }

    /// Refuses one with anything that is not committed.
    pub(crate) fn ensure_clean(&self) -> Result<()> {
        let changes = self.changes()?;
        if changes.is_empty() { Ok(()) } else { Err(refused(&changes)) }
    }

    /// Refuses one in which another commit was checked out meanwhile.
    pub(crate) fn ensure_same_commit(&self) -> Result<()> {
        if self.source.is_checked_out()? {
            return Ok(());
        }
        bail!("another commit was checked out during the build: build again");
    }

    /// What is not as it was committed, for people.
    pub(crate) fn changes(&self) -> Result<Vec<String>> {
        let Self { source, packages, walk } = self;
        let mut changes = source.changes()?;
        if let Some(ours) = directory_of_packages(walk, source, packages) {
            changes.retain(|path| !path.starts_with(&ours));
        }
        Ok(changes)
    }
}

/// Refuses what is not what was committed.
pub(crate) fn not_committed(changes: &[String]) -> Result<()> {
    if changes.is_empty() { Ok(()) } else { Err(refused(changes)) }
}

fn refused(changes: &[String]) -> anyhow::Error {
    anyhow::anyhow!(
        "not what was committed, {}: commit them, or have git ignore what a build makes",
        uncommitted(changes)
    )
}

/// Now, or as soon as no package has a name that an earlier build took: names have whole seconds.
fn unused_time(
    walk: &Walk,
    packages: &[&Package],
    context: impl Fn(Timestamp) -> BuildContext,
) -> Result<BuildContext> {
    loop {
        let now = Timestamp::now();
        let context = context(whole_seconds(now)?);
        let paths = packages.iter().map(|package| context.path(walk, package)).collect::<Result<Vec<_>>>()?;
        if !paths.iter().any(|path| path.exists()) {
            return Ok(context);
        }
        let nanoseconds = u64::try_from(now.subsec_nanosecond()).unwrap_or_default();
        thread::sleep(Duration::from_nanos(1_000_000_000_u64.saturating_sub(nanoseconds)));
    }
}

/// A time as release names have it.
pub(crate) fn whole_seconds(time: Timestamp) -> Result<Timestamp> {
    Timestamp::from_second(time.as_second()).context("time out of range")
}

/// Waits until no other build writes into the directory, for a while. Where directories can't be locked, or somebody else holds
/// that lock, names are still never taken twice: the later build fails.
fn wait_for_turn(out: &Path) -> Option<File> {
    let directory = File::open(out).ok()?;
    let until = Instant::now() + PATIENCE;
    loop {
        match directory.try_lock() {
            Ok(()) => return Some(directory),
            Err(TryLockError::WouldBlock) if Instant::now() < until => thread::sleep(PAUSE),
            Err(_) => return None,
        }
    }
}

/// Who maintains packages that don't say it themselves: the person whom git knows.
pub(crate) fn maintainer(directory: &Path, packages: &[&Package]) -> Result<Option<String>> {
    let Some(package) = packages.iter().find(|package| package.lacks_maintainer()) else { return Ok(None) };
    let Some(person) = identity(directory) else {
        bail!(
            "{}: `maintainer` is missing, and git knows no name and address: add to `{FILE}` \
             [defaults] maintainer = \"Acme <ops@acme.example>\", or run `git config --global user.name \"…\"` and \
             `git config --global user.email \"…\"`",
            package.at()
        )
    };
    console::note(format_args!("maintainer: {person} (from git; `maintainer` in `{FILE}` states another)"));
    Ok(Some(person))
}

fn pack(context: &BuildContext, walk: &Walk, package: &Package) -> Result<Built> {
    let (release, path) = context.pack(walk, package)?;
    let bytes = fs::metadata(&path).map(|metadata| metadata.len()).unwrap_or_default();
    console::note(format_args!("built {} ({})", path.display(), size(bytes)));
    Ok(Built { release, path })
}

/// The packages that these names are, all of them without any.
pub(crate) fn choose<'a>(manifest: &'a Manifest, names: &[String]) -> Result<Vec<&'a Package>> {
    if manifest.packages.is_empty() {
        return Err(UsageError::new(format!("no packages defined in `{FILE}`: add a table [package.NAME]")).into());
    }
    if names.is_empty() {
        return Ok(manifest.packages.iter().collect());
    }
    let all: Vec<&str> = manifest.packages.iter().map(|package| package.app.as_str()).collect();
    if let Some(name) = names.iter().find(|name| !all.contains(&name.as_str())) {
        let hint = match nearest(name, &all) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("packages: {}", quoted(&all)),
        };
        return Err(UsageError::new(format!("no package `{}` in `{FILE}`; {hint}", one_line(name))).into());
    }
    Ok(manifest.packages.iter().filter(|package| names.iter().any(|name| name == package.app.as_str())).collect())
}

/// Makes the directory for packages. In a repository, git is told not to look into a new one.
pub(crate) fn make_directory(out: &Path, source: &Source) -> Result<PathBuf> {
    let shown = out.display();
    fs::create_dir_all(out).with_context(|| format!("could not create the directory `{shown}`"))?;
    let out = out.canonicalize().with_context(|| format!("directory not found: `{shown}`"))?;
    let is_new = || fs::read_dir(&out).is_ok_and(|mut entries| entries.next().is_none());
    if out.starts_with(&source.top) && out != source.top && is_new() {
        let ignore = out.join(".gitignore");
        fs::write(&ignore, "# Packages that `release` built are not committed.\n*\n")
            .with_context(|| format!("could not write `{}`", ignore.display()))?;
    }
    Ok(out)
}

/// What the paths of changes begin with that say nothing about a build: those of the directory for packages, unless it has
/// the project or something of a package in it.
fn directory_of_packages(walk: &Walk, source: &Source, packages: &[&Package]) -> Option<String> {
    let below = walk.out.strip_prefix(&source.top).ok()?;
    let is_source =
        walk.directory.starts_with(&walk.out) || packages.iter().any(|package| walk.takes_from_out(package));
    (!is_source).then(|| format!("{}/", below.display()))
}

/// What is not committed, in words.
fn uncommitted(changes: &[String]) -> String {
    let shown = changes.iter().take(5).map(|path| one_line(path)).collect::<Vec<_>>().join(", ");
    let more = if changes.len() > 5 { format!(" and {} more", changes.len() - 5) } else { String::new() };
    format!("uncommitted or untracked files: {shown}{more}")
}
