//! What undoing a push or trying it again would do, before anything is written; and the forms that do something about a push.

use std::collections::BTreeSet;

use axum::{
    body::Bytes,
    extract::{Path, rejection::BytesRejection},
    http::StatusCode,
    response::{IntoResponse, Redirect, Response},
};
use bucket::{NameError, ServerName};
use console::count;
use fleet::{account::Account, history::about, proposed::Proposed, rollout::decide::Decision};
use maud::{Markup, html};

use super::{not_done, page::title, restore};
use crate::web::{
    accept,
    form::target_value,
    pages::plan::{
        Part, Planned, judged,
        page::{held_box, others, table},
        reason_of,
    },
    params::Params,
    parts::prose,
    redo::{self, Asked, NotDone},
    retirements, rollouts,
    shown::Shown,
    view::{Nav, View},
};

/// `GET /pushes/{id}/undo`: of all its servers, or of each `server=…`.
pub(crate) async fn undo(view: View, Path(id): Path<String>, params: Params) -> Response {
    plan(&view, &id, Asked::Undo, &params).await
}

/// `GET /pushes/{id}/retry`.
pub(crate) async fn retry(view: View, Path(id): Path<String>, params: Params) -> Response {
    plan(&view, &id, Asked::Retry, &params).await
}

/// `POST /pushes/{id}/undo`: the form of that page.
pub(crate) async fn post_undo(view: View, id: Path<String>, body: Result<Bytes, BytesRejection>) -> Response {
    post(&view, id, Asked::Undo, body).await
}

/// `POST /pushes/{id}/retry`: the form of that page.
pub(crate) async fn post_retry(view: View, id: Path<String>, body: Result<Bytes, BytesRejection>) -> Response {
    post(&view, id, Asked::Retry, body).await
}

/// `POST /pushes/{id}/continue`.
pub(crate) async fn carry_on(view: View, Path(id): Path<String>) -> Response {
    match redo::carry_on(&view, &id, "").await {
        Ok(job) => Redirect::to(&format!("/pushes/{}", job.id)).into_response(),
        Err(error) => not_done(&view, &error),
    }
}

/// `POST /pushes/{id}/stop`.
pub(crate) async fn stop(view: View, Path(id): Path<String>) -> Response {
    match redo::stop(&view, &id).await {
        Ok((id, _)) => Redirect::to(&format!("/pushes/{id}")).into_response(),
        Err(error) => not_done(&view, &error),
    }
}

/// `POST /pushes/{id}/rollout`: `decision`, `reason`, and `max_down` of one that goes on.
pub(crate) async fn decide(view: View, Path(id): Path<String>, body: Result<Bytes, BytesRejection>) -> Response {
    let params = match body {
        Ok(body) => Params::parse(&body),
        Err(refused) => return view.problem(refused.status(), "Invalid form", &refused.body_text()),
    };
    let decision = match params.get("decision").unwrap_or_default().parse() {
        Ok(Decision::Continue) => rollouts::going_on(params.get("max_down")),
        decision => decision,
    };
    let decision = match decision {
        Ok(decision) => decision,
        Err(error) => return view.problem(StatusCode::BAD_REQUEST, "Invalid form", &error),
    };
    match rollouts::decide(&view, &id, decision, params.get("reason").unwrap_or_default()).await {
        Ok(rollout) => Redirect::to(&format!("/pushes/{}", rollout.id)).into_response(),
        Err(error) => view.problem(error.status(), "Nothing was decided", &error.to_string()),
    }
}

async fn plan(view: &View, id: &str, asked: Asked, params: &Params) -> Response {
    let servers: Result<Vec<ServerName>, NameError> = params.all("server").map(str::parse).collect();
    let servers = match servers {
        Ok(servers) => servers,
        Err(error) => return view.problem(StatusCode::BAD_REQUEST, "Invalid server name", &error.to_string()),
    };
    let found = match redo::find(view, id).await {
        Ok((shown, account)) if asked == Asked::Undo && retirements::is_retirement(&account) => {
            return restore::plan(view, &shown, &account, &servers);
        }
        found => found,
    };
    match propose(view, found, asked, &servers).await {
        Ok((shown, proposed)) => {
            let content = content(view, &shown, asked, &proposed, "", false);
            view.page(heading(asked), Nav::History, &content)
        }
        Err(error) => not_done(view, &error),
    }
}

async fn propose(
    view: &View,
    found: Result<(Shown, Account), NotDone>,
    asked: Asked,
    servers: &[ServerName],
) -> Result<(Shown, Vec<Proposed>), NotDone> {
    let (shown, account) = found?;
    let proposed = redo::propose(view, &account, asked, servers).await?;
    Ok((shown, proposed))
}

async fn post(view: &View, Path(id): Path<String>, asked: Asked, body: Result<Bytes, BytesRejection>) -> Response {
    let params = match body {
        Ok(body) => Params::parse(&body),
        Err(refused) => return view.problem(refused.status(), "Invalid form", &refused.body_text()),
    };
    let found = match redo::find(view, &id).await {
        Ok((_, account)) if asked == Asked::Undo && retirements::is_retirement(&account) => {
            return restore::post(view, &account, &params).await;
        }
        found => found,
    };
    // Of servers that the operator has put on hold, if that box is ticked.
    let is_held = params.get("held").is_some();
    let on_hold = params.all("held_target").filter(|_| is_held);
    let targets: BTreeSet<String> = params.all("target").chain(on_hold).map(str::to_owned).collect();
    let servers = targets.iter().map(|target| target.split(' ').next().unwrap_or_default().parse());
    let servers: Vec<ServerName> = match servers.collect::<Result<Vec<_>, NameError>>() {
        Ok(servers) if !servers.is_empty() => servers,
        Ok(_) => return view.problem(StatusCode::BAD_REQUEST, "Invalid form", "no server specified"),
        Err(error) => return view.problem(StatusCode::BAD_REQUEST, "Invalid form", &error.to_string()),
    };
    let (shown, proposed) = match propose(view, found, asked, &servers).await {
        Ok(found) => found,
        Err(error) => return not_done(view, &error),
    };
    let reason = params.get("reason").unwrap_or_default();
    let now: BTreeSet<String> = proposed
        .iter()
        .filter_map(|proposed| proposed.proposal.as_ref().ok())
        .map(|(proposal, _)| target_value(proposal))
        .collect();
    if now != targets {
        let content = content(view, &shown, asked, &proposed, reason, true);
        return (StatusCode::CONFLICT, view.page(heading(asked), Nav::History, &content)).into_response();
    }
    let kind = asked.kind();
    let intents = proposed.into_iter().filter_map(|proposed| proposed.into_intent(&kind).ok()).collect();
    match accept::accept_of(view, reason, &shown.push().id, intents, is_held).await {
        Ok(job) => Redirect::to(&format!("/pushes/{}", job.id)).into_response(),
        Err(error) => not_done(view, &error.into()),
    }
}

fn heading(asked: Asked) -> &'static str {
    match asked {
        Asked::Undo => "Undo a push",
        Asked::Retry => "Retry a push",
    }
}

/// The plan, and the form that carries it out.
fn content(view: &View, shown: &Shown, asked: Asked, proposed: &[Proposed], reason: &str, is_other: bool) -> Markup {
    let planned: Vec<Planned> =
        proposed.iter().map(|proposed| judged(view, proposed, &asked.kind(), reason_of(None))).collect();
    let of = |part: Part| planned.iter().filter(|planned| planned.part() == part).collect::<Vec<_>>();
    let (going, held, left_out) = (of(Part::Change), of(Part::Held), of(Part::Impossible));
    let needs_reason = going.iter().chain(&held).any(|planned| view.policy.requires_reason(&planned.server));
    let (id, verb) = (&shown.push().id, if asked == Asked::Undo { "Undo" } else { "Retry" });
    html! {
        h1 { (verb) " push of " (about(shown.push().app.as_ref())) " on " (count(planned.len(), "server")) }
        p.lead { "The push: " a href={ "/pushes/" (id) } { (title(shown)) } @if !shown.push().why.is_empty() { " — " (prose(&shown.push().why)) } }
        @if is_other {
            p.banner.bad role="alert" { "Nothing was written: what it would do has changed since you saw it. This is what it would do now." }
        }
        @if going.is_empty() && held.is_empty() {
            (others(&left_out, &of(Part::Same)))
            p.lead { "Nothing can be done." }
            p { a.button href={ "/pushes/" (id) } { "Back to the push" } }
        } @else {
            form.push method="post" action={ "/pushes/" (id) (if asked == Asked::Undo { "/undo" } else { "/retry" }) } {
                @if !going.is_empty() { (table(view, &going, "target")) }
                @if !held.is_empty() {
                    h2 { "On hold by you: " (count(held.len(), "server")) }
                    (table(view, &held, "held_target"))
                }
                (others(&left_out, &of(Part::Same)))
                label for="reason" { "Reason" @if !needs_reason { " (optional)" } }
                input #reason type="text" name="reason" value=(reason) maxlength="500" autocomplete="off" required[needs_reason]
                    aria-describedby="reason-help";
                p #reason-help.help { "Recorded in the history." }
                @if !held.is_empty() { (held_box(&held, going.is_empty())) }
                div.actions {
                    button.primary type="submit" {
                        (verb) " on " span data-ticked { @if going.len() + held.len() == 1 { "1 server" } @else { "the selected servers" } }
                    }
                    " "
                    a.button href={ "/pushes/" (id) } { "Cancel" }
                }
            }
        }
    }
}
