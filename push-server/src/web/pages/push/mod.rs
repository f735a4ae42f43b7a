//! Carrying out a plan, and the page of a push: what was pushed, and what became of it on each server.

mod page;
mod preview;
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
use fleet::{operation::Intent, plan::Insistence};

use crate::web::{
    form,
    params::Params,
    redo::NotDone,
    shown::Shown,
    view::{Nav, View},
    waves::{self, Begun, WavesText},
};

/// `POST /push`: the form of a plan.
pub(crate) async fn post(view: View, body: Result<Bytes, BytesRejection>) -> Response {
    let form = match Form::read(&view, body) {
        Ok(form) => form,
        Err(problem) => return *problem,
    };
    let Form { intents, insistence, .. } = &form;
    let begun = match WavesText::of(&form.params).said() {
        Ok(said) => waves::begin(&view, form.reason(), intents.clone(), *insistence, &said).await,
        Err(problem) => Err(problem.into()),
    };
    match begun {
        Ok(Begun::AtOnce(job)) => Redirect::to(&format!("/pushes/{}", job.id)).into_response(),
        Ok(Begun::InWaves(id)) => Redirect::to(&format!("/pushes/{id}")).into_response(),
        Err(error) => view.problem(error.status(), "Nothing was written", &error.to_string()),
    }
}

/// `POST /plan/waves`: how the servers of the same form are divided when it is sent, and that form again.
pub(crate) async fn preview(view: View, body: Result<Bytes, BytesRejection>) -> Response {
    let form = match Form::read(&view, body) {
        Ok(form) => form,
        Err(problem) => return *problem,
    };
    let prepared = match WavesText::of(&form.params).said() {
        Ok(said) => waves::prepare(&view, form.reason(), &form.intents, form.insistence, &said).await,
        Err(problem) => Err(problem.into()),
    };
    match prepared {
        Ok(prepared) => view.page("Waves", Nav::Servers, &preview::page(&form, &prepared)),
        Err(error) => view.problem(error.status(), "These waves are not possible", &error.to_string()),
    }
}

/// The form of a plan.
struct Form {
    params: Params,
    intents: Vec<Intent>,
    insistence: Insistence,
}

impl Form {
    fn read(view: &View, body: Result<Bytes, BytesRejection>) -> Result<Self, Box<Response>> {
        let invalid = |status, text: &str| Box::new(view.problem(status, "Invalid form", text));
        let body = body.map_err(|refused| invalid(refused.status(), &refused.body_text()))?;
        let params = Params::parse(&body);
        let intents = form::intents(&params).map_err(|error| invalid(StatusCode::BAD_REQUEST, &error.to_string()))?;
        let is_ticked = |name: &str| params.get(name).is_some();
        let insistence = Insistence {
            install: is_ticked("install"),
            new_servers: is_ticked("new_servers"),
            held: is_ticked("held"),
        };
        Ok(Self { params, intents, insistence })
    }

    fn reason(&self) -> &str {
        self.params.get("reason").unwrap_or_default()
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

/// Why nothing is done about a push.
fn not_done(view: &View, error: &NotDone) -> Response {
    let title = if matches!(error, NotDone::NotFound(_)) { "Push not found" } else { "Nothing was written" };
    view.problem(error.status(), title, &error.to_string())
}
