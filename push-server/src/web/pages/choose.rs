//! Choosing among the releases of an app, for one server or many.

use axum::{http::StatusCode, response::Response};
use bucket::{AppName, ReleaseName};
use console::count;
use maud::{Markup, html};

use super::apps::{on_servers, release_table};
use crate::{
    badge::Severity,
    snapshot::Listed,
    web::{
        params::{Params, link},
        parts::{PAGE, badge, pager},
        targets::{Targets, filter_of},
        view::{Nav, View},
    },
};

/// `GET /choose`: `app=…`, and `server=…` or `q=FILTER`.
pub(crate) async fn get(view: View, params: Params) -> Response {
    let targets = match Targets::of(&view, &params) {
        Ok(targets) => targets,
        Err(wrong) => return view.problem(StatusCode::BAD_REQUEST, "Invalid request", &wrong.to_string()),
    };
    if targets.len() == 0 {
        let text = "Select servers, or choose for all servers that match a filter.";
        return view.problem(StatusCode::BAD_REQUEST, "No server selected", text);
    }
    match params.get("app") {
        None => which_app(&view, &params, &targets),
        Some(app) => match app.parse() {
            Ok(app) => which_release(&view, &params, &targets, &app),
            Err(error) => view.problem(StatusCode::BAD_REQUEST, "Invalid app name", &format!("{error}")),
        },
    }
}

/// What the address says of the servers, for the next address.
fn carried(params: &Params) -> Vec<(&str, &str)> {
    let servers = params.all("server").map(|name| ("server", name));
    servers.chain(filter_of(params).map(|text| ("q", text))).collect()
}

fn which_app(view: &View, params: &Params, targets: &Targets) -> Response {
    let rows = view.snapshot.apps.iter().map(|(app, releases)| {
        let on = targets.servers.iter().filter(|server| server.desired(app).is_some()).count();
        (app, releases, on)
    });
    let mut rows: Vec<_> = rows.collect();
    rows.sort_by_key(|(app, _, on)| (std::cmp::Reverse(*on), (*app).clone()));
    let content = html! {
        h1 { "Choose an app for " (targets.summary()) }
        table.rows {
            thead { tr { th scope="col" { "App" } th scope="col" { "On these servers" } th scope="col" { "Releases" } } }
            tbody {
                @for (app, releases, on) in rows {
                    tr {
                        th scope="row" data-label="App" {
                            a href=(link("/choose", [("app", app.as_str())].into_iter().chain(carried(params)))) { (app) }
                        }
                        td data-label="On these servers" { (on) " of " (targets.len()) }
                        td data-label="Releases" { (releases.len()) }
                    }
                }
            }
        }
    };
    view.page("Choose an app", Nav::Servers, &content)
}

fn which_release(view: &View, params: &Params, targets: &Targets, app: &AppName) -> Response {
    let Some(releases) = view.snapshot.apps.get(app) else {
        let text = format!("`{app}` has no releases yet. Build one with `release`.");
        return view.problem(StatusCode::NOT_FOUND, "No releases", &text);
    };
    let words: Vec<String> = params.get("find").unwrap_or_default().split_whitespace().map(str::to_owned).collect();
    let page = params.page();
    let total = if words.is_empty() { releases.len() } else { releases.found(&words).count() };
    let shown: Vec<Listed> = releases.found(&words).skip((page - 1).saturating_mul(PAGE)).take(PAGE).collect();
    let counts = on_servers(view, app);
    let found = params.get("find").unwrap_or_default();
    let carried = carried(params);
    let here: Vec<(&str, &str)> = [("app", app.as_str()), ("find", found)]
        .into_iter()
        .filter(|(_, value)| !value.is_empty())
        .chain(carried.iter().copied())
        .collect();
    let content = html! {
        h1 { "Choose a release of " (app) " for " (targets.summary()) }
        form.search method="get" action="/choose" role="search" {
            label for="find" { "Find" }
            input #find type="search" name="find" value=(found) autocomplete="off" spellcheck="false" data-filter;
            input type="hidden" name="app" value=(app);
            @for (key, value) in &carried { input type="hidden" name=(key) value=(value); }
            button type="submit" { "Find" }
        }
        div #releases data-live {
            p.summary { (count(total, "release")) @if !words.is_empty() { " of " (releases.len()) } }
            @if shown.is_empty() { p.none { "No matching releases." } }
            @else {
                (release_table(view, releases, &shown, &counts, |listed| {
                    choice(view, targets, listed, &carried)
                }))
            }
            (pager("/choose", &here, page, total))
        }
    };
    view.page(&format!("Choose a release of {app}"), Nav::Servers, &content)
}

fn choice(view: &View, targets: &Targets, listed: &Listed, carried: &[(&str, &str)]) -> Markup {
    let app = listed.name.app();
    let runs = |name: Option<&ReleaseName>| name == Some(&listed.name);
    let desired = targets.servers.iter().filter(|server| runs(server.desired(app))).count();
    let before = targets.len() == 1
        && view
            .snapshot
            .pushes
            .iter()
            .any(|push| targets.names().next() == Some(&push.server) && push.from.as_ref() == Some(&listed.name));
    html! {
        @if desired == targets.len() { (badge(Severity::Good, "●", "here now")) }
        @else {
            @if desired > 0 { (badge(Severity::Quiet, "●", &format!("on {desired} of {}", targets.len()))) " " }
            @else if before { (badge(Severity::Quiet, "↩", "previously here")) " " }
            @if listed.unusable.is_none() && !view.snapshot.rejected.contains(&listed.name) {
                a.button href=(link("/plan", [("release", listed.name.stem())].into_iter().chain(carried.iter().copied()))) {
                    "Plan" span.hidden { " " (listed.name.commit().short()) }
                }
            }
        }
    }
}
