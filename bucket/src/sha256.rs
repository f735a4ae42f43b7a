//! The hash by which a machine knows that it has the bytes that were released.

use std::{fmt::Write as _, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::NameError;

/// A SHA-256 sum, as 64 lower-case hex digits.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Sha256(String);

text_name!(Sha256);

impl From<[u8; 32]> for Sha256 {
    /// The sum that a hasher gave.
    fn from(digest: [u8; 32]) -> Self {
        Self(digest.iter().fold(String::with_capacity(64), |mut text, byte| {
            let _ = write!(text, "{byte:02x}");
            text
        }))
    }
}

impl FromStr for Sha256 {
    type Err = NameError;

    fn from_str(sum: &str) -> Result<Self, NameError> {
        if sum.len() != 64 || !sum.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b)) {
            return Err(NameError::new("SHA-256 sum", sum, "it must be 64 lower-case hex digits"));
        }
        Ok(Self(sum.to_owned()))
    }
}
