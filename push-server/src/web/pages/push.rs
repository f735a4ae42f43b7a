//! Carrying out a plan, and the page that follows it.

use std::sync::Arc;

use axum::{
    body::Bytes,
    extract::{Path, rejection::BytesRejection},
    http::StatusCode,
    response::{IntoResponse, Redirect, Response},
};
use bucket::{AppState, PushKind};
use console::count;
use maud::{Markup, html};

use fleet::{condition::apps, operation::PushResult, plan::Insistence};

use crate::{
    badge::Severity,
    web::{
        accept,
        compare::compare_link,
        form,
        jobs::Job,
        params::{Params, link},
        parts::{self, ago, app_badge, badge, foreign, prose, release_or, server_link},
        view::{Nav, View},
    },
};

/// `POST /push`: the form of a plan.
pub(crate) async fn post(view: View, body: Result<Bytes, BytesRejection>) -> Response {
    let body = match body {
        Ok(body) => body,
        Err(refused) => return view.problem(refused.status(), "Invalid form", &refused.body_text()),
    };
    let params = Params::parse(&body);
    let intents = match form::intents(&params) {
        Ok(intents) => intents,
        Err(error) => return view.problem(StatusCode::BAD_REQUEST, "Invalid form", &error.to_string()),
    };
    let reason = params.get("reason").unwrap_or_default();
    let is_ticked = |name: &str| params.get(name).is_some();
    let insistence = Insistence { install: is_ticked("install"), new_servers: is_ticked("new_servers") };
    let job = match accept::accept(&view, reason, intents, insistence).await {
        Ok(job) => job,
        Err(error) => return view.problem(error.status(), "Nothing was written", &error.to_string()),
    };
    Redirect::to(&format!("/pushes/{}", job.id)).into_response()
}

/// `GET /pushes/{id}`.
pub(crate) async fn get(view: View, Path(id): Path<String>) -> Response {
    let Some(job) = view.web.jobs.get(&id) else {
        let text =
            "Recent pushes are kept here until the web app restarts. The history has everything that was written.";
        return view.problem(StatusCode::NOT_FOUND, "Push no longer available", text);
    };
    let first = &job.intents[0];
    let verb = if first.kind == PushKind::Rollback { "Rolling back" } else { "Pushing" };
    let content = html! {
        h1 { (verb) " " (first.app) " on " (count(job.intents.len(), "server")) }
        p.facts { "By " (foreign(&job.who, 80)) @if !job.reason.is_empty() { ": " (prose(&job.reason)) } }
        div #job data-live { (progress(&view, &job)) }
    };
    view.page(&format!("{verb} {}", first.app), Nav::Servers, &content)
}

fn progress(view: &View, job: &Arc<Job>) -> Markup {
    let progress = job.progress();
    let (results, finished) = (progress.results.as_slice(), progress.finished);
    let pushed = results.iter().flatten().filter(|result| result.is_pushed()).count();
    let failed = results.iter().flatten().count() - pushed;
    html! {
        p.summary role="status" {
            @if !finished { (badge(Severity::Notice, "…", "pushing")) " " (failed + pushed) " of " (job.intents.len()) " done. " }
            @if failed > 0 { (badge(Severity::Bad, "✗", &format!("{failed} not pushed"))) " " }
            @if pushed > 0 { (badge(Severity::Good, "✓", &format!("{pushed} pushed"))) " " (agents(view, results)) }
        }
        @if failed > 0 && finished { (retry(results)) }
        table.rows {
            thead {
                tr {
                    th scope="col" { "Server" } th scope="col" { "From → to" } th scope="col" { "Push" }
                    th scope="col" { "Server state" }
                }
            }
            tbody {
                @for (intent, result) in job.intents.iter().zip(results).take(ROWS) {
                    tr {
                        th scope="row" data-label="Server" { (server_link(intent.server.as_str())) }
                        td.wide data-label="From → to" {
                            (release_or(intent.from.as_ref(), "nothing")) " → " (release_or(intent.to.as_ref(), "nothing"))
                            (compare_link(view, intent.from.as_ref(), intent.to.as_ref()))
                        }
                        td.wide data-label="Push" { (push_cell(result.as_ref())) }
                        td.wide data-label="Server state" { (server_cell(view, result.as_ref())) }
                    }
                }
            }
        }
        @if job.intents.len() > ROWS { p.facts { "The first " (ROWS) " of " (job.intents.len()) "." } }
        @if finished && pushed > 0 {
            p.facts { "Servers with pokes configured react immediately; others at their next poll, by default within 5 min." }
        }
    }
}

/// Rows that are shown, those that failed being named in [`retry`] as well.
const ROWS: usize = 500;

/// How far the servers are.
fn agents(view: &View, results: &[Option<PushResult>]) -> Markup {
    let pushed = results.iter().flatten().filter(|result| result.is_pushed());
    let states: Vec<AppState> = pushed.map(|result| state(view, result)).collect();
    let number = |wanted: &[AppState]| states.iter().filter(|state| wanted.contains(state)).count();
    let (running, waiting) = (number(&[AppState::Converged, AppState::Drifted]), number(&[AppState::Pending]));
    html! {
        "— " (running) " running" @if waiting > 0 { ", " (waiting) " in progress" }
        @let failed = states.len() - running - waiting;
        @if failed > 0 { ", " (failed) " failed" } "."
    }
}

fn push_cell(result: Option<&PushResult>) -> Markup {
    html! {
        @match result {
            None => span.none { "waiting" },
            Some(pushed) => {
                @match &pushed.result {
                    Ok(_) => (badge(Severity::Good, "✓", "pushed")),
                    Err(error) => { (badge(Severity::Bad, "✗", "not pushed")) p.reason { (prose(&error.to_string())) } },
                }
                @for warning in &pushed.incomplete { p.reason { "▲ " (prose(&warning.to_string())) } }
            }
        }
    }
}

fn state(view: &View, result: &PushResult) -> AppState {
    let server = view.snapshot.servers.get(&result.intent.server);
    let app = &result.intent.app;
    server
        .and_then(|server| apps(server).into_iter().find(|row| row.app == app.as_str()))
        .filter(|row| row.desired == result.intent.to.as_ref())
        .map_or(AppState::Pending, |row| row.state)
}

fn server_cell(view: &View, result: Option<&PushResult>) -> Markup {
    let Some(result) = result.filter(|result| result.is_pushed()) else { return html! {} };
    let server = view.snapshot.servers.get(&result.intent.server);
    let reported = server.and_then(|server| server.reported(result.intent.app.as_str()));
    let state = state(view, result);
    html! {
        (app_badge(state))
        @if let Some(app) = reported.filter(|app| app.state == state) {
            @if let Some(reason) = &app.reason { (parts::reason(reason)) }
        }
        @if let Some(status) = server.and_then(|server| server.status()) {
            " " span.facts { "reported " (ago(status.written, view.now)) }
        }
    }
}

/// Leads to a new plan for those that weren't written.
fn retry(results: &[Option<PushResult>]) -> Markup {
    let failed: Vec<&PushResult> = results.iter().flatten().filter(|result| !result.is_pushed()).collect();
    let first = &failed[0].intent;
    let target = match (&first.kind, &first.to) {
        (PushKind::Rollback, _) => Some(("rollback", first.app.as_str())),
        (_, to) => to.as_ref().map(|release| ("release", release.stem())),
    };
    let servers = failed.iter().map(|result| ("server", result.intent.server.as_str())).take(200);
    html! {
        @if let Some(target) = target {
            p { a.button href=(link("/plan", [target].into_iter().chain(servers))) { "Retry failed servers" } }
        }
    }
}
