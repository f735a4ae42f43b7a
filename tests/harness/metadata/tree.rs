//! What the metadata server knows of the instance, as the tree it serves, and how that is written down.

use std::hash::{DefaultHasher, Hash, Hasher};

use serde_json::{Map, Value, json};

use super::state::State;

/// A file or a directory of the tree.
pub(super) enum Node {
    /// `instance/name`: text.
    File(String),
    /// `instance/`; and whether the names in it are custom, as in `instance/attributes/`.
    Directory(Map<String, Value>, bool),
}

/// What lies at `path`, which may end in `/`; `None` when nothing does.
pub(super) fn find(state: &State, path: &str) -> Option<Node> {
    let mut here = whole(state);
    for name in path.split('/').filter(|name| !name.is_empty()) {
        here = here.as_object_mut()?.remove(name)?;
    }
    Some(match here {
        Value::Object(directory) => Node::Directory(directory, path.contains("attributes")),
        Value::String(text) => Node::File(text),
        other => Node::File(other.to_string()),
    })
}

impl Node {
    /// Changes when what the node holds changes, and when the instance is migrated.
    pub(super) fn etag(&self, state: &State) -> String {
        let mut hasher = DefaultHasher::new();
        state.salt.hash(&mut hasher);
        match self {
            Self::File(text) => text.hash(&mut hasher),
            Self::Directory(directory, _) => Value::Object(directory.clone()).to_string().hash(&mut hasher),
        }
        format!("{:016x}", hasher.finish())
    }

    /// The content type and the body.
    pub(super) fn write(&self, recursive: bool, json: bool) -> (&'static str, String) {
        match self {
            Self::File(text) if json => ("application/json", Value::String(text.clone()).to_string()),
            Self::File(text) => ("application/text", text.clone()),
            Self::Directory(directory, custom) if recursive => {
                ("application/json", camel_case(Value::Object(directory.clone()), *custom).to_string())
            }
            Self::Directory(directory, _) => ("application/text", listing(directory)),
        }
    }
}

fn whole(state: &State) -> Value {
    json!({
        "instance": {
            "attributes": state.attributes,
            "id": 4_520_031_799_277_581_759_u64,
            "name": "web-1",
            "hostname": "web-1.europe-west1-b.c.acme-prod.internal",
            "zone": "projects/123456789012/zones/europe-west1-b",
            "service-accounts": {
                "default": {
                    "aliases": ["default"],
                    "email": "agent@acme-prod.iam.gserviceaccount.com",
                    "scopes": ["https://www.googleapis.com/auth/cloud-platform"],
                },
            },
        },
        "project": { "project-id": "acme-prod", "numeric-project-id": 123_456_789_012_u64, "attributes": {} },
        "universe": { "universe-domain": "googleapis.com" },
    })
}

fn listing(directory: &Map<String, Value>) -> String {
    let slash = |value: &Value| if value.is_object() { "/\n" } else { "\n" };
    directory.iter().flat_map(|(name, value)| [name, slash(value)]).collect()
}

/// Recursive answers name things as `serviceAccounts`; only custom attributes keep their names.
fn camel_case(value: Value, verbatim: bool) -> Value {
    let Value::Object(directory) = value else { return value };
    let renamed = directory.into_iter().map(|(name, value)| {
        let custom = name == "attributes";
        (if verbatim { name } else { camel(&name) }, camel_case(value, verbatim || custom))
    });
    Value::Object(renamed.collect())
}

fn camel(name: &str) -> String {
    let mut words = name.split('-');
    let first = words.next().unwrap_or_default().to_owned();
    words.fold(first, |mut whole, word| {
        let mut letters = word.chars();
        whole.extend(letters.next().map(|letter| letter.to_ascii_uppercase()));
        whole.push_str(letters.as_str());
        whole
    })
}
