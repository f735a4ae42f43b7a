//! Servers that were retired: `retired/{server}.json` is the document as it was, content and metadata, and by which push.

use std::collections::BTreeSet;

use futures_util::{StreamExt, TryStreamExt};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{
    Bucket, Error, Generation, HistoryEntry, LastPush, Metadata, Object, PageToken, PushId, PushKind, ServerDocument,
    ServerName,
    ascii::{cut, to_ascii_json},
    document_metadata::MAX_ALL,
    items, layout,
    server_document::MAX_SIZE,
};

/// The metadata key that the document did not have: which push retired the server.
const RETIREMENT: &str = "retirement";

/// Retired servers that are listed; nobody retires so many whose agents still report.
const MAX_LISTED: usize = 20_000;

/// The document of a server that was retired.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RetiredDocument {
    /// The generation of the object that keeps it.
    pub generation: Generation,
    /// The document as it was, byte for byte, with its own metadata and generation as far as that is known.
    pub document: Object,
    /// Which push retired the server; `None` when the document's own metadata left no room for it, or somebody else put the
    /// object there.
    pub retirement: Option<Retirement>,
}

/// Which push retired a server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Retirement {
    /// The push.
    pub push: PushId,
    /// When, by the bucket's clock as far as that was known.
    pub time: Timestamp,
    /// Who did.
    pub who: String,
    /// The reason, cut to [`LastPush::MAX_WHY`].
    pub why: String,
    /// The generation that the document had.
    pub generation: Generation,
}

impl Retirement {
    /// The entry that the history should have of it.
    pub fn entry(&self, server: &ServerName) -> HistoryEntry {
        HistoryEntry {
            time: self.time,
            id: self.push.to_string(),
            server: server.clone(),
            app: None,
            from: None,
            to: None,
            kind: PushKind::Retire,
            who: self.who.clone(),
            why: self.why.clone(),
            generation: self.generation,
            push: Some(self.push.clone()),
            without_waves: false,
            channel: None,
        }
    }
}

impl Bucket {
    /// A server's document as it lies there, whatever is in it.
    pub async fn document_object(&self, server: &ServerName) -> Result<Option<Object>, Error> {
        self.get(&layout::server(server), MAX_SIZE).await
    }

    /// The document of a server that was retired, if one is kept.
    pub async fn retired(&self, server: &ServerName) -> Result<Option<RetiredDocument>, Error> {
        let Some(mut document) = self.get(&layout::retired(server), MAX_SIZE).await? else { return Ok(None) };
        let retirement = document.metadata.remove(RETIREMENT);
        let retirement = retirement.and_then(|text| serde_json::from_str::<Retirement>(&text).ok());
        let generation = document.generation;
        if let Some(retirement) = &retirement {
            document.generation = retirement.generation;
        }
        Ok(Some(RetiredDocument { generation, document, retirement }))
    }

    /// Keeps a document that is about to be deleted, in the place of the one of an earlier retirement, `before`.
    ///
    /// # Errors
    /// [`Error::Conflict`] or [`Error::AlreadyExists`] when somebody else keeps one meanwhile.
    pub async fn keep_retired(
        &self,
        server: &ServerName,
        document: &Object,
        retirement: &Retirement,
        before: Option<Generation>,
    ) -> Result<(), Error> {
        let (path, content) = (layout::retired(server), document.content.clone());
        let cut_why = Retirement { why: cut(&retirement.why, LastPush::MAX_WHY), ..retirement.clone() };
        let mut metadata: Metadata = document.metadata.clone();
        metadata.insert(RETIREMENT.to_owned(), to_ascii_json(&cut_why));
        if metadata.iter().map(|(key, value)| key.len() + value.len()).sum::<usize>() > MAX_ALL {
            metadata.remove(RETIREMENT);
        }
        match before {
            Some(before) => self.replace(&path, content, &metadata, before).await.map(drop),
            None => self.create(&path, content, &metadata).await.map(drop),
        }
    }

    /// Deletes the generation of a server's document that was read.
    ///
    /// # Errors
    /// [`Error::Conflict`] when it is another one by now. Gone already is fine.
    pub async fn delete_server_document(&self, server: &ServerName, seen: Generation) -> Result<(), Error> {
        self.delete(&layout::server(server), seen).await
    }

    /// Deletes the generation of a server's report that was read.
    ///
    /// # Errors
    /// [`Error::Conflict`] when it is another one by now: its agent still reports. Gone already is fine.
    pub async fn delete_status(&self, server: &ServerName, seen: Generation) -> Result<(), Error> {
        self.delete(&layout::status(server), seen).await
    }

    /// Writes the document of a server that was retired again, as it was.
    ///
    /// # Errors
    /// [`Error::AlreadyExists`] when the server has one.
    pub async fn restore_retired(&self, server: &ServerName, retired: &RetiredDocument) -> Result<Generation, Error> {
        let document = &retired.document;
        self.create(&layout::server(server), document.content.clone(), &document.metadata).await
    }

    /// Forgets the document of a server that is no longer retired.
    ///
    /// # Errors
    /// [`Error::Conflict`] when it was retired again meanwhile. Gone already is fine.
    pub async fn forget_retired(&self, server: &ServerName, seen: Generation) -> Result<(), Error> {
        self.delete(&layout::retired(server), seen).await
    }

    /// Whether the document of a server that was retired is kept.
    pub async fn is_retired(&self, server: &ServerName) -> Result<bool, Error> {
        Ok(self.head(&layout::retired(server)).await?.is_some())
    }

    /// The servers of which such a document is kept, at most 20,000. One that has a document again is not retired.
    pub async fn retired_servers(&self) -> Result<BTreeSet<ServerName>, Error> {
        let page = async |after: Option<PageToken>| self.list(layout::RETIRED, after.as_ref(), 1000).await;
        let names = items(page).try_filter_map(|info| async move { Ok(layout::retired_at(&info.path)) });
        names.take(MAX_LISTED).try_collect().await
    }
}

impl RetiredDocument {
    /// What the document says; nothing that can be used if that isn't understood.
    pub fn parsed(&self) -> Option<ServerDocument> {
        ServerDocument::parse(&self.document.content).ok()
    }
}
