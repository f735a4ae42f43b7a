//! As much of a JSON-schema validator (draft 7) as our schema uses; a keyword that it doesn't know fails the test.

use serde_json::{Value, json};

use super::schema::schema;

/// What the schema says against a file, each with its place.
pub(super) fn mistakes(file: &toml::Table) -> Vec<String> {
    let schema = schema();
    let file = serde_json::to_value(file).expect("what a test writes has a JSON form");
    let mut mistakes = Vec::new();
    validate(&schema, &schema, &file, "", &mut mistakes);
    mistakes
}

fn is_valid(root: &Value, schema: &Value, value: &Value) -> bool {
    let mut mistakes = Vec::new();
    validate(root, schema, value, "", &mut mistakes);
    mistakes.is_empty()
}

fn validate(root: &Value, schema: &Value, value: &Value, at: &str, mistakes: &mut Vec<String>) {
    let keywords = schema.as_object().unwrap_or_else(|| panic!("not a schema: {schema}"));
    let list = |of: &Value| of.as_array().cloned().unwrap_or_else(|| panic!("not an array: {of}"));
    for (keyword, of) in keywords {
        let valid = match keyword.as_str() {
            "$schema" | "title" | "description" | "definitions" | "then" | "else" => true,
            "$ref" => {
                let name = of.as_str().and_then(|name| name.strip_prefix("#/definitions/")).expect("a local reference");
                validate(root, &root["definitions"][name], value, at, mistakes);
                true
            }
            "type" => match of.as_str().expect("one type") {
                "object" => value.is_object(),
                "array" => value.is_array(),
                "string" => value.is_string(),
                "boolean" => value.is_boolean(),
                "integer" => value.is_i64(),
                other => panic!("unknown type {other}"),
            },
            "enum" => list(of).contains(value),
            "minimum" => value.as_i64() >= of.as_i64(),
            "maximum" => value.as_i64() <= of.as_i64(),
            "minProperties" => value.as_object().is_none_or(|table| table.len() as u64 >= of.as_u64().unwrap()),
            "pattern" => value.as_str().is_none_or(|text| matches(of.as_str().unwrap(), text)),
            "required" => value
                .as_object()
                .is_none_or(|table| list(of).iter().all(|key| table.contains_key(key.as_str().unwrap()))),
            "dependencies" => value.as_object().is_none_or(|table| {
                let needs = of.as_object().expect("a table").iter().filter(|(key, _)| table.contains_key(*key));
                needs.flat_map(|(_, needed)| list(needed)).all(|key| table.contains_key(key.as_str().unwrap()))
            }),
            "anyOf" => list(of).iter().any(|schema| is_valid(root, schema, value)),
            "oneOf" => list(of).iter().filter(|schema| is_valid(root, schema, value)).count() == 1,
            "allOf" => list(of).iter().all(|schema| is_valid(root, schema, value)),
            "not" => !is_valid(root, of, value),
            "if" => {
                let branch = &schema[if is_valid(root, of, value) { "then" } else { "else" }];
                validate(root, branch, value, at, mistakes);
                true
            }
            "items" => {
                for (i, item) in value.as_array().into_iter().flatten().enumerate() {
                    validate(root, of, item, &format!("{at}[{i}]"), mistakes);
                }
                true
            }
            "properties" | "additionalProperties" => {
                for (key, value) in value.as_object().into_iter().flatten() {
                    let at = format!("{at}.{key}");
                    match (keyword.as_str(), &schema["properties"][key]) {
                        ("properties", Value::Null) => {}
                        ("properties", schema) => validate(root, schema, value, &at, mistakes),
                        (_, Value::Null) if *of == json!(false) => mistakes.push(format!("{at}: unknown key")),
                        (_, Value::Null) => validate(root, of, value, &at, mistakes),
                        (_, _) => {}
                    }
                }
                true
            }
            other => panic!("the validator does not know `{other}`"),
        };
        if !valid {
            mistakes.push(format!("{at}: `{keyword}` must be {of}"));
        }
    }
}

/// The few regular expressions of the schema.
fn matches(pattern: &str, text: &str) -> bool {
    match pattern {
        "^/" => text.starts_with('/'),
        "^http://" => text.starts_with("http://"),
        "^projects/" => text.starts_with("projects/"),
        "^(gs|file)://" => text.starts_with("gs://") || text.starts_with("file://"),
        "^([0-7]{3,4}|[ugoa]*[=+-][rwxXst]*(,[ugoa]*[=+-][rwxXst]*)*)$" => {
            let octal = (3..=4).contains(&text.len()) && text.bytes().all(|b| (b'0'..=b'7').contains(&b));
            octal || text.split(',').all(is_change)
        }
        other => panic!("the validator does not know the pattern `{other}`"),
    }
}

/// `[ugoa]*[=+-][rwxXst]*`
fn is_change(text: &str) -> bool {
    let rest = text.trim_start_matches(['u', 'g', 'o', 'a']);
    rest.strip_prefix(['=', '+', '-']).is_some_and(|bits| bits.chars().all(|c| "rwxXst".contains(c)))
}
