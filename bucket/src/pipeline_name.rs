//! What pipelines and their stages are called.

use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::NameError;

/// Longest name of a pipeline, and of a stage, in bytes.
const MAX: usize = 64;

/// The name of a pipeline: 1 to 64 of `A-Z a-z 0-9 . _ -`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PipelineName(String);

text_name!(PipelineName);

impl FromStr for PipelineName {
    type Err = NameError;

    fn from_str(name: &str) -> Result<Self, NameError> {
        check("pipeline", name)?;
        Ok(Self(name.to_owned()))
    }
}

/// The name of a stage within its pipeline: 1 to 64 of `A-Z a-z 0-9 . _ -`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct StageName(String);

text_name!(StageName);

impl FromStr for StageName {
    type Err = NameError;

    fn from_str(name: &str) -> Result<Self, NameError> {
        check("stage", name)?;
        Ok(Self(name.to_owned()))
    }
}

/// The rule of the file that they are written in.
fn check(kind: &'static str, name: &str) -> Result<(), NameError> {
    if name.is_empty() {
        return Err(NameError::new(kind, name, "it is empty"));
    }
    if name.len() > MAX {
        return Err(NameError::new(kind, name, format!("it is longer than {MAX} characters")));
    }
    match name.chars().find(|c| !c.is_ascii_alphanumeric() && !"._-".contains(*c)) {
        Some(bad) => Err(NameError::new(kind, name, format!("it has the character `{}`", bad.escape_debug()))),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_the_file() {
        for good in ["a", "unit-tests_2.x", "..", &"x".repeat(64)] {
            assert_eq!(good.parse::<PipelineName>().map(String::from).as_deref(), Ok(good));
            assert_eq!(good.parse::<StageName>().map(String::from).as_deref(), Ok(good));
        }
        for bad in ["", "a b", "a/b", "\u{e9}", "a\n", &"x".repeat(65)] {
            assert!(bad.parse::<PipelineName>().is_err() && bad.parse::<StageName>().is_err(), "{bad:?} was taken");
        }
    }
}
