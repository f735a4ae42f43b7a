//! Names with `*` for any run of characters, as rules write them.

use std::fmt;

use bucket::AppName;
use thiserror::Error;

/// The longest pattern, in bytes.
const MAX_LENGTH: usize = 254;

/// The text isn't a pattern.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum PatternError {
    /// It is empty, or longer than any name.
    #[error("must have 1 to {MAX_LENGTH} characters")]
    Length,
    /// No name has such a character.
    #[error("a name cannot contain `{}`: use letters, digits, `@._+-`, or `*` for any characters", .0.escape_debug())]
    Character(char),
}

/// A name, or one with `*` in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern(String);

impl Pattern {
    /// A pattern.
    ///
    /// # Errors
    /// When no name could match it.
    pub fn new(text: &str) -> Result<Self, PatternError> {
        let valid = |c: char| c == '*' || c.is_ascii_alphanumeric() || "@._+-".contains(c);
        if text.is_empty() || text.len() > MAX_LENGTH {
            return Err(PatternError::Length);
        }
        match text.chars().find(|c| !valid(*c)) {
            Some(c) => Err(PatternError::Character(c)),
            None => Ok(Self(text.to_owned())),
        }
    }

    /// Whether a name matches.
    pub fn matches(&self, name: &str) -> bool {
        let mut pieces = self.0.split('*');
        let first = pieces.next().unwrap_or_default();
        let Some(mut rest) = name.strip_prefix(first) else { return false };
        let Some(last) = pieces.next_back() else { return rest.is_empty() };
        for piece in pieces {
            // The leftmost place leaves most for what follows.
            let Some(at) = rest.find(piece) else { return false };
            rest = &rest[at + piece.len()..];
        }
        rest.ends_with(last)
    }

    /// The app that it names, if it is no pattern.
    pub(crate) fn as_app(&self) -> Option<AppName> {
        self.0.parse().ok()
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_is_any_run_of_characters() {
        for (pattern, name, want) in [
            ("web", "web", true),
            ("web", "web-1", false),
            ("web-*", "web-1", true),
            ("web-*", "web-", true),
            ("web-*", "web", false),
            ("*-stage", "web-stage", true),
            ("*-stage", "stage", false),
            ("*", "", true),
            ("a*b*c", "abc", true),
            ("a*b*c", "aXbbYc", true),
            ("a*b*c", "acb", false),
            ("a*a", "a", false),
            ("*@acme.example", "dev@acme.example", true),
            ("*@acme.example", "dev@acme.example.evil", false),
        ] {
            assert_eq!(Pattern::new(pattern).unwrap().matches(name), want, "{pattern} {name}");
        }
        assert!(Pattern::new("").is_err() && Pattern::new("a b").is_err() && Pattern::new("web/").is_err());
    }
}
