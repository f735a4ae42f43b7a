//! The order in which commits landed on a branch.

use std::{collections::BTreeMap, sync::Arc};

use bucket::{Commit, ReleaseName};

use super::build::Build;

/// The first-parent history of a branch, oldest first. A commit's place on it says which of two landed later.
///
/// A side branch's own commits aren't on it, only the merge is. A clone shares what it was made from.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Line(Arc<Commits>);

#[derive(Debug, PartialEq, Eq, Default)]
struct Commits {
    oldest_first: Vec<Commit>,
    /// Places, in the order of their commits' digits, by which they are found.
    by_digits: Vec<usize>,
}

impl Line {
    /// The line of these commits, oldest first.
    pub fn new(oldest_first: Vec<Commit>) -> Self {
        let by_digits = (0..oldest_first.len()).collect();
        Self::sorted(oldest_first, by_digits)
    }

    /// The line with commits that landed since, oldest first.
    #[must_use]
    pub fn extended(&self, newer: Vec<Commit>) -> Self {
        let mut by_digits = self.0.by_digits.clone();
        by_digits.extend(self.len()..self.len() + newer.len());
        let mut oldest_first = Vec::with_capacity(by_digits.len());
        oldest_first.extend_from_slice(&self.0.oldest_first);
        oldest_first.extend(newer);
        Self::sorted(oldest_first, by_digits)
    }

    fn sorted(oldest_first: Vec<Commit>, mut by_digits: Vec<usize>) -> Self {
        // A stable sort takes what is in order already as it is.
        by_digits.sort_by(|one, other| oldest_first[*one].cmp(&oldest_first[*other]));
        Self(Arc::new(Commits { oldest_first, by_digits }))
    }

    /// Where a commit stands, from 0; `None` if it isn't on the line.
    pub fn place(&self, commit: &Commit) -> Option<usize> {
        let Commits { oldest_first, by_digits } = &*self.0;
        let found = by_digits.binary_search_by(|place| oldest_first[*place].cmp(commit)).ok()?;
        Some(by_digits[found])
    }

    /// The commit that landed last; `None` for a branch without commits.
    pub fn tip(&self) -> Option<&Commit> {
        self.0.oldest_first.last()
    }

    /// How many commits are on the line.
    pub fn len(&self) -> usize {
        self.0.oldest_first.len()
    }

    /// Whether there is no commit.
    pub fn is_empty(&self) -> bool {
        self.0.oldest_first.is_empty()
    }

    /// The commits from the one at a place on, oldest first.
    pub fn from(&self, place: usize) -> &[Commit] {
        self.0.oldest_first.get(place..).unwrap_or_default()
    }
}

/// Where releases stand on a line: by their commits, and those that were promoted by the ones as which they landed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Places<'a> {
    line: &'a Line,
    landed: BTreeMap<ReleaseName, Commit>,
}

impl<'a> Places<'a> {
    /// On this line, of releases that were not promoted.
    pub fn on(line: &'a Line) -> Self {
        Self { line, landed: BTreeMap::new() }
    }

    /// The line.
    pub fn line(&self) -> &'a Line {
        self.line
    }

    /// Knows of a release from now on as which commit it landed, and where it stands.
    pub fn learn(&mut self, build: &Build) -> Option<usize> {
        if let Some(landed) = &build.landed {
            self.landed.insert(build.name.clone(), landed.clone());
        }
        self.line.place(build.commit())
    }

    /// Where a release stands.
    pub fn of(&self, release: &ReleaseName) -> Option<usize> {
        self.line.place(self.landed.get(release).unwrap_or_else(|| release.commit()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Digits that are in no order.
    fn commit(number: u64) -> Commit {
        format!("{:016x}{number:024x}", number.wrapping_mul(0x9e37_79b9_7f4a_7c15)).parse().unwrap()
    }

    fn commits(numbers: std::ops::Range<u64>) -> Vec<Commit> {
        numbers.map(commit).collect()
    }

    #[test]
    fn each_commit_stands_where_it_landed() {
        let line = Line::new(commits(0..1000));
        assert!((0..1000).all(|number| line.place(&commit(number)) == usize::try_from(number).ok()));
        assert_eq!(line.place(&commit(1000)), None);
        assert_eq!((line.len(), line.tip()), (1000, Some(&commit(999))));
        assert_eq!(line.from(998), commits(998..1000));
        assert!(line.from(1000).is_empty() && line.from(1001).is_empty() && line.from(usize::MAX).is_empty());
    }

    #[test]
    fn a_line_that_goes_on_is_as_one_read_anew() {
        let known = Line::new(commits(0..500));
        let longer = known.extended(commits(500..700));
        assert_eq!(longer, Line::new(commits(0..700)));
        assert_eq!((known.len(), known.place(&commit(500))), (500, None), "who has the old one keeps it");
        assert_eq!(Line::default().extended(commits(0..3)), Line::new(commits(0..3)));
    }

    #[test]
    fn nothing_stands_on_an_empty_line() {
        let line = Line::new(Vec::new());
        assert!(line.is_empty() && line.tip().is_none() && line.place(&commit(0)).is_none() && line.from(0).is_empty());
    }

    #[test]
    fn both_kinds_of_object_names_are_found() {
        let long: Commit = "ab".repeat(32).parse().unwrap();
        let line = Line::new(vec![commit(1), long.clone()]);
        assert_eq!((line.place(&long), line.place(&commit(1))), (Some(1), Some(0)));
    }
}
