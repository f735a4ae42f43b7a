//! The few colors of a terminal that mean something here.

use std::io::IsTerminal as _;

/// What a color says. The words beside it say it too: a color is never the only sign.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Color {
    /// Nothing in particular; the terminal's own color.
    #[default]
    Plain,
    /// All is well: green.
    Good,
    /// Worth knowing: yellow.
    Notice,
    /// Something is wrong: red.
    Bad,
}

impl Color {
    /// Paints text, if standard output is a terminal and nobody asked for none (<https://no-color.org>).
    pub fn paint(self, text: &str) -> String {
        let refused = std::env::var_os("NO_COLOR").is_some_and(|set| !set.is_empty());
        if refused || !std::io::stdout().is_terminal() { text.to_owned() } else { self.escape(text) }
    }

    fn escape(self, text: &str) -> String {
        let code = match self {
            Self::Good => "32",
            Self::Notice => "33",
            Self::Bad => "31",
            Self::Plain => return text.to_owned(),
        };
        format!("\x1b[{code}m{text}\x1b[0m")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_color_ends_with_its_text() {
        assert_eq!(Color::Bad.escape("failed"), "\x1b[31mfailed\x1b[0m");
        assert_eq!(Color::Plain.escape("ok"), "ok");
    }
}
