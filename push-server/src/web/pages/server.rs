//! One server: what it should run, what its agent says it runs, and what can be done about it.

use std::collections::BTreeSet;

use axum::{extract::Path, http::StatusCode, response::Response};
use bucket::{AppName, ServerName, UnitStatus};
use console::{count, cut};
use maud::{Markup, html};

use fleet::{
    condition::{AppRow, apps, condition, is_behind},
    policy::Role,
    server::{Reading, Server},
};

use super::{history::entries_table, retire::retire_link, servers::reason_of};
use crate::{
    badge::Severity,
    web::{
        channels::followed,
        holds,
        params::link,
        parts::{self, ago, app_badge, app_link, badge, condition_badge, foreign, lasting, prose, release_or},
        view::{Nav, View},
    },
};

/// Pushes that are shown.
const PUSHES: usize = 10;

/// `GET /servers/{server}`.
pub(crate) async fn get(view: View, Path(name): Path<String>) -> Response {
    let name: Result<ServerName, _> = name.parse();
    let found = name.ok().and_then(|name| view.snapshot.servers.get(&name).cloned());
    let Some(server) = found else {
        let text =
            "No document and no report in the bucket has this name. Check the spelling; the server may also be new.";
        return view.problem(StatusCode::NOT_FOUND, "Server not found", text);
    };
    let content = html! {
        header.title {
            h1 { (server.name) }
            div #state data-live { (condition_badge(condition(&server, view.now))) }
            @for group in view.policy.groups_of(&server.name) { span.tag { (group) } }
            a href=(link("/compare", [("left", server.name.as_str())])) { "Compare with other servers" }
            (outside(&view, &server))
            (retire_link(&view, &server))
        }
        div #holds data-live { (holds::section(&view, &server)) }
        div #report data-live { (report(&view, &server)) }
        section aria-labelledby="apps-title" {
            h2 #apps-title { "Apps" }
            div #apps data-live { (table(&view, &server)) }
        }
        section aria-labelledby="pushes-title" {
            h2 #pushes-title { "Pushes" }
            div #pushes data-live {
                @let pushes: Vec<_> = view.snapshot.pushes.iter().filter(|push| push.server == server.name).take(PUSHES).collect();
                @if pushes.is_empty() { p.none { "No recent pushes." } }
                @else { (entries_table(&view, pushes.into_iter().map(|push| &**push))) }
                p { a href=(link("/history", [("server", server.name.as_str())])) { "All pushes to this server" } }
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

fn report(view: &View, server: &Server) -> Markup {
    html! {
        @for error in server.errors() {
            p.banner.bad { (prose(error)) }
        }
        @match &server.status {
            Reading::Unreadable(_) => {}
            Reading::Absent => p.lead { "No agent has reported under this name." },
            Reading::Known(status) => {
                // A summary begins with a number of apps and ends with that of a generation: what is wrong comes first.
                @match reason_of(server, view.now) {
                    Some(reason) => p.lead { (prose(&reason)) },
                    None => p.lead { "It runs what its document says." },
                }
                p.facts {
                    (prose(&status.summary)) " · Reported " (ago(status.written, view.now))
                    " by pulld " (foreign(&status.agent.version, 40)) ", up for " (lasting(status.agent.started, view.now))
                    @if is_behind(server) { " · has not picked up the latest push yet" }
                }
                @if let Some(error) = &status.document.error { p.banner.bad { "Unusable document: " (prose(error)) } }
                @if !status.document.bad_entries.is_empty() {
                    div.banner.notice {
                        p { "Ignored document entries:" }
                        ul {
                            @for bad in &status.document.bad_entries { li { code { (foreign(&bad.entry, 200)) } ": " (prose(&bad.reason)) } }
                            @let more = status.document.bad_count() - status.document.bad_entries.len();
                            @if more > 0 { li { "and " (count(more, "more entry")) } }
                        }
                    }
                }
                @if !status.warnings.is_empty() {
                    div.banner.notice {
                        p { "Warnings of the agent:" }
                        ul { @for warning in &status.warnings { li { (prose(warning)) } } }
                    }
                }
                @if !status.events.is_empty() {
                    div.banner.notice {
                        p { "What happened on the server:" }
                        ul { @for event in status.events.iter().rev() { li { (ago(event.at, view.now)) ": " (prose(&event.text)) } } }
                    }
                }
            }
        }
    }
}

fn table(view: &View, server: &Server) -> Markup {
    let rows = apps(server);
    let known: BTreeSet<&str> = rows.iter().map(|row| row.app).collect();
    let named = view.policy.apps_named_for(&server.name);
    let unchosen: Vec<AppName> = named.into_iter().filter(|app| !known.contains(app.as_str())).collect();
    html! {
        @if rows.is_empty() && unchosen.is_empty() {
            p.none { "No apps. " a href="/apps" { "Choose a release of an app" } " to push it to this server." }
        } @else {
            table.rows {
                thead {
                    tr {
                        th scope="col" { "App" } th scope="col" { "Desired" } th scope="col" { "Installed" }
                        th scope="col" { "State" } th scope="col" { "Units" } th scope="col" { span.hidden { "Actions" } }
                    }
                }
                tbody {
                    @for row in &rows { (app_row(view, server, row)) }
                    @for app in &unchosen {
                        tr {
                            th scope="row" data-label="App" { (app_link(app.as_str())) }
                            td data-label="Desired" { span.none { "no release chosen" } }
                            td data-label="Installed" { span.none { "nothing" } }
                            td {} td {}
                            td.act { (actions(view, server, app, None)) }
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
            th scope="row" data-label="App" { (app_link(row.app)) (followed(view, server, row.app)) }
            td data-label="Desired" {
                (release_or(row.desired, "not in the document"))
                @if dirty(row.desired) { " " (badge(Severity::Notice, "±", "dirty")) }
            }
            td data-label="Installed" {
                @if row.installed.is_some() && row.installed == row.desired { span.same { "same" } }
                @else { (release_or(row.installed, "nothing")) }
            }
            td.wide data-label="State" {
                (app_badge(row.state))
                @if let Some(app) = row.reported.filter(|app| app.state == row.state) {
                    " " span.facts {
                        "for " (lasting(app.since, view.now))
                        @if let Some(activity) = app.activity {
                            ", " (activity)
                            @if let Some(since) = app.activity_since { " for " (lasting(since, view.now)) }
                        }
                    }
                    @if let Some(reason) = &app.reason { (parts::reason(reason)) }
                    @if !app.drift.is_empty() { ul.drift { @for drift in &app.drift { li { (prose(drift)) } } } }
                }
            }
            td.wide data-label="Units" {
                @let units = row.reported.map(|app| app.units.as_slice()).unwrap_or_default();
                @if units.is_empty() { span.none { "none" } } @else { ul.units { @for unit in units { li { (unit_line(view, unit)) } } } }
            }
            td.act { @if let Some(app) = &named { (actions(view, server, app, Some(row))) } }
        }
    }
}

fn unit_line(view: &View, unit: &UnitStatus) -> Markup {
    let (severity, symbol) = match unit.active.as_str() {
        "active" => (Severity::Good, "✓"),
        "failed" => (Severity::Bad, "✗"),
        "activating" | "deactivating" | "reloading" => (Severity::Notice, "…"),
        _ => (Severity::Quiet, "–"),
    };
    html! {
        span.unit { (foreign(&unit.name, 100)) } " "
        (badge(severity, symbol, &cut(&format!("{} ({})", unit.active, unit.sub), 60)))
        @if let Some(since) = unit.since { " " span.facts { (lasting(since, view.now)) } }
        @if unit.restarts > 0 {
            " " span.facts { "restarted " (count(usize::try_from(unit.restarts).unwrap_or(usize::MAX), "time")) }
        }
    }
}

fn actions(view: &View, server: &Server, app: &AppName, row: Option<&AppRow>) -> Markup {
    let (name, app_name) = (server.name.as_str(), app.as_str());
    let chosen = row.is_some_and(|row| row.desired.is_some());
    html! {
        @if view.policy.role(&view.who, app, &server.name) >= Role::Deployer {
            @if row.is_some_and(AppRow::is_retriable) {
                a.button href=(link("/plan", [("retry", app_name), ("server", name)])) {
                    "Retry" span.hidden { " " (app_name) }
                }
                " "
            }
            a.button href=(link("/choose", [("app", app_name), ("server", name)])) {
                @if chosen { "Change" } @else { "Choose" } span.hidden { " the release of " (app_name) }
            }
            @if chosen {
                " "
                a.button href=(link("/plan", [("rollback", app_name), ("server", name)])) {
                    "Roll back" span.hidden { " " (app_name) }
                }
                " "
                a.button href=(link("/plan", [("remove", app_name), ("server", name)])) {
                    "Remove" span.hidden { " " (app_name) }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use crate::web::testing::{body, web};

    /// A report of apps that stay as they are for reasons of the server's own, in the words of pulld.
    fn report(server: &str) -> Value {
        let now = bucket::Timestamp::now();
        let release =
            |app: &str, n: u8| format!("{app}/{app}:dev@build-1:2026-11-20T19:05:{n:02}Z:{:040x}.deb", u32::from(n));
        let app = |app: &str, state: &str, reason: &str| {
            json!({
                "app": app, "desired": release(app, 7), "installed": release(app, 6), "package": app, "state": state,
                "since": now, "reason": reason,
                "units": [{"name": format!("{app}.service"), "active": "active", "sub": "running", "restarts": 4}],
            })
        };
        json!({
            "server": server, "machine": server, "written": now, "state": "unstable", "summary": "",
            "agent": { "version": "1", "started": now, "poll_seconds": 300, "heartbeat_seconds": 900 },
            "document": { "generation": null, "error": null },
            "apps": [
                app("api", "apt-held", "the package `api` is on hold on this server, which `apt-mark unhold api` there ends"),
                app(
                    "web",
                    "unstable",
                    "`web.service` was restarted by systemd 4 times within the last hour (exit status 3)\n\
                     the journal of `web.service` ends with:\n  no such table: <users>"
                ),
                app(
                    "db",
                    "paused",
                    "rolled back to `db:1` by anna at 2026-11-20T19:05:02Z (orders are lost); left alone until \
                     2026-11-20T21:05:02Z"
                ),
            ],
            "events": [{ "at": now, "app": "web", "text": "`web` was changed by hand to `web:1` at 2026-11-20T14:02:00Z; \
                         installing `web:2` as the server document says" }],
        })
    }

    #[tokio::test]
    async fn what_keeps_an_app_as_it_is_on_its_server_is_shown_with_who_why_and_until_when() {
        let (_directory, web) = web().await;
        let status = serde_json::from_value(report("web-1")).unwrap();
        web.refresher.bucket().write_status(&status, None).await.unwrap();
        web.refresher.refresh_servers(&["web-1".parse().unwrap()]).await;
        let page = body(&web, "viewer", "/servers/web-1").await;
        for said in [
            "held by apt",
            "apt-mark unhold api",
            "unstable",
            "4 times within the last hour (exit status 3)",
            "no such table: &lt;users&gt;",
            "restarted 4 times",
            "paused",
            "by anna at ",
            "(orders are lost); left alone until ",
            "What happened on the server:",
            " was changed by hand to ",
        ] {
            assert!(page.contains(said), "{said}: {page}");
        }
        for (filter, app) in [("apt-held", "api"), ("unstable", "web"), ("paused", "db")] {
            let found = body(&web, "viewer", &format!("/servers?q=app:{app}+state:{filter}")).await;
            assert!(found.contains("/servers/web-1"), "{filter}: {found}");
        }
        let told: Value = serde_json::from_str(&body(&web, "viewer", "/api/v1/servers/web-1").await).unwrap();
        for said in ["apt-held", "unstable", "paused", "orders are lost", "no such table: <users>"] {
            assert!(told.to_string().contains(said), "{said}: {told:#}");
        }
    }
}
