//! The name under which releases of one thing are published.

use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::{NameError, name::check_word};

/// The name under which releases are published, and the first path segment below `debs/`.
///
/// 1 to 100 of `A-Z a-z 0-9 + . _ ~ -`, beginning with a letter or digit, without `..`.
/// A [`crate::PackageName`] of at most that length is always a valid app name.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct AppName(String);

text_name!(AppName);

impl AppName {
    /// Longest app name, in bytes.
    pub const MAX: usize = 100;
}

impl FromStr for AppName {
    type Err = NameError;

    fn from_str(name: &str) -> Result<Self, NameError> {
        check_word("app name", name, Self::MAX)?;
        Ok(Self(name.to_owned()))
    }
}
