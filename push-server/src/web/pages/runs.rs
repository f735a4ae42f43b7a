//! The projects of which pipelines were run, and the last runs of one.

use axum::{extract::Path, http::StatusCode, response::Response};
use bucket::{Commit, RunHead, RunSummary};
use console::count;
use maud::{Markup, html};

use super::changes::change_link;
use crate::web::{
    params::Params,
    parts::{ago, badge, page_of, pager},
    runs::{RunState, address},
    view::{Nav, View},
};

/// Pipelines that are named of a run in a list.
const NAMED: usize = 6;

/// `GET /runs`.
pub(crate) async fn projects(view: View) -> Response {
    let projects = &view.snapshot.runs.projects;
    let content = html! {
        h1 { "Runs" }
        div #runs data-live {
            @if projects.is_empty() {
                div.empty {
                    h2 { "No runs" }
                    p { code { "release run" } " carries out the pipelines of a repository and records each run." }
                }
            } @else {
                table.rows {
                    thead { tr { th scope="col" { "Project" } th scope="col" { "Runs" } th scope="col" { "Last run" } } }
                    tbody {
                        @for (project, runs) in projects {
                            tr {
                                th scope="row" data-label="Project" { a href={ "/runs/" (project) } { (project) } }
                                td data-label="Runs" { (runs.len()) }
                                td.wide data-label="Last run" { @if let Some(run) = runs.first() { (run_link(&view, run)) } }
                            }
                        }
                    }
                }
            }
        }
    };
    view.page("Runs", Nav::Runs, &content)
}

/// `GET /runs/{project}`.
pub(crate) async fn list(view: View, Path(project): Path<String>, params: Params) -> Response {
    let Some(runs) = view.snapshot.runs.projects.get(&project) else {
        let text = "No run of a project of this name is recorded.";
        return view.problem(StatusCode::NOT_FOUND, "Project not found", text);
    };
    let page = params.page();
    let content = html! {
        h1 { "Runs of " (project) }
        div #runs data-live {
            p.summary { "The last " (count(runs.len(), "run")) }
            table.rows {
                thead {
                    tr {
                        th scope="col" { "Run" } th scope="col" { "Commit" } th scope="col" { "Change" } th scope="col" { "Pipelines" }
                    }
                }
                tbody { @for run in page_of(runs.iter(), page) { (row(&view, run)) } }
            }
            (pager(&format!("/runs/{project}"), &[], page, runs.len()))
        }
    };
    view.page(&format!("Runs of {project}"), Nav::Runs, &content)
}

fn row(view: &View, run: &RunSummary) -> Markup {
    html! {
        tr {
            th scope="row" data-label="Run" { (run_link(view, run)) }
            @match &run.head {
                Some(head) => {
                    td data-label="Commit" { code { (head.commit.short()) } }
                    td data-label="Change" {
                        @match &head.change {
                            Some(change) => {
                                (change_link(view, change))
                                @if let Some(patchset) = head.patchset { span.facts { ", patchset " (patchset) } }
                            },
                            None => span.none { "none" },
                        }
                    }
                    td.wide data-label="Pipelines" { (pipelines(view, run, head)) }
                },
                None => td.wide colspan="3" { span.none { "Its record says nothing that a list can show." } },
            }
        }
    }
}

fn pipelines(view: &View, run: &RunSummary, head: &RunHead) -> Markup {
    let more = head.pipelines.len().saturating_sub(NAMED) + head.more;
    html! {
        @for pipeline in head.pipelines.iter().take(NAMED) {
            @let shown = RunState::of(&pipeline.result, run.updated, view.bucket_now()).badge();
            p { (pipeline.name) " " (badge(shown.severity, shown.symbol, shown.text)) }
        }
        @if more > 0 { p { "and " (more) " more" } }
    }
}

/// A run as a link to its page: how it is, and when it began.
fn run_link(view: &View, run: &RunSummary) -> Markup {
    html! {
        a href=(address(&run.place)) { (run.place.run().time().strftime("%d %b %H:%M:%S")) } " "
        @if let Some(head) = &run.head {
            @let shown = RunState::of(&head.result, run.updated, view.bucket_now()).badge();
            (badge(shown.severity, shown.symbol, shown.text))
        }
        p.facts { "began " (ago(run.place.run().time(), view.now)) }
    }
}

/// The newest run of a commit, if one is known.
pub(crate) fn of_commit(view: &View, commit: &Commit) -> Markup {
    html! {
        @match view.snapshot.runs.of_commit(commit) {
            Some(run) => (run_link(view, run)),
            None => span.none { "none known" },
        }
    }
}
