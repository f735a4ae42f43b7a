//! What was pushed: by whom, where, from which release to which, when, for what reason, and the outcome.

use axum::{http::StatusCode, response::Response};
use bucket::{AppState, HistoryEntry, ReleaseName, ServerName};
use console::count;
use maud::{Markup, html};

use fleet::{condition::apps, history::about, policy::Role, rollback::with_told};

use super::recent::pushes_table;
use crate::{
    badge::Severity,
    snapshot::{RecentPush, push_of},
    web::{
        compare::compare_link,
        params::{Params, link},
        parts::{ago, app_badge, app_link, badge, foreign, kind_tags, page_of, pager, prose, release_or, server_link},
        view::{Nav, View},
    },
};

/// As far back as a server's history is shown.
const MAX_DEPTH: usize = 300;

/// `GET /history`.
pub(crate) async fn get(view: View, params: Params) -> Response {
    let server: Option<ServerName> = match params.get("server").map(str::parse).transpose() {
        Ok(server) => server,
        Err(error) => return view.problem(StatusCode::BAD_REQUEST, "Invalid server name", &error.to_string()),
    };
    let text = params.get("q").unwrap_or_default();
    let (total, table) = match &server {
        None => of_all(&view, text, params.page()),
        Some(server) => match recent(&view, Some(server)).await {
            Ok(entries) => of_one(&view, &entries, text, params.page()),
            Err(error) => {
                return view.problem(StatusCode::SERVICE_UNAVAILABLE, "History unreadable", &error.to_string());
            }
        },
    };
    let name = server.as_ref().map(ServerName::as_str).unwrap_or_default();
    let content = html! {
        h1 { "History" @if let Some(server) = &server { " of " (server_link(server.as_str())) } }
        form.search method="get" action="/history" role="search" {
            label for="q" { "Find" }
            input #q type="search" name="q" value=(text) autocomplete="off" spellcheck="false" data-filter aria-describedby="q-help";
            @if !name.is_empty() { input type="hidden" name="server" value=(name); }
            button type="submit" { "Find" }
            p #q-help.help {
                "Part of a server or app name, a commit, an operator, or a reason. "
                @if server.is_none() { "These are the most recent pushes; a server's page links to all pushes to that server." }
            }
        }
        div #history data-live {
            p.summary { (count(total, "push")) }
            @if let Some(table) = table { (table) } @else { p.none { "No matching pushes." } }
            @let pairs: Vec<_> = [("q", text), ("server", name)].into_iter().filter(|(_, value)| !value.is_empty()).collect();
            (pager("/history", &pairs, params.page(), total))
        }
    };
    view.page("History", Nav::History, &content)
}

/// The number of the last pushes that mention a text, and one page of them, if it has any.
fn of_all(view: &View, text: &str, page: usize) -> (usize, Option<Markup>) {
    let matching: Vec<&RecentPush> =
        view.snapshot.recent.iter().map(|push| &**push).filter(|push| push.mentions(text)).collect();
    let total = matching.len();
    let shown = page_of(matching.into_iter(), page);
    (total, (!shown.is_empty()).then(|| pushes_table(view, shown.into_iter())))
}

/// The same of what was pushed to one server.
fn of_one(view: &View, entries: &[HistoryEntry], text: &str, page: usize) -> (usize, Option<Markup>) {
    let matching: Vec<&HistoryEntry> = entries.iter().filter(|push| mentions(push, text)).collect();
    let total = matching.len();
    let shown = page_of(matching.into_iter(), page);
    (total, (!shown.is_empty()).then(|| entries_table(view, shown.into_iter())))
}

/// The last pushes of all, or, from the bucket itself, of one server; newest first.
pub(crate) async fn recent(view: &View, server: Option<&ServerName>) -> Result<Vec<HistoryEntry>, bucket::Error> {
    match server {
        Some(server) => {
            let newest = view.web.refresher.bucket().newest_history(server, MAX_DEPTH).await?;
            Ok(match view.server(server).document.known() {
                Some((generation, document)) => with_told(newest, server, *generation, document),
                None => newest,
            })
        }
        None => Ok(view.snapshot.pushes.iter().map(|push| (**push).clone()).collect()),
    }
}

fn mentions(push: &HistoryEntry, text: &str) -> bool {
    let text = text.to_lowercase();
    let stem = push.to.as_ref().map(ReleaseName::stem).unwrap_or_default();
    [push.server.as_str(), stem, &push.who, &push.why].iter().any(|field| field.to_lowercase().contains(&text))
}

/// What was pushed to one server, newest first.
pub(crate) fn entries_table<'a>(view: &View, entries: impl Iterator<Item = &'a HistoryEntry>) -> Markup {
    html! {
        table.rows {
            thead {
                tr {
                    th scope="col" { "When" } th scope="col" { "App" } th scope="col" { "From → to" }
                    th scope="col" { "By, reason" } th scope="col" { "Outcome" } th scope="col" { span.hidden { "Actions" } }
                }
            }
            tbody { @for entry in entries { (row(view, entry)) } }
        }
    }
}

fn row(view: &View, push: &HistoryEntry) -> Markup {
    html! {
        tr {
            td data-label="When" { a href={ "/pushes/" (push_of(push)) } { (ago(push.time, view.now)) } }
            td data-label="App" { @match &push.app { Some(app) => (app_link(app.as_str())), None => (about(None)) } }
            td.wide data-label="From → to" {
                (release_or(push.from.as_ref(), "nothing")) " → " (release_or(push.to.as_ref(), "nothing"))
                (compare_link(view, push.from.as_ref(), push.to.as_ref()))
                (kind_tags(&push.kind, push.without_waves))
            }
            td.wide data-label="By, reason" {
                (foreign(&push.who, 80)) @if !push.why.is_empty() { p.reason { (prose(&push.why)) } }
            }
            td data-label="Outcome" { (outcome(view, push)) }
            td.act {
                @if let Some(undo) = undo(view, push) {
                    a.button href=(undo) { "Undo" span.hidden { " the push of " (about(push.app.as_ref())) " to " (push.server) } }
                }
            }
        }
    }
}

/// The outcome of a push, as far as the agent reported it: its report is about the release that is desired now.
fn outcome(view: &View, push: &HistoryEntry) -> Markup {
    if !is_in_force(view, push) {
        return badge(Severity::Quiet, "–", "superseded");
    }
    let server = &view.snapshot.servers[&push.server];
    let app = push.app.as_ref().map(bucket::AppName::as_str);
    let state = apps(server).into_iter().find(|row| Some(row.app) == app).map(|row| row.state);
    app_badge(state.unwrap_or(AppState::Pending))
}

/// Whether the server's document names this release because of this push.
fn is_in_force(view: &View, push: &HistoryEntry) -> bool {
    let server = view.snapshot.servers.get(&push.server);
    let named =
        server.is_some_and(|server| push.app.as_ref().is_some_and(|app| server.desired(app) == push.to.as_ref()));
    let newer = |other: &HistoryEntry| {
        other.server == push.server && other.app == push.app && other.generation > push.generation
    };
    named && !view.snapshot.pushes.iter().any(|other| newer(other))
}

/// Where the push is undone, if it can be by this operator.
fn undo(view: &View, push: &HistoryEntry) -> Option<String> {
    let may = view.policy.role(&view.who, push.app.as_ref()?, &push.server) >= Role::Deployer;
    (may && push.from != push.to && is_in_force(view, push))
        .then(|| link(&format!("/pushes/{}/undo", push_of(push)), [("server", push.server.as_str())]))
}
