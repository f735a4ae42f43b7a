//! Files that a stage takes from its own copy or from another stage's: which ones a pattern means, and where they come to.
//!
//! Nothing is taken from outside of a copy, and nothing comes to lie outside of one, also not through links that a stage made.

use std::{
    fs,
    io::ErrorKind,
    path::{Component, Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};
use console::{count, safe};
use globset::{GlobBuilder, GlobMatcher};
use pipeline::Leads;

/// Most files that one entry may mean.
const MAX_FILES: usize = 100_000;

/// A file that is meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Found {
    /// The file itself, whichever links lead there.
    pub(super) file: PathBuf,
    /// Where it comes to, below the directory of the own copy.
    pub(super) to: PathBuf,
}

/// The files below a directory of a copy, whose own is `top`, that a source means, each with where it comes to.
///
/// A source without wildcards is one file, which comes to `destination`, or a directory, whose files come below that. With
/// wildcards the files come below `destination`, by their path after the last directory without one; unless that is the source
/// itself, which leaves each where it was.
pub(super) fn find(top: &Path, root: &Path, source: &str, destination: &str) -> Result<Vec<Found>> {
    let source = normal(source);
    let (fixed, has_wildcards) = fixed_part(&source);
    let base = root.join(&fixed);
    let shown = safe(&source.to_string_lossy());
    let metadata = match base.symlink_metadata() {
        Err(error) if error.kind() == ErrorKind::NotFound => bail!("no file is `{shown}`"),
        metadata => metadata.with_context(|| format!("could not look at `{shown}`"))?,
    };
    if !has_wildcards && !metadata.is_dir() {
        let file = inside(top, &base)?;
        return Ok(vec![Found { file, to: normal(destination) }]);
    }
    let matcher = has_wildcards.then(|| matcher(&source)).transpose()?;
    let stays = normal(destination) == source;
    let mut found = Vec::new();
    for file in files_below(&inside_directory(top, &base)?)? {
        let path = base.join(&file);
        let below_root = fixed.join(&file);
        if matcher.as_ref().is_some_and(|matcher| !matcher.is_match(&below_root)) {
            continue;
        }
        let to = if stays { below_root } else { normal(destination).join(&file) };
        found.push(Found { file: inside(top, &path)?, to });
    }
    if found.is_empty() {
        bail!("no file is `{shown}`");
    }
    Ok(found)
}

/// What a path below a directory of a repository leads to, before anything has run there: `top` is its own directory, and `links`
/// are those that it has, below that. Of what isn't there yet it is told by the way to it.
pub(crate) fn leads(top: &Path, root: &Path, links: &[PathBuf], path: &str) -> Leads {
    let source = normal(path);
    let (fixed, has_wildcards) = fixed_part(&source);
    let base = root.join(&fixed);
    let Ok(own) = top.canonicalize() else { return Leads::Elsewhere };
    let is_out = |path: &Path| match path.canonicalize() {
        Ok(resolved) => !resolved.starts_with(&own),
        // A link to nothing: what would be there is no part of the repository.
        Err(_) => fs::read_link(path).is_ok_and(|target| target.is_absolute()),
    };
    let there = base.ancestors().find(|path| path.symlink_metadata().is_ok()).unwrap_or(root);
    let matcher = has_wildcards.then(|| matcher(&source).ok()).flatten();
    let is_meant = |link: &Path| {
        link.starts_with(&base)
            && matcher.as_ref().is_none_or(|matcher| link.strip_prefix(root).is_ok_and(|path| matcher.is_match(path)))
    };
    if is_out(there) || links.iter().map(|link| top.join(link)).any(|link| is_meant(&link) && is_out(&link)) {
        return Leads::Out;
    }
    if base.is_dir() { Leads::Directory } else { Leads::Elsewhere }
}

/// Whether links of a repository have a say in what a path leads to.
pub(super) fn touches(links: &[PathBuf], path: &Path) -> bool {
    let (fixed, _) = fixed_part(path);
    links.iter().any(|link| fixed.starts_with(link) || link.starts_with(&fixed))
}

/// Copies a file to where it comes to, below a directory of the own copy, whose own is `top`.
pub(super) fn take(top: &Path, root: &Path, found: &Found) -> Result<()> {
    let to = root.join(&found.to);
    let shown = || format!("could not copy to `{}`", safe(&found.to.to_string_lossy()));
    let directory = to.parent().unwrap_or(root);
    // What is there of it leads nowhere else; what is not, is made, and has no links.
    let there = directory.ancestors().find(|ancestor| ancestor.symlink_metadata().is_ok()).unwrap_or(top);
    inside_directory(top, there)?;
    fs::create_dir_all(directory).with_context(shown)?;
    inside_directory(top, directory)?;
    match to.symlink_metadata() {
        Ok(metadata) if metadata.is_symlink() => fs::remove_file(&to).with_context(shown)?,
        Ok(metadata) if !metadata.is_file() => bail!("{}: something is there that is no file", shown()),
        _ => {}
    }
    if to.canonicalize().is_ok_and(|there| there == found.file) {
        return Ok(());
    }
    fs::copy(&found.file, &to).with_context(shown).map(drop)
}

/// The directory itself, if it is one and lies in a copy, whichever links lead there.
pub(super) fn inside_directory(top: &Path, path: &Path) -> Result<PathBuf> {
    let directory = resolved(top, path)?;
    if !directory.is_dir() {
        bail!("`{}` is no directory", below(top, path));
    }
    Ok(directory)
}

/// A path without `.`.
pub(super) fn normal(path: &str) -> PathBuf {
    Path::new(path).components().filter(|component| *component != Component::CurDir).collect()
}

/// The directories of a source that have no wildcards, and whether there is one after them.
fn fixed_part(source: &Path) -> (PathBuf, bool) {
    let has_wildcard = |component: &Component| component.as_os_str().to_string_lossy().contains(['*', '?', '[', '{']);
    let fixed: PathBuf = source.components().take_while(|component| !has_wildcard(component)).collect();
    let has_wildcards = fixed != source;
    (fixed, has_wildcards)
}

fn matcher(source: &Path) -> Result<GlobMatcher> {
    let pattern = source.to_string_lossy();
    let glob = GlobBuilder::new(&pattern).literal_separator(true).build();
    Ok(glob.with_context(|| format!("`{}` is no pattern of files", safe(&pattern)))?.compile_matcher())
}

/// The files below a directory, relative to it, in order; what git keeps of itself there is none. Links are not followed.
fn files_below(directory: &Path) -> Result<Vec<PathBuf>> {
    let (mut found, mut left) = (Vec::new(), vec![PathBuf::new()]);
    while let Some(below) = left.pop() {
        let shown = || format!("could not read the directory `{}`", safe(&below.to_string_lossy()));
        for entry in fs::read_dir(directory.join(&below)).with_context(shown)? {
            let entry = entry.with_context(shown)?;
            let path = below.join(entry.file_name());
            if entry.file_type().with_context(shown)?.is_dir() {
                if entry.file_name() != ".git" {
                    left.push(path);
                }
            } else {
                found.push(path);
            }
            if found.len() > MAX_FILES {
                bail!("there are more than {}: name fewer", count(MAX_FILES, "file"));
            }
        }
    }
    found.sort();
    Ok(found)
}

/// A file, if it is one and lies in the copy, whichever links lead there.
pub(super) fn inside(top: &Path, path: &Path) -> Result<PathBuf> {
    let file = resolved(top, path)?;
    if !file.is_file() {
        bail!("`{}` is neither a file nor a link to one", below(top, path));
    }
    Ok(file)
}

/// What a path leads to, which has to be in the copy.
fn resolved(top: &Path, path: &Path) -> Result<PathBuf> {
    let resolved = path.canonicalize().with_context(|| format!("could not find `{}`", below(top, path)))?;
    if !resolved.starts_with(top.canonicalize().context("could not find the stage's copy")?) {
        bail!("`{}` is a link that leads out of the stage's copy", below(top, path));
    }
    Ok(resolved)
}

/// A path as it is below the copy, for people.
fn below(top: &Path, path: &Path) -> String {
    safe(&path.strip_prefix(top).unwrap_or(path).to_string_lossy())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use tempfile::TempDir;

    use super::*;

    fn directory(files: &[&str]) -> TempDir {
        let directory = TempDir::new().unwrap();
        for file in files {
            let path = directory.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, file).unwrap();
        }
        directory
    }

    fn found(root: &Path, source: &str, destination: &str) -> Result<Vec<String>, String> {
        let found = find(root, root, source, destination).map_err(|error| format!("{error:#}"))?;
        Ok(found.iter().map(|found| found.to.display().to_string()).collect())
    }

    #[test]
    fn what_a_source_means_comes_to_where_it_is_said() {
        let root = directory(&["a.xml", "out/b.xml", "out/deep/c.xml", "out/d.txt", ".git/e.xml", ".hidden/f.xml"]);
        for (source, destination, expected) in [
            ("a.xml", "a.xml", &["a.xml"][..]),
            ("./a.xml", "reports/x.xml", &["reports/x.xml"]),
            ("out", "out", &["out/b.xml", "out/d.txt", "out/deep/c.xml"]),
            ("out", "got", &["got/b.xml", "got/d.txt", "got/deep/c.xml"]),
            ("out/*.xml", "out/*.xml", &["out/b.xml"]),
            ("out/*.xml", "got", &["got/b.xml"]),
            ("out/**/*.xml", ".", &["b.xml", "deep/c.xml"]),
            ("**/*.xml", "**/*.xml", &[".hidden/f.xml", "a.xml", "out/b.xml", "out/deep/c.xml"]),
            ("*", "*", &["a.xml"]),
        ] {
            let expected: Vec<String> = expected.iter().map(ToString::to_string).collect();
            assert_eq!(found(root.path(), source, destination), Ok(expected), "{source} -> {destination}");
        }
        for (source, reason) in
            [("none", "no file is `none`"), ("out/*.md", "no file is `out/*.md`"), ("x/[", "no file is `x/[`")]
        {
            assert_eq!(found(root.path(), source, source), Err(reason.to_owned()));
        }
    }

    #[test]
    fn links_lead_to_files_of_the_copy_and_nowhere_else() {
        let (root, other) = (directory(&["in/a", "in/b"]), directory(&["secret"]));
        let secret = other.path().join("secret");
        symlink("in/a", root.path().join("inside")).unwrap();
        symlink(&secret, root.path().join("outside")).unwrap();
        symlink(other.path(), root.path().join("directory")).unwrap();
        assert_eq!(found(root.path(), "inside", "inside"), Ok(vec!["inside".to_owned()]));
        for source in ["outside", "directory/secret", "directory/*", "out*"] {
            let refused = found(root.path(), source, "x").unwrap_err();
            assert!(refused.contains("leads out of the stage's copy"), "{source}: {refused}");
        }
        let one = Found { file: root.path().join("in/a").canonicalize().unwrap(), to: "directory/x".into() };
        let refused = format!("{:#}", take(root.path(), root.path(), &one).unwrap_err());
        assert!(refused.contains("`directory` is a link that leads out"), "{refused}");
        assert!(!other.path().join("x").exists());
        // What lies there as a link is replaced, and what it leads to is left.
        take(root.path(), root.path(), &Found { to: "outside".into(), ..one.clone() }).unwrap();
        assert_eq!(fs::read_to_string(&secret).unwrap(), "secret");
        assert_eq!(fs::read_to_string(root.path().join("outside")).unwrap(), "in/a");
        // A file that stays where it is isn't emptied.
        take(root.path(), root.path(), &Found { to: "in/a".into(), ..one }).unwrap();
        assert_eq!(fs::read_to_string(root.path().join("in/a")).unwrap(), "in/a");
    }
}
