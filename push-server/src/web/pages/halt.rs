//! The halt of all pushes: whether there is one, and how an admin begins and ends it.

use axum::{
    body::Bytes,
    extract::rejection::BytesRejection,
    response::{IntoResponse, Redirect, Response},
};
use fleet::{guard::may_halt, policy::Role};
use maud::{Markup, html};

use crate::web::{
    guards::{self, NotDecided},
    params::Params,
    parts::{ago, foreign, prose, reason_input},
    view::{Nav, View},
};

/// `GET /halt`.
pub(crate) async fn get(view: View) -> Response {
    let content = html! {
        h1 { "Halt" }
        p.lead {
            "A halt keeps everybody from deploying and retrying anywhere, until it is lifted. A push that is under way stops within \
             seconds; undo and rollback work."
        }
        (state(&view))
    };
    view.page("Halt", Nav::None, &content)
}

fn state(view: &View) -> Markup {
    let is_admin = view.policy.highest_role(&view.who) >= Role::Admin;
    html! {
        @match &view.snapshot.halt {
            Some(halt) => {
                p { (foreign(&halt.by, 80)) " halted all pushes " (ago(halt.at, view.now)) ": " (prose(&halt.why)) }
                @if is_admin {
                    form.push method="post" action="/halt/lift" { button.primary type="submit" { "Lift the halt" } }
                }
            },
            None => {
                p { "Pushes are not halted." }
                @if is_admin {
                    form.push method="post" action="/halt" {
                        (reason_input("Shown on every page, and to everybody who would push."))
                        div.actions { button.primary type="submit" { "Halt all pushes" } }
                    }
                }
            }
        }
        @if let Err(refusal) = may_halt(&view.policy, &view.who) { p.facts { (prose(&refusal.to_string())) } }
    }
}

/// `POST /halt`.
pub(crate) async fn begin(view: View, body: Result<Bytes, BytesRejection>) -> Response {
    let form = match body {
        Ok(body) => Params::parse(&body),
        Err(refused) => return view.problem(refused.status(), "Invalid form", &refused.body_text()),
    };
    answer(&view, guards::halt(&view, form.get("reason").unwrap_or_default()).await)
}

/// `POST /halt/lift`.
pub(crate) async fn lift(view: View) -> Response {
    answer(&view, guards::lift(&view).await)
}

fn answer(view: &View, decided: Result<(), NotDecided>) -> Response {
    match decided {
        Ok(()) => Redirect::to("/halt").into_response(),
        Err(error) => view.problem(error.status(), "Nothing was changed", &error.to_string()),
    }
}
