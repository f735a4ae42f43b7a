//! JSON that all readers read alike: no key is given twice, and none is written as another reader would take it for one that this
//! reader passes over.
//!
//! Of a key that is there twice some take the first and some the last. Programs written in Go, as most registries and container
//! runtimes are, take `Layers` and `layer\u{17f}` for `layers`.

use std::{collections::HashSet, fmt};

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};

/// The keys that are read of a manifest, and those that other readers go by.
pub(crate) const OF_MANIFEST: [&str; 18] = [
    "schemaVersion",
    "mediaType",
    "artifactType",
    "config",
    "layers",
    "manifests",
    "subject",
    "annotations",
    "digest",
    "size",
    "urls",
    "data",
    "platform",
    "architecture",
    "os",
    "os.version",
    "os.features",
    "variant",
];

/// What has keys that anybody may choose.
const FREE: [&str; 5] = ["annotations", "Labels", "ExposedPorts", "Volumes", "Healthcheck"];

/// Makes sure that JSON says the same to everybody, of which these keys are known.
///
/// # Errors
/// Which key it is that doesn't, or what is no JSON.
pub(crate) fn ensure(json: &[u8], known: &[&str]) -> Result<(), serde_json::Error> {
    let mut read = serde_json::Deserializer::from_slice(json);
    Part { known, is_free: false }.deserialize(&mut read)?;
    read.end()
}

/// As Go compares keys: by simple folding, of which only these letters concern ASCII.
fn folded(key: &str) -> String {
    key.chars()
        .map(|c| match c {
            '\u{17f}' => 's',
            '\u{212a}' => 'k',
            c => c.to_ascii_lowercase(),
        })
        .collect()
}

fn shown(key: &str) -> String {
    key.chars().take(100).flat_map(char::escape_debug).collect()
}

/// A part of a document.
#[derive(Clone, Copy)]
struct Part<'a> {
    /// Keys that somebody goes by.
    known: &'a [&'a str],
    /// Whether its keys are names that somebody chose.
    is_free: bool,
}

impl<'de> DeserializeSeed<'de> for Part<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<(), D::Error> {
        from.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Part<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<(), A::Error> {
        while elements.next_element_seed(Self { is_free: false, ..self })?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<(), A::Error> {
        let mut seen = HashSet::new();
        while let Some(key) = entries.next_key::<String>()? {
            let folded = folded(&key);
            if !self.is_free && self.known.iter().any(|known| *known != key && self::folded(known) == folded) {
                return Err(A::Error::custom(format!("some readers take the key `{}` for another", shown(&key))));
            }
            let is_free = !self.is_free && FREE.contains(&key.as_str());
            if !seen.insert(if self.is_free { key.clone() } else { folded }) {
                return Err(A::Error::custom(format!("it has the key `{}` twice", shown(&key))));
            }
            entries.next_value_seed(Self { is_free, ..self })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_readers_may_take_differently_is_refused() {
        for (json, expected) in [
            (
                r#"{"layers":[],"config":{"size":1},"annotations":{"a":"1","A":"2","Size":"3"},"newer":{"x":[1.5,null,true,-1]}}"#,
                "",
            ),
            (r#"{"layers":[],"layers":[]}"#, "it has the key `layers` twice"),
            (r#"{"layers":[],"Layers":[]}"#, "some readers take the key `Layers` for another"),
            (r#"{"layer\u017f":[]}"#, "for another"),
            (r#"{"config":{"digest":"a","di\u0067est":"b"}}"#, "it has the key `digest` twice"),
            (r#"[{"urls":[{"SIZE":1}]}]"#, "some readers take the key `SIZE`"),
            (r#"{"annotations":{"a":"1","a":"2"}}"#, "it has the key `a` twice"),
            (r#"{"newer":1,"NEWER":2}"#, "it has the key `NEWER` twice"),
            (r"{} {}", "trailing characters"),
        ] {
            let said = ensure(json.as_bytes(), &OF_MANIFEST).err().map(|error| error.to_string()).unwrap_or_default();
            assert!(said.contains(expected) && said.is_empty() == expected.is_empty(), "{json}: {said}");
        }
    }
}
