//! The name of a managed machine.

use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::{NameError, name::check_word};

/// A managed machine, by name: usually its short host name. It has one server document.
///
/// 1 to 200 characters, the characters of an [`crate::AppName`].
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ServerName(String);

text_name!(ServerName);

impl ServerName {
    /// Longest server name, in bytes. A host name has at most 64 (hostname(7)); `{name}.json` must fit a file name in a
    /// `file://` bucket.
    pub const MAX: usize = 200;
}

impl FromStr for ServerName {
    type Err = NameError;

    fn from_str(name: &str) -> Result<Self, NameError> {
        check_word("server name", name, Self::MAX)?;
        Ok(Self(name.to_owned()))
    }
}
