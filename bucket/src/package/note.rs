//! Why a release was built, in the words of who built it.

use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::escape::escape;
use crate::NameError;

/// A release note: any text with more than white space in it, at most [`Note::MAX`] bytes as it is
/// written into a control file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Note(String);

text_name!(Note);

impl Note {
    /// Longest note, in bytes: metadata of an object has room for 8 KiB in all.
    pub const MAX: usize = 2048;
}

impl FromStr for Note {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let text = text.trim();
        if text.is_empty() {
            return Err(NameError::new("note", text, "it is empty"));
        }
        if escape(text).len() > Self::MAX {
            let reason = format!("it is longer than {} bytes", Self::MAX);
            return Err(NameError::new("note", text, reason));
        }
        Ok(Self(text.to_owned()))
    }
}
