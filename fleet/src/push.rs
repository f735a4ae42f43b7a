//! The one way to change what a server's document says.
//!
//! Fresh read → what the history lacks is filled in → assign → replace with the generation that was read → history, which
//! the caller has written while it pokes. The write carries, in the document's metadata, what the history will say: whoever
//! is killed in between leaves a record, and the next who writes fills it in.
//! Nothing is kept between two writes: a stale copy of a document can't be written back.

use anyhow::{Context, Result, bail, ensure};
use bucket::{
    AppName, Bucket, ChannelName, DocumentMetadata, Error, Generation, HistoryEntry, LastPush, NewBucket, PushId,
    PushKind, ReleaseName, Retry, ServerDocument, ServerName, Timestamp,
};
use futures_util::future::join_all;
use jiff::SignedDuration;
use thiserror::Error;

use crate::{
    assign::{assign, assign_for_a_while},
    server::{Reading, Server},
};

/// How often a write is repeated because another app's entry was changed concurrently.
const MAX_MERGES: u32 = 20;

/// Entries of the history that one write fills in: a document's metadata has room for hardly more.
const MAX_FILLED: usize = 16;

/// Rows of a push that bear an earlier time than it, because two clocks disagree.
const CLOCKS_APART: SignedDuration = SignedDuration::from_mins(10);

/// A server's document as an operator saw it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Seen {
    /// Its generation; `None` when there was none.
    pub generation: Option<Generation>,
    /// The document; an empty one when there was none.
    pub document: ServerDocument,
}

impl Seen {
    /// Of a server that was read just now.
    ///
    /// # Errors
    /// When its document could not be read.
    pub fn of(server: &Server) -> Result<Self> {
        match &server.document {
            Reading::Known((generation, document)) => {
                Ok(Self { generation: Some(*generation), document: document.clone() })
            }
            Reading::Absent => Ok(Self::default()),
            Reading::Unreadable(error) => {
                bail!("nothing was written: could not read the document of `{}`: {error}", server.name)
            }
        }
    }
}

/// A server's document, and what the history was made to have of the pushes that it tells of.
#[derive(Debug)]
pub struct Filled {
    seen: Seen,
    recorded: Vec<PushId>,
}

/// What an operator wants of one server.
#[derive(Debug, Clone)]
pub struct Request {
    /// The push that it is a row of.
    pub id: PushId,
    /// When that began.
    pub began: Timestamp,
    /// The server to push to.
    pub server: ServerName,
    /// The app to push.
    pub app: AppName,
    /// The release that its document should name; `None` takes the app off the server.
    pub to: Option<ReleaseName>,
    /// The release of that app that the operator saw there: if it is another by now, nothing is written.
    pub from: Option<ReleaseName>,
    /// Whether nothing is written either if the document has another generation by now than when it was seen, as of a rollout or
    /// a trial, which has noted what it had.
    pub only_as_seen: bool,
    /// For how many seconds the agent watches it before it reports once more; only of a push in waves.
    pub settle_seconds: Option<u64>,
    /// Whether an admin has it written all at once where the policy asks for waves.
    pub without_waves: bool,
    /// The channel that it is pushed for.
    pub channel: Option<ChannelName>,
    /// What the push is for. A retry leaves the document's content as it is.
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
    /// The entry that the history should have of it.
    pub entry: HistoryEntry,
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
    #[error(
        "the push succeeded but could not be recorded in the history, which the next push to this server will do: {0}"
    )]
    NotRecorded(String),
    /// It was the first write to what may have been the wrong place.
    #[error("{0}")]
    NewBucket(NewBucket),
    /// The agent wasn't poked.
    #[error("not poked, the server picks up the push at its next poll: {0}")]
    NotPoked(String),
    /// A retired server's agent reported meanwhile, and does so as long as it runs.
    #[error("its agent still reports: the server is shown as retired until the agent stops")]
    StillReports,
    /// A retired server's last report is still there.
    #[error("the report of its agent could not be deleted: the server is shown as retired until that is done: {0}")]
    StatusLeft(String),
    /// What was kept of a server that is no longer retired is still there.
    #[error("the kept copy of its document could not be deleted, which is harmless: {0}")]
    KeptLeft(String),
    /// Nothing says that the push is over.
    #[error("the push is over, but that could not be recorded: it may be shown as cut off: {0}")]
    NotEnded(String),
}

/// Reads a server's document afresh.
pub async fn read(bucket: &Bucket, server: &ServerName) -> Result<Seen> {
    let fetched = bucket.server_document(server).await;
    match fetched.with_context(|| format!("could not read the document of `{server}`; nothing was written"))? {
        Some((generation, document)) => Ok(Seen { generation: Some(generation), document }),
        None => Ok(Seen { generation: None, document: ServerDocument::default() }),
    }
}

/// Makes sure that the history has an entry of each push that the document tells of, before the next one takes its place
/// there. What can't be filled in stays in the document.
pub async fn fill(bucket: &Bucket, server: &ServerName, seen: Seen) -> Filled {
    let Some(generation) = seen.generation else { return Filled { seen, recorded: Vec::new() } };
    let unsure = seen.document.metadata().pushes().into_iter().filter(|push| !push.recorded).take(MAX_FILLED);
    let filled = unsure.map(async |push| {
        let entry = push.entry(server, push.generation.unwrap_or(generation));
        let is_recorded = match bucket.has_history(server, push.time, &push.id).await {
            Ok(false) => bucket.append_history(&entry).await.is_ok(),
            found => found.unwrap_or_default(),
        };
        is_recorded.then_some(push.id)
    });
    let recorded = join_all(filled).await.into_iter().flatten().collect();
    Filled { seen, recorded }
}

/// Writes one row of a push into the document, which was read a moment ago. The entry in the history is for the caller to
/// write: [`record`].
///
/// # Errors
/// When the app's entry isn't what the operator saw, or the document can't be read or written. Nothing was written then.
pub async fn push(bucket: &Bucket, request: &Request, filled: Filled) -> Result<Pushed> {
    let server = &request.server;
    let mut filled = Some(filled);
    for _ in 0..MAX_MERGES {
        let Filled { seen, recorded } = if let Some(filled) = filled.take() {
            filled
        } else {
            let seen = read(bucket, server).await?;
            let written = find_written(bucket, request, &seen).await;
            let written = written.with_context(|| {
                format!("could not read the history of `{server}`, which may show that this push was written")
            })?;
            if let Some(pushed) = written {
                return Ok(pushed);
            }
            if request.only_as_seen {
                let now = seen.document.release_of(&request.app).cloned();
                bail!(Conflict { app: request.app.clone(), server: server.clone(), seen: request.from.clone(), now });
            }
            fill(bucket, server, seen).await
        };
        let assigning = match request.kind {
            PushKind::Trial | PushKind::TrialEnd => assign_for_a_while,
            _ => assign,
        };
        let assignment = assigning(&seen.document, &request.app, request.to.as_ref());
        if assignment.from != request.from {
            let (app, server) = (request.app.clone(), server.clone());
            bail!(Conflict { app, server, seen: request.from.clone(), now: assignment.from });
        }
        let push = last_push(request, bucket.now());
        let metadata = metadata(bucket, request, &push, &seen, &recorded).await?;
        let document = assignment.document.with_metadata(metadata);
        match bucket.write_server_document(server, &document, seen.generation).await {
            Ok(generation) => {
                let entry = HistoryEntry { why: request.reason.clone(), ..push.entry(server, generation) };
                return Ok(Pushed { generation, entry });
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

fn last_push(request: &Request, time: Timestamp) -> LastPush {
    LastPush {
        id: request.id.clone(),
        time,
        app: request.app.clone(),
        from: request.from.clone(),
        to: request.to.clone(),
        kind: request.kind.clone(),
        who: request.who.clone(),
        why: request.reason.clone(),
        generation: None,
        settle_seconds: request.settle_seconds,
        without_waves: request.without_waves,
        channel: request.channel.clone(),
        recorded: false,
    }
}

/// The document's metadata with this push. Everything else that lies there stays.
async fn metadata(
    bucket: &Bucket,
    request: &Request,
    push: &LastPush,
    seen: &Seen,
    recorded: &[PushId],
) -> Result<DocumentMetadata> {
    let before = seen.document.metadata().clone();
    let before = seen.generation.iter().fold(before, |before, seen| before.carried(*seen, recorded));
    let Some(retried) = request.to.as_ref().filter(|_| request.kind == PushKind::Retry) else {
        // What was to be tried again is no longer what the server should have.
        let before = if request.from == request.to { before } else { before.without_retries(&push.app) };
        return Ok(before.with_push(push));
    };
    let retry = Retry { id: push.id.clone(), time: push.time, release: retried.clone(), generation: None };
    let (with, dropped) = before.with_retry(&retry);
    if !dropped.is_empty() {
        let status = bucket.status(&request.server).await.with_context(|| {
            format!("could not read what the agent of `{}` has seen; nothing was written", request.server)
        })?;
        let seen = status.and_then(|(_, status)| status.document.generation);
        let unseen = dropped.iter().find(|retry| seen.is_none() || retry.generation > seen);
        ensure!(
            unseen.is_none(),
            "nothing was written: the agent of `{}` has not seen yet that `{}` is to be retried, and there is no room for \
             one more retry: try again when it has reported",
            request.server,
            unseen.map(|retry| retry.release.stem()).unwrap_or_default()
        );
    }
    Ok(with.with_push(push))
}

/// What was written already of this row: by whoever continued the push at the same time.
async fn find_written(bucket: &Bucket, request: &Request, seen: &Seen) -> Result<Option<Pushed>, Error> {
    let app = &request.app;
    let Some(generation) = seen.generation else { return Ok(None) };
    if let Some(push) = told(seen, &request.id, app) {
        let generation = push.generation.unwrap_or(generation);
        let entry = push.entry(&request.server, generation);
        return Ok(Some(Pushed { generation, entry }));
    }
    let entry = recorded(bucket, &request.server, &request.id, Some(app), request.began).await?;
    Ok(entry.map(|entry| Pushed { generation: entry.generation, entry }))
}

/// The row of a push that a document's metadata tells of.
pub fn told(seen: &Seen, id: &PushId, app: &AppName) -> Option<LastPush> {
    seen.document.metadata().pushes().into_iter().find(|push| push.id == *id && push.app == *app)
}

/// The row of a push that the history of a server has; it began at that time, and `None` is that of one that names no app.
pub async fn recorded(
    bucket: &Bucket,
    server: &ServerName,
    id: &PushId,
    app: Option<&AppName>,
    began: Timestamp,
) -> Result<Option<HistoryEntry>, Error> {
    let since = began.saturating_sub(CLOCKS_APART).unwrap_or(began);
    let entries = bucket.history_since(server, since, usize::MAX).await?;
    Ok(entries.into_iter().find(|entry| entry.push.as_ref() == Some(id) && entry.app.as_ref() == app))
}

/// Records a row that was written. A failure doesn't undo the push: the next who writes the document makes up for it.
pub async fn record(bucket: &Bucket, entry: &HistoryEntry) -> Option<Incomplete> {
    bucket.append_history(entry).await.err().map(|error| Incomplete::NotRecorded(error.to_string()))
}
