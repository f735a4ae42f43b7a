//! What a change is called.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::{NameError, name::check_word};

/// Something proposed for merging, as `web/12`: a project, and what that calls the change, as the number of a pull request.
///
/// Each is 1 to 64 of `A-Z a-z 0-9 . _ -`, beginning with a letter or digit, without `..`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ChangeId {
    project: String,
    change: String,
}

impl ChangeId {
    /// Longest project and longest change, in bytes.
    pub const MAX: usize = 64;

    /// What is said of a project and what it calls a change.
    ///
    /// # Errors
    /// Which rule one of them breaks.
    pub fn new(project: &str, change: &str) -> Result<Self, NameError> {
        check_project(project)?;
        check("change", change)?;
        Ok(Self { project: project.to_owned(), change: change.to_owned() })
    }

    /// The project.
    pub fn project(&self) -> &str {
        &self.project
    }

    /// What the project calls the change.
    pub fn change(&self) -> &str {
        &self.change
    }
}

/// Whether a text is the name of a project.
pub(crate) fn check_project(project: &str) -> Result<(), NameError> {
    check("project", project)
}

fn check(kind: &'static str, word: &str) -> Result<(), NameError> {
    check_word(kind, word, ChangeId::MAX)?;
    match word.chars().find(|c| "+~".contains(*c)) {
        Some(bad) => Err(NameError::new(kind, word, format!("it has the character `{bad}`"))),
        None => Ok(()),
    }
}

impl FromStr for ChangeId {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let form = || NameError::new("change", text, "it is not PROJECT/ID, as in web/12");
        let (project, change) = text.split_once('/').ok_or_else(form)?;
        Self::new(project, change)
    }
}

impl TryFrom<String> for ChangeId {
    type Error = NameError;

    fn try_from(text: String) -> Result<Self, NameError> {
        text.parse()
    }
}

impl From<ChangeId> for String {
    fn from(id: ChangeId) -> Self {
        id.to_string()
    }
}

impl fmt::Display for ChangeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.project, self.change)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_a_project_and_an_id_that_are_safe_as_parts_of_a_path() {
        for good in ["web/12", "a/b", "acme.web_2/I8473b95934b5732ac55d26311a706c9c2bde9940", "1/1.2-x"] {
            assert_eq!(good.parse::<ChangeId>().map(|id| id.to_string()), Ok(good.to_owned()));
        }
        let long = format!("web/{}", "1".repeat(65));
        for bad in [
            "", "web", "/", "web/", "/12", "web/12/3", "../12", "web/..", "web/1..2", "-x/1", "web/-1", ".web/1",
            "we b/1", "web/1\n", "web/é", "web+x/1", "web/1~2", "web\\1/2", &long,
        ] {
            assert!(bad.parse::<ChangeId>().is_err(), "{bad:?} was taken");
        }
    }
}
