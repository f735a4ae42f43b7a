//! How things look on a terminal: nothing from outside reaches it unescaped.

use std::{fmt::Write as _, io::IsTerminal};

use bucket::Timestamp;

pub(crate) use crate::text::{cut, safe};
use fleet::{
    condition::{Look, Tone},
    plan::age_in_words,
};

/// How long ago something was: `12 min ago`.
pub(crate) fn ago(time: Timestamp, now: Timestamp) -> String {
    format!("{} ago", age_in_words(now.duration_since(time).as_secs()))
}

/// A symbol and words, and their colour.
pub(crate) fn look(look: Look) -> (String, Colour) {
    let colour = match look.tone {
        Tone::Good => Colour::Good,
        Tone::Notice => Colour::Notice,
        Tone::Bad => Colour::Bad,
        Tone::Quiet => Colour::Plain,
    };
    (format!("{} {}", look.symbol, look.text), colour)
}

/// What a colour says. The word beside it says it too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Colour {
    Plain,
    Good,
    Notice,
    Bad,
}

impl Colour {
    /// Paints text, if standard output is a terminal and nobody asked for none (<https://no-color.org>).
    pub(crate) fn paint(self, text: &str) -> String {
        let wanted = std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|set| set.is_empty());
        let code = match self {
            Self::Good if wanted => "32",
            Self::Notice if wanted => "33",
            Self::Bad if wanted => "31",
            _ => return text.to_owned(),
        };
        format!("\x1b[{code}m{text}\x1b[0m")
    }
}

/// Rows in aligned columns, the last one as long as it is.
pub(crate) struct Table {
    rows: Vec<Vec<(String, Colour)>>,
}

impl Table {
    pub(crate) fn new(headings: &[&str]) -> Self {
        Self { rows: vec![headings.iter().map(|heading| ((*heading).to_owned(), Colour::Plain)).collect()] }
    }

    pub(crate) fn row(&mut self, cells: Vec<(String, Colour)>) {
        self.rows.push(cells);
    }

    pub(crate) fn show(&self) -> String {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let width = |column: usize| {
            self.rows.iter().filter_map(|row| row.get(column)).map(|(text, _)| text.chars().count()).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..columns).map(width).collect();
        let mut shown = String::new();
        for row in &self.rows {
            let mut line = String::new();
            for (column, (text, colour)) in row.iter().enumerate() {
                let padding = if column + 1 == row.len() { 0 } else { widths[column] - text.chars().count() + 2 };
                let _ = write!(line, "{}{:padding$}", colour.paint(text), "");
            }
            shown.push_str(line.trim_end());
            shown.push('\n');
        }
        shown
    }
}

/// A cell without colour.
pub(crate) fn plain(text: impl Into<String>) -> (String, Colour) {
    (text.into(), Colour::Plain)
}
