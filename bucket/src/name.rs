//! What all names that are text of a known form have in common.

/// Why a string isn't the name it should be. Its reason says "it" of the string.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid {kind} `{name}`: {reason}")]
pub struct NameError {
    /// What the string should have been: `release name`, `server name`, …
    pub kind: &'static str,
    /// The string, with control characters escaped and cut to a length that fits a line.
    pub name: String,
    /// Which rule it breaks.
    pub reason: String,
}

impl NameError {
    /// Longest part of an offending name that is repeated to a person, in characters.
    const MAX_SHOWN: usize = 200;

    /// `name` isn't a `kind`, for this reason.
    pub fn new(kind: &'static str, name: &str, reason: impl Into<String>) -> Self {
        let mut shown: String = name.chars().take(Self::MAX_SHOWN).flat_map(char::escape_debug).collect();
        if name.chars().nth(Self::MAX_SHOWN).is_some() {
            shown.push('…');
        }
        Self { kind, name: shown, reason: reason.into() }
    }
}

/// Implements for a one-field type around a `String`, which parses by its own `FromStr`, all that goes without saying:
/// its text, conversions for serde, and how it is shown.
#[macro_export]
macro_rules! text_name {
    ($name:ident) => {
        impl $name {
            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<String> for $name {
            type Error = $crate::NameError;

            fn try_from(text: String) -> Result<Self, $crate::NameError> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> Self {
                name.0
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
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
