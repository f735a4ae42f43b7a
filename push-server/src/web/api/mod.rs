//! `/api/v1`: what the pages show and do, for programs. `GET /api/v1/openapi.json` describes it, made from the same
//! table that the router is made from.
//!
//! Problems are `application/problem+json` (RFC 9457). Lists have a hundred items a page.

mod channels;
mod compare;
mod guards;
mod holds;
pub(crate) mod openapi;
mod outcome;
mod plans;
mod pushes;
mod redo;
mod retirements;
mod retry;
mod rollouts;
mod runs;
mod types;

use std::sync::Arc;

use axum::{
    Json,
    body::Bytes,
    extract::{Path, rejection::BytesRejection},
    http::{HeaderMap, Method, StatusCode, header},
    response::{IntoResponse, Response},
    routing::{MethodRouter, get, post},
};
use bucket::{AppName, PushKind, ReleaseName, ServerName};

use holds::{HeldOut, HoldIn, ResumeIn};
use outcome::NotAllWritten;
use pushes::{AccountOut, HeadOut};
use serde::de::DeserializeOwned;
use types::{AppOut, JobOut, Kind, Page, Problem, PushIn, PushOut, ReleaseOut, ServerOut, TargetIn};

use super::{
    events, jobs,
    pages::{history::recent, servers::unmatched},
    params::Params,
    parts::{PAGE, page_of},
    route::{Doc, Query, QueryKind, Route},
    shared::Web,
    view::View,
    waves::{self, Begun, WavesProblem, WavesText},
};
use fleet::{filter::Filter, operation::Intent, plan::Insistence, policy::Role, wish::Said};
use thiserror::Error;

/// The type of problems.
const PROBLEM: &str = "application/problem+json";

/// Below this, answers are JSON.
pub(crate) const PREFIX: &str = "/api/";

const FILTER: Query =
    Query { name: "q", text: "Filter, as on the servers page: `app:web state:failed`", kind: QueryKind::Text };
const NUMBER: Query = Query { name: "page", text: "Page number, from 1", kind: QueryKind::Number };

/// The routes of the API.
pub(crate) fn routes() -> Vec<Route> {
    let special = redo::routes()
        .into_iter()
        .chain(guards::routes())
        .chain(rollouts::routes())
        .chain(channels::routes())
        .chain(retirements::routes())
        .chain([compare::route(), runs::route()]);
    reading().into_iter().chain(writing()).chain(special).collect()
}

fn reading() -> Vec<Route> {
    vec![
        read("/api/v1/servers", get(servers), Doc::new::<Page<ServerOut>>("listServers", "Servers", &[FILTER, NUMBER])),
        read("/api/v1/servers/{server}", get(server), Doc::new::<ServerOut>("getServer", "One server", &[])),
        read("/api/v1/apps", get(apps), Doc::new::<Page<AppOut>>("listApps", "Apps that have releases", &[NUMBER])),
        read(
            "/api/v1/apps/{app}/releases",
            get(releases),
            Doc::new::<Page<ReleaseOut>>("listReleases", "Releases of an app, newest first", &[NUMBER]),
        ),
        read(
            "/api/v1/history",
            get(history),
            Doc::new::<Page<PushOut>>(
                "listHistory",
                "Recent pushes to all servers, or all pushes to one server, newest first",
                &[Query { name: "server", text: "Only pushes to this server", kind: QueryKind::Text }, NUMBER],
            ),
        ),
        plans::route(),
        read(
            "/api/v1/pushes",
            get(pushes::list),
            Doc::new::<Page<HeadOut>>(
                "listPushes",
                "The last pushes, each whatever its number of servers, newest first",
                &[
                    Query {
                        name: "q",
                        text: "Part of an ID, an app, a release, an operator or a reason",
                        kind: QueryKind::Text,
                    },
                    NUMBER,
                ],
            ),
        ),
        read(
            "/api/v1/pushes/{id}",
            get(pushes::get),
            Doc::new::<AccountOut>("getPush", "A push, and what became of it on each server", &[]),
        ),
        read(
            "/api/v1/events",
            get(events::get),
            Doc::events("followChanges", "Server-sent events: something has changed"),
        ),
    ]
}

/// A route that pushes, and how it answers.
fn pushing(path: &'static str, handler: MethodRouter<Arc<Web>>, doc: Doc) -> Route {
    let doc = doc
        .or::<JobOut>(202, "Begun: in waves, or for clients that send `Prefer: respond-async`", "application/json")
        .or::<NotAllWritten>(403, "The policy forbids what was not written", PROBLEM)
        .or::<NotAllWritten>(409, "Not everything was written; each result says why", PROBLEM);
    Route { method: Method::POST, path, least: Role::Deployer, handler, doc: Some(doc) }
}

fn writing() -> Vec<Route> {
    vec![
        pushing(
            "/api/v1/pushes",
            post(push),
            Doc::new::<JobOut>("push", "Push to servers, and wait for the end; each push has a result of its own", &[])
                .takes::<PushIn>(),
        ),
        pushing(
            "/api/v1/retry",
            post(retry::retry),
            Doc::new::<JobOut>(
                "retry",
                "Try the release of an app again on servers where it failed or was rolled back, and wait for the end",
                &[],
            )
            .takes::<retry::RetryIn>(),
        ),
        Route {
            method: Method::POST,
            path: "/api/v1/holds",
            least: Role::Deployer,
            handler: post(holds::hold),
            doc: Some(
                Doc::new::<Vec<HeldOut>>("hold", "Put servers on hold: nobody else pushes there until it ends", &[])
                    .takes::<HoldIn>()
                    .or::<Problem>(403, "The policy forbids it for one of the servers", PROBLEM)
                    .or::<Problem>(409, "Not every server was written", PROBLEM),
            ),
        },
        Route {
            method: Method::POST,
            path: "/api/v1/resume",
            least: Role::Deployer,
            handler: post(holds::resume),
            doc: Some(
                Doc::new::<Vec<HeldOut>>("resume", "End holds on servers, whoever set them", &[])
                    .takes::<ResumeIn>()
                    .or::<Problem>(403, "The policy forbids it for one of the servers", PROBLEM)
                    .or::<Problem>(409, "Not every server was written", PROBLEM),
            ),
        },
    ]
}

fn read(path: &'static str, handler: MethodRouter<Arc<Web>>, doc: Doc) -> Route {
    Route { method: Method::GET, path, least: Role::Viewer, handler, doc: Some(doc) }
}

/// A problem for a program.
pub(crate) fn problem(status: StatusCode, title: &str, detail: &str) -> Response {
    let problem = Problem { title: title.to_owned(), status: status.as_u16(), detail: detail.to_owned() };
    let text = serde_json::to_string(&problem).expect("a problem is JSON");
    (status, [(header::CONTENT_TYPE, PROBLEM)], text).into_response()
}

/// What a request says, or with which status and in which words it is refused.
fn read_body<T: DeserializeOwned>(body: Result<Bytes, BytesRejection>) -> Result<T, (StatusCode, String)> {
    let body = body.map_err(|refused| (refused.status(), refused.body_text()))?;
    serde_json::from_slice(&body).map_err(|error| (StatusCode::BAD_REQUEST, error.to_string()))
}

fn bad(detail: &str) -> Response {
    problem(StatusCode::BAD_REQUEST, "Invalid request", detail)
}

async fn servers(view: View, params: Params) -> Response {
    let filter = match Filter::parse(params.get("q").unwrap_or_default()) {
        Ok(filter) => filter,
        Err(wrong) => return bad(&wrong.to_string()),
    };
    let matching: Vec<_> =
        view.snapshot.servers.values().filter(|server| filter.matches(server, &view.policy, view.now)).collect();
    let total = matching.len();
    let shown = page_of(matching.into_iter(), params.page()).into_iter().map(|server| ServerOut::new(&view, server));
    let hint = if total == 0 { unmatched(&view, &filter) } else { None };
    Json(Page { hint, ..Page::new(&view, shown.collect(), params.page(), total) }).into_response()
}

async fn server(view: View, Path(name): Path<String>) -> Response {
    let name: Option<ServerName> = name.parse().ok();
    match name.and_then(|name| view.snapshot.servers.get(&name).cloned()) {
        Some(server) => Json(ServerOut::new(&view, &server)).into_response(),
        None => problem(StatusCode::NOT_FOUND, "Server not found", "no server has this name"),
    }
}

async fn apps(view: View, params: Params) -> Response {
    let shown = page_of(view.snapshot.apps.iter(), params.page()).into_iter().map(|(app, releases)| AppOut {
        name: app.to_string(),
        latest: releases.latest_but(&view.snapshot.rejected).map(|latest| latest.name.stem().to_owned()),
        releases: releases.len(),
        servers: view.snapshot.servers_with(app).count(),
    });
    Json(Page::new(&view, shown.collect(), params.page(), view.snapshot.apps.len())).into_response()
}

async fn releases(view: View, Path(app): Path<String>, params: Params) -> Response {
    let app: Option<AppName> = app.parse().ok();
    let Some(releases) = app.and_then(|app| view.snapshot.apps.get(&app).cloned()) else {
        return problem(StatusCode::NOT_FOUND, "App not found", "no app has this name");
    };
    let skipped = (params.page() - 1).saturating_mul(PAGE);
    let shown: Vec<ReleaseOut> =
        releases.newest().skip(skipped).take(PAGE).map(|listed| ReleaseOut::new(&view, &listed)).collect();
    Json(Page::new(&view, shown, params.page(), releases.len())).into_response()
}

async fn history(view: View, params: Params) -> Response {
    let server = match params.get("server").map(str::parse).transpose() {
        Ok(server) => server,
        Err(error) => return bad(&bucket::NameError::to_string(&error)),
    };
    match recent(&view, server.as_ref()).await {
        Ok(pushes) => {
            let total = pushes.len();
            let shown = page_of(pushes.iter(), params.page()).into_iter().map(PushOut::from);
            Json(Page::new(&view, shown.collect(), params.page(), total)).into_response()
        }
        Err(error) => problem(StatusCode::SERVICE_UNAVAILABLE, "History unreadable", &error.to_string()),
    }
}

async fn push(view: View, headers: HeaderMap, body: Result<Bytes, BytesRejection>) -> Response {
    let wanted: PushIn = match read_body(body) {
        Ok(wanted) => wanted,
        Err((status, text)) => return problem(status, "Invalid request", &text),
    };
    let intents: Result<Vec<Intent>, RowError> = wanted.rows.iter().map(|row| intent(wanted.kind, row)).collect();
    let intents = match intents {
        Ok(intents) if (1..=jobs::MAX_SERVERS).contains(&intents.len()) => intents,
        Ok(_) => return bad(&format!("`rows` must have 1 to {} elements", jobs::MAX_SERVERS)),
        Err(wrong) => return bad(&wrong.to_string()),
    };
    let insistence = Insistence { install: wanted.install, new_servers: wanted.new_servers, held: wanted.held };
    let said = match said(&wanted) {
        Ok(said) => said,
        Err(wrong) => return bad(&wrong.to_string()),
    };
    match waves::begin(&view, wanted.reason.trim(), intents.clone(), insistence, &said).await {
        Ok(Begun::AtOnce(job)) => outcome::answer(&headers, &job).await,
        Ok(Begun::InWaves(id)) => outcome::begun(&id, &intents),
        Err(error) => problem(error.status(), "Nothing was written", &error.to_string()),
    }
}

/// What is said of waves.
fn said(wanted: &PushIn) -> Result<Said, WavesProblem> {
    let stop_at = wanted.stop_at.map(|stop_at| stop_at.to_string());
    let pause_after = wanted.pause_after.as_ref().map(|waves| waves.iter().map(usize::to_string).collect::<Vec<_>>());
    let pause_after = pause_after.filter(|waves| !waves.is_empty()).map(|waves| waves.join(","));
    let text = WavesText {
        waves: wanted.waves.as_deref(),
        settle: wanted.settle.as_deref(),
        stop_at: stop_at.as_deref(),
        enough: wanted.enough.as_deref(),
        within: wanted.within.as_deref(),
        max_down: wanted.max_down.as_deref(),
        pause_after: pause_after.as_deref(),
        undo_on_stop: wanted.undo_on_stop == Some(true),
    };
    text.said()
}

/// A row says something that no push does.
#[derive(Debug, Error)]
enum RowError {
    /// A name in it isn't one.
    #[error(transparent)]
    Name(#[from] bucket::NameError),
    /// A deploy or a rollback to nothing.
    #[error("`to` is missing for `{0}`: only a push of kind `remove` takes an app off a server")]
    NoRelease(ServerName),
    /// A removal with a release.
    #[error("`to` must be null for `{0}`: a push of kind `remove` takes the app off the server")]
    Release(ServerName),
    /// A removal of nothing.
    #[error("`from` is missing for `{0}`: it says which app is to be removed, and which release was last seen there")]
    NoApp(ServerName),
    /// The two releases are of different apps.
    #[error("`from` and `to` are of different apps for `{0}`")]
    OtherApp(ServerName),
}

fn intent(kind: Kind, row: &TargetIn) -> Result<Intent, RowError> {
    let server: ServerName = row.server.parse()?;
    let from = row.from.as_deref().map(ReleaseName::from_stem).transpose()?;
    let to = row.to.as_deref().map(ReleaseName::from_stem).transpose()?;
    let kind = match kind {
        Kind::Deploy => PushKind::Deploy,
        Kind::Rollback => PushKind::Rollback,
        Kind::Retry => PushKind::Retry,
        Kind::Remove => PushKind::Remove,
    };
    let app = match (&from, &to, kind == PushKind::Remove) {
        (Some(from), Some(to), false) if from.app() != to.app() => return Err(RowError::OtherApp(server)),
        (_, Some(to), false) => to.app().clone(),
        (_, None, false) => return Err(RowError::NoRelease(server)),
        (_, Some(_), true) => return Err(RowError::Release(server)),
        (None, None, true) => return Err(RowError::NoApp(server)),
        (Some(from), None, true) => from.app().clone(),
    };
    Ok(Intent { server, app, from, to, kind })
}
