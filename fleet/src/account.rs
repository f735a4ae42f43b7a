//! How far a push is: which of its rows were written, and what the agents made of them. From the bucket: documents, history
//! and reports say, and not the push itself.

use std::fmt;

use anyhow::{Context, Result};
use bucket::{
    AppName, AppState, Bucket, Generation, HistoryEntry, Push, PushEnd, PushHead, PushId, PushKind, PushRow,
    ReleaseName, ServerName, Timestamp, UnwrittenCause,
};
use futures_util::{StreamExt, TryStreamExt, stream};
use jiff::SignedDuration;

use crate::{
    condition::apps,
    push::{Seen, recorded, told},
    server::{self, Reading, Server},
};

/// Servers that are read at the same time.
const AT_ONCE: usize = 32;

/// A push that nobody ended, and of which nothing was written for so long, was cut off: its process was killed.
pub const CUT_OFF_AFTER: SignedDuration = SignedDuration::from_mins(2);

/// A push, and how far it is.
#[derive(Debug, Clone, PartialEq)]
pub struct Account {
    /// The push.
    pub push: Push,
    /// How it ended, if somebody ended it.
    pub end: Option<PushEnd>,
    /// Each of its rows, in order.
    pub rows: Vec<AccountRow>,
    /// Whether it is under way.
    pub stage: Stage,
}

/// One row of a push, and how far it is.
#[derive(Debug, Clone, PartialEq)]
pub struct AccountRow {
    /// The row.
    pub row: PushRow,
    /// The server, as it was read.
    pub server: Server,
    /// What the history has of it, or should have.
    pub written: Option<HistoryEntry>,
    /// How far it is.
    pub state: RowState,
}

/// Whether a push is under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Its rows are being written.
    UnderWay,
    /// Whoever wrote its rows is gone, and some are not written.
    CutOff,
    /// It is over: all rows are written, or somebody ended it.
    Over,
}

/// How far one row of a push is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RowState {
    /// It is not written yet.
    Waiting,
    /// It was not written, and why.
    NotWritten(UnwrittenCause),
    /// It was written, and what the agent says of it.
    Written(AppState),
    /// The app was taken out of the document, and the agent has read that.
    Removed,
    /// The server has no document any more.
    Retired,
    /// The server has a document, whatever is in it: it is not retired, or no longer.
    Restored,
    /// It was written, and the document names something else by now.
    Superseded,
}

impl Stage {
    /// Of a push that is over, because somebody ended it or all of its rows are written, or isn't, and of which something was
    /// written last at that time; nothing counts from its beginning. `None` is of one in waves, which is never cut off.
    pub fn of(is_over: bool, last: Option<Timestamp>, now: Timestamp) -> Self {
        if is_over {
            Self::Over
        } else if last.is_some_and(|last| now.duration_since(last) > CUT_OFF_AFTER) {
            Self::CutOff
        } else {
            Self::UnderWay
        }
    }
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::UnderWay => "under way",
            Self::CutOff => "cut off",
            Self::Over => "over",
        })
    }
}

/// The row in the words of a list.
impl fmt::Display for RowState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Waiting => f.write_str("not written yet"),
            Self::NotWritten(cause) => write!(f, "not written: {}", cause_in_words(cause)),
            Self::Written(state) => f.write_str(match state {
                AppState::Converged | AppState::Drifted => "runs it",
                AppState::Unstable => "unstable",
                AppState::Quarantined => "rolled back",
                AppState::Failed => "failed",
                AppState::Degraded => "degraded",
                AppState::Refused => "refused",
                AppState::AptHeld => "held by apt",
                AppState::Paused => "paused",
                AppState::Pending | AppState::Orphan | AppState::Unknown => "pending",
            }),
            Self::Removed => f.write_str("removed"),
            Self::Retired => f.write_str("retired"),
            Self::Restored => f.write_str("not retired"),
            Self::Superseded => f.write_str("superseded"),
        }
    }
}

/// Why a row was not written, in words. Of a cause that this program doesn't know it is foreign text.
pub fn cause_in_words(cause: &UnwrittenCause) -> &str {
    match cause {
        UnwrittenCause::Policy => "the policy forbids it",
        UnwrittenCause::Hold => "on hold",
        UnwrittenCause::Conflict => "somebody pushed in between",
        UnwrittenCause::Stopped => "the push was stopped",
        UnwrittenCause::Halted => "all pushes were halted",
        UnwrittenCause::Rejected => "the release was rejected",
        UnwrittenCause::Failed => "it failed",
        UnwrittenCause::Other(cause) => cause,
    }
}

impl Account {
    /// What became of its rows, in words: `180 run it, 3 rolled back, 17 pending`.
    pub fn summary(&self) -> String {
        in_words(self.rows.iter().map(|row| &row.state))
    }

    /// The rows that nobody has written.
    pub fn unwritten(&self) -> impl Iterator<Item = &AccountRow> {
        self.rows.iter().filter(|row| row.written.is_none())
    }
}

/// What became of some rows, in words, the most frequent first.
pub fn in_words<'a>(states: impl IntoIterator<Item = &'a RowState>) -> String {
    let mut counts: Vec<(String, usize)> = Vec::new();
    for state in states {
        let word = match state {
            RowState::NotWritten(_) => "not written".to_owned(),
            state => state.to_string(),
        };
        match counts.iter_mut().find(|(known, _)| *known == word) {
            Some((_, count)) => *count += 1,
            None => counts.push((word, 1)),
        }
    }
    counts.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    let words = counts.iter().map(|(word, count)| match (word.as_str(), count) {
        ("runs it", 2..) => format!("{count} run it"),
        _ => format!("{count} {word}"),
    });
    words.collect::<Vec<_>>().join(", ")
}

/// Whether a push mentions a text, in whatever case: in its ID, app, kind, release, operator, reason or first server.
pub fn mentions(head: &PushHead, text: &str) -> bool {
    let text = text.to_lowercase();
    let to = head.to.as_ref().map(ReleaseName::as_str).unwrap_or_default();
    let server = head.server.as_ref().map(ServerName::as_str).unwrap_or_default();
    let app = head.app.as_ref().map(AppName::as_str).unwrap_or_default();
    let fields = [head.id.as_str(), app, head.kind.as_str(), to, &head.who, &head.why, server];
    fields.iter().any(|field| field.to_lowercase().contains(&text))
}

/// A push by its ID.
///
/// # Errors
/// That there is none, or that it can't be read.
pub async fn find(bucket: &Bucket, id: &PushId) -> Result<PushHead> {
    let found = bucket.find_push(id).await.with_context(|| format!("could not look up push {id}"))?;
    found.with_context(|| format!("there is no push {id}; `push pushes` lists the last ones"))
}

/// Reads how far a push is. A row counts as written if the document's metadata or the history has the push, whatever the
/// document names now.
///
/// # Errors
/// When it, or what decides whether a row was written, can't be read.
pub async fn read(bucket: &Bucket, id: &PushId) -> Result<Account> {
    let head = find(bucket, id).await?;
    let unreadable = || format!("could not read push {id}");
    let (push, end) = tokio::join!(bucket.push(head.time, id), bucket.push_end(head.time, id));
    let push = push.with_context(unreadable)?.with_context(|| format!("push {id} has a form that cannot be read"))?;
    let end = end.with_context(unreadable)?;
    let read = stream::iter(push.rows.clone()).map(async |row: PushRow| {
        let server = server::read(bucket, &row.server).await;
        let written = written(bucket, &push, &server).await?;
        anyhow::Ok((row, server, written))
    });
    let rows: Vec<(PushRow, Server, Option<HistoryEntry>)> = read.buffered(AT_ONCE).try_collect().await?;
    Ok(account(push, end, rows, bucket.now()))
}

/// What a server has of a push.
async fn written(bucket: &Bucket, push: &Push, server: &Server) -> Result<Option<HistoryEntry>> {
    let name = &server.name;
    match &server.document {
        Reading::Known((generation, document)) => {
            let seen = Seen { generation: Some(*generation), document: document.clone() };
            if let Some(told) = push.app.as_ref().and_then(|app| told(&seen, &push.id, app)) {
                return Ok(Some(told.entry(name, told.generation.unwrap_or(*generation))));
            }
        }
        // Without a document there may be a history all the same.
        Reading::Absent => {
            let kept = if push.kind == PushKind::Retire { bucket.retired(name).await } else { Ok(None) };
            let kept = kept.with_context(|| format!("could not read the retired document of `{name}`"))?;
            let retirement = kept.and_then(|kept| kept.retirement).filter(|found| found.push == push.id);
            if let Some(retirement) = retirement {
                return Ok(Some(retirement.entry(name)));
            }
        }
        Reading::Unreadable(error) => anyhow::bail!("could not read the document of `{name}`: {error}"),
    }
    let found = recorded(bucket, name, &push.id, push.app.as_ref(), push.time).await;
    found.with_context(|| format!("could not read the history of `{name}`"))
}

/// How far a push is, from what was read of it. Pure.
pub fn account(
    push: Push,
    end: Option<PushEnd>,
    rows: Vec<(PushRow, Server, Option<HistoryEntry>)>,
    now: Timestamp,
) -> Account {
    let last = rows.iter().filter_map(|(.., written)| Some(written.as_ref()?.time)).max().unwrap_or(push.time);
    let is_whole = rows.iter().all(|(.., written)| written.is_some());
    let last = (!push.rollout).then(|| last.max(push.time));
    let stage = Stage::of(end.is_some() || is_whole, last, now);
    let rows = rows.into_iter().map(|(row, server, written)| {
        let generation = written.as_ref().map(|written| written.generation);
        let outcome = row_state(push.app.as_ref(), &row, &server, generation, end.as_ref());
        AccountRow { row, server, written, state: outcome }
    });
    let rows = rows.collect();
    Account { push, end, rows, stage }
}

/// How far one row of a push of an app, or of one that is about whole servers, is; `written` is the generation of the
/// document that first held it, if it was written. Pure.
pub fn row_state(
    app: Option<&AppName>,
    row: &PushRow,
    server: &Server,
    written: Option<Generation>,
    end: Option<&PushEnd>,
) -> RowState {
    match (written, end) {
        (Some(written), _) => match app {
            Some(app) => written_state(app, row, server, written),
            None if server.document == Reading::Absent => RowState::Retired,
            None => RowState::Restored,
        },
        (None, None) => RowState::Waiting,
        (None, Some(end)) => {
            let unwritten = end.rows.iter().find(|row| row.server == server.name);
            RowState::NotWritten(unwritten.map_or(UnwrittenCause::Failed, |row| row.cause.clone()))
        }
    }
}

fn written_state(app: &AppName, row: &PushRow, server: &Server, written: Generation) -> RowState {
    if server.document.error().is_none() && server.desired(app) != row.to.as_ref() {
        return RowState::Superseded;
    }
    // A report about an earlier document says nothing about this push.
    let is_about = server.status().and_then(|status| status.document.generation) >= Some(written);
    let reported = apps(server).into_iter().find(|found| found.app == app.as_str());
    match reported {
        // Whether the package is still there is its agent's business.
        _ if is_about && row.to.is_none() => RowState::Removed,
        Some(reported) if is_about => RowState::Written(reported.state),
        _ => RowState::Written(AppState::Pending),
    }
}
