//! JSON read strictly: RFC 8259 lets a reader choose among the values of a key that is there twice, so none may be.

use std::fmt;

use serde::{
    Deserialize, Deserializer,
    de::{Error, MapAccess, SeqAccess, Visitor},
};
use serde_json::{Map, Value};

/// Parses a JSON document of which every object has each key once.
///
/// # Errors
/// When it isn't JSON, or a key is repeated; the message names the key and its line and column.
pub fn parse_with_unique_keys(text: &str) -> Result<Value, serde_json::Error> {
    serde_json::from_str::<Unique>(text).map(|unique| unique.0)
}

/// A value without repeated keys.
struct Unique(Value);

impl<'de> Deserialize<'de> for Unique {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Strict).map(Self)
    }
}

struct Strict;

impl<'de> Visitor<'de> for Strict {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, flag: bool) -> Result<Value, E> {
        Ok(flag.into())
    }

    fn visit_i64<E>(self, number: i64) -> Result<Value, E> {
        Ok(number.into())
    }

    fn visit_u64<E>(self, number: u64) -> Result<Value, E> {
        Ok(number.into())
    }

    fn visit_f64<E>(self, number: f64) -> Result<Value, E> {
        Ok(number.into())
    }

    fn visit_str<E>(self, text: &str) -> Result<Value, E> {
        Ok(text.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Value, A::Error> {
        let mut values = Vec::new();
        while let Some(Unique(value)) = elements.next_element()? {
            values.push(value);
        }
        Ok(values.into())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut map = Map::new();
        while let Some((key, Unique(value))) = entries.next_entry::<String, _>()? {
            if map.contains_key(&key) {
                return Err(Error::custom(format!("the key `{key}` is there twice")));
            }
            map.insert(key, value);
        }
        Ok(map.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_repeated_key_is_refused_at_any_depth() {
        for text in ["{\"a\": 1, \"a\": 1}", "[[{\"b\": {\"a\": null, \"c\": 1, \"\\u0061\": 2}}]]"] {
            let error = parse_with_unique_keys(text).unwrap_err().to_string();
            assert!(error.starts_with("the key `a` is there twice at line 1"), "{error}");
        }
        assert!(parse_with_unique_keys("{\"a\": 1").is_err());
    }

    #[test]
    fn other_documents_read_as_usual() {
        let text =
            r#"[null, true, -1, 18446744073709551615, 1.5, "x", [], {"a": {"a": 1}, "b": [{"a": 1}, {"a": 2}]}]"#;
        assert_eq!(parse_with_unique_keys(text).unwrap(), serde_json::from_str::<Value>(text).unwrap());
    }
}
