//! Reading TOML tables strictly: every key is known, every value has its type, and every error says where.
//!
//! Used by [`crate::manifest`]. Errors read `[package.web]: unknown key `depend`; did you mean `depends`?`, so that
//! nobody has to know how the file is parsed in order to repair it.

use anyhow::{Result, bail};
use toml::{Table, Value};

/// A table of which all keys are known to be expected ones.
pub(crate) struct Keys {
    at: String,
    table: Table,
}

impl Keys {
    /// Takes a table that may only have the keys `known`; `at` is how a person finds it, as in `[package.web]`.
    pub(crate) fn new(at: impl Into<String>, table: Table, known: &[&str]) -> Result<Self> {
        let at = at.into();
        if let Some(key) = table.keys().find(|key| !known.contains(&key.as_str())) {
            let shown = key.escape_debug();
            match nearest(key, known) {
                Some(near) => bail!("{at}: unknown key `{shown}`; did you mean `{near}`?"),
                None => bail!("{at}: unknown key `{shown}`; the keys here are {}", quoted(known)),
            }
        }
        Ok(Self { at, table })
    }

    /// How a person finds this table.
    pub(crate) fn at(&self) -> &str {
        &self.at
    }

    /// Whether a key is there.
    pub(crate) fn has(&self, key: &str) -> bool {
        self.table.contains_key(key)
    }

    /// A string, if the key is there.
    pub(crate) fn text(&mut self, key: &str) -> Result<Option<String>> {
        match self.table.remove(key) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(other) => self.wrong(key, "a string", "\"…\"", &other),
        }
    }

    /// A string that must be there.
    pub(crate) fn required_text(&mut self, key: &str, example: &str) -> Result<String> {
        match self.text(key)? {
            Some(text) => Ok(text),
            None => bail!("{}: `{key}` is missing; write for example {key} = {example}", self.at),
        }
    }

    /// `true` or `false`, if the key is there.
    pub(crate) fn flag(&mut self, key: &str) -> Result<Option<bool>> {
        match self.table.remove(key) {
            None => Ok(None),
            Some(Value::Boolean(flag)) => Ok(Some(flag)),
            Some(other) => self.wrong(key, "true or false", "true", &other),
        }
    }

    /// A whole number, if the key is there.
    pub(crate) fn number(&mut self, key: &str) -> Result<Option<i64>> {
        match self.table.remove(key) {
            None => Ok(None),
            Some(Value::Integer(number)) => Ok(Some(number)),
            Some(other) => self.wrong(key, "a whole number", "1", &other),
        }
    }

    /// An array of strings; empty when the key isn't there.
    pub(crate) fn texts(&mut self, key: &str) -> Result<Vec<String>> {
        let Some(value) = self.table.remove(key) else { return Ok(Vec::new()) };
        let Value::Array(values) = value else { return self.wrong(key, "an array of strings", "[\"…\"]", &value) };
        let text = |value| match value {
            Value::String(text) => Ok(text),
            other => self.wrong(key, "an array of strings", "[\"…\"]", &other),
        };
        values.into_iter().map(text).collect()
    }

    /// Lines of text, written as one string or as an array of them; empty when the key isn't there.
    pub(crate) fn lines(&mut self, key: &str) -> Result<Vec<String>> {
        match self.table.get(key) {
            Some(Value::String(_)) => {
                Ok(self.text(key)?.iter().flat_map(|text| text.lines()).map(str::to_owned).collect())
            }
            _ => self.texts(key),
        }
    }

    /// A table, if the key is there.
    pub(crate) fn table(&mut self, key: &str) -> Result<Option<Table>> {
        match self.table.remove(key) {
            None => Ok(None),
            Some(Value::Table(table)) => Ok(Some(table)),
            Some(other) => self.wrong(key, "a table", "{ … }", &other),
        }
    }

    /// An array of tables; empty when the key isn't there.
    pub(crate) fn tables(&mut self, key: &str) -> Result<Vec<Table>> {
        let Some(value) = self.table.remove(key) else { return Ok(Vec::new()) };
        let Value::Array(values) = value else { return self.wrong(key, "an array of tables", "[{ … }]", &value) };
        let table = |value| match value {
            Value::Table(table) => Ok(table),
            other => self.wrong(key, "an array of tables", "[{ … }]", &other),
        };
        values.into_iter().map(table).collect()
    }

    fn wrong<T>(&self, key: &str, wanted: &str, example: &str, found: &Value) -> Result<T> {
        bail!("{}: `{key}` must be {wanted}, as in {key} = {example}; it is of type {}", self.at, found.type_str())
    }
}

/// The names in backticks, separated by commas.
pub(crate) fn quoted<T: AsRef<str>>(names: &[T]) -> String {
    names.iter().map(|name| format!("`{}`", name.as_ref())).collect::<Vec<_>>().join(", ")
}

/// The one of `known` that somebody who wrote `word` probably meant.
pub(crate) fn nearest<T: AsRef<str>>(word: &str, known: &[T]) -> Option<String> {
    let near = known.iter().map(AsRef::as_ref).map(|name| (distance(word, name), name)).min()?;
    (near.0 <= 1 + word.chars().count() / 4).then(|| near.1.to_owned())
}

/// How many letters must be typed, deleted or replaced to turn one word into the other.
fn distance(from: &str, to: &str) -> usize {
    let to: Vec<char> = to.chars().collect();
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (i, a) in from.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, b) in to.iter().enumerate() {
            let replaced = diagonal + usize::from(a != *b);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[to.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(text: &str, known: &[&str]) -> Result<Keys> {
        Keys::new("[here]", text.parse()?, known)
    }

    #[test]
    fn unknown_key_names_itself_and_the_nearest() {
        let error = keys("depend = []", &["description", "depends"]).err().unwrap().to_string();
        assert_eq!(error, "[here]: unknown key `depend`; did you mean `depends`?");
        let error = keys("zzz = 1", &["depends", "breaks"]).err().unwrap().to_string();
        assert_eq!(error, "[here]: unknown key `zzz`; the keys here are `depends`, `breaks`");
    }

    #[test]
    fn wrong_type_says_what_to_write() {
        let error = keys("enable = \"yes\"", &["enable"]).unwrap().flag("enable").unwrap_err().to_string();
        assert_eq!(error, "[here]: `enable` must be true or false, as in enable = true; it is of type string");
    }

    #[test]
    fn lines_are_one_string_or_many() {
        let both = ["a = \"one\\ntwo\"", "a = [\"one\", \"two\"]"];
        for text in both {
            assert_eq!(keys(text, &["a"]).unwrap().lines("a").unwrap(), ["one", "two"]);
        }
    }

    #[test]
    fn distance_counts_edits() {
        for (a, b, n) in [("", "abc", 3), ("abc", "abc", 0), ("depend", "depends", 1), ("restrat", "restart", 2)] {
            assert_eq!(distance(a, b), n, "{a} {b}");
        }
    }
}
