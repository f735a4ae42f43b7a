//! What was pushed: by whom, where, from which release to which, when, for what reason, and the outcome.

use axum::{http::StatusCode, response::Response};
use bucket::{AppState, HistoryEntry, PushKind, ReleaseName, ServerName};
use console::count;
use maud::{Markup, html};

use fleet::{condition::apps, policy::Role, rollback::with_told};

use crate::{
    badge::Severity,
    web::{
        compare::compare_link,
        params::{Params, link},
        parts::{ago, app_badge, app_link, badge, foreign, page_of, pager, prose, release_or, server_link},
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
    let pushes = match recent(&view, server.as_ref()).await {
        Ok(pushes) => pushes,
        Err(error) => return view.problem(StatusCode::SERVICE_UNAVAILABLE, "History unreadable", &error.to_string()),
    };
    let matching: Vec<&HistoryEntry> = pushes.iter().filter(|push| mentions(push, text)).collect();
    let total = matching.len();
    let shown = page_of(matching.into_iter(), params.page());
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
                @if server.is_none() { "These are the most recent pushes to all servers; a server's page links to all pushes to that server." }
            }
        }
        div #history data-live {
            p.summary { (count(total, "push")) }
            @if shown.is_empty() { p.none { "No matching pushes." } }
            @else { (pushes_table(&view, if server.is_some() { HistoryScope::OneServer } else { HistoryScope::AllServers }, shown.into_iter())) }
            @let pairs: Vec<_> = [("q", text), ("server", name)].into_iter().filter(|(_, value)| !value.is_empty()).collect();
            (pager("/history", &pairs, params.page(), total))
        }
    };
    view.page("History", Nav::History, &content)
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

/// Whose pushes are shown together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum HistoryScope {
    /// Those of the server that the page is about.
    OneServer,
    /// Those of all servers; each names its own.
    AllServers,
}

/// Pushes, newest first.
pub(crate) fn pushes_table<'a>(
    view: &View,
    scope: HistoryScope,
    pushes: impl Iterator<Item = &'a HistoryEntry>,
) -> Markup {
    html! {
        table.rows {
            thead {
                tr {
                    th scope="col" { "When" }
                    @if scope == HistoryScope::AllServers { th scope="col" { "Server" } }
                    th scope="col" { "App" } th scope="col" { "From → to" } th scope="col" { "By, reason" }
                    th scope="col" { "Outcome" } th scope="col" { span.hidden { "Actions" } }
                }
            }
            tbody { @for push in pushes { (row(view, scope, push)) } }
        }
    }
}

fn row(view: &View, scope: HistoryScope, push: &HistoryEntry) -> Markup {
    html! {
        tr {
            td data-label="When" { (ago(push.time, view.now)) }
            @if scope == HistoryScope::AllServers {
                th scope="row" data-label="Server" { (server_link(push.server.as_str())) }
            }
            td data-label="App" { (app_link(push.app.as_str())) }
            td.wide data-label="From → to" {
                (release_or(push.from.as_ref(), "nothing")) " → " (release_or(push.to.as_ref(), "nothing"))
                (compare_link(view, push.from.as_ref(), push.to.as_ref()))
                @if push.kind != PushKind::Deploy { " " span.tag { (foreign(push.kind.as_str(), 40)) } }
            }
            td.wide data-label="By, reason" {
                (foreign(&push.who, 80)) @if !push.why.is_empty() { p.reason { (prose(&push.why)) } }
            }
            td data-label="Outcome" { (outcome(view, push)) }
            td.act {
                @if let Some(undo) = undo(view, push) {
                    a.button href=(undo) { "Undo" span.hidden { " the push of " (push.app) " to " (push.server) } }
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
    let state = apps(server).into_iter().find(|row| row.app == push.app.as_str()).map(|row| row.state);
    app_badge(state.unwrap_or(AppState::Pending))
}

/// Whether the server's document names this release because of this push.
fn is_in_force(view: &View, push: &HistoryEntry) -> bool {
    let server = view.snapshot.servers.get(&push.server);
    let named = server.is_some_and(|server| server.desired(&push.app) == push.to.as_ref());
    let newer = |other: &HistoryEntry| {
        other.server == push.server && other.app == push.app && other.generation > push.generation
    };
    named && !view.snapshot.pushes.iter().any(|other| newer(other))
}

/// Where the push is undone, if it can be by this operator.
fn undo(view: &View, push: &HistoryEntry) -> Option<String> {
    let from = push.from.as_ref().filter(|from| push.to.as_ref() != Some(*from))?;
    let may = view.policy.role(&view.who, &push.app, &push.server) >= Role::Deployer;
    (may && is_in_force(view, push))
        .then(|| link("/plan", [("undo", "yes"), ("release", from.stem()), ("server", push.server.as_str())]))
}
