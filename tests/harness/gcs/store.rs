//! What the fake keeps: buckets of objects, uploads under way, and the rules about generations.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Bound,
};

use bytes::Bytes;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Map, Value, json};

use crate::base64::base64;

/// The query's parameters of a request.
pub(super) type Query = BTreeMap<String, String>;

/// Most bytes of an object's custom metadata, keys and values (Google Cloud Storage, "Quotas and limits").
const MAX_METADATA: usize = 8 << 10;

/// The fields of an object's resource (JSON API, "Objects") that the fake knows.
const RESOURCE: [&str; 15] = [
    "kind",
    "id",
    "name",
    "bucket",
    "generation",
    "metageneration",
    "contentType",
    "storageClass",
    "size",
    "crc32c",
    "etag",
    "timeCreated",
    "timeFinalized",
    "updated",
    "metadata",
];

/// A refusal: status and message.
pub(super) type Refusal = (u16, String);

#[derive(Debug, Clone)]
pub(super) struct Stored {
    pub(super) name: String,
    pub(super) content: Bytes,
    pub(super) generation: i64,
    pub(super) crc32c: u32,
    pub(super) content_type: String,
    metadata: BTreeMap<String, String>,
    updated: Timestamp,
}

/// A resumable upload under way, or finished.
#[derive(Debug, Clone)]
pub(super) struct Session {
    pub(super) bucket: String,
    pub(super) name: String,
    pub(super) query: Query,
    pub(super) metadata: BTreeMap<String, String>,
    pub(super) content_type: String,
    pub(super) crc32c: Option<String>,
    pub(super) content: Vec<u8>,
    pub(super) done: Option<Stored>,
}

/// A copy under way: all that must be the same when it goes on, and how many bytes are there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Copying {
    pub(super) path: String,
    pub(super) generation: i64,
    pub(super) resource: Bytes,
    pub(super) copied: usize,
}

#[derive(Debug, Default)]
pub(super) struct Store {
    buckets: BTreeMap<String, BTreeMap<String, Stored>>,
    pub(super) sessions: BTreeMap<String, Session>,
    pub(super) copies: BTreeMap<String, Copying>,
    last: i64,
    /// How far its clock is ahead.
    pub(super) ahead: SignedDuration,
}

impl Store {
    pub(super) fn make_bucket(&mut self, name: &str) {
        self.buckets.entry(name.to_owned()).or_default();
    }

    /// The object that a read asks for.
    pub(super) fn get(&self, bucket: &str, name: &str, query: &Query) -> Result<&Stored, Refusal> {
        let wanted = query.get("generation").map(String::as_str);
        let found = self.bucket(bucket)?.get(name);
        let found = found.filter(|object| wanted.is_none_or(|wanted| wanted == object.generation.to_string()));
        check(found, query)?;
        found.ok_or_else(|| (404, format!("No such object: {bucket}/{name}")))
    }

    /// Writes an object, if the query's conditions hold.
    pub(super) fn put(
        &mut self,
        bucket: &str,
        name: &str,
        content: Bytes,
        metadata: BTreeMap<String, String>,
        content_type: String,
        query: &Query,
    ) -> Result<Stored, Refusal> {
        check(self.bucket(bucket)?.get(name), query)?;
        let size: usize = metadata.iter().map(|(key, value)| key.len() + value.len()).sum();
        if size > MAX_METADATA {
            return Err((400, format!("Metadata has {size} bytes, more than {MAX_METADATA}.")));
        }
        let updated = self.now();
        self.last = updated.as_microsecond().max(self.last + 1);
        // Google gives metadata's keys back in lower case where it gives them as headers: our own must be.
        let stored = Stored {
            name: name.to_owned(),
            crc32c: crc32c::crc32c(&content),
            generation: self.last,
            content,
            content_type,
            metadata,
            updated,
        };
        self.buckets.entry(bucket.to_owned()).or_default().insert(name.to_owned(), stored.clone());
        Ok(stored)
    }

    /// The time by its clock.
    pub(super) fn now(&self) -> Timestamp {
        Timestamp::now() + self.ahead
    }

    /// Whether a write would be let through now.
    pub(super) fn may_put(&self, bucket: &str, name: &str, query: &Query) -> Result<(), Refusal> {
        check(self.bucket(bucket)?.get(name), query)
    }

    pub(super) fn delete(&mut self, bucket: &str, name: &str, query: &Query) -> Result<(), Refusal> {
        let found = self.bucket(bucket)?.get(name);
        if found.is_none() {
            return Err((404, format!("No such object: {bucket}/{name}")));
        }
        check(found, query)?;
        self.buckets.entry(bucket.to_owned()).or_default().remove(name);
        Ok(())
    }

    /// One page of a listing, as JSON.
    pub(super) fn list(&self, bucket: &str, query: &Query) -> Result<Value, Refusal> {
        let text = |key: &str| query.get(key).map(String::as_str).filter(|text| !text.is_empty());
        let (prefix, delimiter) = (text("prefix").unwrap_or(""), text("delimiter"));
        let limit = text("maxResults").and_then(|limit| limit.parse().ok()).unwrap_or(1000_usize).clamp(1, 1000);
        // The token is the last entry of the page before, an object or a prefix.
        let after = text("pageToken").and_then(|token| token.strip_prefix("after:")).unwrap_or("");
        let of_items = text("fields").map(|fields| fields.split_once("items(").map_or("", |(_, of_items)| of_items));
        let mut items = Vec::new();
        let mut prefixes = BTreeSet::new();
        let mut last = String::new();
        let mut next = None;
        let from = match text("startOffset").unwrap_or("").max(prefix) {
            start if start > after => Bound::Included(start.to_owned()),
            _ => Bound::Excluded(after.to_owned()),
        };
        for (name, object) in self.bucket(bucket)?.range::<String, _>((from, Bound::Unbounded)) {
            let Some(rest) = name.strip_prefix(prefix) else { break };
            if text("endOffset").is_some_and(|end| name.as_str() >= end) {
                break;
            }
            let directory = delimiter.and_then(|delimiter| {
                let end = rest.find(delimiter)? + delimiter.len();
                Some(format!("{prefix}{}", &rest[..end]))
            });
            if directory.as_ref().is_some_and(|found| prefixes.contains(found) || after == found) {
                continue;
            }
            if items.len() + prefixes.len() == limit {
                next = Some(format!("after:{last}"));
                break;
            }
            if let Some(directory) = directory {
                last.clone_from(&directory);
                prefixes.insert(directory);
            } else {
                last.clone_from(name);
                items.push(object.to_json(bucket, of_items));
            }
        }
        let mut page = json!({ "kind": "storage#objects" });
        // Google leaves out what is empty.
        if !items.is_empty() {
            page["items"] = items.into();
        }
        if !prefixes.is_empty() {
            page["prefixes"] = prefixes.into_iter().collect();
        }
        if let Some(next) = next {
            page["nextPageToken"] = next.into();
        }
        Ok(page)
    }

    fn bucket(&self, name: &str) -> Result<&BTreeMap<String, Stored>, Refusal> {
        self.buckets.get(name).ok_or_else(|| (404, "The specified bucket does not exist.".to_owned()))
    }
}

impl Stored {
    /// The object's resource, as the JSON API describes it: the `fields` that were asked for, else all.
    pub(super) fn to_json(&self, bucket: &str, fields: Option<&str>) -> Value {
        let asked = fields.map(|fields| fields.split(['(', ')', ',']).collect::<Vec<_>>());
        let names = asked.as_deref().unwrap_or(&RESOURCE).iter();
        let fields = names.map(|name| ((*name).to_owned(), self.field(bucket, name)));
        fields.filter(|(_, value)| !value.is_null()).collect::<Map<_, _>>().into()
    }

    fn field(&self, bucket: &str, name: &str) -> Value {
        match name {
            "kind" => "storage#object".into(),
            "id" => format!("{bucket}/{}/{}", self.name, self.generation).into(),
            "name" => self.name.as_str().into(),
            "bucket" => bucket.into(),
            "generation" => self.generation.to_string().into(),
            "metageneration" => "1".into(),
            "contentType" => self.content_type.as_str().into(),
            "storageClass" => "STANDARD".into(),
            "size" => self.content.len().to_string().into(),
            "crc32c" => base64(&self.crc32c.to_be_bytes()).into(),
            "etag" => self.etag().into(),
            "timeCreated" | "timeFinalized" | "updated" => self.updated.to_string().into(),
            "metadata" if !self.metadata.is_empty() => json!(self.metadata),
            _ => Value::Null,
        }
    }

    pub(super) fn etag(&self) -> String {
        base64(&self.generation.to_be_bytes())
    }

    pub(super) fn metadata(&self) -> &BTreeMap<String, String> {
        &self.metadata
    }
}

/// Google Cloud Storage, "Request preconditions": 0 stands for "no such object".
fn check(found: Option<&Stored>, query: &Query) -> Result<(), Refusal> {
    let current = found.map_or(0, |object| object.generation).to_string();
    let refused = || "At least one of the pre-conditions you specified did not hold.".to_owned();
    if query.get("ifGenerationMatch").is_some_and(|wanted| *wanted != current) {
        return Err((412, refused()));
    }
    if query.get("ifGenerationNotMatch").is_some_and(|unwanted| *unwanted == current) {
        return Err((if query.contains_key("alt") { 304 } else { 412 }, refused()));
    }
    Ok(())
}
