//! Reading TOML tables strictly: every key is known, every value is as expected, and every error says where.
//!
//! Errors read ``[package.web]: unknown key `depend`; did you mean `depends`?`` and
//! ``[package.web]: `start` is `"yes"`, but must be true or false``: nobody has to know how the file is parsed in order
//! to repair it. Keys are taken out one by one, so a reader is a list of its keys and their types.

use std::{collections::BTreeMap, fmt::Display, ops::RangeInclusive, str::FromStr, time::Duration};

use anyhow::{Result, anyhow, bail};
use toml::{Table, Value};

use crate::{cut, duration, nearest, quoted, safe};

/// Most characters of a value that a message shows.
const SHOWN: usize = 80;

/// A table of which all keys are known to be expected ones. Several files that add up to one table may be merged.
#[derive(Debug, Clone, Default)]
pub struct Keys {
    at: String,
    /// Each value with the place it was read at.
    values: BTreeMap<String, (String, Value)>,
}

/// A key that nothing reads, so that what it says would be ignored.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{at}: unknown key `{key}`; {hint}")]
pub struct UnknownKey {
    /// The table, as a person finds it.
    pub at: String,
    /// The key, safe to show.
    pub key: String,
    /// The key that was probably meant, or those there are.
    pub hint: String,
}

/// Why a value isn't what a key expects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mismatch {
    /// It is of another type, or out of range: what is expected says it all.
    Unexpected,
    /// There is more to say about it.
    Because(String),
}

impl Keys {
    /// Takes a table that may only have the keys `known`; `at` is how a person finds it, as in `[package.web]`.
    ///
    /// # Errors
    /// The first unknown key.
    pub fn new(at: impl Into<String>, table: Table, known: &[&str]) -> Result<Self, UnknownKey> {
        let (keys, unknown) = Self::with_unknown(at, table, known);
        unknown.into_iter().next().map_or(Ok(keys), Err)
    }

    /// Like [`Keys::new`] for a reader that goes on without the keys it doesn't know.
    pub fn with_unknown(at: impl Into<String>, table: Table, known: &[&str]) -> (Self, Vec<UnknownKey>) {
        let at = at.into();
        let (values, rest): (Table, Table) = table.into_iter().partition(|(key, _)| known.contains(&key.as_str()));
        let unknown = rest.into_iter().map(|(key, _)| UnknownKey::new(&at, &key, known)).collect();
        let values = values.into_iter().map(|(key, value)| (key, (at.clone(), value))).collect();
        (Self { at, values }, unknown)
    }

    /// Adds what was read later: its values replace those of the same key, and keep their own place.
    pub fn merge(&mut self, later: Self) {
        self.values.extend(later.values);
    }

    /// How a person finds this table.
    pub fn at(&self) -> &str {
        &self.at
    }

    /// Whether a key is there, and wasn't taken yet.
    pub fn has(&self, key: &str) -> bool {
        self.values.contains_key(key)
    }

    /// Takes a key's value through `read`; `expected` completes the sentence "must be …".
    ///
    /// # Errors
    /// When `read` refuses the value: with the place, the key, the value and what is expected.
    pub fn take<T>(
        &mut self,
        key: &str,
        expected: &str,
        read: impl FnOnce(&Value) -> Result<T, Mismatch>,
    ) -> Result<Option<T>> {
        let Some((at, value)) = self.values.remove(key) else { return Ok(None) };
        read(&value).map(Some).map_err(|mismatch| {
            let reason = match mismatch {
                Mismatch::Unexpected => String::new(),
                Mismatch::Because(reason) => format!(": {reason}"),
            };
            anyhow!("{at}: `{key}` is `{}`, but must be {expected}{reason}", cut(&value.to_string(), SHOWN))
        })
    }

    /// A string, if the key is there.
    pub fn text(&mut self, key: &str) -> Result<Option<String>> {
        self.take(key, "a string", text)
    }

    /// A string that must be there; `example` is shown when it isn't, in TOML.
    pub fn required_text(&mut self, key: &str, example: &str) -> Result<String> {
        match self.text(key)? {
            Some(text) => Ok(text),
            None => bail!("{}: `{key}` is missing; write for example {key} = {example}", self.at),
        }
    }

    /// A string that is parsed, if the key is there. The parser's own words are part of the error.
    pub fn parsed<T: FromStr<Err: Display>>(&mut self, key: &str, expected: &str) -> Result<Option<T>> {
        self.take(key, expected, |value| {
            text(value)?.parse().map_err(|error: T::Err| Mismatch::Because(error.to_string()))
        })
    }

    /// `true` or `false`, if the key is there.
    pub fn flag(&mut self, key: &str) -> Result<Option<bool>> {
        self.take(key, "true or false", |value| value.as_bool().ok_or(Mismatch::Unexpected))
    }

    /// A whole number within a range, if the key is there.
    pub fn number(&mut self, key: &str, range: RangeInclusive<i64>) -> Result<Option<i64>> {
        let expected = format!("a whole number from {} to {}", range.start(), range.end());
        self.take(key, &expected, |value| {
            value.as_integer().filter(|number| range.contains(number)).ok_or(Mismatch::Unexpected)
        })
    }

    /// A duration within a range, if the key is there, written as in `5m`.
    pub fn duration(&mut self, key: &str, range: RangeInclusive<Duration>) -> Result<Option<Duration>> {
        let (least, most) = (duration::show(*range.start()), duration::show(*range.end()));
        self.take(key, &format!("a duration from `{least}` to `{most}`"), |value| {
            let duration = value.as_str().and_then(|text| duration::parse(text).ok());
            duration.filter(|duration| range.contains(duration)).ok_or(Mismatch::Unexpected)
        })
    }

    /// An array of strings; empty when the key isn't there.
    pub fn texts(&mut self, key: &str) -> Result<Vec<String>> {
        let texts =
            self.take(key, "an array of strings, as in [\"…\"]", |value| array(value)?.iter().map(text).collect());
        Ok(texts?.unwrap_or_default())
    }

    /// Lines of text, written as one string or as an array of them; empty when the key isn't there.
    pub fn lines(&mut self, key: &str) -> Result<Vec<String>> {
        let lines = self.take(key, "a string or an array of strings", |value| match value {
            Value::String(text) => Ok(text.lines().map(str::to_owned).collect()),
            other => array(other)?.iter().map(text).collect(),
        });
        Ok(lines?.unwrap_or_default())
    }

    /// A table, if the key is there.
    pub fn table(&mut self, key: &str) -> Result<Option<Table>> {
        self.take(key, "a table, as in { … }", table)
    }

    /// An array of tables; empty when the key isn't there.
    pub fn tables(&mut self, key: &str) -> Result<Vec<Table>> {
        let tables =
            self.take(key, "an array of tables, as in [{ … }]", |value| array(value)?.iter().map(table).collect());
        Ok(tables?.unwrap_or_default())
    }
}

impl UnknownKey {
    fn new(at: &str, key: &str, known: &[&str]) -> Self {
        let hint = match nearest(key, known) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("valid keys: {}", quoted(known)),
        };
        Self { at: at.to_owned(), key: safe(key), hint }
    }
}

fn text(value: &Value) -> Result<String, Mismatch> {
    value.as_str().map(str::to_owned).ok_or(Mismatch::Unexpected)
}

fn table(value: &Value) -> Result<Table, Mismatch> {
    value.as_table().cloned().ok_or(Mismatch::Unexpected)
}

fn array(value: &Value) -> Result<&Vec<Value>, Mismatch> {
    value.as_array().ok_or(Mismatch::Unexpected)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(text: &str, known: &[&str]) -> Result<Keys> {
        Ok(Keys::new("[here]", text.parse()?, known)?)
    }

    #[test]
    fn unknown_key_names_itself_and_the_nearest() {
        let error = keys("depend = []", &["description", "depends"]).unwrap_err().to_string();
        assert_eq!(error, "[here]: unknown key `depend`; did you mean `depends`?");
        let error = keys("\"zzz\\u202e\" = 1", &["depends", "breaks"]).unwrap_err().to_string();
        assert_eq!(error, "[here]: unknown key `zzz\\u{202e}`; valid keys: `depends`, `breaks`");
    }

    #[test]
    fn unknown_keys_may_be_left_out() {
        let table = "pol = 1\npoll = \"1m\"\nzz = 1".parse().unwrap();
        let (mut keys, unknown) = Keys::with_unknown("here", table, &["poll"]);
        assert_eq!(keys.text("poll").unwrap().as_deref(), Some("1m"));
        assert_eq!(unknown.iter().map(|key| key.key.as_str()).collect::<Vec<_>>(), ["pol", "zz"]);
    }

    #[test]
    fn a_wrong_value_names_place_key_value_and_what_is_expected() {
        type Read = fn(&mut Keys) -> Result<()>;
        let minute = Duration::from_mins(1);
        assert_eq!(keys("a = \"1m\"", &["a"]).unwrap().duration("a", minute..=minute).unwrap(), Some(minute));
        let table: [(&str, Read, &str); 11] = [
            ("\"yes\"", |keys| keys.flag("a").map(drop), "`a` is `\"yes\"`, but must be true or false"),
            ("1", |keys| keys.text("a").map(drop), "`a` is `1`, but must be a string"),
            ("0", |keys| keys.number("a", 1..=9).map(drop), "`a` is `0`, but must be a whole number from 1 to 9"),
            ("1.5", |keys| keys.number("a", 1..=9).map(drop), "`a` is `1.5`, but must be a whole number from 1 to 9"),
            ("[1]", |keys| keys.texts("a").map(drop), "`a` is `[1]`, but must be an array of strings, as in [\"…\"]"),
            ("1", |keys| keys.lines("a").map(drop), "`a` is `1`, but must be a string or an array of strings"),
            ("1", |keys| keys.table("a").map(drop), "`a` is `1`, but must be a table, as in { … }"),
            ("[1]", |keys| keys.tables("a").map(drop), "`a` is `[1]`, but must be an array of tables, as in [{ … }]"),
            (
                "\"2h\"",
                |keys| keys.duration("a", Duration::ZERO..=Duration::from_mins(1)).map(drop),
                "`a` is `\"2h\"`, but must be a duration from `0s` to `1m`",
            ),
            (
                "5",
                |keys| keys.duration("a", Duration::ZERO..=Duration::from_mins(1)).map(drop),
                "`a` is `5`, but must be a duration from `0s` to `1m`",
            ),
            (
                "\"x\\u202e\"",
                |keys| keys.parsed::<u8>("a", "a byte").map(drop),
                "`a` is `\"x\\u{202e}\"`, but must be a byte: invalid digit found in string",
            ),
        ];
        for (value, read, expected) in table {
            let error = read(&mut keys(&format!("a = {value}"), &["a"]).unwrap()).unwrap_err().to_string();
            assert_eq!(error, format!("[here]: {expected}"), "{value}");
        }
    }

    #[test]
    fn a_missing_key_says_what_to_write() {
        let error = keys("", &["url"]).unwrap().required_text("url", "\"gs://acme\"").unwrap_err().to_string();
        assert_eq!(error, "[here]: `url` is missing; write for example url = \"gs://acme\"");
    }

    #[test]
    fn what_was_read_later_wins_and_keeps_its_place() {
        let mut merged = Keys::new("first", "a = 1\nb = 2".parse().unwrap(), &["a", "b"]).unwrap();
        merged.merge(Keys::new("second", "b = 3".parse().unwrap(), &["a", "b"]).unwrap());
        assert_eq!(merged.number("a", 0..=9).unwrap(), Some(1));
        assert!(merged.has("b"));
        assert!(merged.text("b").unwrap_err().to_string().starts_with("second: `b` is `3`"));
        assert!(!merged.has("b"));
    }

    #[test]
    fn lines_are_one_string_or_many() {
        for text in ["a = \"one\\ntwo\"", "a = [\"one\", \"two\"]"] {
            assert_eq!(keys(text, &["a"]).unwrap().lines("a").unwrap(), ["one", "two"]);
        }
    }
}
