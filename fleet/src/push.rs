//! The one way to write a server's document.
//!
//! Fresh read → assign → replace with the generation that was read → history, which the caller has written while it pokes.
//! Nothing is kept between two writes: a stale copy of a document can't be written back.

use anyhow::{Context, Result, bail};
use bucket::{
    AppName, Bucket, Error, Generation, HistoryEntry, NewBucket, PushKind, ReleaseName, ServerDocument, ServerName,
    Timestamp,
};
use thiserror::Error;

use crate::assign::assign;

/// How often a write is repeated because another app's entry was changed concurrently.
const MAX_MERGES: u32 = 20;

/// A server's document as an operator saw it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Seen {
    /// Its generation; `None` when there was none.
    pub generation: Option<Generation>,
    /// The document; an empty one when there was none.
    pub document: ServerDocument,
}

/// What an operator wants of one server.
#[derive(Debug, Clone)]
pub struct Request {
    /// The server to push to.
    pub server: ServerName,
    /// The release to push.
    pub release: ReleaseName,
    /// The release of that app that the operator saw there: if it is another by now, nothing is written.
    pub from: Option<ReleaseName>,
    /// Whether it goes to a chosen release or to a previous one.
    pub kind: PushKind,
    /// The name of the operator, for the history.
    pub who: String,
    /// Their reason, for the history.
    pub reason: String,
}

/// A push that was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pushed {
    /// The generation of the document that holds the change.
    pub generation: Generation,
    /// What else there is to know of it; the push itself succeeded.
    pub incomplete: Vec<Incomplete>,
}

/// The app's entry is no longer what the operator saw: nothing was written.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error(
    "nothing was written: another push changed `{app}` on `{server}` from {} to {}; review the change and push again",
    name(.seen.as_ref()), name(.now.as_ref())
)]
pub struct Conflict {
    /// The app to push.
    pub app: AppName,
    /// The server to push to.
    pub server: ServerName,
    /// The release that the operator saw there.
    pub seen: Option<ReleaseName>,
    /// The release that is there now.
    pub now: Option<ReleaseName>,
}

fn name(release: Option<&ReleaseName>) -> String {
    release.map_or("nothing".to_owned(), |release| format!("`{}`", release.stem()))
}

/// What an operator should know of a push that succeeded.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Incomplete {
    /// The history has no entry of it.
    #[error("the push succeeded but could not be recorded in the history: {0}")]
    NotRecorded(String),
    /// It was the first write to what may have been the wrong place.
    #[error("{0}")]
    NewBucket(NewBucket),
    /// The agent wasn't poked.
    #[error("not poked, the server picks up the push at its next poll: {0}")]
    NotPoked(String),
}

/// Reads a server's document afresh.
pub async fn read(bucket: &Bucket, server: &ServerName) -> Result<Seen> {
    let fetched = bucket.server_document(server).await;
    match fetched.with_context(|| format!("could not read the document of `{server}`; nothing was written"))? {
        Some((generation, document)) => Ok(Seen { generation: Some(generation), document }),
        None => Ok(Seen { generation: None, document: ServerDocument::default() }),
    }
}

/// Writes one push into the document, which was `seen` a moment ago. The record is for the caller to write: [`record`].
///
/// # Errors
/// When the app's entry isn't what the operator saw, or the document can't be read or written. Nothing was written then.
pub async fn push(bucket: &Bucket, request: &Request, seen: Seen) -> Result<Pushed> {
    let server = &request.server;
    let new_bucket = bucket.mark().await.context("could not mark the bucket; nothing was written")?;
    let mut seen = Some(seen);
    for _ in 0..MAX_MERGES {
        let seen = match seen.take() {
            Some(seen) => seen,
            None => read(bucket, server).await?,
        };
        let assignment = assign(&seen.document, &request.release);
        if assignment.from != request.from {
            let (app, server) = (request.release.app().clone(), server.clone());
            bail!(Conflict { app, server, seen: request.from.clone(), now: assignment.from });
        }
        match bucket.write_server_document(server, &assignment.document, seen.generation).await {
            Ok(generation) => {
                let incomplete = new_bucket.map(Incomplete::NewBucket).into_iter().collect();
                return Ok(Pushed { generation, incomplete });
            }
            // Another push was faster: if it was about another app, both changes belong in.
            Err(Error::Conflict { .. } | Error::AlreadyExists { .. }) => {}
            Err(error) => return Err(error).with_context(|| format!("could not write the document of `{server}`")),
        }
    }
    bail!(
        "the document of `{server}` changed {MAX_MERGES} times while it was being written; nothing was written: try again"
    )
}

/// Records a push that was written. A failure doesn't undo the push.
pub async fn record(bucket: &Bucket, request: &Request, generation: Generation) -> Option<Incomplete> {
    let entry = HistoryEntry {
        time: Timestamp::now(),
        // Every write has a generation of its own.
        id: format!("{:016x}", generation.0),
        server: request.server.clone(),
        app: request.release.app().clone(),
        from: request.from.clone(),
        to: Some(request.release.clone()),
        kind: request.kind.clone(),
        who: request.who.clone(),
        why: request.reason.clone(),
        generation,
        push: None,
    };
    bucket.append_history(&entry).await.err().map(|error| Incomplete::NotRecorded(error.to_string()))
}
