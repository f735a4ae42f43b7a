//! The command by which a release may check itself.

use std::{fmt, str::FromStr};

use crate::NameError;

const KIND: &str = "check command";

/// A command line that must exit with 0 before a release counts as healthy: an absolute path and its arguments.
///
/// It is stored separated by spaces and never seen by a shell, so no word of it has a space.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckCommand(Vec<String>);

impl CheckCommand {
    /// The program and its arguments; never empty.
    pub fn words(&self) -> &[String] {
        &self.0
    }
}

impl TryFrom<Vec<String>> for CheckCommand {
    type Error = NameError;

    fn try_from(words: Vec<String>) -> Result<Self, NameError> {
        let wrong = |reason: String| Err(NameError::new(KIND, &words.join(" "), reason));
        if !words.first().is_some_and(|program| program.starts_with('/')) {
            return wrong("its program must be an absolute path".to_owned());
        }
        let odd = |word: &&String| word.is_empty() || word.contains(|c: char| c.is_whitespace() || c.is_control());
        if let Some(word) = words.iter().find(odd) {
            return wrong(format!(
                "its argument `{}` is empty or has a space; put such a command into a script",
                word.escape_debug()
            ));
        }
        Ok(Self(words))
    }
}

impl FromStr for CheckCommand {
    type Err = NameError;

    fn from_str(value: &str) -> Result<Self, NameError> {
        value.split_ascii_whitespace().map(str::to_owned).collect::<Vec<_>>().try_into()
    }
}

impl fmt::Display for CheckCommand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join(" "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_check_is_split_on_spaces_and_joined_again() {
        let check: CheckCommand = "/usr/bin/web  --health\n --fast".parse().unwrap();
        assert_eq!(check.words(), ["/usr/bin/web", "--health", "--fast"]);
        assert_eq!(check.to_string(), "/usr/bin/web --health --fast");
        for bad in [&[][..], &["web"], &["/x", ""], &["/x", "a b"], &["/x\nEssential:"], &["/x", "a\u{a0}b"]] {
            let words: Vec<String> = bad.iter().map(|&word| word.to_owned()).collect();
            assert!(CheckCommand::try_from(words).is_err(), "{bad:?}");
        }
    }
}
