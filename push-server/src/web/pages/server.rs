//! One server: what it should run, what its agent says it runs, and what can be done about it.

use std::collections::BTreeSet;

use axum::{extract::Path, http::StatusCode, response::Response};
use bucket::{AppName, ServerName, UnitStatus};
use maud::{Markup, html};

use super::history::{Where, pushes_table};
use crate::{
    snapshot::Server,
    text::cut,
    web::{
        params::link,
        parts::{ago, app_badge, app_link, badge, condition_badge, lasting, prose, release_or},
        view::{Nav, View},
    },
};
use fleet::{
    condition::{AppRow, Tone, apps, condition, is_behind},
    policy::Role,
};

/// Pushes that are shown.
const PUSHES: usize = 10;

/// `GET /servers/{server}`.
pub(crate) async fn get(view: View, Path(name): Path<String>) -> Response {
    let name: Result<ServerName, _> = name.parse();
    let found = name.ok().and_then(|name| view.snapshot.servers.get(&name).cloned());
    let Some(server) = found else {
        let text = "No document and no report of that name is in the bucket. Perhaps it is misspelt, or new.";
        return view.problem(StatusCode::NOT_FOUND, "There is no such server", text);
    };
    let content = html! {
        header.title {
            h1 { (server.name) }
            div #state data-live { (condition_badge(condition(&server, view.now))) }
            @for group in view.policy.groups_of(&server.name) { span.tag { (group) } }
            (outside(&view, &server))
        }
        div #word data-live { (word(&view, &server)) }
        section aria-labelledby="apps-title" {
            h2 #apps-title { "Apps" }
            div #apps data-live { (table(&view, &server)) }
        }
        section aria-labelledby="pushes-title" {
            h2 #pushes-title { "Pushes" }
            div #pushes data-live {
                @let pushes: Vec<_> = view.snapshot.pushes.iter().filter(|push| push.server == server.name).take(PUSHES).collect();
                @if pushes.is_empty() { p.none { "None lately." } }
                @else { (pushes_table(&view, Where::Here, pushes.into_iter().map(|push| &**push))) }
                p { a href=(link("/history", [("server", server.name.as_str())])) { "Everything that was pushed here" } }
            }
        }
    };
    view.page(server.name.as_str(), Nav::Servers, &content)
}

fn outside(view: &View, server: &Server) -> Markup {
    html! {
        @if let Some(logs) = view.policy.links().logs(&server.name) { a rel="noreferrer" href=(logs) { "Logs" } }
        @if let Some(monitoring) = view.policy.links().monitoring(&server.name) { a rel="noreferrer" href=(monitoring) { "Monitoring" } }
    }
}

fn word(view: &View, server: &Server) -> Markup {
    html! {
        @for error in [&server.document_error, &server.status_error].into_iter().flatten() {
            p.banner.bad { (prose(error)) }
        }
        @match &server.status {
            None => p.lead { "No agent has reported under this name." },
            Some(status) => {
                p.lead { (prose(&status.summary)) }
                p.facts {
                    "Reported " (ago(status.written, view.now))
                    " by pulld " (cut(&status.agent.version, 40)) ", up " (lasting(status.agent.started, view.now))
                    @if is_behind(server) { " · it hasn't said anything of the newest choice yet" }
                }
                @if let Some(error) = &status.document.error { p.banner.bad { "Its document can't be used: " (prose(error)) } }
                @if !status.document.bad_entries.is_empty() {
                    div.banner.notice {
                        p { "Elements of its document that can't be used, and are left alone:" }
                        ul { @for bad in &status.document.bad_entries { li { code { (cut(&bad.entry, 200)) } ": " (prose(&bad.reason)) } } }
                    }
                }
            }
        }
    }
}

fn table(view: &View, server: &Server) -> Markup {
    let rows = apps(server);
    let there: BTreeSet<&str> = rows.iter().map(|row| row.app).collect();
    let named = view.policy.apps_named_for(&server.name);
    let unchosen: Vec<AppName> = named.into_iter().filter(|app| !there.contains(app.as_str())).collect();
    html! {
        @if rows.is_empty() && unchosen.is_empty() {
            p.none { "None. " a href="/apps" { "Choose a release of an app" } " to push one here." }
        } @else {
            table.rows {
                thead {
                    tr {
                        th scope="col" { "App" } th scope="col" { "Should run" } th scope="col" { "Runs" }
                        th scope="col" { "State" } th scope="col" { "Units" } th scope="col" { span.hidden { "Actions" } }
                    }
                }
                tbody {
                    @for row in &rows { (app_row(view, server, row)) }
                    @for app in &unchosen {
                        tr {
                            th scope="row" data-label="App" { (app_link(app.as_str())) }
                            td data-label="Should run" { span.none { "no release chosen" } }
                            td data-label="Runs" { span.none { "nothing" } }
                            td {} td {}
                            td.act { (actions(view, server, app, false)) }
                        }
                    }
                }
            }
        }
    }
}

fn app_row(view: &View, server: &Server, row: &AppRow) -> Markup {
    let dirty = |name| {
        let listed = |name: &bucket::ReleaseName| view.snapshot.apps.get(name.app())?.is_dirty(name);
        Option::<&bucket::ReleaseName>::and_then(name, listed).unwrap_or(false)
    };
    let named: Option<AppName> = row.app.parse().ok();
    html! {
        tr {
            th scope="row" data-label="App" { (app_link(row.app)) }
            td data-label="Should run" {
                (release_or(row.desired, "not in the document"))
                @if dirty(row.desired) { " " (badge(Tone::Notice, "±", "dirty")) }
            }
            td data-label="Runs" {
                @if row.installed.is_some() && row.installed == row.desired { span.same { "the same" } }
                @else { (release_or(row.installed, "nothing")) }
            }
            td.wide data-label="State" {
                (app_badge(row.state))
                @if let Some(app) = row.reported.filter(|app| app.state == row.state) {
                    " " span.facts { "for " (lasting(app.since, view.now)) }
                    @if let Some(reason) = &app.reason { p.reason { (prose(reason)) } }
                    @if !app.drift.is_empty() { ul.drift { @for drift in &app.drift { li { (prose(drift)) } } } }
                }
            }
            td.wide data-label="Units" {
                @let units = row.reported.map(|app| app.units.as_slice()).unwrap_or_default();
                @if units.is_empty() { span.none { "none" } } @else { ul.units { @for unit in units { li { (unit_line(view, unit)) } } } }
            }
            td.act { @if let Some(app) = &named { (actions(view, server, app, row.desired.is_some())) } }
        }
    }
}

fn unit_line(view: &View, unit: &UnitStatus) -> Markup {
    let (tone, symbol) = match unit.active.as_str() {
        "active" => (Tone::Good, "✓"),
        "failed" => (Tone::Bad, "✗"),
        "activating" | "deactivating" | "reloading" => (Tone::Notice, "…"),
        _ => (Tone::Quiet, "–"),
    };
    html! {
        span.unit { (cut(&unit.name, 100)) } " "
        (badge(tone, symbol, &cut(&format!("{} ({})", unit.active, unit.sub), 60)))
        @if let Some(since) = unit.since { " " span.facts { (lasting(since, view.now)) } }
        @if unit.restarts > 0 { " " span.facts { "restarted " (unit.restarts) " ×" } }
    }
}

fn actions(view: &View, server: &Server, app: &AppName, chosen: bool) -> Markup {
    let (name, app_name) = (server.name.as_str(), app.as_str());
    html! {
        @if view.policy.role(&view.who, app, &server.name) >= Role::Deployer {
            a.button href=(link("/choose", [("app", app_name), ("server", name)])) {
                @if chosen { "Change" } @else { "Choose" } span.hidden { " the release of " (app_name) }
            }
            @if chosen {
                " "
                a.button href=(link("/plan", [("rollback", app_name), ("server", name)])) {
                    "Roll back" span.hidden { " " (app_name) }
                }
            }
        }
    }
}
