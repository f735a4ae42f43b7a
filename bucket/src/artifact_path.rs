//! Which file of a stage an artifact is.

use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::{NameError, ObjectPath, segment::escaped};

/// The path of a file below the directory of its stage, as `reports/unit.xml`.
///
/// Relative, without `.`, `..` and empty segments, and short enough for the path of an object.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ArtifactPath(String);

text_name!(ArtifactPath);

impl ArtifactPath {
    /// Longest path, in bytes, as it stands in that of an object: what is left there by the names before it.
    pub const MAX: usize = 640;

    /// The name of the file, without directories.
    pub fn file_name(&self) -> &str {
        self.0.rsplit_once('/').map_or(&*self.0, |(_, name)| name)
    }
}

impl FromStr for ArtifactPath {
    type Err = NameError;

    fn from_str(path: &str) -> Result<Self, NameError> {
        let wrong = |reason: &str| Err(NameError::new("path of an artifact", path, reason));
        if path.starts_with('/') {
            return wrong("it is not relative");
        }
        if path.contains('\0') {
            return wrong("it has a null character");
        }
        for segment in path.split('/') {
            if segment.is_empty() {
                return wrong("it has an empty segment");
            }
            if segment == "." || segment == ".." {
                return wrong("it has a segment `.` or `..`");
            }
            if escaped(segment).len() > ObjectPath::MAX_SEGMENT {
                return wrong("a segment is too long");
            }
        }
        if path.split('/').map(|segment| escaped(segment).len() + 1).sum::<usize>() > Self::MAX {
            return wrong("it is too long");
        }
        Ok(Self(path.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_stays_below_its_stage() {
        for good in
            ["a", "report.xml", ".coverage/.x", "a b/ü", "a\\b", "a\nb", "..a", "a/...", "100%", &"x".repeat(240)]
        {
            assert_eq!(good.parse::<ArtifactPath>().map(String::from).as_deref(), Ok(good));
        }
        let (long, longer) = ("x".repeat(241), "x/".repeat(400) + "x");
        for bad in
            ["", "/", "/a", "a/", "a//b", ".", "..", "../a", "a/..", "a/./b", "a\0", &long, &longer, &"%".repeat(81)]
        {
            assert!(bad.parse::<ArtifactPath>().is_err(), "{bad:?} was taken");
        }
        assert_eq!("a/b.xml".parse::<ArtifactPath>().unwrap().file_name(), "b.xml");
    }
}
