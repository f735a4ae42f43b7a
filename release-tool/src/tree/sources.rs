//! The files and directories that a package is made of, as `release.toml` names them.

use std::path::Path;

use crate::manifest::{Content, Package, Prebuilt, Source};

/// Characters that make a `src` a glob.
pub(super) const WILD: [char; 4] = ['*', '?', '[', '{'];

/// A file or a directory that a package is made of.
#[derive(Debug)]
pub(crate) struct Taken<'a> {
    /// How a person finds the entry.
    pub(crate) at: String,
    /// Where it is, or where its glob begins, relative to the manifest's directory.
    pub(crate) path: &'a Path,
    /// Whether it may lie outside of the repository.
    pub(crate) outside: bool,
}

/// What a package is made of.
pub(crate) fn sources(package: &Package) -> impl Iterator<Item = Taken<'_>> {
    let (contents, prebuilt) = match &package.source {
        Source::Recipe(recipe) => (&recipe.contents[..], None),
        Source::Prebuilt(prebuilt) => (&[][..], Some(prebuilt)),
    };
    let prebuilt =
        prebuilt.map(|Prebuilt { deb, outside }| Taken { at: "`deb`".to_owned(), path: deb, outside: *outside });
    let copied = contents.iter().filter_map(|content| match content {
        Content::Copy { at, src, outside, .. } => {
            Some(Taken { at: at.clone(), path: Path::new(base(src)), outside: *outside })
        }
        _ => None,
    });
    let units = package.units.iter().filter_map(|unit| {
        let path = unit.file.as_deref()?;
        Some(Taken { at: format!("unit `{}`", unit.name), path, outside: unit.outside })
    });
    prebuilt.into_iter().chain(copied).chain(units)
}

/// The part of a `src` that is a path: a file, or the directory from which a glob begins.
fn base(src: &str) -> &str {
    split_glob(src).0
}

/// The directory before the first segment with a wildcard, and the glob from there on, if there is one.
pub(super) fn split_glob(src: &str) -> (&str, Option<&str>) {
    let src = src.strip_suffix('/').filter(|src| !src.is_empty()).unwrap_or(src);
    let Some(wild) = src.find(WILD) else { return (src, None) };
    match src[..wild].rfind('/') {
        Some(0) => ("/", Some(&src[1..])),
        Some(slash) => (&src[..slash], Some(&src[slash + 1..])),
        None => ("", Some(src)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn globs_split_before_the_first_wildcard() {
        let table = [
            ("web", ("web", None)),
            ("dist/", ("dist", None)),
            ("dist/**", ("dist", Some("**"))),
            ("a/b/*.js", ("a/b", Some("*.js"))),
            ("*.js", ("", Some("*.js"))),
            ("a/b{c,d}/e", ("a", Some("b{c,d}/e"))),
            ("/*.js", ("/", Some("*.js"))),
            ("../out/**", ("../out", Some("**"))),
        ];
        for (src, expected) in table {
            assert_eq!(split_glob(src), expected, "{src}");
        }
    }
}
