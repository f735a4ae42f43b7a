//! What operators decide for everybody, for programs: rejections and halts.

use axum::{
    Json,
    body::Bytes,
    extract::{Path, rejection::BytesRejection},
    http::{Method, StatusCode},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use bucket::ReleaseName;
use fleet::policy::Role;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{PROBLEM, problem, read, read_body, types::Problem};
use crate::web::{
    guards::{self, NotDecided},
    route::{Doc, Route},
    view::View,
};

/// Why.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct ReasonIn {
    /// Reason, for everybody who would push.
    reason: String,
}

/// Whether a release is rejected.
#[derive(Debug, Serialize, JsonSchema)]
struct RejectionOut {
    /// Release.
    release: String,
    /// Whether nobody may push it.
    rejected: bool,
    /// Servers that should have it, or do.
    servers: Vec<String>,
}

/// Whether all pushes are halted.
#[derive(Debug, Serialize, JsonSchema)]
struct HaltOut {
    /// Whether they are.
    halted: bool,
    /// Who halted them.
    #[serde(skip_serializing_if = "Option::is_none")]
    by: Option<String>,
    /// Their reason.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    /// When they did.
    #[serde(skip_serializing_if = "Option::is_none")]
    at: Option<String>,
}

pub(super) fn routes() -> Vec<Route> {
    let decision = |path, least, handler, doc: Doc| {
        let doc = doc.or::<Problem>(403, "The policy forbids it", PROBLEM).or::<Problem>(
            409,
            "It is so already, or could not be written",
            PROBLEM,
        );
        Route { method: Method::POST, path, least, handler, doc: Some(doc) }
    };
    vec![
        decision(
            "/api/v1/releases/{release}/reject",
            Role::Deployer,
            post(reject),
            Doc::new::<RejectionOut>(
                "rejectRelease",
                "Reject a release: nobody deploys it, rolls back to it or retries it any more",
                &[],
            )
            .takes::<ReasonIn>(),
        ),
        decision(
            "/api/v1/releases/{release}/unreject",
            Role::Deployer,
            post(unreject),
            Doc::new::<RejectionOut>("unrejectRelease", "Take back the rejection of a release", &[]),
        ),
        read("/api/v1/halt", get(halted), Doc::new::<HaltOut>("getHalt", "Whether all pushes are halted", &[])),
        decision(
            "/api/v1/halt",
            Role::Admin,
            post(halt),
            Doc::new::<HaltOut>(
                "halt",
                "Halt all pushes, for everybody, until that is lifted; undo and rollback work meanwhile",
                &[],
            )
            .takes::<ReasonIn>(),
        ),
        decision("/api/v1/halt/lift", Role::Admin, post(lift), Doc::new::<HaltOut>("liftHalt", "Lift the halt", &[])),
    ]
}

fn refused(error: &NotDecided) -> Response {
    problem(error.status(), "Nothing was changed", &error.to_string())
}

fn release(stem: &str) -> Result<ReleaseName, (StatusCode, String)> {
    ReleaseName::from_stem(stem).map_err(|error| (StatusCode::NOT_FOUND, error.to_string()))
}

async fn reject(view: View, Path(stem): Path<String>, body: Result<Bytes, BytesRejection>) -> Response {
    let wanted = release(&stem).and_then(|release| Ok((release, read_body::<ReasonIn>(body)?.reason)));
    let (release, reason) = match wanted {
        Ok(wanted) => wanted,
        Err((status, text)) => return problem(status, "Invalid request", &text),
    };
    match guards::reject(&view, &release, reason.trim()).await {
        Ok(servers) => rejection(&release, true, &servers),
        Err(error) => refused(&error),
    }
}

async fn unreject(view: View, Path(stem): Path<String>) -> Response {
    let release = match release(&stem) {
        Ok(release) => release,
        Err((status, text)) => return problem(status, "Invalid request", &text),
    };
    match guards::unreject(&view, &release).await {
        Ok(servers) => rejection(&release, false, &servers),
        Err(error) => refused(&error),
    }
}

fn rejection(release: &ReleaseName, rejected: bool, servers: &[bucket::ServerName]) -> Response {
    let servers = servers.iter().map(ToString::to_string).collect();
    Json(RejectionOut { release: release.stem().to_owned(), rejected, servers }).into_response()
}

async fn halted(view: View) -> Response {
    let halt = view.snapshot.halt.as_ref();
    let halted = HaltOut {
        halted: halt.is_some(),
        by: halt.map(|halt| halt.by.clone()),
        reason: halt.map(|halt| halt.why.clone()),
        at: halt.map(|halt| halt.at.to_string()),
    };
    Json(halted).into_response()
}

async fn halt(view: View, body: Result<Bytes, BytesRejection>) -> Response {
    let ReasonIn { reason } = match read_body(body) {
        Ok(wanted) => wanted,
        Err((status, text)) => return problem(status, "Invalid request", &text),
    };
    match guards::halt(&view, reason.trim()).await {
        Ok(()) => halted(view.afresh()).await,
        Err(error) => refused(&error),
    }
}

async fn lift(view: View) -> Response {
    match guards::lift(&view).await {
        Ok(()) => halted(view.afresh()).await,
        Err(error) => refused(&error),
    }
}
