//! The overview: how many servers are how, what needs attention first, and what was pushed last.

use axum::response::Response;
use maud::{Markup, html};

use super::{
    history::{Where, pushes_table},
    servers::reason_of,
};
use crate::{
    snapshot::Server,
    web::{
        params::link,
        parts::{ago, condition_badge, count, prose, server_link, tone_class},
        view::{Nav, View},
    },
};
use fleet::condition::{Condition, condition};

/// Most servers that are listed as needing attention; the rest is one click away.
const MOST: usize = 15;
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
                @if view.snapshot.pushes.is_empty() {
                    p.none { "Nothing was pushed yet." }
                } @else {
                    (pushes_table(&view, Where::Anywhere, view.snapshot.pushes.iter().take(PUSHES).map(|push| &**push)))
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
                    @let look = wanted.look();
                    li {
                        a class={ "count " (tone_class(look.tone)) }
                          href=(link("/servers", [("q", format!("state:{}", wanted.word()).as_str())])) {
                            span.number { (found) }
                            span.label { span.symbol aria-hidden="true" { (look.symbol) } " " (look.text) }
                        }
                    }
                }
            }
        }
    }
}

fn attention(view: &View, conditions: &mut Vec<(Condition, &Server)>) -> Markup {
    conditions.retain(|(condition, _)| condition.asks_for_attention());
    conditions.sort_by_key(|(condition, _)| std::cmp::Reverse(*condition));
    html! {
        h2 #attention-title { "Needs attention" }
        @if conditions.is_empty() {
            p.none { "Nothing: every server has reported, and none has failed." }
        } @else {
            table.rows {
                thead { tr { th scope="col" { "Server" } th scope="col" { "State" } th scope="col" { "Why" } th scope="col" { "Reported" } } }
                tbody {
                    @for (condition, server) in conditions.iter().take(MOST) {
                        tr {
                            th scope="row" data-label="Server" { (server_link(server.name.as_str())) }
                            td data-label="State" { (condition_badge(*condition)) }
                            td.wide data-label="Why" { (prose(&reason_of(server, view.now).unwrap_or_default())) }
                            td data-label="Reported" {
                                @match &server.status { Some(status) => (ago(status.written, view.now)), None => span.none { "never" } }
                            }
                        }
                    }
                }
            }
            @if conditions.len() > MOST {
                p { a href="/servers?q=state%3Aattention" { "All " (count(conditions.len(), "server")) " that need attention" } }
            }
        }
    }
}

fn nothing_yet(view: &View) -> Markup {
    html! {
        div.empty {
            h2 { "No servers yet" }
            p { "A server appears here when something is pushed to it, or when its agent first reports." }
            ol {
                li { "Release something: " code { "release -m \"first\"" } }
                li { "Push it: " code { "push --bucket " (view.web.bucket_name) " deploy APP SERVER --force" } }
                li { "Let the agent on that server, " code { "pulld" } ", read this bucket." }
            }
            @if !view.snapshot.apps.is_empty() {
                p { "There are releases already: " a href="/apps" { (count(view.snapshot.apps.len(), "app")) } "." }
            }
        }
    }
}
