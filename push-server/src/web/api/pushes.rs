//! Pushes as a whole: the last ones, and how far one is. Read from the bucket, so that they outlast this process.

use axum::{
    Json,
    extract::Path,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use bucket::{PushHead, PushId, ReleaseName};
use fleet::account::Stage;
use schemars::JsonSchema;
use serde::Serialize;

use super::{
    problem,
    types::{JobOut, Page, ResultOut},
};
use crate::{
    snapshot::RecentPush,
    web::{params::Params, parts::page_of, shown::Shown, view::View},
};

/// A push, whatever its number of servers.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct HeadOut {
    /// ID: `GET /api/v1/pushes/{id}` returns what became of it.
    id: String,
    /// When it began.
    time: String,
    /// App; `null` of a push that is about whole servers, as `retire`.
    app: Option<String>,
    /// `deploy`, `rollback`, `retry`, `undo`, `remove`, `retire`, or what a newer program calls it.
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
    /// Whether an admin had it written all at once where the policy asks for waves.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    without_waves: bool,
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
    /// Results as `POST /api/v1/pushes` gives them, if the process that answers wrote it.
    #[serde(skip_serializing_if = "Option::is_none")]
    outcomes: Option<Vec<ResultOut>>,
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
    /// Why nothing was written, in full, if the process that answers wrote it.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    /// What failed after the write, as far as the process that answers knows.
    warnings: Vec<String>,
}

impl From<PushHead> for HeadOut {
    fn from(head: PushHead) -> Self {
        Self {
            id: head.id.to_string(),
            time: head.time.to_string(),
            app: head.app.map(|app| app.to_string()),
            kind: head.kind.to_string(),
            of: head.of.map(|of| of.to_string()),
            who: head.who,
            reason: head.why,
            servers: head.rows,
            to: head.to.map(|to| to.stem().to_owned()),
            without_waves: head.without_waves,
            unwritten: head.unwritten,
        }
    }
}

impl AccountOut {
    fn new(view: &View, shown: &Shown) -> Self {
        let stem = |release: &ReleaseName| release.stem().to_owned();
        let results = shown.results();
        let rows = shown.rows.iter().map(|(row, written, state)| {
            let result = results.get(&row.server);
            RowOut {
                server: row.server.to_string(),
                from: row.from.as_ref().map(stem),
                to: row.to.as_ref().map(stem),
                outcome: state.to_string(),
                generation: written.map(|generation| generation.0),
                error: result.and_then(|result| result.result.as_ref().err()).map(ToString::to_string),
                warnings: result.iter().flat_map(|result| &result.incomplete).map(ToString::to_string).collect(),
            }
        });
        let stage = shown.stage(view);
        Self {
            head: shown.head().into(),
            stage: stage.to_string(),
            finished: stage != Stage::UnderWay,
            summary: shown.rows.summary.clone(),
            rows: rows.collect(),
            outcomes: shown.job.as_ref().map(|job| JobOut::new(job).outcomes),
        }
    }
}

/// `GET /api/v1/pushes`.
pub(crate) async fn list(view: View, params: Params) -> Response {
    let text = params.get("q").unwrap_or_default();
    let matching: Vec<&RecentPush> =
        view.snapshot.recent.iter().map(|push| &**push).filter(|push| push.mentions(text)).collect();
    let total = matching.len();
    let shown = page_of(matching.into_iter(), params.page()).into_iter().map(|push| HeadOut::from(push.head.clone()));
    Json(Page::new(&view, shown.collect(), params.page(), total)).into_response()
}

/// `GET /api/v1/pushes/{id}`.
pub(crate) async fn get(view: View, Path(id): Path<String>) -> Response {
    let Ok(id) = id.parse::<PushId>() else {
        return problem(StatusCode::NOT_FOUND, "Push not found", "a push ID has only letters and digits");
    };
    match Shown::find(&view, &id).await {
        Ok(Some(shown)) => Json(AccountOut::new(&view, &shown)).into_response(),
        Ok(None) => problem(StatusCode::NOT_FOUND, "Push not found", &format!("there is no push {id}")),
        Err(error) => problem(StatusCode::SERVICE_UNAVAILABLE, "Push unreadable", &error.to_string()),
    }
}
