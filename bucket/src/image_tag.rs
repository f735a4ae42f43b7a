//! What a repository calls one of its manifests.

use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::{Commit, NameError};

/// A tag: 1 to 128 of `A-Z a-z 0-9 _ . -`, and neither `.` nor `-` at its beginning.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ImageTag(String);

/// The longest tag, in bytes.
const MAX: usize = 128;

text_name!(ImageTag);

impl From<&Commit> for ImageTag {
    /// The tag that says of which commit an image is.
    fn from(commit: &Commit) -> Self {
        Self(commit.to_string())
    }
}

impl FromStr for ImageTag {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let wrong = |reason: &str| Err(NameError::new("tag", text, reason));
        if text.is_empty() {
            return wrong("it is empty");
        }
        if text.len() > MAX {
            return wrong("it is longer than 128 characters");
        }
        if let Some(bad) = text.chars().find(|c| !c.is_ascii_alphanumeric() && !"_.-".contains(*c)) {
            return wrong(&format!("it has the character `{}`", bad.escape_debug()));
        }
        if text.starts_with(['.', '-']) {
            return wrong("it must begin with a letter, a digit or `_`");
        }
        Ok(Self(text.to_owned()))
    }
}
