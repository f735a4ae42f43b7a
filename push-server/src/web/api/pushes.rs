//! Pushes as a whole: the last ones, and how far one is. Read from the bucket, so that they outlast this process.

use axum::{
    Json,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use bucket::{PushHead, PushId};
use fleet::account::{self, Account, Stage, mentions};
use schemars::JsonSchema;
use serde::Serialize;

use super::{
    problem,
    types::{JobOut, Page},
};
use crate::web::{params::Params, parts::page_of, view::View};

/// As far back as pushes are listed.
const MAX_DEPTH: usize = 500;

/// A push, whatever its number of servers.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct HeadOut {
    /// ID: `GET /api/v1/pushes/{id}` returns what became of it.
    id: String,
    /// When it began.
    time: String,
    /// App.
    app: String,
    /// `deploy`, `rollback`, `retry`, `undo`, or what a newer program calls it.
    kind: String,
    /// The push that it undoes or tries again.
    #[serde(skip_serializing_if = "Option::is_none")]
    of: Option<String>,
    /// Operator.
    who: String,
    /// Reason.
    reason: String,
    /// Number of servers.
    servers: usize,
    /// Release, if it is the same for all of them.
    #[serde(skip_serializing_if = "Option::is_none")]
    to: Option<String>,
    /// Number of servers that were not written, once it has ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    unwritten: Option<usize>,
}

/// A push, and what became of it.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct AccountOut {
    #[serde(flatten)]
    head: HeadOut,
    /// `under way`, `cut off` (its process is gone, and it can be continued or stopped) or `over`.
    stage: String,
    /// Whether nothing more is written.
    finished: bool,
    /// What became of it, in words.
    summary: String,
    /// Each server.
    rows: Vec<RowOut>,
}

/// One row of a push.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct RowOut {
    /// Server.
    server: String,
    /// Release before the push.
    #[serde(skip_serializing_if = "Option::is_none")]
    from: Option<String>,
    /// Release after it; absent if the app is taken off the server.
    #[serde(skip_serializing_if = "Option::is_none")]
    to: Option<String>,
    /// What became of it, in words: `runs it`, `rolled back`, `failed`, `pending`, `superseded`, `not written: …`.
    outcome: String,
    /// Generation of the document that holds it; absent if it was not written.
    #[serde(skip_serializing_if = "Option::is_none")]
    generation: Option<i64>,
}

/// A push: of a process that still knows how it wrote it, or as the bucket has it.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(untagged)]
pub(crate) enum PushedOut {
    /// As this process wrote it.
    Job(JobOut),
    /// As the bucket has it.
    Account(Box<AccountOut>),
}

impl From<PushHead> for HeadOut {
    fn from(head: PushHead) -> Self {
        Self {
            id: head.id.to_string(),
            time: head.time.to_string(),
            app: head.app.to_string(),
            kind: head.kind.to_string(),
            of: head.of.map(|of| of.to_string()),
            who: head.who,
            reason: head.why,
            servers: head.rows,
            to: head.to.map(|to| to.stem().to_owned()),
            unwritten: head.unwritten,
        }
    }
}

impl From<&Account> for AccountOut {
    fn from(account: &Account) -> Self {
        let mut head = account.push.head();
        head.unwritten = account.end.as_ref().map(|end| end.rows.len());
        let stem = |release: &bucket::ReleaseName| release.stem().to_owned();
        let rows = account.rows.iter().map(|row| RowOut {
            server: row.row.server.to_string(),
            from: row.row.from.as_ref().map(stem),
            to: row.row.to.as_ref().map(stem),
            outcome: row.state.to_string(),
            generation: row.written.as_ref().map(|written| written.generation.0),
        });
        Self {
            head: head.into(),
            stage: account.stage.to_string(),
            finished: account.stage != Stage::UnderWay,
            summary: account.summary(),
            rows: rows.collect(),
        }
    }
}

/// `GET /api/v1/pushes`.
pub(crate) async fn list(view: View, params: Params) -> Response {
    let text = params.get("q").unwrap_or_default();
    match view.web.refresher.bucket().newest_pushes(MAX_DEPTH).await {
        Ok(heads) => {
            let matching: Vec<PushHead> = heads.into_iter().filter(|head| mentions(head, text)).collect();
            let total = matching.len();
            let shown = page_of(matching.into_iter(), params.page()).into_iter().map(HeadOut::from);
            Json(Page::new(&view, shown.collect(), params.page(), total)).into_response()
        }
        Err(error) => problem(StatusCode::SERVICE_UNAVAILABLE, "Pushes unreadable", &error.to_string()),
    }
}

/// `GET /api/v1/pushes/{id}`, of a push that this process doesn't know.
pub(crate) async fn from_bucket(view: &View, id: &str) -> Response {
    let Ok(id) = id.parse::<PushId>() else {
        return problem(StatusCode::NOT_FOUND, "Push not found", "a push ID has only letters and digits");
    };
    match account::read(view.web.refresher.bucket(), &id).await {
        Ok(account) => Json(PushedOut::Account(Box::new(AccountOut::from(&account)))).into_response(),
        Err(error) => problem(StatusCode::NOT_FOUND, "Push not found", &format!("{error:#}")),
    }
}
