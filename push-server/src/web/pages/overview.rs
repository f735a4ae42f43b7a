//! The overview: how many servers are how, what needs attention first, and what was pushed last.

use axum::response::Response;
use console::count;
use maud::{Markup, html};

use fleet::{
    condition::{Condition, condition},
    server::Server,
};

use super::{recent::pushes_table, servers::reason_of};
use crate::{
    badge,
    web::{
        holds,
        params::link,
        parts::{ago, condition_badge, prose, server_link, severity_class},
        view::{Nav, View},
    },
};

/// Most servers that are listed as needing attention; the rest is one click away.
const MAX_LISTED: usize = 15;
/// Pushes that are shown.
const PUSHES: usize = 10;

/// `GET /`.
pub(crate) async fn get(view: View) -> Response {
    let mut conditions: Vec<(Condition, &Server)> =
        view.snapshot.servers.values().map(|server| (condition(server, view.now), &**server)).collect();
    let content = html! {
        h1 { "Overview" }
        @if conditions.is_empty() && view.snapshot.taken.is_some() {
            (nothing_yet(&view))
        } @else {
            div #counts data-live { (counts(&conditions)) }
            section #attention data-live aria-labelledby="attention-title" {
                (attention(&view, &mut conditions))
            }
            section #pushes data-live aria-labelledby="pushes-title" {
                h2 #pushes-title { "Recent pushes" }
                @if view.snapshot.recent.is_empty() {
                    p.none { "No pushes yet." }
                } @else {
                    (pushes_table(&view, view.snapshot.recent.iter().take(PUSHES).map(|push| &**push)))
                    p { a href="/history" { "All recent pushes" } }
                }
            }
        }
    };
    view.page("Overview", Nav::Overview, &content)
}

fn counts(conditions: &[(Condition, &Server)]) -> Markup {
    let number = |wanted: Condition| conditions.iter().filter(|(found, _)| *found == wanted).count();
    html! {
        ul.counts {
            li {
                a.count href="/servers" {
                    span.number { (conditions.len()) }
                    span.label { @if conditions.len() == 1 { "server" } @else { "servers" } }
                }
            }
            @for wanted in Condition::ALL {
                @let found = number(wanted);
                @if found > 0 || wanted == Condition::Converged {
                    @let shown = badge::of_server(wanted);
                    li {
                        a class={ "count " (severity_class(shown.severity)) }
                          href=(link("/servers", [("q", format!("state:{}", wanted.label()).as_str())])) {
                            span.number { (found) }
                            span.label { span.symbol aria-hidden="true" { (shown.symbol) } " " (shown.text) }
                        }
                    }
                }
            }
        }
    }
}

fn attention(view: &View, conditions: &mut Vec<(Condition, &Server)>) -> Markup {
    conditions.retain(|(condition, _)| condition.needs_attention());
    conditions.sort_by_key(|(condition, _)| std::cmp::Reverse(*condition));
    html! {
        h2 #attention-title { "Needs attention" }
        @if conditions.is_empty() {
            p.none { "No problems: all servers are reporting and none has failed." }
        } @else {
            table.rows {
                thead { tr { th scope="col" { "Server" } th scope="col" { "State" } th scope="col" { "Reason" } th scope="col" { "Reported" } } }
                tbody {
                    @for (condition, server) in conditions.iter().take(MAX_LISTED) {
                        tr {
                            th scope="row" data-label="Server" { (server_link(server.name.as_str())) (holds::mark(view, &server.name)) }
                            td data-label="State" { (condition_badge(*condition)) }
                            td.wide data-label="Reason" { (prose(&reason_of(server, view.now).unwrap_or_default())) }
                            td data-label="Reported" {
                                @match server.status() { Some(status) => (ago(status.written, view.now)), None => span.none { "never" } }
                            }
                        }
                    }
                }
            }
            @if conditions.len() > MAX_LISTED {
                p { a href="/servers?q=state%3Aattention" { "All " (count(conditions.len(), "server")) " that need attention" } }
            }
        }
    }
}

fn nothing_yet(view: &View) -> Markup {
    html! {
        div.empty {
            h2 { "No servers yet" }
            p { "A server appears here after the first push to it, or when its agent first reports." }
            ol {
                li { "Build a release: " code { "release -m \"first\"" } }
                li { "Push the release: " code { "push --bucket " (view.web.bucket_name) " deploy APP SERVER --force" } }
                li { "Configure the agent on that server, " code { "pulld" } ", to use this bucket." }
            }
            @if !view.snapshot.apps.is_empty() {
                p { "Releases exist already: " a href="/apps" { (count(view.snapshot.apps.len(), "app")) } "." }
            }
        }
    }
}
