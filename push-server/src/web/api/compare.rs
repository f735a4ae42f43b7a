//! `GET /api/v1/compare`: what two servers, or two sets of servers, should run that differs.

use axum::{
    Json,
    response::{IntoResponse, Response},
    routing::get,
};
use bucket::ReleaseName;
use fleet::compare::Compared;
use schemars::JsonSchema;
use serde::Serialize;

use super::{bad, read};
use crate::{
    notes::{MAX_NOTES, notes},
    snapshot::Listed,
    web::{
        comparison::{compared, side},
        params::Params,
        route::{Doc, Query, QueryKind, Route},
        view::View,
    },
};

/// Two servers, or two sets of servers.
#[derive(Debug, Serialize, JsonSchema)]
struct ComparisonOut {
    /// The left side, as it was asked for.
    left: String,
    /// The right side, as it was asked for.
    right: String,
    /// Every app of either.
    apps: Vec<ComparedOut>,
}

/// One app of both sides.
#[derive(Debug, Serialize, JsonSchema)]
struct ComparedOut {
    /// App.
    app: String,
    /// `same`, `ahead` (the left side has newer releases), `behind`, `only-left`, `only-right` or `mixed`.
    relation: &'static str,
    /// Releases of the left side, newest first.
    left: Vec<HadOut>,
    /// Releases of the right side, newest first.
    right: Vec<HadOut>,
    /// The newest 20 of the releases that one side has and the other hasn't yet.
    notes: Vec<NoteOut>,
}

/// A release, and how many servers of one side should have it.
#[derive(Debug, Serialize, JsonSchema)]
struct HadOut {
    /// Release.
    release: String,
    /// Number of servers.
    servers: usize,
}

/// Why a release was built.
#[derive(Debug, Serialize, JsonSchema)]
struct NoteOut {
    /// Release.
    release: String,
    /// Release note.
    note: String,
}

pub(super) fn route() -> Route {
    const QUERIES: &[Query] = &[
        Query {
            name: "left",
            text: "Server, or a filter as on the servers page: `group:stage`",
            kind: QueryKind::Text,
        },
        Query { name: "right", text: "What it is compared with", kind: QueryKind::Text },
    ];
    let text = "What two servers, or two sets of servers, should run that differs";
    read("/api/v1/compare", get(get_compared), Doc::new::<ComparisonOut>("compare", text, QUERIES))
}

async fn get_compared(view: View, params: Params) -> Response {
    let (Some(left), Some(right)) = (params.get("left"), params.get("right")) else {
        return bad("`left` and `right` must each be a server or a filter");
    };
    let (left_servers, right_servers) = match (side(&view, left), side(&view, right)) {
        (Ok(left), Ok(right)) => (left, right),
        (Err(error), _) | (_, Err(error)) => return bad(&error),
    };
    let apps = compared(&view, &left_servers, &right_servers).iter().map(|app| out(&view, app)).collect();
    Json(ComparisonOut { left: left.to_owned(), right: right.to_owned(), apps }).into_response()
}

fn out(view: &View, app: &Compared) -> ComparedOut {
    let side = |side: &[(ReleaseName, usize)]| {
        side.iter().map(|(release, servers)| HadOut { release: release.stem().to_owned(), servers: *servers }).collect()
    };
    let between = notes(app, view.snapshot.apps.get(&app.app).map(|releases| &**releases));
    let note = |listed: Listed| NoteOut { release: listed.name.stem().to_owned(), note: listed.note.to_owned() };
    ComparedOut {
        app: app.app.to_string(),
        relation: app.relation.as_str(),
        left: side(&app.left),
        right: side(&app.right),
        notes: between.take(MAX_NOTES).map(note).collect(),
    }
}
