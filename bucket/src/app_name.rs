//! The name under which releases of one thing are published.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::NameError;

/// The name under which releases are published, and the first path segment below `debs/`.
///
/// 1 to 100 of `A-Z a-z 0-9 + . _ ~ -`, beginning with a letter or digit, without `..`.
/// A Debian package name (Debian Policy §5.6.1) is always a valid app name.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct AppName(String);

impl AppName {
    /// Longest app name, in bytes.
    pub const MAX: usize = 100;

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for AppName {
    type Err = NameError;

    fn from_str(name: &str) -> Result<Self, NameError> {
        check_word("app name", name, Self::MAX)?;
        Ok(Self(name.to_owned()))
    }
}

impl TryFrom<String> for AppName {
    type Error = NameError;

    fn try_from(name: String) -> Result<Self, NameError> {
        name.parse()
    }
}

impl From<AppName> for String {
    fn from(name: AppName) -> Self {
        name.0
    }
}

impl fmt::Display for AppName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The rule that app names, server names, users and hosts share: one word that is safe as a path segment,
/// as a command's argument and in a terminal.
pub(crate) fn check_word(kind: &'static str, word: &str, max: usize) -> Result<(), NameError> {
    let wrong = |reason: &str| Err(NameError::new(kind, word, reason));
    let Some(first) = word.chars().next() else {
        return wrong("it is empty");
    };
    if word.len() > max {
        return wrong(&format!("it is longer than {max} bytes"));
    }
    if !first.is_ascii_alphanumeric() {
        return wrong("it must begin with a letter or a digit");
    }
    if let Some(bad) = word.chars().find(|c| !c.is_ascii_alphanumeric() && !"+._~-".contains(*c)) {
        return wrong(&format!("it has the character `{}`", bad.escape_debug()));
    }
    if word.contains("..") {
        return wrong("it has `..`");
    }
    Ok(())
}
