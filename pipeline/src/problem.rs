//! What is wrong with a file, and where.

use std::{collections::BTreeSet, fmt};

/// A place in a file; the default is the file as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Place {
    /// The line, from 1.
    pub line: usize,
    /// The column in characters, from 1.
    pub column: usize,
}

/// Something that is wrong with a file, or doubtful.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    /// The file, below the root of the repository.
    pub file: String,
    /// Where in it.
    pub place: Place,
    /// What it is, and what to do.
    pub text: String,
}

impl Problem {
    /// Something that is wrong with a file as a whole.
    pub fn of_file(file: &str, text: impl Into<String>) -> Self {
        Self { file: file.to_owned(), place: Place::default(), text: text.into() }
    }

    /// The file, with the line and the column if it is of a place in it.
    pub fn at(&self) -> String {
        let Self { file, place: Place { line, column }, .. } = self;
        if *line == 0 { file.clone() } else { format!("{file}:{line}:{column}") }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.at(), self.text)
    }
}

/// All that was found in one file.
#[derive(Debug)]
pub(crate) struct Problems {
    file: String,
    found: Vec<Problem>,
}

impl Problems {
    /// None yet of a file.
    pub(crate) fn of(file: impl Into<String>) -> Self {
        Self { file: file.into(), found: Vec::new() }
    }

    /// One more.
    pub(crate) fn add(&mut self, place: Place, text: impl Into<String>) {
        self.found.push(Problem { file: self.file.clone(), place, text: text.into() });
    }

    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        self.found.len()
    }

    /// All, in the order of the file.
    pub(crate) fn into_found(mut self) -> Vec<Problem> {
        self.found.sort();
        self.found.dedup();
        self.found
    }
}

/// Most names that a message lists.
const MAX_LISTED: usize = 20;

/// Names in backticks; of very many the first, and how many more there are.
pub(crate) fn listed<T: AsRef<str>>(names: &[T]) -> String {
    let shown = console::quoted(&names[..names.len().min(MAX_LISTED)]);
    match names.len().saturating_sub(MAX_LISTED) {
        0 if names.is_empty() => "none".to_owned(),
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

/// The nearest of the names that there are, and which those are: the end of a sentence that there is no such thing.
pub(crate) fn known<T: AsRef<str>>(word: &str, names: &[T]) -> String {
    // What has no name, or that of another, is a mistake of its own.
    let mut seen = BTreeSet::from([""]);
    let names: Vec<&str> = names.iter().map(AsRef::as_ref).filter(|name| seen.insert(name)).collect();
    let there = if names.is_empty() { "is" } else { "are" };
    format!("{}; there {there} {}", hint(word, &names), listed(&names))
}

/// `; did you mean `x`?`, or nothing.
pub(crate) fn hint<T: AsRef<str>>(word: &str, known: &[T]) -> String {
    console::nearest(word, known).map_or_else(String::new, |near| format!("; did you mean `{near}`?"))
}
