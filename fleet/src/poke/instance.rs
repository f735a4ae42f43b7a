//! The Compute API's documents, as far as a poke needs them, and what is decided from them. Pure.

use std::collections::BTreeMap;

use anyhow::{Result, bail};
use serde::{Deserialize, Serialize};

/// Most pages of a list of ten names. More is a server that goes in circles.
pub(super) const MAX_PAGES: usize = 1000;

/// One page of `instances.aggregatedList`.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct InstanceList {
    items: BTreeMap<String, Scope>,
    next_page_token: Option<String>,
    unreachables: Vec<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Scope {
    instances: Vec<Instance>,
    warning: Option<Warning>,
}

#[derive(Debug, Deserialize)]
struct Warning {
    code: String,
}

#[derive(Debug, Deserialize)]
struct Instance {
    name: String,
}

/// An instance's own document.
#[derive(Debug, Deserialize)]
pub(super) struct InstanceDocument {
    #[serde(default)]
    pub(super) metadata: InstanceMetadata,
}

/// All custom metadata of an instance: it is only ever written whole, with the fingerprint that was read.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(super) struct InstanceMetadata {
    #[serde(default)]
    fingerprint: String,
    #[serde(default)]
    items: Vec<Item>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Item {
    key: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    value: Option<String>,
}

impl InstanceMetadata {
    pub(super) fn get(&self, key: &str) -> Option<&str> {
        self.items.iter().find(|item| item.key == key)?.value.as_deref()
    }

    /// The same with one attribute set, the others as they are.
    pub(super) fn with(&self, key: &str, value: &str) -> Self {
        let mut changed = self.clone();
        changed.items.retain(|item| item.key != key);
        changed.items.push(Item { key: key.to_owned(), value: Some(value.to_owned()) });
        changed
    }
}

/// An instance by its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Candidate {
    pub(super) zone: String,
    pub(super) name: String,
}

/// What a whole list gave.
#[derive(Debug, Default)]
pub(super) struct Found {
    instances: Vec<Candidate>,
    unreachable: Vec<String>,
}

impl Found {
    /// Takes in a page, and gives the token of the next.
    pub(super) fn add(&mut self, page: InstanceList) -> Option<String> {
        let zone = |scope: &str| scope.rsplit('/').next().unwrap_or_default().to_owned();
        for (scope, content) in page.items {
            let zone = zone(&scope);
            // What is part of a URL later is checked now; the other scopes aren't zones.
            let instances = content.instances.into_iter().filter(|_| is_name(&zone));
            self.instances.extend(instances.map(|instance| Candidate { zone: zone.clone(), name: instance.name }));
            if content.warning.is_some_and(|warning| warning.code == "UNREACHABLE") {
                self.unreachable.push(zone);
            }
        }
        self.unreachable.extend(page.unreachables.iter().map(|scope| zone(scope)));
        page.next_page_token.filter(|token| !token.is_empty())
    }
}

/// The one instance of that name; a name that occurs in several zones is nobody's.
pub(super) fn choose(found: &Found, name: &str, project: &str) -> Result<Candidate> {
    let named: Vec<&Candidate> = found.instances.iter().filter(|instance| instance.name == name).collect();
    match named[..] {
        [one] => Ok(one.clone()),
        [] if found.unreachable.is_empty() => {
            bail!("project `{project}` has no instance `{name}`, or these credentials cannot see it")
        }
        [] => {
            let mut zones: Vec<String> = found.unreachable.iter().map(|zone| zone.escape_debug().to_string()).collect();
            zones.sort_unstable();
            zones.dedup();
            bail!(
                "no instance `{name}` in project `{project}`, but these zones are unreachable at the moment: {}",
                zones.join(", ")
            )
        }
        _ => {
            let mut zones: Vec<&str> = named.iter().map(|instance| instance.zone.as_str()).collect();
            zones.sort_unstable();
            bail!(
                "project `{project}` has several instances named `{name}`, in {}: set `PUSH_GCE_ZONE`",
                zones.join(", ")
            )
        }
    }
}

/// Whether this can be the name of an instance or a zone (RFC 1035, as the API has it).
pub(super) fn is_name(name: &str) -> bool {
    (1..=63).contains(&name.len())
        && name.starts_with(|c: char| c.is_ascii_lowercase())
        && !name.ends_with('-')
        && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-')
}

/// What the API is doing about a write.
#[derive(Debug, Deserialize)]
pub(super) struct Operation {
    pub(super) name: String,
    pub(super) status: String,
    #[serde(default)]
    pub(super) error: Option<OperationError>,
}

#[derive(Debug, Deserialize)]
pub(super) struct OperationError {
    #[serde(default)]
    pub(super) errors: Vec<OperationErrorItem>,
}

#[derive(Debug, Deserialize)]
pub(super) struct OperationErrorItem {
    #[serde(default)]
    pub(super) code: String,
    #[serde(default)]
    pub(super) message: String,
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn found(pages: &[serde_json::Value]) -> Found {
        let mut found = Found::default();
        for page in pages {
            found.add(serde_json::from_value(page.clone()).unwrap());
        }
        found
    }

    #[test]
    fn an_instance_is_chosen_only_if_it_is_the_only_one() {
        let empty = json!({ "warning": { "code": "NO_RESULTS_ON_PAGE", "message": "…" } });
        let b = json!({ "instances": [{ "name": "web-1", "status": "RUNNING" }, { "name": "web-2" }] });
        let first =
            json!({ "items": { "zones/europe-west1-b": b, "zones/europe-west1-c": empty }, "nextPageToken": "x" });
        let second = json!({ "items": { "zones/us-east1-d": { "instances": [{ "name": "web-2" }] } } });
        let broken = json!({ "items": { "zones/us-east1-d": { "warning": { "code": "UNREACHABLE" } } },
                             "unreachables": ["zones/us-east1-c"] });
        for (pages, name, expected) in [
            (vec![&first, &second], "web-1", Ok("europe-west1-b")),
            (vec![&first, &broken], "web-1", Ok("europe-west1-b")),
            (vec![&first, &second], "web-2", Err("several instances named `web-2`, in europe-west1-b, us-east1-d")),
            (vec![&first, &second], "web-3", Err("has no instance `web-3`")),
            (vec![&first, &broken], "web-3", Err("are unreachable at the moment: us-east1-c, us-east1-d")),
        ] {
            let pages: Vec<_> = pages.into_iter().cloned().collect();
            match (choose(&found(&pages), name, "acme"), expected) {
                (Ok(chosen), Ok(zone)) => assert_eq!((chosen.name.as_str(), chosen.zone.as_str()), (name, zone)),
                (Err(error), Err(part)) => assert!(error.to_string().contains(part), "{error}"),
                (got, expected) => panic!("{name}: {got:?}, expected {expected:?}"),
            }
        }
    }

    #[test]
    fn the_other_attributes_stay_as_they_are() {
        let read = json!({ "fingerprint": "f1", "kind": "compute#metadata", "items": [
            { "key": "ssh-keys", "value": "dev:ssh-ed25519 AAAA" },
            { "key": "pushrev", "value": "old" },
            { "key": "flag" },
        ] });
        let metadata: InstanceMetadata = serde_json::from_value(read).unwrap();
        let written = serde_json::to_value(metadata.with("pushrev", "new")).unwrap();
        let expected = json!({ "fingerprint": "f1", "items": [
            { "key": "ssh-keys", "value": "dev:ssh-ed25519 AAAA" },
            { "key": "flag" },
            { "key": "pushrev", "value": "new" },
        ] });
        assert_eq!(written, expected);
    }
}
