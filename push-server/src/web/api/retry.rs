//! `POST /api/v1/retry`: the same release once more, on servers whose agents gave it up.

use axum::{
    body::Bytes,
    extract::rejection::BytesRejection,
    http::{HeaderMap, StatusCode},
    response::Response,
};
use bucket::AppName;
use fleet::{operation::Intent, plan::Insistence, policy::Reason};
use schemars::JsonSchema;
use serde::Deserialize;

use super::{bad, outcome, problem, read_body};
use crate::web::{
    accept,
    pages::plan::{self, Planned, Wanted},
    params::Params,
    view::View,
};

/// A release to try again: the one that each server should have.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RetryIn {
    /// App.
    app: String,
    /// Servers.
    servers: Vec<String>,
    /// Reason, for the history.
    #[serde(default)]
    reason: String,
    /// Whether servers are meant too that the operator has put on hold.
    #[serde(default)]
    held: bool,
}

pub(super) async fn retry(view: View, headers: HeaderMap, body: Result<Bytes, BytesRejection>) -> Response {
    let RetryIn { app, servers, reason, held } = match read_body(body) {
        Ok(wanted) => wanted,
        Err((status, text)) => return problem(status, "Invalid request", &text),
    };
    let app: AppName = match app.parse() {
        Ok(app) => app,
        Err(error) => return bad(&bucket::NameError::to_string(&error)),
    };
    if servers.is_empty() {
        return bad("`servers` must have at least 1 element");
    }
    let servers = Params::of(servers.iter().map(|server| ("server", server.as_str())));
    let (view, targets) = match plan::fresh_targets(view, &servers).await {
        Ok(found) => found,
        Err((_, wrong)) => return bad(&wrong.to_string()),
    };
    let planned = plan::plan(&view, &Wanted::Retry(app), &targets, Reason::Given(&reason)).await;
    let intents: Result<Vec<Intent>, String> = planned.into_iter().map(intent).collect();
    let intents = match intents {
        Ok(intents) => intents,
        Err(error) => return problem(StatusCode::CONFLICT, "Nothing was written", &error),
    };
    match accept::accept(&view, reason.trim(), intents, Insistence { held, ..Insistence::default() }, false).await {
        Ok(job) => outcome::answer(&headers, &job).await,
        Err(error) => problem(error.status(), "Nothing was written", &error.to_string()),
    }
}

/// What is wanted of one server. Whether that is allowed is judged when it is written.
fn intent(planned: Planned) -> Result<Intent, String> {
    let proposal = planned.proposal?;
    let kind = bucket::PushKind::Retry;
    Ok(Intent { server: proposal.server, app: proposal.app, from: proposal.from, to: proposal.to, kind })
}
