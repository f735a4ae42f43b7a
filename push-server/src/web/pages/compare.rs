//! Two servers, or two sets of servers, side by side: which is ahead in what, and what lies between.

use axum::response::Response;
use bucket::ReleaseName;
use console::count;
use fleet::compare::{Compared, Relation};
use maud::{Markup, html};

use crate::{
    badge::Severity,
    notes::{MAX_NOTES, notes},
    web::{
        compare::compare_link,
        comparison::{compared, side},
        params::Params,
        parts::{app_link, badge, prose, release},
        view::{Nav, View},
    },
};

/// Releases of one side that are shown.
const RELEASES: usize = 6;

/// `GET /compare`: `left` and `right`, each a server or a filter.
pub(crate) async fn get(view: View, params: Params) -> Response {
    let (left, right) = (params.get("left").unwrap_or_default(), params.get("right").unwrap_or_default());
    let found = [left, right].map(|text| if text.is_empty() { None } else { Some(side(&view, text)) });
    let problem = found.iter().flatten().find_map(|side| side.as_ref().err());
    let content = html! {
        h1 { "Compare" }
        form.search method="get" action="/compare" role="search" {
            label for="left" { "Server or filter" }
            input #left type="search" name="left" value=(left) autocomplete="off" spellcheck="false" placeholder="group:stage"
                aria-describedby="compare-help";
            label for="right" { "with" }
            input #right type="search" name="right" value=(right) autocomplete="off" spellcheck="false" placeholder="group:prod";
            button type="submit" { "Compare" }
            p #compare-help.help {
                @if let Some(problem) = problem { span.wrong { (prose(problem)) ". " } }
                "A server by name, or all that a filter matches. What their documents name is compared."
            }
        }
        div #comparison data-live {
            @if let [Some(Ok(left_servers)), Some(Ok(right_servers))] = &found {
                (table(&view, (left, right), &compared(&view, left_servers, right_servers)))
            }
        }
    };
    view.page("Compare", Nav::Servers, &content)
}

fn table(view: &View, sides: (&str, &str), apps: &[Compared]) -> Markup {
    let (same, differing): (Vec<&Compared>, Vec<&Compared>) =
        apps.iter().partition(|app| app.relation == Relation::Same);
    html! {
        @if differing.is_empty() { p.lead { "Both should run the same." } }
        @else {
            p.summary { (count(differing.len(), "app")) " of " (apps.len()) @if differing.len() == 1 { " differs" } @else { " differ" } }
            table.rows {
                thead {
                    tr {
                        th scope="col" { "App" } th scope="col" { (prose(sides.0)) } th scope="col" { (prose(sides.1)) }
                        th scope="col" { "Difference" } th scope="col" { "Release notes between" }
                    }
                }
                tbody { @for app in differing { (row(view, sides, app)) } }
            }
        }
        @if !same.is_empty() {
            details {
                summary { "The same: " (count(same.len(), "app")) }
                ul.chips {
                    @for app in same { li { (app_link(app.app.as_str())) " " @for (name, _) in &app.left { code { (name.commit().short()) } " " } } }
                }
            }
        }
    }
}

fn row(view: &View, sides: (&str, &str), app: &Compared) -> Markup {
    let releases = view.snapshot.apps.get(&app.app);
    let (severity, symbol, text) = match app.relation {
        Relation::Same => (Severity::Good, "✓", "the same".to_owned()),
        Relation::Ahead => (Severity::Notice, "↑", format!("{} is ahead", sides.0)),
        Relation::Behind => (Severity::Notice, "↓", format!("{} is behind", sides.0)),
        Relation::OnlyLeft => (Severity::Notice, "◧", format!("only on {}", sides.0)),
        Relation::OnlyRight => (Severity::Notice, "◨", format!("only on {}", sides.1)),
        Relation::Mixed => (Severity::Notice, "↕", "some newer, some older".to_owned()),
    };
    let (oldest, newest) = app.span().unzip();
    html! {
        tr {
            th scope="row" data-label="App" { (app_link(app.app.as_str())) }
            td.wide data-label=(sides.0) { (side_cell(&app.left)) }
            td.wide data-label=(sides.1) { (side_cell(&app.right)) }
            td.wide data-label="Difference" {
                (badge(severity, symbol, &text))
                (compare_link(view, oldest, newest))
            }
            td.wide data-label="Release notes between" {
                @let between: Vec<_> = notes(app, releases.map(|releases| &**releases)).take(MAX_NOTES).collect();
                @if between.is_empty() { span.none { "none" } }
                @else {
                    ul.units {
                        @for listed in &between { li { code { (listed.name.commit().short()) } " " (prose(listed.note)) } }
                        @let more = notes(app, releases.map(|releases| &**releases)).count() - between.len();
                        @if more > 0 { li { "and " (count(more, "more release")) } }
                    }
                }
            }
        }
    }
}

fn side_cell(releases: &[(ReleaseName, usize)]) -> Markup {
    html! {
        @if releases.is_empty() { span.none { "nothing" } }
        @else {
            ul.units {
                @for (name, servers) in releases.iter().take(RELEASES) {
                    li { (release(name)) @if releases.len() > 1 || *servers > 1 { " on " (count(*servers, "server")) } }
                }
                @if releases.len() > RELEASES { li { "and " (count(releases.len() - RELEASES, "more release")) } }
            }
        }
    }
}
