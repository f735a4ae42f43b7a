//! The JSON schema (draft 7) of `release.toml`, for editors: `release schema`.
//!
//! It says less than the parser, because an editor asks at every keystroke: types, keys, and which of them go together.

use serde_json::{Map, Value, json};

use super::{Key, Kind, Place, keys};

/// The whole schema.
pub(crate) fn schema() -> Value {
    let mut schema = table(&[Place::Top]);
    let definitions: Map<String, Value> =
        DEFINED.iter().map(|(name, places)| ((*name).to_owned(), definition(places))).collect();
    schema["$schema"] = json!("http://json-schema.org/draft-07/schema#");
    schema["title"] = json!("release.toml");
    schema["description"] = json!("What a repository releases with Push. `release reference` explains every key.");
    schema["anyOf"] = ["package", "images"].map(|key| json!({ "required": [key] })).to_vec().into();
    schema["definitions"] = Value::Object(definitions);
    schema
}

/// Tables that the schema describes once, by the name that they have there.
const DEFINED: [(&str, &[Place]); 13] = [
    ("bucket", &[Place::Bucket]),
    ("candidates", &[Place::Candidates]),
    ("images", &[Place::Images]),
    ("pipeline", &[Place::Pipeline]),
    ("defaults", &[Place::Defaults]),
    ("package", &[Place::Package, Place::Recipe]),
    ("file", &[Place::Copy]),
    ("link", &[Place::Link]),
    ("directory", &[Place::Directory]),
    ("scripts", &[Place::Scripts]),
    ("user", &[Place::User]),
    ("unit", &[Place::Unit]),
    ("check", &[Place::Check]),
];

/// A table, with what must hold of its keys together.
fn definition(places: &[Place]) -> Value {
    let mut schema = table(places);
    let one_of = |names: &[&str]| names.iter().map(|name| json!({ "required": [name] })).collect::<Vec<_>>();
    match places {
        [Place::Unit] => schema["oneOf"] = one_of(&["file", "name"]).into(),
        [Place::Check] => schema["oneOf"] = one_of(&["http", "tcp", "command"]).into(),
        [Place::Package, Place::Recipe] => {
            // Of the keys of every package one is about `deb` alone; others have their own `outside`.
            schema["dependencies"] = json!({ "outside": ["deb"] });
            let recipe: Vec<&str> = keys(Place::Recipe).map(|key| key.name).collect();
            schema["if"] = json!({ "required": ["deb"] });
            schema["then"] = json!({ "not": { "anyOf": one_of(&recipe) } });
            schema["else"] = json!({ "required": required(&[Place::Recipe]) });
        }
        _ => {}
    }
    schema
}

/// A table with the keys of all these places, and no others.
fn table(places: &[Place]) -> Value {
    let keys = places.iter().flat_map(|place| keys(*place));
    let properties: Map<String, Value> = keys.map(|key| (key.name.to_owned(), property(key))).collect();
    let mut schema = json!({ "type": "object", "additionalProperties": false, "properties": properties });
    // Of several places, which one a table has decides over what it must have.
    let required = if places.len() == 1 { required(places) } else { Vec::new() };
    if !required.is_empty() {
        schema["required"] = required.into();
    }
    schema
}

fn required(places: &[Place]) -> Vec<&'static str> {
    places.iter().flat_map(|place| keys(*place)).filter(|key| key.default == "required").map(|key| key.name).collect()
}

fn property(key: &Key) -> Value {
    let mut schema = value(key.kind);
    let Key { meaning, default, example, .. } = key;
    let default = if *default == "required" { String::new() } else { format!(" Default: {default}.") };
    schema["description"] = format!("{meaning}{default} Example: `{example}`").into();
    schema
}

fn value(kind: Kind) -> Value {
    let texts = || json!({ "type": "array", "items": { "type": "string" } });
    match kind {
        Kind::Text => json!({ "type": "string" }),
        Kind::Matching(pattern) => json!({ "type": "string", "pattern": pattern }),
        Kind::OneOf(words) => json!({ "enum": words }),
        Kind::Flag => json!({ "type": "boolean" }),
        Kind::Number(least, most) => json!({ "type": "integer", "minimum": least, "maximum": most }),
        Kind::Texts => texts(),
        Kind::Lines => json!({ "anyOf": [{ "type": "string" }, texts()] }),
        // Beside `$ref` a draft-7 reader sees nothing else, so the description needs the detour.
        Kind::Table(place) => json!({ "allOf": [defined(&[place])] }),
        Kind::Named(places) => json!({ "type": "object", "minProperties": 1, "additionalProperties": defined(places) }),
        Kind::Tables(&[place]) => json!({ "type": "array", "items": defined(&[place]) }),
        Kind::Tables(places) => {
            let items: Vec<Value> = places.iter().map(|place| defined(&[*place])).collect();
            json!({ "type": "array", "items": { "oneOf": items } })
        }
        Kind::TextsOrTable(place) => json!({ "anyOf": [texts(), defined(&[place])] }),
    }
}

/// A reference to one of [`DEFINED`].
fn defined(places: &[Place]) -> Value {
    let name = DEFINED.iter().find(|(_, defined)| *defined == places).map_or("", |(name, _)| *name);
    json!({ "$ref": format!("#/definitions/{name}") })
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    use super::*;
    use crate::manifest::keys::validator::mistakes;

    fn root() -> &'static Path {
        Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
    }

    #[test]
    fn the_schema_in_the_repository_is_that_of_the_code() {
        let text = fs::read_to_string(root().join("docs/release-toml.schema.json")).unwrap();
        let there: Value = serde_json::from_str(&text).unwrap();
        let update = "update it: cargo run --bin release -- schema > docs/release-toml.schema.json";
        assert!(there == schema(), "docs/release-toml.schema.json differs from the code; {update}");
    }

    #[test]
    fn each_release_toml_of_the_repository_is_valid() {
        let mut found = 0;
        for directory in ["examples", "packaging"] {
            for entry in fs::read_dir(root().join(directory)).unwrap() {
                let path = entry.unwrap().path().join("release.toml");
                let Ok(text) = fs::read_to_string(&path) else { continue };
                assert_eq!(mistakes(&text.parse().unwrap()), [""; 0], "{}", path.display());
                found += 1;
            }
        }
        assert!(found >= 5, "only {found} files were found");
    }

    #[test]
    fn mistakes_are_seen() {
        let head = "schema = 1\n[package.web]\ndescription = \"x\"\n";
        for text in [
            "[package.web]\ndescription = \"x\"".to_owned(),
            "schema = 2\n[package.web]\ndescription = \"x\"".to_owned(),
            "schema = 1".to_owned(),
            "schema = 1\n[package]".to_owned(),
            "schema = 1\n[package.web]".to_owned(),
            "schema = 1\n[package.web]\ndeb = \"x.deb\"\ndepends = []".to_owned(),
            "schema = 1\n[bucket]\nurl = \"s3://x\"\n[package.web]\ndeb = \"x.deb\"".to_owned(),
            format!("{head}dependss = []"),
            format!("{head}depends = \"nginx\""),
            format!("{head}compression = \"gzip\""),
            format!("{head}contents = [{{ src = \"a\" }}]"),
            format!("{head}contents = [{{ src = \"a\", dst = \"a\" }}]"),
            format!("{head}contents = [{{ src = \"a\", dst = \"/a\", mode = \"rwx\" }}]"),
            format!("{head}contents = [{{ src = \"a\", link = \"/a\", dst = \"/b\", to = \"c\" }}]"),
            format!("{head}scripts = {{ postint = \"\" }}"),
            format!("{head}check = {{ tcp = \"a\", attempts = 0 }}"),
            format!("{head}check = {{ timeout = \"1s\" }}"),
            format!("{head}[[package.web.unit]]\nrestart = \"never\""),
            format!("{head}[[package.web.unit]]\nfile = \"a.service\"\nname = \"b.service\""),
            format!("{head}[[package.web.unit]]\nfile = \"a.service\"\nrestart = \"always\""),
        ] {
            assert_ne!(mistakes(&text.parse().unwrap()), [""; 0], "{text}");
        }
        assert_eq!(mistakes(&head.parse().unwrap()), [""; 0]);
    }
}
