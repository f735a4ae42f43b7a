//! The apps, and one app: its releases, and which servers run which.

use std::{collections::BTreeMap, sync::Arc};

use axum::{extract::Path, http::StatusCode, response::Response};
use bucket::{AppName, ReleaseName, ServerName};
use console::{count, size};
use fleet::{condition::apps, filter::Filter, policy::Role, server::Server};
use maud::{Markup, html};

use super::channels;
use crate::{
    badge::Severity,
    snapshot::{AppReleases, Listed, Mark},
    web::{
        guards::having,
        holds,
        params::{Params, link},
        parts::{
            self, PAGE, ago, app_badge, badge, foreign, pager, prose, release, release_address, release_or, server_link,
        },
        view::{Nav, View},
    },
};

/// `GET /apps`.
pub(crate) async fn list(view: View) -> Response {
    let content = html! {
        h1 { "Apps" }
        div #apps data-live {
            @if view.snapshot.apps.is_empty() {
                div.empty {
                    h2 { "No releases yet" }
                    p { "An app appears here with its first release: " code { "release -m \"first\"" } }
                }
            } @else {
                table.rows {
                    thead {
                        tr {
                            th scope="col" { "App" } th scope="col" { "Latest" } th scope="col" { "Releases" }
                            th scope="col" { "Servers" } th scope="col" { "Outdated" }
                        }
                    }
                    tbody { @for (app, releases) in &view.snapshot.apps { (app_row(&view, app, releases)) } }
                }
            }
        }
    };
    view.page("Apps", Nav::Apps, &content)
}

fn app_row(view: &View, app: &AppName, releases: &AppReleases) -> Markup {
    let latest = releases.latest_but(&view.snapshot.rejected);
    let servers = view.snapshot.servers_with(app).count();
    let behind = latest.as_ref().map_or(0, |latest| {
        view.snapshot
            .servers_with(app)
            .filter(|server| server.desired(app).is_some_and(|name| *name != latest.name))
            .count()
    });
    html! {
        tr {
            th scope="row" data-label="App" { a href={ "/apps/" (app) } { (app) } }
            td.wide data-label="Latest" {
                (release_or(latest.as_ref().map(|latest| &latest.name), "no clean release"))
                @if let Some(latest) = &latest { " " span.facts { (ago(latest.uploaded, view.now)) } }
            }
            td data-label="Releases" { (releases.len()) }
            td data-label="Servers" { a href=(link("/servers", [("q", format!("app:{app}").as_str())])) { (servers) } }
            td data-label="Outdated" { @if behind > 0 { (badge(Severity::Notice, "↑", &behind.to_string())) } @else { "0" } }
        }
    }
}

/// `GET /apps/{app}`.
pub(crate) async fn get(view: View, Path(name): Path<String>, params: Params) -> Response {
    let app: Option<AppName> = name.parse().ok();
    let Some((app, releases)) = app.and_then(|app| Some((app.clone(), view.snapshot.apps.get(&app)?.clone()))) else {
        let text = "No app has this name. Check the spelling.";
        return view.problem(StatusCode::NOT_FOUND, "App not found", text);
    };
    let counts = on_servers(&view, &app);
    let page = params.page();
    let shown: Vec<Listed> = releases.newest().skip((page - 1).saturating_mul(PAGE)).take(PAGE).collect();
    let all = format!("app:{app}");
    let content = html! {
        header.title {
            h1 { (app) }
            a href=(link("/servers", [("q", all.as_str())])) { (count(view.snapshot.servers_with(&app).count(), "server")) }
            @if view.may_push() {
                a.button href=(link("/choose", [("app", app.as_str()), ("q", all.as_str())])) { "Choose a release for all servers" }
            }
        }
        section aria-labelledby="runs-title" {
            h2 #runs-title { "Desired releases" }
            div #runs data-live { (which_where(&view, &app, &releases)) }
        }
        div #channels data-live { (channels::of_app(&view, &app)) }
        div #failed data-live { (failed(&view, &app)) }
        section aria-labelledby="releases-title" {
            h2 #releases-title { "Releases" }
            div #releases data-live {
                (release_table(&view, &releases, &shown, &counts, |listed| {
                    html! { a.button href=(release_address(&listed.name)) { "Details" span.hidden { " of " (listed.name.commit().short()) } } }
                }))
                (pager(&format!("/apps/{app}"), &[], page, releases.len()))
            }
        }
    };
    view.page(app.as_str(), Nav::Apps, &content)
}

/// On how many servers each release of an app is desired.
pub(crate) fn on_servers(view: &View, app: &AppName) -> BTreeMap<ReleaseName, usize> {
    let mut counts = BTreeMap::new();
    for name in view.snapshot.servers_with(app).filter_map(|server| server.desired(app)) {
        *counts.entry(name.clone()).or_default() += 1;
    }
    counts
}

fn which_where(view: &View, app: &AppName, releases: &AppReleases) -> Markup {
    const SHOWN: usize = 8;
    let mut servers: BTreeMap<Option<&ReleaseName>, Vec<&ServerName>> = BTreeMap::new();
    for server in view.snapshot.servers_with(app) {
        servers.entry(server.desired(app)).or_default().push(&server.name);
    }
    html! {
        @if servers.is_empty() { p.none { "No server has this app." } }
        @else {
            table.rows {
                thead { tr { th scope="col" { "Release" } th scope="col" { "Count" } th scope="col" { "Servers" } } }
                tbody {
                    @for (name, names) in servers.iter().rev() {
                        tr {
                            th scope="row" data-label="Release" {
                                (release_or(*name, "not in the document"))
                                @if let Some(name) = name { (not_latest(releases, name)) }
                            }
                            td data-label="Count" { (names.len()) }
                            td.wide data-label="Servers" {
                                @for (n, name) in names.iter().take(SHOWN).enumerate() {
                                    @if n > 0 { ", " } (server_link(name.as_str())) (holds::mark(view, name))
                                }
                                @if names.len() > SHOWN {
                                    @let filter = name.map_or(format!("app:{app}"), |name| format!("app:{app} release:{}", name.stem()));
                                    " and " a href=(link("/servers", [("q", filter.as_str())])) { (names.len() - SHOWN) " more" }
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}

/// Where the app failed, each with why, and a way to try it again there.
fn failed(view: &View, app: &AppName) -> Markup {
    const SHOWN: usize = 20;
    let filter = format!("app:{app} state:failed");
    let found: Vec<&Arc<Server>> = match Filter::parse(&filter) {
        Ok(filter) => {
            view.snapshot.servers_with(app).filter(|server| filter.matches(server, &view.policy, view.now)).collect()
        }
        Err(_) => Vec::new(),
    };
    let row = |server: &&&Arc<Server>| {
        let rows = apps(server);
        let row = rows.iter().find(|row| row.app == app.as_str())?;
        let may = view.policy.role(&view.who, app, &server.name) >= Role::Deployer;
        let (name, reason) = (server.name.as_str(), row.reported.and_then(|app| app.reason.as_deref()));
        Some(html! {
            tr {
                th scope="row" data-label="Server" { (server_link(name)) (holds::mark(view, &server.name)) }
                td.wide data-label="State" { (app_badge(row.state)) @if let Some(reason) = reason { (parts::reason(reason)) } }
                td.act {
                    @if may && row.is_retriable() {
                        a.button href=(link("/plan", [("retry", app.as_str()), ("server", name)])) {
                            "Retry" span.hidden { " on " (name) }
                        }
                    }
                }
            }
        })
    };
    html! {
        @if !found.is_empty() {
            section aria-labelledby="failed-title" {
                h2 #failed-title { "Failed" }
                table.rows {
                    thead { tr { th scope="col" { "Server" } th scope="col" { "State" } th scope="col" { span.hidden { "Actions" } } } }
                    tbody { @for row in found.iter().take(SHOWN).filter_map(|server| row(&server)) { (row) } }
                }
                div.actions {
                    a href=(link("/servers", [("q", filter.as_str())])) { (count(found.len(), "server")) }
                    @if found.len() > 1 && view.may_push() {
                        a.button href=(link("/plan", [("retry", app.as_str()), ("q", filter.as_str())])) { "Retry on all that failed" }
                    }
                }
            }
        }
    }
}

/// How many newer releases there are, if there are any.
pub(crate) fn not_latest(releases: &AppReleases, name: &ReleaseName) -> Markup {
    let newer = releases.newer_than(name);
    let is_latest = releases.latest().is_none_or(|latest| newer <= releases.newer_than(&latest.name));
    html! { @if !is_latest { " " span.facts { "not the latest: " (count(newer, "newer release")) } } }
}

/// That a release is rejected, and how many servers should have it or do all the same.
fn rejected(view: &View, name: &ReleaseName) -> Markup {
    let still = having(view, name).len();
    let text = if still > 0 { format!("rejected, still on {}", count(still, "server")) } else { "rejected".to_owned() };
    badge(Severity::Bad, "⊘", &text)
}

/// Releases in rows; `act` adds the last cell.
pub(crate) fn release_table(
    view: &View,
    releases: &AppReleases,
    shown: &[Listed],
    counts: &BTreeMap<ReleaseName, usize>,
    act: impl Fn(&Listed) -> Markup,
) -> Markup {
    let latest = releases.latest_but(&view.snapshot.rejected).map(|latest| latest.name);
    html! {
        table.rows {
            thead {
                tr {
                    th scope="col" { "Release" } th scope="col" { "Uploaded" } th scope="col" { "Note" }
                    th scope="col" { "Size" } th scope="col" { "On servers" } th scope="col" { span.hidden { "Actions" } }
                }
            }
            tbody {
                @for listed in shown {
                    tr {
                        th scope="row" data-label="Release" {
                            (release(&listed.name))
                            @if latest.as_ref() == Some(&listed.name) { " " (badge(Severity::Good, "★", "latest")) }
                            @if listed.dirty { " " (badge(Severity::Notice, "±", "dirty")) }
                            @if view.snapshot.rejected.contains(&listed.name) { " " (rejected(view, &listed.name)) }
                            @match listed.mark {
                                Some(Mark::FromTheFuture) => { " " (badge(Severity::Notice, "⚠", "wrong time")) }
                                Some(Mark::Adopted) => { " " (badge(Severity::Quiet, "◦", "adopted")) }
                                None => {}
                            }
                            @if let Some(reason) = listed.unusable { p.reason { "Cannot be deployed: " (prose(reason)) } }
                        }
                        td data-label="Uploaded" { (ago(listed.uploaded, view.now)) " from " (foreign(listed.name.host(), 60)) }
                        td.wide data-label="Note" {
                            span.note { (prose(listed.note)) }
                            @if !listed.branch.is_empty() { " " span.tag { (foreign(listed.branch, 60)) } }
                            @if let Some(href) = view.policy.links().commit(listed.repo, listed.commit().as_str()) {
                                " " a rel="noreferrer" href=(href) { "commit" }
                            }
                        }
                        td.size data-label="Size" { (size(listed.size)) }
                        td data-label="On servers" { (counts.get(&listed.name).copied().unwrap_or(0)) }
                        td.act { (act(listed)) }
                    }
                }
            }
        }
    }
}
