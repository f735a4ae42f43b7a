//! `release build`: from `release.toml` and a git repository to `.deb`s in `dist/`.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use anyhow::{Context, Result, bail};
use bucket::{Note, ReleaseName, Timestamp};
use clap::Args;
use console::{UsageError, nearest, one_line, print_json, print_line, quoted, size};
use serde::Serialize;

use crate::{
    builder::Builder,
    manifest::{FILE, Manifest, Package},
    options::Options,
    pack::{BuildContext, parse_note, run_build},
    source::{Source, identity},
    tree::Walk,
};

const EXAMPLES: &str = "\
Examples:
  release build -m \"try the new parser\"
  release build -m \"try it\" --out /tmp/debs web
  release build -m \"rebuild\" --time 2026-11-20T19:05:02Z web     reproduce the same bytes";

/// Arguments of `release build`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Build {
    #[command(flatten)]
    build: BuildOptions,
}

/// What to build, and how to record it.
#[derive(Debug, Args)]
pub(crate) struct BuildOptions {
    /// Release note: what this release changes, kept with it permanently
    #[arg(short = 'm', long, value_name = "NOTE")]
    pub(crate) note: Option<String>,
    /// Build time, as in 2026-11-20T19:05:02Z [default: now]
    #[arg(long, value_name = "TIME", env = "PUSH_TIME", hide_env = true)]
    pub(crate) time: Option<Timestamp>,
    /// Packages of release.toml to build [default: all]
    #[arg(value_name = "PACKAGE")]
    pub(crate) packages: Vec<String>,
}

/// A package that was built.
#[derive(Debug, Serialize)]
pub(crate) struct Built {
    /// The release name, which also names its object in the bucket.
    pub(crate) release: ReleaseName,
    /// Path of the `.deb`.
    pub(crate) path: PathBuf,
}

impl Build {
    pub(crate) fn run(self, options: &Options) -> Result<()> {
        let manifest = Manifest::read(&options.directory()?)?;
        let built = self.build.build(options, &manifest)?;
        if options.json {
            return print_json(&built);
        }
        built.iter().try_for_each(|built| print_line(built.path.display()))
    }
}

impl BuildOptions {
    /// Builds everything that is asked for, or fails before anything is uploaded.
    pub(crate) fn build(&self, options: &Options, manifest: &Manifest) -> Result<Vec<Built>> {
        // What is typed wrong is said before anything is looked at.
        self.note()?;
        self.build_in(&Checkout::of(options, manifest, &self.packages)?, manifest, Dirty::Recorded)
    }

    /// The release note.
    pub(crate) fn note(&self) -> Result<Note> {
        let Some(note) = &self.note else {
            return Err(UsageError::new("missing release note: add one, as in -m \"fix the login\"").into());
        };
        parse_note(note).map_err(|error| UsageError::new(error.to_string()).into())
    }

    /// Builds what is chosen of a checkout.
    pub(crate) fn build_in(&self, checkout: &Checkout<'_>, manifest: &Manifest, dirty: Dirty) -> Result<Vec<Built>> {
        let note = self.note()?;
        let Checkout { source, packages, walk } = checkout;
        let builder = Builder::find(|key| std::env::var(key).ok())?;
        let file_time = match std::env::var("SOURCE_DATE_EPOCH") {
            Ok(text) => text.parse().with_context(|| format!("invalid SOURCE_DATE_EPOCH `{}`", one_line(&text)))?,
            Err(_) => source.commit_time,
        };
        let maintainer = maintainer(&manifest.directory, packages)?;
        let mut changes = checkout.changes()?;
        for package in packages {
            run_build(manifest, package, file_time)?;
        }
        if packages.iter().any(|package| !package.build.is_empty()) {
            if !source.is_checked_out()? {
                bail!("another commit was checked out during the build: build again");
            }
            // Outputs of a build are ignored files. If they aren't, git and we agree: it isn't what was committed.
            if changes.is_empty() {
                changes = checkout.changes()?;
            }
        }
        match dirty {
            _ if changes.is_empty() => {}
            Dirty::Recorded => console::warning(format_args!("dirty build, {}", uncommitted(&changes))),
            Dirty::Refused => return Err(refused(&changes)),
        }

        let dirty = !changes.is_empty();
        // Held until the packages have their names: two builds at once would take the same ones.
        let _turn = wait_for_turn(&walk.out);
        let context = |time| BuildContext {
            source: source.clone(),
            dirty,
            maintainer: maintainer.clone(),
            builder: builder.clone(),
            time,
            file_time,
            note: note.clone(),
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

    /// Refuses one with anything that is not committed.
    pub(crate) fn ensure_clean(&self) -> Result<()> {
        let changes = self.changes()?;
        if changes.is_empty() { Ok(()) } else { Err(refused(&changes)) }
    }

    fn changes(&self) -> Result<Vec<String>> {
        let Self { source, packages, walk } = self;
        let mut changes = source.changes()?;
        if let Some(ours) = directory_of_packages(walk, source, packages) {
            changes.retain(|path| !path.starts_with(&ours));
        }
        Ok(changes)
    }
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

/// Waits until no other build writes into the directory. Where directories can't be locked, names are still never taken twice:
/// the later build fails.
fn wait_for_turn(out: &Path) -> Option<File> {
    let directory = File::open(out).ok()?;
    directory.lock().ok()?;
    Some(directory)
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
fn make_directory(out: &Path, source: &Source) -> Result<PathBuf> {
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
