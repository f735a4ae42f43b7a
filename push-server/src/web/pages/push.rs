//! Carrying out a plan, and the page that follows it.

use std::sync::Arc;

use axum::{
    body::Bytes,
    extract::Path,
    http::StatusCode,
    response::{IntoResponse, Redirect, Response},
};
use bucket::{AppState, PushKind};
use maud::{Markup, html};

use crate::{
    text::cut,
    web::{
        jobs::{self, Job},
        params::{Params, link},
        parts::{ago, app_badge, badge, count, prose, release, release_or, server_link},
        view::{Nav, View},
    },
};
use fleet::{
    condition::{Tone, apps},
    operation::Outcome,
};

/// `POST /push`: the form of a plan.
pub(crate) async fn post(view: View, body: Bytes) -> Response {
    let form = Params::parse(&body);
    let intents = match jobs::intents(&form) {
        Ok(intents) => intents,
        Err(wrong) => return view.problem(StatusCode::BAD_REQUEST, "The form isn't understood", &wrong),
    };
    let reason = form.get("reason").unwrap_or_default();
    let job = match jobs::accept(&view, reason, intents, form.get("new_servers").is_some()).await {
        Ok(job) => job,
        Err((status, text)) => return view.problem(status, "Nothing was written", &text),
    };
    Redirect::to(&format!("/pushes/{}", job.id)).into_response()
}

/// `GET /pushes/{id}`.
pub(crate) async fn get(view: View, Path(id): Path<String>) -> Response {
    let Some(job) = view.web.jobs.get(&id) else {
        let text = "Only the last pushes are kept here, until the server is restarted. The history has everything that was written.";
        return view.problem(StatusCode::NOT_FOUND, "That push is no longer kept", text);
    };
    let first = &job.intents[0];
    let verb = if first.kind == PushKind::Rollback { "Rolling back" } else { "Pushing" };
    let content = html! {
        h1 { (verb) " " (first.release.app()) " on " (count(job.intents.len(), "server")) }
        p.facts { "By " (cut(&job.who, 80)) @if !job.reason.is_empty() { ": " (prose(&job.reason)) } }
        div #job data-live { (progress(&view, &job)) }
    };
    view.page(&format!("{verb} {}", first.release.app()), Nav::Servers, &content)
}

fn progress(view: &View, job: &Arc<Job>) -> Markup {
    let progress = job.progress();
    let (outcomes, finished) = (progress.outcomes.as_slice(), progress.finished);
    let failed = outcomes.iter().flatten().filter(|outcome| outcome.result.is_err()).count();
    let written = outcomes.iter().flatten().count() - failed;
    html! {
        p.summary role="status" {
            @if !finished { (badge(Tone::Notice, "…", "writing")) " " (failed + written) " of " (job.intents.len()) " done. " }
            @if failed > 0 { (badge(Tone::Bad, "✗", &format!("{failed} not written"))) " " }
            @if written > 0 { (badge(Tone::Good, "✓", &format!("{written} written"))) " " (settled(view, outcomes)) }
        }
        @if failed > 0 && finished { (try_again(outcomes)) }
        table.rows {
            thead {
                tr {
                    th scope="col" { "Server" } th scope="col" { "From → to" } th scope="col" { "Written" }
                    th scope="col" { "The server" }
                }
            }
            tbody {
                @for (intent, outcome) in job.intents.iter().zip(outcomes).take(ROWS) {
                    tr {
                        th scope="row" data-label="Server" { (server_link(intent.server.as_str())) }
                        td.wide data-label="From → to" { (release_or(intent.from.as_ref(), "nothing")) " → " (release(&intent.release)) }
                        td.wide data-label="Written" { (written_cell(outcome.as_ref())) }
                        td.wide data-label="The server" { (server_cell(view, outcome.as_ref())) }
                    }
                }
            }
        }
        @if job.intents.len() > ROWS { p.facts { "The first " (ROWS) " of " (job.intents.len()) "." } }
        @if finished && written > 0 { p.facts { "Servers are woken at once where pokes are set up; else each looks within its poll interval, normally 5 minutes." } }
    }
}

/// Rows that are shown, those that failed being named in [`try_again`] as well.
const ROWS: usize = 500;

/// How far the servers are.
fn settled(view: &View, outcomes: &[Option<Outcome>]) -> Markup {
    let written = outcomes.iter().flatten().filter(|outcome| outcome.result.is_ok());
    let states: Vec<AppState> = written.map(|outcome| state(view, outcome)).collect();
    let number = |wanted: &[AppState]| states.iter().filter(|state| wanted.contains(state)).count();
    let (run, wait) = (number(&[AppState::Converged, AppState::Drifted]), number(&[AppState::Pending]));
    html! {
        "— " (run) " run it" @if wait > 0 { ", " (wait) " on the way" }
        @let other = states.len() - run - wait;
        @if other > 0 { ", " (other) " don't" } "."
    }
}

fn written_cell(outcome: Option<&Outcome>) -> Markup {
    html! {
        @match outcome {
            None => span.none { "waiting" },
            Some(outcome) => {
                @match &outcome.result {
                    Ok(_) => (badge(Tone::Good, "✓", "written")),
                    Err(error) => { (badge(Tone::Bad, "✗", "not written")) p.reason { (prose(error)) } },
                }
                @for warning in &outcome.warnings { p.reason { "▲ " (prose(warning)) } }
            }
        }
    }
}

fn state(view: &View, outcome: &Outcome) -> AppState {
    let server = view.snapshot.servers.get(&outcome.intent.server);
    let app = outcome.intent.release.app();
    server
        .and_then(|server| apps(server).into_iter().find(|row| row.app == app.as_str()))
        .filter(|row| row.desired == Some(&outcome.intent.release))
        .map_or(AppState::Pending, |row| row.state)
}

fn server_cell(view: &View, outcome: Option<&Outcome>) -> Markup {
    let Some(outcome) = outcome.filter(|outcome| outcome.result.is_ok()) else { return html! {} };
    let server = view.snapshot.servers.get(&outcome.intent.server);
    let reported = server.and_then(|server| server.reported(outcome.intent.release.app().as_str()));
    let state = state(view, outcome);
    html! {
        (app_badge(state))
        @if let Some(app) = reported.filter(|app| app.state == state) {
            @if let Some(reason) = &app.reason { p.reason { (prose(reason)) } }
        }
        @if let Some(status) = server.and_then(|server| server.status.as_ref()) {
            " " span.facts { "its agent said so " (ago(status.written, view.now)) }
        }
    }
}

/// Where to look again at those that weren't written.
fn try_again(outcomes: &[Option<Outcome>]) -> Markup {
    let failed: Vec<&Outcome> = outcomes.iter().flatten().filter(|outcome| outcome.result.is_err()).collect();
    let first = &failed[0].intent;
    let what = match first.kind {
        PushKind::Deploy => ("release", first.release.stem()),
        PushKind::Rollback => ("rollback", first.release.app().as_str()),
    };
    let servers = failed.iter().map(|outcome| ("server", outcome.intent.server.as_str())).take(200);
    html! {
        p { a.button href=(link("/plan", [what].into_iter().chain(servers))) { "Look at those again" } }
    }
}
