//! The list of servers: filtered, sorted, a hundred a page, and where a choice for many begins.

use axum::response::Response;
use bucket::{ReleaseName, ServerName, Timestamp};
use console::{age, count};
use jiff::SignedDuration;
use maud::{Markup, html};

use fleet::{
    condition::{AppRow, Condition, apps, condition},
    filter::{Filter, KEYS},
    plan::overdue,
    server::{Reading, Server},
};

use crate::web::{
    holds,
    params::{Params, link},
    parts::{ago, app_badge, condition_badge, foreign, page_of, pager, prose, server_link},
    targets::SELECTED,
    view::{Nav, View},
};

/// Apps of a server that are shown in its row.
const APPS: usize = 6;

/// `GET /servers`.
pub(crate) async fn get(view: View, params: Params) -> Response {
    let text = params.get("q").unwrap_or_default();
    let sort = params.get("sort").unwrap_or("name");
    // What was ticked before a filter was sent, without a script that keeps it.
    let ticked: Vec<ServerName> = params.all("server").filter_map(|name| name.parse().ok()).collect();
    let (filter, wrong) = match Filter::parse(text) {
        Ok(filter) => (filter, None),
        Err(error) => (Filter::default(), Some(error.to_string())),
    };
    let mut rows: Vec<(Condition, &Server)> = view
        .snapshot
        .servers
        .values()
        // An invalid filter matches nothing: a choice for all must never be for more than was meant.
        .filter(|server| wrong.is_none() && filter.matches(server, &view.policy, view.now))
        .map(|server| (condition(server, view.now), &**server))
        .collect();
    match sort {
        "state" => rows.sort_by_key(|(condition, _)| std::cmp::Reverse(*condition)),
        // Who never reported comes first: nothing is older.
        "reported" => rows.sort_by_key(|(_, server)| server.status().map(|status| status.written)),
        _ => {}
    }
    let total = rows.len();
    let shown = page_of(rows.into_iter(), params.page());
    let content = html! {
        h1 { "Servers" }
        // One form: whoever filters sends along what is ticked.
        form method="get" action="/servers" {
            (search(text, sort, wrong.as_deref()))
            div #servers data-live {
                p.summary {
                    span {
                        (count(total, "server"))
                        @if !filter.is_empty() { " of " (view.snapshot.servers.len()) " match" @if total == 1 { "es" } }
                    }
                    @if !filter.is_empty() && total > 0 {
                        " · " a href=(link("/compare", [("left", text)])) { "Compare with other servers" }
                    }
                }
                @if shown.is_empty() {
                    p.none {
                        @if text.is_empty() { "No servers yet. " a href="/" { "How to add the first server" } }
                        @else {
                            "No server matches. "
                            @if let Some(unmatched) = unmatched(&view, &filter) { (prose(&unmatched)) " " }
                            a href="/servers" { "Show all" }
                        }
                    }
                } @else {
                    (table(&view, &shown, text, sort, &ticked))
                }
                @if view.may_push() {
                    (also_ticked(&shown, &ticked))
                    @if !shown.is_empty() || !ticked.is_empty() {
                        div.actions {
                            button type="submit" formaction="/choose" name=(SELECTED.0) value=(SELECTED.1) {
                                "Choose a release for selected servers"
                            }
                            @if total > 0 {
                                " "
                                a.button href=(link("/choose", [("q", if text.is_empty() { "*" } else { text })])) {
                                    "Choose for all " (count(total, "server")) @if !filter.is_empty() { " that match" }
                                }
                            }
                        }
                    }
                }
                (pager("/servers", &address(text, sort, &ticked), params.page(), total))
            }
        }
    };
    view.page("Servers", Nav::Servers, &content)
}

/// Which name in a filter no server has.
pub(crate) fn unmatched(view: &View, filter: &Filter) -> Option<String> {
    filter.unmatched(&view.snapshot.servers.values().map(|server| &**server), &view.policy)
}

fn address<'a>(text: &'a str, sort: &'a str, ticked: &'a [ServerName]) -> Vec<(&'a str, &'a str)> {
    let said = [("q", text), ("sort", sort)].into_iter().filter(|(_, value)| !value.is_empty() && *value != "name");
    said.chain(ticked.iter().map(|name| ("server", name.as_str()))).collect()
}

/// The servers that are ticked and that the filter doesn't show.
fn also_ticked(rows: &[(Condition, &Server)], ticked: &[ServerName]) -> Markup {
    let hidden = ticked.iter().filter(|name| !rows.iter().any(|(_, server)| server.name == **name));
    let hidden: Vec<&ServerName> = hidden.collect();
    html! {
        @if !hidden.is_empty() {
            p.kept {
                "Also selected:"
                @for name in hidden { label { input type="checkbox" name="server" value=(name) checked; " " (name) } }
            }
        }
    }
}

fn search(text: &str, sort: &str, wrong: Option<&str>) -> Markup {
    html! {
        div.search role="search" {
            label for="q" { "Filter" }
            input #q type="search" name="q" value=(text) autocomplete="off" spellcheck="false" data-filter
                aria-describedby="q-help" aria-invalid=[wrong.map(|_| "true")] placeholder="app:web state:failed";
            @if sort != "name" { input type="hidden" name="sort" value=(sort); }
            button type="submit" { "Filter" }
            p #q-help.help {
                @if let Some(wrong) = wrong { span.wrong { (prose(wrong)) ". " } }
                "Plain words match parts of names. Filter keys: "
                @for key in KEYS { code { (key) ":" } " " }
                "— a " code { "-" } " before a term negates it; " code { "state:attention" } " matches servers that need attention."
            }
        }
    }
}

fn table(view: &View, rows: &[(Condition, &Server)], text: &str, sort: &str, ticked: &[ServerName]) -> Markup {
    let heading = |key: &str, name: &str| {
        html! {
            th scope="col" aria-sort=[(sort == key).then_some(if key == "state" { "descending" } else { "ascending" })] {
                a href=(link("/servers", address(text, key, ticked))) { (name) }
                // Where the heading is out of sight its link is gone, but cells still have the heading.
                span.narrow { (name) }
            }
        }
    };
    html! {
        // Where rows are cards, there are no headings to sort by.
        p.sort {
            "Sort by "
            @for (key, name) in [("name", "server"), ("state", "state"), ("reported", "report")] {
                a href=(link("/servers", address(text, key, ticked))) aria-current=[(sort == key).then_some("true")] { (name) } " "
            }
        }
        table.rows {
            thead {
                tr {
                    @if view.may_push() { th scope="col" { span.hidden { "Choose" } } }
                    (heading("name", "Server"))
                    (heading("state", "State"))
                    th scope="col" { "Apps" }
                    (heading("reported", "Reported"))
                }
            }
            tbody {
                @for (condition, server) in rows {
                    @let name = server.name.as_str();
                    tr {
                        @if view.may_push() {
                            td.tick {
                                input type="checkbox" name="server" value=(name) checked[ticked.contains(&server.name)]
                                    aria-label={ "Select " (name) };
                            }
                        }
                        th scope="row" data-label="Server" {
                            (server_link(name))
                            @for group in view.policy.groups_of(&server.name) { " " span.tag { (group) } }
                            (holds::mark(view, &server.name))
                        }
                        td data-label="State" { (condition_badge(*condition)) }
                        td.wide data-label="Apps" { (apps_of(server)) }
                        td data-label="Reported" {
                            @match server.status() { Some(status) => (ago(status.written, view.now)), None => span.none { "never" } }
                        }
                    }
                }
            }
        }
    }
}

fn apps_of(server: &Server) -> Markup {
    let rows = apps(server);
    let short = |name: Option<&ReleaseName>| name.map_or("nothing", |name| name.commit().short()).to_owned();
    html! {
        ul.chips {
            @for AppRow { app, desired, installed, state, .. } in rows.iter().take(APPS) {
                li {
                    (foreign(app, 60)) " " code { (short(*installed)) }
                    @if desired.is_some() && desired != installed { " → " code { (short(*desired)) } }
                    @if *state != bucket::AppState::Converged { " " (app_badge(*state)) }
                }
            }
            @if rows.len() > APPS { li { "and " (rows.len() - APPS) " more" } }
        }
    }
}

/// Why a server is in its state, when there is something to say.
pub(crate) fn reason_of(server: &Server, now: Timestamp) -> Option<String> {
    if let Some(error) = server.errors().next() {
        return Some(error.to_owned());
    }
    let Reading::Known(status) = &server.status else {
        return Some("a document exists, but no agent has ever reported".to_owned());
    };
    if let Some(elapsed) = overdue(status, now) {
        let poll = SignedDuration::from_secs(i64::try_from(status.agent.poll_seconds).unwrap_or(i64::MAX));
        return Some(format!("the agent has not reported for {}; it polls every {}", age(elapsed), age(poll)));
    }
    if let Some(error) = &status.document.error {
        return Some(error.clone());
    }
    let mut reasons = apps(server).into_iter().filter(|row| row.state != bucket::AppState::Converged);
    let first =
        reasons.find_map(|row| Some(format!("{}: {}", row.app, row.reported?.reason.as_ref()?.lines().next()?)));
    first.or_else(|| (status.state != bucket::ServerState::Converged).then(|| status.summary.clone()))
}
