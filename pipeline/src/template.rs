//! Texts with values in them: `${stage.name}`, `${.name}` of the own stage, `${x.y|default}`.

use std::fmt;

use serde::{Serialize, Serializer};

use crate::problem::Place;

/// A text in which values of stages are put.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template {
    /// Where it is written.
    pub place: Place,
    /// What it consists of.
    pub pieces: Vec<Piece>,
}

/// A part of such a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Piece {
    /// As it stands.
    Text(String),
    /// What a stage gives.
    Value {
        /// The stage; `None` for the own.
        stage: Option<String>,
        /// What it calls it.
        name: String,
        /// What stands for it when it is unset or empty.
        default: Option<String>,
    },
}

/// Longest name of a pipeline, a stage, a variant or a value, in bytes.
const MAX_NAME: usize = 64;

/// Checks the name of a pipeline, a stage, a variant or a value.
///
/// # Errors
/// Which rule it breaks, as the end of a sentence about it.
pub(crate) fn check_name(name: &str) -> Result<(), String> {
    if name.is_empty() {
        return Err("it is empty".to_owned());
    }
    if name.starts_with('.') {
        return Err("it begins with `.`".to_owned());
    }
    if name.len() > MAX_NAME {
        return Err(format!("it is longer than {MAX_NAME} characters"));
    }
    match name.chars().find(|c| !c.is_ascii_alphanumeric() && !"._-".contains(*c)) {
        Some(bad) => Err(format!(
            "it has the character `{}`, and only letters, digits, `.`, `_` and `-` are allowed",
            bad.escape_debug()
        )),
        None => Ok(()),
    }
}

impl Template {
    /// Reads a text. What has no dot between `${` and `}` stays as it is, as `${HOME}`.
    ///
    /// # Errors
    /// What looks like a value and is none.
    pub fn parse(text: &str, place: Place) -> Result<Self, String> {
        let mut pieces = Vec::new();
        let mut plain = String::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once("${") {
            let Some((inside, after)) = after.split_once('}') else { break };
            plain.push_str(before);
            if let Some(value) = value(inside)? {
                if !plain.is_empty() {
                    pieces.push(Piece::Text(std::mem::take(&mut plain)));
                }
                pieces.push(value);
            } else {
                plain.push_str("${");
                plain.push_str(inside);
                plain.push('}');
            }
            rest = after;
        }
        plain.push_str(rest);
        if !plain.is_empty() {
            pieces.push(Piece::Text(plain));
        }
        Ok(Self { place, pieces })
    }

    /// The one value of a stage that it is.
    pub(crate) fn of_value(stage: Option<&str>, name: &str, place: Place) -> Self {
        let stage = stage.map(str::to_owned);
        Self { place, pieces: vec![Piece::Value { stage, name: name.to_owned(), default: None }] }
    }

    /// What it is, if that is known before anything runs: it has no values in it.
    pub fn text(&self) -> Option<String> {
        let text = self.pieces.iter().map(|piece| match piece {
            Piece::Text(text) => Some(text.as_str()),
            Piece::Value { .. } => None,
        });
        text.collect()
    }

    /// The values in it: the stage (`None` for the own), and the name.
    pub fn values(&self) -> impl Iterator<Item = (Option<&str>, &str)> {
        self.pieces.iter().filter_map(|piece| match piece {
            Piece::Text(_) => None,
            Piece::Value { stage, name, .. } => Some((stage.as_deref(), name.as_str())),
        })
    }

    /// Its text, if there are no values in it.
    pub fn as_plain(&self) -> Option<&str> {
        match self.pieces.as_slice() {
            [] => Some(""),
            [Piece::Text(text)] => Some(text),
            _ => None,
        }
    }
}

/// What stands between `${` and `}`, if that is a value.
fn value(inside: &str) -> Result<Option<Piece>, String> {
    let (path, default) = match inside.split_once('|') {
        Some((path, default)) => (path, Some(default.to_owned())),
        None => (inside, None),
    };
    let Some((stage, name)) = path.rsplit_once('.') else { return Ok(None) };
    let is_name = |text: &str| check_name(text).is_ok();
    if is_name(name) && (stage.is_empty() || is_name(stage)) {
        let stage = (!stage.is_empty()).then(|| stage.to_owned());
        return Ok(Some(Piece::Value { stage, name: name.to_owned(), default }));
    }
    let shown = console::cut(inside, 80);
    Err(format!(
        "`${{{shown}}}` is no value: write `${{stage.name}}`, `${{.name}}` or `${{stage.name|default}}`, without spaces; only \
         what has no dot stays as it is"
    ))
}

impl fmt::Display for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.pieces.iter().try_for_each(|piece| match piece {
            Piece::Text(text) => f.write_str(text),
            Piece::Value { stage, name, default } => {
                write!(f, "${{{}.{name}", stage.as_deref().unwrap_or_default())?;
                if let Some(default) = default {
                    write!(f, "|{default}")?;
                }
                f.write_str("}")
            }
        })
    }
}

/// As it is written.
impl Serialize for Template {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Result<Template, String> {
        Template::parse(text, Place::default())
    }

    #[test]
    fn values_are_found_and_everything_else_stays() {
        for (text, values) in [
            ("", &[][..]),
            ("plain $HOME ${HOME} ${x:-y} $(a.b) ${", &[]),
            ("${unit.output}", &[(Some("unit"), "output")]),
            ("a ${.release}b${x.y.z|no ne}", &[(None, "release"), (Some("x.y"), "z")]),
            ("${a.b|}", &[(Some("a"), "b")]),
        ] {
            let template = parsed(text).unwrap();
            assert_eq!(template.values().collect::<Vec<_>>(), values, "{text}");
            assert_eq!(template.to_string(), text);
            assert_eq!(template.as_plain().is_some(), values.is_empty(), "{text}");
        }
        let Piece::Value { default, .. } = &parsed("${a.b|c|d}").unwrap().pieces[0] else { panic!() };
        assert_eq!(default.as_deref(), Some("c|d"));
    }

    #[test]
    fn what_looks_like_a_value_is_one_or_a_mistake() {
        for text in ["${ a.b }", "${a.b }", "${a.}", "${a.b c}", "${x%.*}", "x${\u{e9}.b}"] {
            let refused = parsed(text).unwrap_err();
            assert!(refused.contains("is no value"), "{text}: {refused}");
        }
    }

    #[test]
    fn names_are_words() {
        for good in ["a", "unit-tests_2.x", &"x".repeat(64)] {
            assert_eq!(check_name(good), Ok(()), "{good}");
        }
        for bad in ["", ".", "..", ".a", "a b", "a/b", "\u{e9}", &"x".repeat(65)] {
            assert!(check_name(bad).is_err(), "{bad}");
        }
    }
}
