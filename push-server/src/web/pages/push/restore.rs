//! Undoing the retirement of servers: which documents come back, and the form that restores them.

use axum::{
    http::StatusCode,
    response::{IntoResponse, Redirect, Response},
};
use bucket::ServerName;
use console::count;
use fleet::account::{Account, RowState};
use maud::{Markup, html};

use super::{not_done, page::title};
use crate::web::{
    params::Params,
    parts::{prose, reason_input, server_link},
    retirements,
    shown::Shown,
    view::{Nav, View},
};

/// What the undo of a retirement would do, on all its servers or on some.
pub(super) fn plan(view: &View, shown: &Shown, account: &Account, servers: &[ServerName]) -> Response {
    let rows = account.rows.iter().filter(|row| servers.is_empty() || servers.contains(&row.server.name));
    let (retired, others): (Vec<_>, Vec<_>) = rows.partition(|row| row.state == RowState::Retired);
    let id = &account.push.id;
    let content = html! {
        h1 { "Restore " (count(retired.len(), "server")) }
        p.lead {
            "The push: " a href={ "/pushes/" (id) } { (title(shown)) }
            @if !account.push.why.is_empty() { " — " (prose(&account.push.why)) }
        }
        p { "Each server's document comes back as it was, and with it what its agent installs." }
        @if retired.is_empty() {
            p.lead { "Nothing can be done: none of its servers is retired." }
            p { a.button href={ "/pushes/" (id) } { "Back to the push" } }
        } @else {
            form.push method="post" action={ "/pushes/" (id) "/undo" } {
                ul.units {
                    @for row in &retired {
                        li {
                            label {
                                input type="checkbox" name="server" value=(row.server.name) checked;
                                " " (row.server.name)
                            }
                        }
                    }
                }
                (reason_input("Recorded in the history."))
                div.actions {
                    button.primary type="submit" { "Restore the selected servers" }
                    " "
                    a.button href={ "/pushes/" (id) } { "Cancel" }
                }
            }
        }
        (left_alone(&others.iter().map(|row| &row.server.name).collect::<Vec<_>>()))
    };
    view.page("Undo a push", Nav::History, &content)
}

fn left_alone(servers: &[&ServerName]) -> Markup {
    html! {
        @if !servers.is_empty() {
            h2 { "Left alone" }
            p { (count(servers.len(), "server")) " not retired, or no longer:" }
            ul.units { @for name in servers { li { (server_link(name.as_str())) } } }
        }
    }
}

/// The form of that page.
pub(super) async fn post(view: &View, account: &Account, params: &Params) -> Response {
    let servers: Vec<ServerName> = match params.all("server").map(str::parse).collect::<Result<_, _>>() {
        Ok(servers) => servers,
        Err(error) => {
            return view.problem(StatusCode::BAD_REQUEST, "Invalid form", &bucket::NameError::to_string(&error));
        }
    };
    if servers.is_empty() {
        return view.problem(StatusCode::BAD_REQUEST, "Invalid form", "No server is selected.");
    }
    let reason = params.get("reason").unwrap_or_default();
    let rows = match retirements::restore(view, account, &servers, reason).await {
        Ok(rows) => rows,
        Err(error) => return not_done(view, &error),
    };
    if let Some((status, why)) = retirements::failure(&rows, "restored") {
        let is_nothing = rows.iter().all(|row| row.result.is_err());
        return view.problem(
            status,
            if is_nothing { "Nothing was written" } else { "Not everything was written" },
            &why,
        );
    }
    let push = rows.iter().find_map(|row| row.push.as_ref()).unwrap_or(&account.push.id);
    Redirect::to(&format!("/pushes/{push}")).into_response()
}
