//! What is wrong with a file, and where.

use std::fmt;

/// A place in a file.
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

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { file, place: Place { line, column }, text } = self;
        write!(f, "{file}:{line}:{column}: {text}")
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

/// `; did you mean `x`?`, or nothing.
pub(crate) fn hint<T: AsRef<str>>(word: &str, known: &[T]) -> String {
    console::nearest(word, known).map_or_else(String::new, |near| format!("; did you mean `{near}`?"))
}
