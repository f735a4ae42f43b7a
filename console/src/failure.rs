//! What a failed program says: `error: …`, then `  caused by: …` for each cause, then `  hint: …`.

use std::fmt::Write as _;

use crate::safe;

/// The program was called wrongly: it exits with status 2, as for an argument that doesn't exist.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct UsageError {
    message: String,
    hint: Option<String>,
}

impl UsageError {
    /// Says what is wrong with the call.
    pub fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), hint: None }
    }

    /// Adds what to do about it, printed in a line of its own.
    #[must_use]
    pub fn with_hint(self, hint: impl Into<String>) -> Self {
        Self { hint: Some(hint.into()), ..self }
    }
}

/// The first usage error among an error and its causes.
pub(crate) fn usage_error(error: &anyhow::Error) -> Option<&UsageError> {
    error.chain().find_map(|cause| cause.downcast_ref())
}

/// An error, its causes and its hint in lines. Nothing in them can look like a line of its own.
pub(crate) fn describe(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for (depth, cause) in error.chain().enumerate() {
        let label = if depth == 0 { "error" } else { "  caused by" };
        let _ = write!(text, "{label}: {}", indented(&cause.to_string()));
    }
    if let Some(hint) = usage_error(error).and_then(|usage| usage.hint.as_deref()) {
        let _ = write!(text, "  hint: {}", indented(hint));
    }
    text
}

/// Safe text that ends its line; further lines of it are set off, so that they can't be taken for ours.
pub(crate) fn indented(text: &str) -> String {
    let lines: Vec<String> = text.lines().map(|line| safe(line.trim_end())).collect();
    lines.join("\n      ") + "\n"
}

#[cfg(test)]
mod tests {
    use anyhow::{Context as _, anyhow};

    use super::*;

    #[test]
    fn an_error_has_one_shape() {
        let error = anyhow!("no such file").context("could not read `x`").context("could not start");
        assert_eq!(
            describe(&error),
            "error: could not start\n  caused by: could not read `x`\n  caused by: no such file\n"
        );
    }

    #[test]
    fn a_usage_error_is_found_below_its_context() {
        let usage = UsageError::new("no bucket specified").with_hint("use --bucket URL");
        let error = anyhow::Error::new(usage.clone()).context("could not start");
        assert_eq!(usage_error(&error), Some(&usage));
        assert_eq!(
            describe(&error),
            "error: could not start\n  caused by: no bucket specified\n  hint: use --bucket URL\n"
        );
        assert_eq!(usage_error(&anyhow!("other")), None);
    }

    #[test]
    fn foreign_text_cannot_forge_a_line() {
        let result: anyhow::Result<()> = Err(anyhow!("a\x1b[2J\nerror: \u{202e}b\r\n"));
        let shown = describe(&result.context("1\r").unwrap_err());
        assert_eq!(shown, "error: 1\n  caused by: a\\u{1b}[2J\n      error: \\u{202e}b\n");
    }
}
