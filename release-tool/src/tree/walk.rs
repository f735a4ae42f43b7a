//! Finding the files that a `src` means: one file, a whole directory, or what a glob matches.

use std::{
    error, fmt,
    fs::{self, Metadata},
    io::ErrorKind,
    num::NonZero,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _},
    panic::resume_unwind,
    path::{Path, PathBuf},
    sync::{Condvar, Mutex, PoisonError},
    thread,
};

use anyhow::{Context, Error, Result, bail};
use bucket::ReleaseName;
use console::safe;
use globset::{GlobBuilder, GlobMatcher};

use super::{
    Kind,
    sources::{WILD, sources, split_glob},
};
use crate::manifest::{Package, Target};

/// Git's own directory, or the file that says where it is. Its configuration may have credentials.
const GIT: &str = ".git";

/// Most threads that read directories.
const MOST_THREADS: usize = 8;

/// What the name of an unfinished package begins with, where it has to have one.
pub(crate) const UNFINISHED: &str = ".release-";

/// Finds sources in a project.
#[derive(Debug)]
pub(crate) struct Walk {
    /// The directory of `release.toml`, which sources are relative to.
    pub(crate) directory: PathBuf,
    /// Where `release` puts the packages it builds: they are never contents of the next one.
    pub(crate) out: PathBuf,
    /// What a release is built from: sources that lie elsewhere, links followed, are only taken if that is said.
    repository: PathBuf,
}

/// That a source isn't there, which a build may mend, unlike any other mistake.
#[derive(Debug)]
pub(crate) struct NotThere(String);

impl fmt::Display for NotThere {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl error::Error for NotThere {}

/// A `src`, and what is said of it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wanted<'a> {
    /// A path or a glob, relative to the manifest's directory.
    pub(crate) src: &'a str,
    /// Where it goes.
    pub(crate) dst: &'a Target,
    /// Globs of files to leave out.
    pub(crate) exclude: &'a [String],
    /// Whether it may lie outside of the repository.
    pub(crate) outside: bool,
}

/// A file, directory or link that a `src` matches.
#[derive(Debug)]
pub(crate) struct Found {
    /// Where it goes, without the slash at the beginning.
    pub(crate) path: String,
    /// What it is; whether a file is a conffile is not decided here.
    pub(crate) kind: Kind,
    /// Whether its owner may execute it.
    pub(crate) executable: bool,
    /// Whether `src` is this very file, and no tree or glob.
    pub(crate) is_named: bool,
}

impl Walk {
    /// For a project in `directory`, which is absolute and without links, with packages that go to `out`.
    pub(crate) fn new(directory: PathBuf, out: PathBuf) -> Self {
        let has_git = |directory: &&Path| fs::symlink_metadata(directory.join(GIT)).is_ok();
        let repository = directory.ancestors().find(has_git).unwrap_or(&directory).to_owned();
        let out = out.canonicalize().unwrap_or(out);
        Self { directory, out, repository }
    }

    /// A regular file of the project, links followed.
    pub(crate) fn file(&self, path: &Path) -> Result<(PathBuf, Metadata)> {
        let source = self.directory.join(path);
        let metadata = attributes(&source)?;
        if !metadata.is_file() {
            bail!("`{}` is not a regular file", source.display());
        }
        Ok((source, metadata))
    }

    /// Where a source is, links followed, if that is outside of the repository.
    pub(crate) fn outside(&self, path: &Path) -> Option<PathBuf> {
        let real = self.directory.join(path).canonicalize().ok()?;
        (!real.starts_with(&self.repository)).then_some(real)
    }

    /// Refuses a source outside of the repository, of which nobody said that it is meant.
    pub(crate) fn check_inside(&self, path: &Path, outside: bool) -> Result<()> {
        match self.outside(path).filter(|_| !outside) {
            None => Ok(()),
            Some(real) => bail!(
                "`{}` is `{}`, outside of the repository `{}`: to take it all the same, add outside = true",
                path.display(),
                real.display(),
                self.repository.display()
            ),
        }
    }

    /// Whether a source of a package is the output directory, or lies in it.
    pub(crate) fn takes_from_out(&self, package: &Package) -> bool {
        let is_in_out =
            |path: &Path| self.directory.join(path).canonicalize().is_ok_and(|real| real.starts_with(&self.out));
        sources(package).any(|taken| is_in_out(taken.path))
    }

    /// Everything that `src` means and no `exclude` leaves out; never nothing.
    pub(crate) fn find(&self, wanted: Wanted) -> Result<Vec<Found>> {
        let Wanted { src, dst, exclude, outside } = wanted;
        let exclude = exclude.iter().map(|glob| matcher(glob)).collect::<Result<Vec<_>>>()?;
        let (base, glob) = split_glob(src);
        let matcher = matcher(glob.unwrap_or("**"))?;
        if glob.is_some() && !dst.is_directory {
            bail!("`{src}` may match several files: end `dst` with a slash, as in dst = \"/{}/\"", dst.path);
        }
        let start = self.directory.join(base);
        // What is named outright may be a link to the real thing, as build tools like to make.
        let metadata = attributes(&start)?;
        self.check_inside(Path::new(base), outside)?;
        let glob = match glob {
            None if metadata.is_file() => {
                let name = Path::new(src).file_name().and_then(|name| name.to_str()).unwrap_or_default();
                let path = if dst.is_directory { join(&dst.path, name) } else { dst.path.clone() };
                let kind = Kind::File { source: start, size: metadata.len(), inode: None, conffile: false };
                return Ok(vec![Found { path, kind, executable: is_executable(&metadata), is_named: true }]);
            }
            None if metadata.is_dir() => "**",
            None => bail!("`{}` is neither a file nor a directory", start.display()),
            Some(_) if !metadata.is_dir() => bail!("`{}` is not a directory", start.display()),
            Some(glob) => glob,
        };
        let start = start.canonicalize().with_context(|| format!("could not read `{}`", start.display()))?;
        let scan = Scan {
            walk: self,
            matcher,
            // `dist/*` means the files right there. Directories of their own right come with `**` only.
            directories: glob == "**" || glob.ends_with("/**"),
            git: glob.split('/').any(|segment| segment == GIT),
            base,
            exclude,
            dst,
        };
        let found = scan.run(start)?;
        if found.is_empty() {
            let hint = self.hint(src, &scan.exclude);
            let text = format!("`{src}` matches no files in `{}`{hint}", self.directory.display());
            return Err(NotThere(text).into());
        }
        Ok(found)
    }

    /// Why a glob may match nothing.
    fn hint(&self, src: &str, exclude: &[GlobMatcher]) -> String {
        let excluded = if exclude.is_empty() { "" } else { " after applying `exclude`" };
        let ends = src.match_indices('/').map(|(slash, _)| slash).chain([src.len()]);
        let named = ends.map(|end| src.split_at(end)).find(|(path, _)| {
            let name = path.rsplit('/').next().unwrap_or_default();
            name.contains(WILD) && fs::symlink_metadata(self.directory.join(path)).is_ok()
        });
        match named {
            None => excluded.to_owned(),
            Some((path, rest)) => format!(
                "{excluded}: `{path}` exists, but `[`, `{{`, `*` and `?` have a meaning in `src`; to name it, write \"{}{rest}\"",
                literal(path)
            ),
        }
    }
}

/// What is known of a source, links followed.
fn attributes(source: &Path) -> Result<Metadata> {
    fs::metadata(source).map_err(|error| match error.kind() {
        ErrorKind::NotFound => NotThere(format!("`{}` not found", source.display())).into(),
        _ => Error::new(error).context(format!("could not read the attributes of `{}`", source.display())),
    })
}

/// The glob that matches exactly this path.
fn literal(path: &str) -> String {
    path.chars().fold(
        String::new(),
        |glob, c| {
            if "[]{}*?".contains(c) { format!("{glob}[{c}]") } else { format!("{glob}{c}") }
        },
    )
}

struct Scan<'a> {
    walk: &'a Walk,
    matcher: GlobMatcher,
    directories: bool,
    /// Whether the glob itself names `.git`.
    git: bool,
    base: &'a str,
    exclude: Vec<GlobMatcher>,
    dst: &'a Target,
}

/// A directory that is yet to be read, and its path from where the glob begins.
type Unread = (PathBuf, String);

/// The directories that are yet to be read.
struct Unreads {
    list: Vec<Unread>,
    /// How many are being read now, and may have others in them.
    reading: usize,
}

impl Scan<'_> {
    /// Everything that matches, sorted. Several threads read directories side by side.
    fn run(&self, start: PathBuf) -> Result<Vec<Found>> {
        let threads = thread::available_parallelism().map_or(1, NonZero::get).min(MOST_THREADS);
        let unreads = Mutex::new(Unreads { list: vec![(start, String::new())], reading: 0 });
        let changed = Condvar::new();
        let found = thread::scope(|scope| {
            let read = || {
                let mut found = self.read_directories(&unreads, &changed)?;
                found.sort_unstable_by(|a, b| a.path.cmp(&b.path));
                Ok(found)
            };
            let others: Vec<_> = (1..threads).map(|_| scope.spawn(read)).collect();
            let mut found = vec![read()];
            found.extend(others.into_iter().map(|other| other.join().unwrap_or_else(|panic| resume_unwind(panic))));
            found
        });
        let mut found: Vec<Found> = found.into_iter().collect::<Result<Vec<_>>>()?.into_iter().flatten().collect();
        // A stable sort only has to merge what is sorted already.
        found.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(found)
    }

    /// Reads directories until none is left; what matches in them.
    fn read_directories(&self, unreads: &Mutex<Unreads>, changed: &Condvar) -> Result<Vec<Found>> {
        let lock = || unreads.lock().unwrap_or_else(PoisonError::into_inner);
        let mut found = Vec::new();
        loop {
            let is_unknown = |unreads: &mut Unreads| unreads.list.is_empty() && unreads.reading > 0;
            let mut left = changed.wait_while(lock(), is_unknown).unwrap_or_else(PoisonError::into_inner);
            let Some((directory, below)) = left.list.pop() else { return Ok(found) };
            left.reading += 1;
            drop(left);
            let inside = self.directory(&directory, &below, &mut found);
            let mut left = lock();
            left.reading -= 1;
            match inside {
                Ok(inside) => left.list.extend(inside),
                Err(error) => {
                    // The others end too.
                    left.list.clear();
                    changed.notify_all();
                    return Err(error);
                }
            }
            changed.notify_all();
        }
    }

    /// Adds what matches in a directory; `below` is its path from the glob's base. The directories in it are left to others.
    fn directory(&self, directory: &Path, below: &str, found: &mut Vec<Found>) -> Result<Vec<Unread>> {
        let mut inside = Vec::new();
        let unreadable = || format!("could not read the directory `{}`", directory.display());
        for entry in fs::read_dir(directory).with_context(unreadable)? {
            let entry = entry.with_context(unreadable)?;
            let source = entry.path();
            let shown = source.display();
            let name = entry.file_name();
            let Some(name) = name.to_str().filter(|name| !name.chars().any(char::is_control)) else {
                bail!("invalid file name `{}`: it must be UTF-8 without control characters", safe(&shown.to_string()));
            };
            let path = join(below, name);
            // A person may think of either: the path from where the glob begins to be one, or from the project.
            let from_project = join(self.base, &path);
            let excludes = |path: &str| self.exclude.iter().any(|glob| glob.is_match(path));
            if excludes(&path) || excludes(&from_project) || (name == GIT && !self.git) {
                continue;
            }
            let kind = entry.file_type().with_context(|| format!("could not read the attributes of `{shown}`"))?;
            let matches = self.matcher.is_match(&path);
            if kind.is_dir() {
                // What leaves out all that is in a directory leaves out the directory.
                if excludes(&join(&path, "")) || excludes(&join(&from_project, "")) || source == self.walk.out {
                    continue;
                }
                if matches && self.directories {
                    let path = join(&self.dst.path, &path);
                    found.push(Found { path, kind: Kind::Directory, executable: true, is_named: false });
                }
                inside.push((source, path));
                continue;
            }
            let leads_out = || kind.is_symlink() && source.canonicalize().is_ok_and(|real| real == self.walk.out);
            if !matches || self.is_made_here(&source, name) || leads_out() {
                continue;
            }
            let path = join(&self.dst.path, &path);
            if kind.is_symlink() {
                let to = self.link_target(&source)?;
                found.push(Found { path, kind: Kind::Link { to }, executable: true, is_named: false });
            } else if kind.is_file() {
                let metadata =
                    entry.metadata().with_context(|| format!("could not read the attributes of `{shown}`"))?;
                let executable = is_executable(&metadata);
                found.push(Found {
                    path,
                    kind: Kind::File { source, size: metadata.len(), inode: shared_inode(&metadata), conffile: false },
                    executable,
                    is_named: false,
                });
            } else {
                bail!("`{shown}` is neither a file, a directory nor a link: add it to `exclude`");
            }
        }
        Ok(inside)
    }

    fn link_target(&self, source: &Path) -> Result<String> {
        let shown = source.display();
        let to = fs::read_link(source).with_context(|| format!("could not read the link `{shown}`"))?;
        if to.starts_with(&self.walk.directory) {
            bail!("the link `{shown}` points to `{}`, which does not exist on servers: make it relative", to.display());
        }
        match to.to_str().filter(|to| !to.chars().any(char::is_control)) {
            Some(to) => Ok(to.to_owned()),
            None => bail!("invalid target of the link `{shown}`: it must be UTF-8 without control characters"),
        }
    }

    /// Whether it is a file that `release` made in the directory for packages: `dist/**` would put a release into the
    /// next one, and that into the next.
    fn is_made_here(&self, source: &Path, name: &str) -> bool {
        source.parent() == Some(&self.walk.out) && is_ours(name)
    }
}

/// Whether `release` gives this name to what it makes in the directory for packages.
fn is_ours(name: &str) -> bool {
    let release = |stem| ReleaseName::from_stem(stem).is_ok();
    name == ".gitignore" || name.starts_with(UNFINISHED) || name.strip_suffix(".deb").is_some_and(release)
}

fn matcher(glob: &str) -> Result<GlobMatcher> {
    let built = GlobBuilder::new(glob).literal_separator(true).build();
    Ok(built.with_context(|| format!("invalid glob `{}`", safe(glob)))?.compile_matcher())
}

fn join(directory: &str, name: &str) -> String {
    match directory {
        "" => name.to_owned(),
        _ => format!("{}/{name}", directory.strip_suffix('/').unwrap_or(directory)),
    }
}

/// Device and number of an inode that has several names.
fn shared_inode(metadata: &Metadata) -> Option<(u64, u64)> {
    (metadata.nlink() > 1).then(|| (metadata.dev(), metadata.ino()))
}

fn is_executable(metadata: &Metadata) -> bool {
    metadata.permissions().mode() & 0o100 != 0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(src: &str, exclude: &[&str]) -> Result<Vec<String>> {
        let directory = tempfile::tempdir()?;
        let files =
            ["d/a.js", "d/a.js.map", "d/sub/b.js", "d/sub/b.js.map", "d/node_modules/x.js", "t/[slug].js", "t/{a}/b"];
        for path in files {
            let path = directory.path().join(path);
            fs::create_dir_all(path.parent().unwrap())?;
            fs::write(path, "x")?;
        }
        fs::create_dir(directory.path().join("d/empty"))?;
        let walk = Walk::new(directory.path().canonicalize()?, directory.path().join("dist"));
        let exclude: Vec<String> = exclude.iter().map(|glob| (*glob).to_owned()).collect();
        let dst = Target { path: "srv".to_owned(), is_directory: true };
        let wanted = Wanted { src, dst: &dst, exclude: &exclude, outside: false };
        let mut paths: Vec<String> = walk.find(wanted)?.into_iter().map(|found| found.path).collect();
        paths.sort();
        Ok(paths)
    }

    #[test]
    fn trees_keep_their_shape() {
        let all = ["srv/a.js", "srv/empty", "srv/sub", "srv/sub/b.js"];
        assert_eq!(find("d/**", &["**/*.map", "node_modules"]).unwrap(), all);
        assert_eq!(find("d", &["d/**/*.map", "d/node_modules"]).unwrap(), all);
        assert_eq!(find("d/*.js", &[]).unwrap(), ["srv/a.js"]);
        assert_eq!(find("d/*", &[]).unwrap(), ["srv/a.js", "srv/a.js.map"]);
        assert_eq!(find("d/**/*.js", &["node_modules/**"]).unwrap(), ["srv/a.js", "srv/sub/b.js"]);
    }

    #[test]
    fn what_is_left_out_whole_leaves_no_empty_directory() {
        let expected = ["srv/a.js", "srv/a.js.map", "srv/empty"];
        assert_eq!(find("d/**", &["**/node_modules/**", "sub/**"]).unwrap(), expected);
        assert_eq!(find("d", &["d/node_modules/**", "d/sub/**"]).unwrap(), expected);
    }

    #[test]
    fn matching_nothing_is_an_error() {
        assert!(find("d/*.css", &[]).unwrap_err().to_string().contains("matches no files"));
        assert!(find("d/*.js", &["*.js"]).unwrap_err().to_string().contains("`exclude`"));
        for (src, better) in [("t/[slug].js", "t/[[]slug[]].js"), ("t/{a}/*", "t/[{]a[}]/*")] {
            let said = find(src, &[]).unwrap_err().to_string();
            assert!(said.ends_with(&format!("to name it, write \"{better}\"")), "{said}");
            find(better, &[]).unwrap();
        }
        assert!(find("e/**", &[]).unwrap_err().to_string().contains("not found"));
    }
}
