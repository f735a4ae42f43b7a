//! `GET /api/v1/runs`: the last runs of pipelines.

use axum::{
    Json,
    response::{IntoResponse, Response},
    routing::get,
};
use bucket::{RunResult, RunSummary, Timestamp};
use schemars::JsonSchema;
use serde::Serialize;

use super::{
    NUMBER, read,
    types::{Page, time},
};
use crate::web::{
    params::Params,
    parts::page_of,
    route::{Doc, Query, QueryKind, Route},
    runs::RunState,
    view::View,
};

/// A run of the pipelines of a repository.
#[derive(Debug, Serialize, JsonSchema)]
struct RunOut {
    /// Project.
    project: String,
    /// Run, of that project.
    run: String,
    /// When it began.
    began: String,
    /// When its record was last written.
    written: String,
    /// What its record says of it; absent of one that no `release` wrote.
    #[serde(flatten)]
    said: Option<SaidOut>,
}

/// What the record of a run says.
#[derive(Debug, Serialize, JsonSchema)]
struct SaidOut {
    /// `running`, `passed`, `failed`, `interrupted`, `died` (it has not ended, and was not written for three hours) or `unknown`.
    result: &'static str,
    /// Commit.
    commit: String,
    /// Change that it is of, if it is of one.
    #[serde(skip_serializing_if = "Option::is_none")]
    change: Option<String>,
    /// Patchset of that.
    #[serde(skip_serializing_if = "Option::is_none")]
    patchset: Option<u32>,
    /// When it ended, if it has.
    #[serde(skip_serializing_if = "Option::is_none")]
    ended: Option<String>,
    /// Its pipelines, at most 40.
    pipelines: Vec<PipelineOut>,
    /// Number of those that are not listed.
    more_pipelines: usize,
}

/// A pipeline of a run.
#[derive(Debug, Serialize, JsonSchema)]
struct PipelineOut {
    /// Pipeline.
    name: String,
    /// As that of a run.
    result: &'static str,
}

const PROJECT: Query = Query { name: "project", text: "Only runs of this project", kind: QueryKind::Text };

pub(super) fn route() -> Route {
    read(
        "/api/v1/runs",
        get(list),
        Doc::new::<Page<RunOut>>(
            "listRuns",
            "The last runs of pipelines, at most 200 of a project, newest first",
            &[PROJECT, NUMBER],
        ),
    )
}

async fn list(view: View, params: Params) -> Response {
    let wanted = params.get("project");
    let projects =
        view.snapshot.runs.projects.iter().filter(|(project, _)| wanted.is_none_or(|wanted| wanted == *project));
    let mut runs: Vec<&RunSummary> = projects.flat_map(|(_, runs)| runs).collect();
    runs.sort_by(|a, b| b.place.run().cmp(a.place.run()));
    let (now, total) = (view.bucket_now(), runs.len());
    let items = page_of(runs.into_iter(), params.page()).into_iter().map(|run| RunOut::new(run, now)).collect();
    Json(Page::new(&view, items, params.page(), total)).into_response()
}

impl RunOut {
    fn new(run: &RunSummary, now: Timestamp) -> Self {
        let result = |result: &RunResult| RunState::of(result, run.updated, now).badge().text;
        let said = run.head.as_ref().map(|head| SaidOut {
            result: result(&head.result),
            commit: head.commit.to_string(),
            change: head.change.as_ref().map(ToString::to_string),
            patchset: head.patchset,
            ended: head.ended.map(time),
            pipelines: head
                .pipelines
                .iter()
                .map(|pipeline| PipelineOut { name: pipeline.name.to_string(), result: result(&pipeline.result) })
                .collect(),
            more_pipelines: head.more,
        });
        let (project, id) = (run.place.project().to_owned(), run.place.run());
        Self { project, run: id.to_string(), began: time(id.time()), written: time(run.updated), said }
    }
}
