//! Tables on a terminal.

use unicode_width::UnicodeWidthStr as _;

use crate::{Color, safe};

/// Columns are this far apart.
const GAP: usize = 2;

/// One cell: text that is safe to show, and its color.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cell {
    text: String,
    color: Color,
}

impl Cell {
    /// A cell in a color; the text is made [`safe()`].
    pub fn new(text: impl AsRef<str>, color: Color) -> Self {
        Self { text: safe(text.as_ref()), color }
    }

    /// How many columns of a terminal the text takes.
    fn width(&self) -> usize {
        self.text.width()
    }
}

impl<T: AsRef<str>> From<T> for Cell {
    fn from(text: T) -> Self {
        Self::new(text, Color::Plain)
    }
}

/// Rows below headings, every column as wide as its widest cell; the last one is free.
#[derive(Debug, Clone)]
pub struct Table {
    rows: Vec<Vec<Cell>>,
}

impl Table {
    /// A table that has only its headings.
    pub fn new(headings: &[&str]) -> Self {
        Self { rows: vec![headings.iter().map(Cell::from).collect()] }
    }

    /// Adds a row.
    pub fn row(&mut self, cells: impl IntoIterator<Item = Cell>) {
        self.rows.push(cells.into_iter().collect());
    }

    /// The table as text, each row a line without blanks at its end. Colored only for a terminal.
    pub fn show(&self) -> String {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or_default();
        let widest = |column| self.rows.iter().filter_map(|row| row.get(column)).map(Cell::width).max();
        let widths: Vec<usize> = (0..columns).filter_map(widest).collect();
        let mut shown = String::new();
        for row in &self.rows {
            let last = row.iter().rposition(|cell| !cell.text.is_empty()).unwrap_or_default();
            for (column, cell) in row.iter().enumerate().take(last + 1) {
                shown.push_str(&cell.color.paint(&cell.text));
                if column < last {
                    shown.push_str(&" ".repeat(widths[column] - cell.width() + GAP));
                }
            }
            shown.push('\n');
        }
        shown
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_by_what_is_seen() {
        let mut table = Table::new(&["WHO", "SIZE", "NOTE"]);
        table.row(["名前".into(), "1.3 MB".into(), "fix".into()]);
        table.row([Cell::new("e\u{301}\u{202e}", Color::Bad), "2 B".into(), "".into()]);
        let expected = "WHO        SIZE    NOTE\n名前       1.3 MB  fix\ne\u{301}\\u{202e}  2 B\n";
        assert_eq!(table.show(), expected);
    }

    #[test]
    fn a_table_without_rows_has_its_headings() {
        assert_eq!(Table::new(&["A", "B"]).show(), "A  B\n");
    }
}
