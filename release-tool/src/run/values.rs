//! The values that stages give to those that follow. Pure.

use std::collections::BTreeMap;

use pipeline::{Piece, Template};

/// Most bytes of a value.
pub(super) const MAX: usize = 64 << 10;

/// The values of one pipeline, as far as its stages have given them.
#[derive(Debug, Clone, Default)]
pub(super) struct Values {
    of: BTreeMap<(String, String), String>,
}

impl Values {
    /// One more of a stage. Of one that is too long its end stays: `false` then.
    pub(super) fn give(&mut self, stage: &str, name: &str, value: &str) -> bool {
        let kept = last_bytes(value, MAX);
        self.of.insert((stage.to_owned(), name.to_owned()), kept.to_owned());
        kept.len() == value.len()
    }

    /// Takes over what another stage of the pipeline gave.
    pub(super) fn extend(&mut self, others: Self) {
        self.of.extend(others.of);
    }

    /// A text of a stage with the values put into it. Whether they can be read there was checked before; one that is unset is
    /// empty.
    pub(super) fn fill(&self, template: &Template, own: &str) -> String {
        let piece = |piece: &Piece| match piece {
            Piece::Text(text) => text.clone(),
            Piece::Value { stage, name, default } => {
                let at = (stage.clone().unwrap_or_else(|| own.to_owned()), name.clone());
                let value = self.of.get(&at).filter(|value| !value.is_empty());
                value.or(default.as_ref()).cloned().unwrap_or_default()
            }
        };
        template.pieces.iter().map(piece).collect()
    }
}

/// The end of a text, of whole characters.
fn last_bytes(text: &str, most: usize) -> &str {
    let from = text.len().saturating_sub(most);
    let from = (from..=text.len()).find(|at| text.is_char_boundary(*at)).unwrap_or(text.len());
    &text[from..]
}

#[cfg(test)]
mod tests {
    use pipeline::Place;

    use super::*;

    #[test]
    fn values_are_put_where_they_are_named() {
        let mut values = Values::default();
        assert!(values.give("unit", "output", "a 'b' $(c)\n"));
        assert!(values.give("own", "empty", ""));
        for (text, expected) in [
            ("x${unit.output}y", "xa 'b' $(c)\ny"),
            ("${.empty}|${.empty|none}|${unit.other|}", "|none|"),
            ("${HOME} $HOME ${own.empty}", "${HOME} $HOME "),
        ] {
            let template = Template::parse(text, Place::default()).unwrap();
            assert_eq!(values.fill(&template, "own"), expected, "{text}");
        }
    }

    #[test]
    fn of_what_is_too_long_the_end_stays_in_whole_characters() {
        let mut values = Values::default();
        let long = format!("x{}", "é".repeat(MAX / 2));
        assert!(!values.give("a", "v", &long));
        let template = Template::parse("${a.v}", Place::default()).unwrap();
        assert_eq!(values.fill(&template, "b"), long[1..]);
        assert_eq!(last_bytes(&format!("{long}x"), MAX).len(), MAX - 1);
    }
}
