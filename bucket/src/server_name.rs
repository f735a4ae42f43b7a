//! The name of a managed machine.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::{NameError, app_name::check_word};

/// A managed machine, by name: usually its short host name. It has one server document.
///
/// 1 to 200 characters, the characters of an [`crate::AppName`].
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ServerName(String);

impl ServerName {
    /// Longest server name, in bytes. A host name has at most 64 (hostname(7)); `{name}.json` must fit a file name in a
    /// `file://` bucket.
    pub const MAX: usize = 200;

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for ServerName {
    type Err = NameError;

    fn from_str(name: &str) -> Result<Self, NameError> {
        check_word("server name", name, Self::MAX)?;
        Ok(Self(name.to_owned()))
    }
}

impl TryFrom<String> for ServerName {
    type Error = NameError;

    fn try_from(name: String) -> Result<Self, NameError> {
        name.parse()
    }
}

impl From<ServerName> for String {
    fn from(name: ServerName) -> Self {
        name.0
    }
}

impl fmt::Display for ServerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
