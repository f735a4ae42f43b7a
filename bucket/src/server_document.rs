//! Server documents: the desired state, one JSON array of release names for each server.

use std::{collections::BTreeSet, fmt};

use bytes::Bytes;
use futures_util::{Stream, TryStreamExt};
use jiff::Timestamp;
use serde::{
    Deserialize, Deserializer,
    de::{IgnoredAny, SeqAccess, Visitor},
};
use serde_json::value::RawValue;

use crate::{
    AppName, Bucket, DocumentMetadata, Error, Fetched, Generation, Object, ObjectInfo, ObjectPath, PageToken,
    ReleaseName, ServerName, SharedNames, items, layout,
};

/// Most bytes of a server document.
pub(crate) const MAX_SIZE: u64 = 1 << 20;

/// One element of a server document's array.
#[derive(Debug, Clone, PartialEq)]
pub enum Entry {
    /// The server should have this release.
    Release(ReleaseName),
    /// `app` or `app/`: no release chosen yet. Agents ignore it, and it is kept until a release of the app takes its place.
    Placeholder {
        /// The app.
        app: AppName,
        /// The element as it was read, in JSON.
        json: String,
    },
    /// Anything else: reported, left alone and kept as it is.
    Bad {
        /// The element as it was read, in JSON: whatever else would lose digits, keys or their order.
        json: String,
        /// Why it can't be used.
        reason: String,
    },
}

/// The releases that one server should have, in the order they were written.
///
/// At most one [`Entry::Release`] for each app: the first one counts, a second is [`Entry::Bad`].
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ServerDocument {
    entries: Vec<Entry>,
    /// How many elements more there are, which weren't looked at.
    unread: usize,
    /// What lies in the object's metadata: whoever writes the document writes that too.
    metadata: DocumentMetadata,
}

/// What a listing of `server/` tells without reading any.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DocumentSummary {
    /// The server.
    pub server: ServerName,
    /// The generation of its document.
    pub generation: Generation,
    /// When that was written, by the bucket's clock.
    pub updated: Timestamp,
    /// What lies in its metadata.
    pub metadata: DocumentMetadata,
}

impl ServerDocument {
    /// Most elements of a document that are looked at; one that has more is never written.
    pub const MAX_ENTRIES: usize = 4000;

    /// Parses a document's content.
    ///
    /// # Errors
    /// When it isn't one JSON array, as a sentence for people. Elements that are wrong are no error: see [`Entry::Bad`].
    pub fn parse(content: &[u8]) -> Result<Self, String> {
        let elements: Elements = serde_json::from_slice(content).map_err(|e| format!("not a JSON array: {e}"))?;
        let mut apps = BTreeSet::new();
        let entries = elements.first.into_iter().map(|value| parse_entry(value.get(), &mut apps)).collect();
        Ok(Self { entries, unread: elements.more, metadata: DocumentMetadata::default() })
    }

    /// What lies in its metadata.
    pub fn metadata(&self) -> &DocumentMetadata {
        &self.metadata
    }

    /// The same document with other metadata.
    #[must_use]
    pub fn with_metadata(self, metadata: DocumentMetadata) -> Self {
        Self { metadata, ..self }
    }

    /// The elements, in order, as far as they were looked at.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The releases the server should have, in order, at most one for each app.
    pub fn releases(&self) -> impl Iterator<Item = &ReleaseName> {
        self.entries.iter().filter_map(|entry| match entry {
            Entry::Release(name) => Some(name),
            _ => None,
        })
    }

    /// Has its names in memory once with equal ones.
    pub fn share_names(&mut self, names: &mut SharedNames) {
        for entry in &mut self.entries {
            if let Entry::Release(name) = entry {
                names.share(name);
            }
        }
    }

    /// The release of `app` the server should have.
    pub fn release_of(&self, app: &AppName) -> Option<&ReleaseName> {
        self.releases().find(|name| name.app() == app)
    }

    /// The elements that can't be used: each as text, safe to show, and why.
    pub fn bad_entries(&self) -> impl Iterator<Item = (String, &str)> {
        self.entries.iter().filter_map(|entry| match entry {
            Entry::Bad { json, reason } => Some((show(json), reason.as_str())),
            _ => None,
        })
    }

    /// How many elements weren't looked at, because they come after the first [`ServerDocument::MAX_ENTRIES`]. What they
    /// ask for is unknown.
    pub fn unread(&self) -> usize {
        self.unread
    }

    /// Makes `release` the desired one of its app and gives the one before. Every other element stays as it is.
    pub fn set(&mut self, release: ReleaseName) -> Option<ReleaseName> {
        let app = release.app().clone();
        let ours = |entry: &Entry| matches!(entry, Entry::Release(name) if *name.app() == app);
        let chosen = self.entries.iter().position(ours);
        let waits = |entry: &Entry| matches!(entry, Entry::Placeholder { app: waiting, .. } if *waiting == app);
        let place = chosen.or_else(|| self.entries.iter().position(waits));
        let Some(place) = place else {
            self.entries.push(Entry::Release(release));
            return None;
        };
        match std::mem::replace(&mut self.entries[place], Entry::Release(release)) {
            Entry::Release(before) => Some(before),
            _ => None,
        }
    }

    /// Makes `release` the desired one of its app for a while, and gives the one before: a placeholder stays where it is, so that
    /// [`ServerDocument::unset`] leaves what was there.
    pub fn set_beside(&mut self, release: ReleaseName) -> Option<ReleaseName> {
        if self.release_of(release.app()).is_some() {
            return self.set(release);
        }
        self.entries.push(Entry::Release(release));
        None
    }

    /// Takes the release of an app out and gives it. Every other element stays as it is, a placeholder of the app too.
    pub fn unset(&mut self, app: &AppName) -> Option<ReleaseName> {
        let ours = |entry: &Entry| matches!(entry, Entry::Release(name) if name.app() == app);
        let place = self.entries.iter().position(ours)?;
        match self.entries.remove(place) {
            Entry::Release(before) => Some(before),
            _ => None,
        }
    }

    /// Takes the entry of an app out and gives the release that it had. A second release of the app goes too: it was not used,
    /// and would be the one that counts from then on; and a placeholder, by which a channel would put the app back. Every other
    /// element stays as it is.
    pub fn remove(&mut self, app: &AppName) -> Option<ReleaseName> {
        let before = self.release_of(app).cloned();
        let is_of_it = |name: &ReleaseName| name.app() == app;
        self.entries.retain(|entry| match entry {
            Entry::Release(name) => !is_of_it(name),
            Entry::Placeholder { app: waiting, .. } => waiting != app,
            Entry::Bad { json, .. } => !serde_json::from_str::<ReleaseName>(json).is_ok_and(|name| is_of_it(&name)),
        });
        before
    }

    /// The document as it is stored: one element a line, what wasn't looked at left out.
    pub fn to_json(&self) -> Bytes {
        let elements = self.entries.iter().map(|entry| match entry {
            // A release name has no character that JSON would escape.
            Entry::Release(name) => format!("\n  \"{name}\""),
            Entry::Placeholder { json, .. } | Entry::Bad { json, .. } => format!("\n  {json}"),
        });
        let elements: Vec<String> = elements.collect();
        match elements.as_slice() {
            [] => Bytes::from_static(b"[]\n"),
            elements => format!("[{}\n]\n", elements.join(",")).into(),
        }
    }
}

impl fmt::Display for ServerDocument {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&String::from_utf8_lossy(&self.to_json()))
    }
}

/// The elements of a document's array: the first ones as they were written, and how many more there are.
struct Elements<'a> {
    first: Vec<&'a RawValue>,
    more: usize,
}

impl<'de> Deserialize<'de> for Elements<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Array;
        impl<'de> Visitor<'de> for Array {
            type Value = Elements<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an array")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut array: A) -> Result<Elements<'de>, A::Error> {
                let mut elements = Elements { first: Vec::new(), more: 0 };
                while elements.first.len() < ServerDocument::MAX_ENTRIES {
                    let Some(element) = array.next_element()? else { return Ok(elements) };
                    elements.first.push(element);
                }
                while array.next_element::<IgnoredAny>()?.is_some() {
                    elements.more += 1;
                }
                Ok(elements)
            }
        }
        deserializer.deserialize_seq(Array)
    }
}

fn parse_entry(json: &str, apps: &mut BTreeSet<AppName>) -> Entry {
    let bad = |reason: String| Entry::Bad { json: json.to_owned(), reason };
    let Ok(text) = serde_json::from_str::<String>(json) else {
        return bad("not a string".to_owned());
    };
    if let Ok(app) = text.strip_suffix('/').unwrap_or(&text).parse::<AppName>() {
        return Entry::Placeholder { app, json: json.to_owned() };
    }
    let name: ReleaseName = match text.parse() {
        Ok(name) => name,
        Err(error) => {
            let error: crate::NameError = error;
            return bad(error.reason);
        }
    };
    if !apps.insert(name.app().clone()) {
        return bad(format!("second release of `{}`; only the first one is used", name.app()));
    }
    Entry::Release(name)
}

/// Cut and escaped for a person.
fn show(json: &str) -> String {
    const MAX_SHOWN: usize = 200;
    let mut shown: String = json.chars().take(MAX_SHOWN).flat_map(char::escape_debug).collect();
    if json.chars().nth(MAX_SHOWN).is_some() {
        shown.push('…');
    }
    shown
}

impl Bucket {
    /// A server's document, with its generation.
    ///
    /// # Errors
    /// [`Error::Malformed`] when it isn't a JSON array; then nothing may be concluded from it.
    pub async fn server_document(&self, server: &ServerName) -> Result<Option<(Generation, ServerDocument)>, Error> {
        let path = layout::server(server);
        let Some(object) = self.get(&path, MAX_SIZE).await? else { return Ok(None) };
        Ok(Some((object.generation, parse_object(&path, object)?)))
    }

    /// A server's document, unless it is still the generation `seen`.
    ///
    /// # Errors
    /// [`Error::Malformed`] when it isn't a JSON array; then nothing may be concluded from it.
    pub async fn server_document_if_changed(
        &self,
        server: &ServerName,
        seen: Generation,
    ) -> Result<Fetched<ServerDocument>, Error> {
        let path = layout::server(server);
        Ok(match self.get_if_changed(&path, seen, MAX_SIZE).await? {
            Fetched::Unchanged => Fetched::Unchanged,
            Fetched::Absent => Fetched::Absent,
            Fetched::Found(generation, object) => Fetched::Found(generation, parse_object(&path, object)?),
        })
    }

    /// Writes a server's document over the generation that was read, or as the first if there was none.
    ///
    /// # Errors
    /// [`Error::Conflict`] or [`Error::AlreadyExists`] when somebody wrote in between; [`Error::Malformed`] or
    /// [`Error::TooLarge`] when nobody would read all of it. Nothing was written then.
    pub async fn write_server_document(
        &self,
        server: &ServerName,
        document: &ServerDocument,
        seen: Option<Generation>,
    ) -> Result<Generation, Error> {
        let path = layout::server(server);
        let content = document.to_json();
        let (entries, limit) = (document.entries.len() + document.unread, ServerDocument::MAX_ENTRIES);
        if entries > limit {
            let reason = format!(
                "it would have {entries} entries, and only the first {limit} of a document are used: remove some"
            );
            return Err(Error::Malformed { object: path.to_string(), reason });
        }
        self.write_within(MAX_SIZE, &path, content, document.metadata.as_ref(), seen).await
    }

    /// Writes a server's document once more, byte for byte as it was read, with other metadata.
    ///
    /// # Errors
    /// [`Error::Conflict`] when somebody wrote in between. Nothing was written then.
    pub async fn write_document_metadata(
        &self,
        server: &ServerName,
        document: Object,
        metadata: &DocumentMetadata,
    ) -> Result<Generation, Error> {
        self.replace(&layout::server(server), document.content, metadata.as_ref(), document.generation).await
    }

    /// The servers that have a document, without reading the documents.
    pub fn servers(&self) -> impl Stream<Item = Result<DocumentSummary, Error>> {
        let page = async |after: Option<PageToken>| self.list(layout::SERVER, after.as_ref(), 1000).await;
        items(page).try_filter_map(|info| async move { Ok(DocumentSummary::at(&info)) })
    }
}

impl DocumentSummary {
    fn at(info: &ObjectInfo) -> Option<Self> {
        let server = layout::server_at(&info.path)?;
        let metadata = info.metadata.clone().into();
        Some(Self { server, generation: info.generation, updated: info.updated, metadata })
    }
}

fn parse_object(path: &ObjectPath, object: Object) -> Result<ServerDocument, Error> {
    let parsed = ServerDocument::parse(&object.content);
    let document = parsed.map_err(|reason| Error::Malformed { object: path.to_string(), reason })?;
    Ok(document.with_metadata(object.metadata.into()))
}
