//! `/api/v1`: what the pages show and do, for programs. `GET /api/v1/openapi.json` describes it, made from the same
//! table that the router is made from.
//!
//! Problems are `application/problem+json` (RFC 9457). Lists have a hundred items a page.

mod openapi;
mod types;

use std::sync::Arc;

use axum::{
    Json,
    body::Bytes,
    extract::Path,
    http::{Method, StatusCode, header},
    response::{IntoResponse, Response},
    routing::{MethodRouter, get, post},
};
use bucket::{AppName, PushKind, ReleaseName, ServerName};

pub(crate) use openapi::{Doc, Query};
use types::{AppOut, ChangeIn, JobOut, Kind, Page, PlanOut, Problem, PushIn, PushOut, ReleaseOut, ServerOut};

use super::{
    Web, events, jobs,
    pages::{history::recent, plan},
    params::Params,
    parts::{PAGE, page_of},
    routes::Route,
    view::View,
};
use fleet::{filter::Filter, operation::Intent, policy::Role};

/// Below this, answers are JSON.
pub(crate) const PREFIX: &str = "/api/";

const FILTER: Query = Query { name: "q", text: "a filter, as on the page of servers: `app:web state:failed`" };
const NUMBER: Query = Query { name: "page", text: "the number of the page, from 1" };

/// The routes of the API.
pub(crate) fn routes() -> Vec<Route> {
    vec![
        read("/api/v1/servers", get(servers), Doc::new::<Page<ServerOut>>("Servers", &[FILTER, NUMBER])),
        read("/api/v1/servers/{server}", get(server), Doc::new::<ServerOut>("One server", &[])),
        read("/api/v1/apps", get(apps), Doc::new::<Page<AppOut>>("Apps that have releases", &[NUMBER])),
        read(
            "/api/v1/apps/{app}/releases",
            get(releases),
            Doc::new::<Page<ReleaseOut>>("The releases of an app, newest first", &[NUMBER]),
        ),
        read(
            "/api/v1/history",
            get(history),
            Doc::new::<Page<PushOut>>(
                "The last pushes of all, or everything that was pushed to one server, newest first",
                &[Query { name: "server", text: "only this server's" }, NUMBER],
            ),
        ),
        read(
            "/api/v1/plans",
            get(plans),
            Doc::new::<PlanOut>(
                "What a push would do",
                &[
                    Query { name: "release", text: "the release to push" },
                    Query { name: "rollback", text: "or the app to roll back to what each server had before" },
                    Query { name: "server", text: "where; repeated" },
                    FILTER,
                ],
            ),
        ),
        Route {
            method: Method::POST,
            path: "/api/v1/pushes",
            least: Role::Deployer,
            handler: post(push),
            doc: Some(Doc::new::<JobOut>("Pushes to servers, each with a result of its own", &[]).takes::<PushIn>()),
        },
        read("/api/v1/pushes/{id}", get(pushed), Doc::new::<JobOut>("How pushes went", &[])),
        read("/api/v1/events", get(events::get), Doc::events("Tells, as server-sent events, that something changed")),
        Route {
            method: Method::GET,
            path: "/api/v1/openapi.json",
            least: Role::Viewer,
            handler: get(openapi::get),
            doc: None,
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
    (status, [(header::CONTENT_TYPE, "application/problem+json")], text).into_response()
}

fn bad(detail: &str) -> Response {
    problem(StatusCode::BAD_REQUEST, "That isn't understood", detail)
}

async fn servers(view: View, params: Params) -> Response {
    let filter = match Filter::parse(params.get("q").unwrap_or_default()) {
        Ok(filter) => filter,
        Err(wrong) => return bad(&wrong),
    };
    let fits: Vec<_> =
        view.snapshot.servers.values().filter(|server| filter.matches(server, &view.policy, view.now)).collect();
    let total = fits.len();
    let shown = page_of(fits.into_iter(), params.page()).into_iter().map(|server| ServerOut::new(&view, server));
    Json(Page::new(&view, shown.collect(), params.page(), total)).into_response()
}

async fn server(view: View, Path(name): Path<String>) -> Response {
    let name: Option<ServerName> = name.parse().ok();
    match name.and_then(|name| view.snapshot.servers.get(&name).cloned()) {
        Some(server) => Json(ServerOut::new(&view, &server)).into_response(),
        None => problem(StatusCode::NOT_FOUND, "There is no such server", "no document and no report has that name"),
    }
}

async fn apps(view: View, params: Params) -> Response {
    let shown = page_of(view.snapshot.apps.iter(), params.page()).into_iter().map(|(app, releases)| AppOut {
        name: app.to_string(),
        latest: releases.latest().map(|latest| latest.name.stem().to_owned()),
        releases: releases.len(),
        servers: view.snapshot.servers_with(app).count(),
    });
    Json(Page::new(&view, shown.collect(), params.page(), view.snapshot.apps.len())).into_response()
}

async fn releases(view: View, Path(app): Path<String>, params: Params) -> Response {
    let app: Option<AppName> = app.parse().ok();
    let Some(releases) = app.and_then(|app| view.snapshot.apps.get(&app).cloned()) else {
        return problem(StatusCode::NOT_FOUND, "There is no such app", "no release of that name is in the bucket");
    };
    let skipped = (params.page() - 1).saturating_mul(PAGE);
    let shown: Vec<ReleaseOut> = releases.newest().skip(skipped).take(PAGE).map(ReleaseOut::from).collect();
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
        Err(error) => problem(StatusCode::SERVICE_UNAVAILABLE, "The history can't be read", &error),
    }
}

async fn plans(view: View, params: Params) -> Response {
    let wanted = match plan::wanted(&view, &params).await {
        Ok(wanted) => wanted,
        Err((status, text)) => return problem(status, "That can't be planned", &text),
    };
    let (view, targets) = match plan::fresh_targets(view, &params).await {
        Ok(found) => found,
        Err((_, wrong)) => return bad(&wrong),
    };
    if targets.len() == 0 {
        return bad("no server was named; give `server` or `q`");
    }
    let planned = plan::plan(&view, &wanted, &targets, params.get("reason").unwrap_or_default()).await;
    Json(PlanOut::new(wanted.kind(), planned)).into_response()
}

async fn push(view: View, body: Bytes) -> Response {
    let wanted: PushIn = match serde_json::from_slice(&body) {
        Ok(wanted) => wanted,
        Err(error) => return bad(&error.to_string()),
    };
    let intents: Result<Vec<Intent>, String> =
        wanted.changes.iter().map(|change| intent(wanted.kind, change)).collect();
    let intents = match intents {
        Ok(intents) if (1..=jobs::MOST).contains(&intents.len()) => intents,
        Ok(_) => return bad(&format!("`changes` must have 1 to {} elements", jobs::MOST)),
        Err(wrong) => return bad(&wrong),
    };
    match jobs::accept(&view, wanted.reason.trim(), intents, wanted.new_servers).await {
        Ok(job) => {
            let status = if job.progress().finished { StatusCode::OK } else { StatusCode::ACCEPTED };
            let place = [(header::LOCATION, format!("/api/v1/pushes/{}", job.id))];
            (status, place, Json(JobOut::new(&job))).into_response()
        }
        Err((status, text)) => problem(status, "Nothing was written", &text),
    }
}

fn intent(kind: Kind, change: &ChangeIn) -> Result<Intent, String> {
    let release = |stem: &str| ReleaseName::from_stem(stem).map_err(|error| error.to_string());
    Ok(Intent {
        server: change.server.parse().map_err(|error: bucket::NameError| error.to_string())?,
        from: change.from.as_deref().map(release).transpose()?,
        release: release(&change.to)?,
        kind: match kind {
            Kind::Deploy => PushKind::Deploy,
            Kind::Rollback => PushKind::Rollback,
        },
    })
}

async fn pushed(view: View, Path(id): Path<String>) -> Response {
    let Some(job) = view.web.jobs.get(&id) else {
        let text = "only the last pushes are kept, until the server is restarted; the history has what was written";
        return problem(StatusCode::NOT_FOUND, "That push is no longer kept", text);
    };
    Json(JobOut::new(&job)).into_response()
}
