//! Carrying out a plan, and the page of a push: what was pushed, and what became of it on each server.

mod page;
pub(crate) mod redo;
mod restore;
mod rollout;

pub(crate) use rollout::stage as rollout_stage;

use axum::{
    body::Bytes,
    extract::{Path, rejection::BytesRejection},
    http::StatusCode,
    response::{IntoResponse, Redirect, Response},
};
use bucket::PushId;
use fleet::plan::Insistence;

use crate::web::{
    form,
    params::Params,
    shown::Shown,
    view::{Nav, View},
    waves::{self, Begun, WavesText},
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
    let begun = match waves_of(&params).said() {
        Ok(said) => waves::begin(&view, reason, intents, insistence, &said).await,
        Err(problem) => Err(problem.into()),
    };
    match begun {
        Ok(Begun::AtOnce(job)) => Redirect::to(&format!("/pushes/{}", job.id)).into_response(),
        Ok(Begun::InWaves(id)) => Redirect::to(&format!("/pushes/{id}")).into_response(),
        Err(error) => view.problem(error.status(), "Nothing was written", &error.to_string()),
    }
}

/// What the form says of waves.
fn waves_of(params: &Params) -> WavesText<'_> {
    WavesText {
        waves: params.get("waves"),
        settle: params.get("settle"),
        stop_at: params.get("stop_at"),
        enough: params.get("enough"),
        within: params.get("within"),
        max_down: params.get("max_down"),
        pause_after: params.get("pause_after"),
        undo_on_stop: params.get("undo_on_stop").is_some(),
    }
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
