//! Why a release was built, in the words of who built it.

use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::escape::escape;
use crate::{NameError, ReleaseMetadata, name::text_name};

/// A release note: any text with more than white space in it, at most [`ReleaseMetadata::MAX_NOTE`] bytes as it is
/// written into a control file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Note(String);

text_name!(Note);

impl FromStr for Note {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let text = text.trim();
        if text.is_empty() {
            return Err(NameError::new("note", text, "it is empty"));
        }
        if escape(text).len() > ReleaseMetadata::MAX_NOTE {
            let reason = format!("it is longer than {} bytes", ReleaseMetadata::MAX_NOTE);
            return Err(NameError::new("note", text, reason));
        }
        Ok(Self(text.to_owned()))
    }
}
