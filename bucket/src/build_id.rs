//! What a build of a change, and a try of it, is called.

use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::{
    NameError,
    random_word::{check, of_bits, random_bits},
};

/// What one build of a change, or one buildset, is called: letters and digits at random, so that two never collide.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct BuildId(String);

text_name!(BuildId);

impl BuildId {
    /// Longest ID, in bytes.
    pub const MAX: usize = 40;

    /// A new one: 60 random bits.
    pub fn random() -> Self {
        Self(of_bits(random_bits()))
    }
}

impl FromStr for BuildId {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        check("build ID", text, Self::MAX)?;
        Ok(Self(text.to_owned()))
    }
}
