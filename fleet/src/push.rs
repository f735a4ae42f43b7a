//! The one way to write a server's document.
//!
//! Fresh read → assign → replace with the generation that was read → history; the caller pokes when all is written. Nothing is kept between two
//! writes: a stale copy of a document can't be written back.

use anyhow::{Context, Result, bail};
use bucket::{
    Bucket, Error, Fetched, Generation, HistoryEntry, PushKind, ReleaseName, ServerDocument, ServerName, Timestamp,
};

use crate::assign::assign;

/// How often a write is tried again because somebody changed another app's entry in between.
const MERGES: u32 = 20;

/// A server's document as an operator saw it.
#[derive(Debug, Clone, PartialEq)]
pub struct Seen {
    /// Its generation; `None` when there was none.
    pub generation: Option<Generation>,
    /// The document; an empty one when there was none.
    pub document: ServerDocument,
}

/// What an operator wants of one server.
#[derive(Debug, Clone)]
pub struct Request {
    /// Where to.
    pub server: ServerName,
    /// Which release.
    pub release: ReleaseName,
    /// The release of that app that the operator saw there: if it is another by now, nothing is written.
    pub from: Option<ReleaseName>,
    /// Forward or back.
    pub kind: PushKind,
    /// Who pushes.
    pub who: String,
    /// Why, in their words.
    pub why: String,
}

/// A push that was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pushed {
    /// The generation of the document that holds the change.
    pub generation: Generation,
    /// What went wrong after the write; the push itself stands.
    pub warnings: Vec<String>,
}

/// Reads a server's document afresh.
pub async fn read(bucket: &Bucket, server: &ServerName) -> Result<Seen> {
    let fetched = bucket.server_document(server, None).await;
    match fetched.with_context(|| format!("could not read the document of `{server}`; nothing was written"))? {
        Fetched::Found(generation, document) => Ok(Seen { generation: Some(generation), document }),
        Fetched::Absent | Fetched::Unchanged => Ok(Seen { generation: None, document: ServerDocument::default() }),
    }
}

/// Writes one push: the document, then its record.
///
/// # Errors
/// When the app's entry isn't what the operator saw, or the document can't be read or written. Nothing was written then.
pub async fn push(bucket: &Bucket, request: &Request) -> Result<Pushed> {
    let server = &request.server;
    for _ in 0..MERGES {
        let seen = read(bucket, server).await?;
        let assignment = assign(&seen.document, &request.release);
        if assignment.from != request.from {
            bail!(conflict(request, assignment.from.as_ref()));
        }
        match bucket.write_server_document(server, &assignment.document, seen.generation).await {
            Ok(generation) => return Ok(Pushed { generation, warnings: record(bucket, request, generation).await }),
            // Somebody wrote in between: if it was about another app, both changes belong in.
            Err(Error::Conflict { .. } | Error::AlreadyExists { .. }) => {}
            Err(error) => return Err(error).with_context(|| format!("could not write the document of `{server}`")),
        }
    }
    bail!(
        "the document of `{server}` changed {MERGES} times while it was being written; nothing was written: try again"
    )
}

fn conflict(request: &Request, now: Option<&ReleaseName>) -> String {
    let name =
        |release: Option<&ReleaseName>| release.map_or("nothing".to_owned(), |release| format!("`{}`", release.stem()));
    format!(
        "somebody pushed `{}` to `{}` in between: it was {}, now it is {}; nothing was written: look, and push again",
        request.release.app(),
        request.server,
        name(request.from.as_ref()),
        name(now),
    )
}

/// Records a push that was written. That this failed doesn't undo the push, so it is a warning.
async fn record(bucket: &Bucket, request: &Request, generation: Generation) -> Vec<String> {
    let entry = HistoryEntry {
        time: Timestamp::now(),
        // Every write has a generation of its own.
        id: format!("{:016x}", generation.0),
        server: request.server.clone(),
        app: request.release.app().clone(),
        from: request.from.clone(),
        to: request.release.clone(),
        kind: request.kind,
        who: request.who.clone(),
        why: request.why.clone(),
        generation,
    };
    match bucket.append_history(&entry).await {
        Ok(()) => Vec::new(),
        Err(error) => vec![format!("the push stands, but could not be recorded in the history: {error}")],
    }
}
