//! `POST /api/v1/pushes/{id}/…`: a push as a whole is undone, tried again where it failed, continued or stopped.

use axum::{
    Json,
    body::Bytes,
    extract::{Path, rejection::BytesRejection},
    http::{HeaderMap, Method, StatusCode},
    response::{IntoResponse, Response},
    routing::post,
};
use bucket::{NameError, ServerName};
use console::count;
use fleet::policy::Role;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::{
    PROBLEM, bad, outcome, problem, pushing, read_body,
    types::{JobOut, Problem},
};
use crate::web::{
    accept,
    redo::{self, Asked, NotDone},
    retirements,
    route::{Doc, Route},
    view::View,
};

/// An undo or a retry.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
struct RedoIn {
    /// Reason, for the history.
    reason: String,
    /// Servers; without any, all that the push was written to (undo) or that it failed on (retry).
    servers: Vec<String>,
    /// Whether servers are meant too that the operator has put on hold.
    held: bool,
}

/// Continuing a push.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
struct ContinueIn {
    /// Reason, for the history; without one, that of the push.
    reason: String,
}

/// A push that was stopped.
#[derive(Debug, Serialize, JsonSchema)]
struct StopOut {
    /// ID of the push.
    push: String,
    /// Number of servers that are left as they were.
    unwritten: usize,
}

/// The routes.
pub(super) fn routes() -> Vec<Route> {
    let stopped = Doc::new::<StopOut>("stopPush", "End a push: what it has not written stays as it is", &[])
        .or::<Problem>(403, "You have no right to push", PROBLEM)
        .or::<Problem>(409, "It is over, or you may not push to all that is left", PROBLEM);
    vec![
        pushing(
            "/api/v1/pushes/{id}/undo",
            post(undo),
            Doc::new::<JobOut>("undoPush", "Restore what ran before a push, and wait for the end", &[])
                .takes::<RedoIn>(),
        ),
        pushing(
            "/api/v1/pushes/{id}/retry",
            post(retry),
            Doc::new::<JobOut>("retryPush", "Try a push again where its release failed, and wait for the end", &[])
                .takes::<RedoIn>(),
        ),
        pushing(
            "/api/v1/pushes/{id}/continue",
            post(carry_on),
            Doc::new::<JobOut>(
                "continuePush",
                "Write what is left of a push that was cut off, and wait for the end",
                &[],
            )
            .takes::<ContinueIn>(),
        ),
        Route {
            method: Method::POST,
            path: "/api/v1/pushes/{id}/stop",
            least: Role::Deployer,
            handler: post(stop),
            doc: Some(stopped),
        },
    ]
}

async fn undo(view: View, id: Path<String>, headers: HeaderMap, body: Result<Bytes, BytesRejection>) -> Response {
    again(&view, id, &headers, Asked::Undo, body).await
}

async fn retry(view: View, id: Path<String>, headers: HeaderMap, body: Result<Bytes, BytesRejection>) -> Response {
    again(&view, id, &headers, Asked::Retry, body).await
}

async fn again(
    view: &View,
    Path(id): Path<String>,
    headers: &HeaderMap,
    asked: Asked,
    body: Result<Bytes, BytesRejection>,
) -> Response {
    let RedoIn { reason, servers, held } = match optional(body) {
        Ok(wanted) => wanted,
        Err((status, text)) => return problem(status, "Invalid request", &text),
    };
    let servers: Vec<ServerName> = match servers.iter().map(|name| name.parse()).collect::<Result<_, NameError>>() {
        Ok(servers) => servers,
        Err(error) => return bad(&error.to_string()),
    };
    let proposed = match redo::find(view, &id).await {
        Ok((_, account)) if asked == Asked::Undo && retirements::is_retirement(&account) => {
            let id = account.push.id;
            let text =
                format!("push {id} retired servers: `POST /api/v1/retirements/{id}/undo` restores their documents");
            return problem(StatusCode::CONFLICT, "Nothing was written", &text);
        }
        Ok((_, account)) => {
            redo::propose(view, &account, asked, &servers).await.map(|proposed| (account.push.id, proposed))
        }
        Err(error) => Err(error),
    };
    let (id, proposed) = match proposed {
        Ok(found) => found,
        Err(error) => return not_done(&error),
    };
    let (all, kind) = (proposed.len(), asked.kind());
    let (mut intents, mut impossible) = (Vec::new(), Vec::new());
    for proposed in proposed {
        let server = proposed.server.clone();
        match proposed.into_intent(&kind) {
            Ok(intent) => intents.push(intent),
            Err(error) => impossible.push(format!("`{server}`: {error:#}")),
        }
    }
    if let Some(first) = impossible.first() {
        let (not, all) = (impossible.len(), count(all, "server"));
        let text = format!("impossible on {not} of {all}, as on {first}; name the others in `servers`");
        return problem(StatusCode::CONFLICT, "Nothing was written", &text);
    }
    if intents.is_empty() {
        return problem(StatusCode::CONFLICT, "Nothing was written", "there is no server to do that on");
    }
    match accept::accept_of(view, reason.trim(), &id, intents, held).await {
        Ok(job) => outcome::answer(headers, &job).await,
        Err(error) => not_done(&error.into()),
    }
}

async fn carry_on(
    view: View,
    Path(id): Path<String>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Response {
    let ContinueIn { reason } = match optional(body) {
        Ok(wanted) => wanted,
        Err((status, text)) => return problem(status, "Invalid request", &text),
    };
    match redo::carry_on(&view, &id, reason.trim()).await {
        Ok(job) => outcome::answer(&headers, &job).await,
        Err(error) => not_done(&error),
    }
}

async fn stop(view: View, Path(id): Path<String>) -> Response {
    match redo::stop(&view, &id).await {
        Ok((push, unwritten)) => Json(StopOut { push: push.to_string(), unwritten }).into_response(),
        Err(error) => not_done(&error),
    }
}

pub(super) fn not_done(error: &NotDone) -> Response {
    let title = if matches!(error, NotDone::NotFound(_)) { "Push not found" } else { "Nothing was written" };
    problem(error.status(), title, &error.to_string())
}

/// What a request says; without a body, nothing.
pub(super) fn optional<T: DeserializeOwned + Default>(
    body: Result<Bytes, BytesRejection>,
) -> Result<T, (StatusCode, String)> {
    match body {
        Ok(body) if body.is_empty() => Ok(T::default()),
        body => read_body(body),
    }
}
