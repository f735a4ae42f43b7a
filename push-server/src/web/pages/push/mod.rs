//! Carrying out a plan, and the page of a push: what was pushed, and what became of it on each server.

mod page;
pub(crate) mod redo;
mod waves;

pub(crate) use waves::stage as rollout_stage;

use axum::{
    body::Bytes,
    extract::{Path, rejection::BytesRejection},
    http::StatusCode,
    response::{IntoResponse, Redirect, Response},
};
use bucket::PushId;
use fleet::plan::Insistence;

use crate::web::{
    accept, form,
    params::Params,
    shown::Shown,
    view::{Nav, View},
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
    let insistence =
        Insistence { install: is_ticked("install"), new_servers: is_ticked("new_servers"), held: is_ticked("held") };
    let job = match accept::accept(&view, reason, intents, insistence).await {
        Ok(job) => job,
        Err(error) => return view.problem(error.status(), "Nothing was written", &error.to_string()),
    };
    Redirect::to(&format!("/pushes/{}", job.id)).into_response()
}

/// `GET /pushes/{id}`.
pub(crate) async fn get(view: View, Path(id): Path<String>, params: Params) -> Response {
    let shown = match id.parse::<PushId>() {
        Ok(id) => Shown::find(&view, &id).await,
        Err(_) => Ok(None),
    };
    match shown {
        Ok(Some(shown)) => {
            let rollout = match shown.rollout(&view).await {
                Ok(rollout) => rollout,
                Err(error) => return view.problem(StatusCode::SERVICE_UNAVAILABLE, "Rollout unreadable", &error),
            };
            let content = page::page(&view, &shown, rollout.as_ref(), params.page());
            view.page(&page::title(&shown), Nav::History, &content)
        }
        Ok(None) => {
            let text = "No push has this ID, or nothing of it was written. The history has the last pushes.";
            view.problem(StatusCode::NOT_FOUND, "Push not found", text)
        }
        Err(error) => view.problem(StatusCode::SERVICE_UNAVAILABLE, "Push unreadable", &error.to_string()),
    }
}
