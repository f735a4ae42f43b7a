//! How a push is drawn: what it was, how far it is, what lies between the releases, and each server, the worst first.

use std::collections::HashMap;

use bucket::{Generation, PushKind, PushRow, ReleaseName, ServerName};
use console::count;
use fleet::{
    account::{RowState, Stage, in_words},
    history::about,
    operation::PushResult,
    redo::has_failed,
};
use maud::{Markup, html};

use super::rollout::section;
use crate::{
    badge::{self, Severity},
    snapshot::Listed,
    web::{
        compare::compare_link,
        holds,
        params::link,
        parts::{self, ago, app_link, badge, foreign, kind_tags, page_of, pager, prose, release_or, server_link},
        rollouts::ShownRollout,
        shown::Shown,
        view::View,
    },
};

/// Most release notes that are shown.
const MAX_NOTES: usize = 20;
/// Most servers that one link names.
const MAX_NAMED: usize = 200;

/// A row, the generation of the document that holds it, and what became of it.
type ShownRow<'a> = (&'a PushRow, Option<Generation>, &'a RowState);

/// What it was, in a line: `web → 417ac97f2f08 on 200 servers`.
pub(super) fn title(shown: &Shown) -> String {
    let head = shown.head();
    let to = head.to.map(|to| format!(" → {}", to.commit().short())).unwrap_or_default();
    let on = match head.server {
        Some(server) if head.rows == 1 => server.to_string(),
        _ => count(head.rows, "server"),
    };
    format!("{}{to} on {on}", about(head.app.as_ref()))
}

/// The page.
pub(super) fn page(view: &View, shown: &Shown, rollout: Option<&ShownRollout>, page: usize) -> Markup {
    let push = shown.push();
    html! {
        header.title {
            h1 { (title(shown)) }
            (kind_tags(&push.kind, push.without_waves))
        }
        p.facts {
            @match &push.app { Some(app) => (app_link(app.as_str())), None => (about(None)) } " by " (foreign(&push.who, 80)) ", " (ago(push.time, view.now)) ", push " code { (push.id) }
            @if let Some(of) = &push.of { " of push " a href={ "/pushes/" (of) } { (of) } }
            @if shown.is_foreign { " (as the documents and the history tell: it has no object of its own)" }
        }
        @if !push.why.is_empty() { p.lead { (prose(&push.why)) } }
        @if let Some(rollout) = rollout { (section(view, rollout)) }
        div #job data-live {
            (progress(view, shown))
            (table(view, shown, page))
        }
        (notes(view, shown))
    }
}

fn progress(view: &View, shown: &Shown) -> Markup {
    let stage = shown.stage(view);
    let (written, others): (Vec<ShownRow>, Vec<ShownRow>) =
        shown.rows.iter().partition(|(_, written, _)| written.is_some());
    let not_pushed = others.iter().filter(|(.., state)| **state != RowState::Waiting).count();
    let waiting = others.len() - not_pushed;
    html! {
        p.summary role="status" {
            @match stage {
                Stage::UnderWay if shown.push().rollout => {}
                Stage::UnderWay => {
                    (badge(Severity::Notice, "…", "pushing")) " " (written.len() + not_pushed) " of "
                    (shown.push().rows.len()) " done. "
                }
                Stage::CutOff => {
                    (badge(Severity::Bad, "!", "cut off")) " Its process is gone: " (count(waiting, "server"))
                    " not written yet. "
                }
                Stage::Over => {}
            }
            @if not_pushed > 0 { (badge(Severity::Bad, "✗", &format!("{not_pushed} not pushed"))) " " }
            @if !written.is_empty() {
                (badge(Severity::Good, "✓", &format!("{} pushed", written.len())))
                " — " (in_words(written.iter().map(|(.., state)| *state))) "."
            }
        }
        // What is done about a rollout is decided above.
        @if !shown.push().rollout { (actions(view, shown, stage)) }
        @if not_pushed > 0 && stage == Stage::Over { (again(shown, &others)) }
    }
}

/// What can be done about the push as a whole.
fn actions(view: &View, shown: &Shown, stage: Stage) -> Markup {
    let id = &shown.push().id;
    let is_retirement = shown.push().kind == PushKind::Retire;
    let can_be_undone = |(row, _, state): &ShownRow| match state {
        RowState::Written(_) | RowState::Removed => row.from != row.to,
        RowState::Retired => is_retirement,
        _ => false,
    };
    let undone = shown.rows.iter().filter(can_be_undone).count();
    let failed = shown.rows.iter().filter(|(.., state)| has_failed(state)).count();
    let to_all = |word: &'static str, all: &'static str| if shown.push().rows.len() == 1 { word } else { all };
    html! {
        @if view.may_push() && (undone > 0 || failed > 0 || stage != Stage::Over) {
            div.actions {
                @if failed > 0 {
                    a.button href={ "/pushes/" (id) "/retry" } { (to_all("Retry", "Retry on the failed")) } " "
                }
                @if undone > 0 { a.button href={ "/pushes/" (id) "/undo" } { (to_all("Undo", "Undo on all")) } " " }
                @if stage == Stage::CutOff {
                    form method="post" action={ "/pushes/" (id) "/continue" } { button.primary type="submit" { "Continue" } } " "
                }
                @if stage != Stage::Over {
                    form method="post" action={ "/pushes/" (id) "/stop" } { button type="submit" { "Stop" } }
                }
            }
        }
    }
}

/// Leads to a new plan for those that weren't written.
fn again(shown: &Shown, rows: &[ShownRow]) -> Markup {
    let push = shown.push();
    let to = rows.first().and_then(|(row, ..)| row.to.as_ref()).map(ReleaseName::stem);
    let target = match (&push.kind, to) {
        (PushKind::Deploy, Some(to)) => Some(("release", to)),
        (PushKind::Rollback, _) => push.app.as_ref().map(|app| ("rollback", app.as_str())),
        (PushKind::Retry, _) => push.app.as_ref().map(|app| ("retry", app.as_str())),
        _ => None,
    };
    let servers = rows.iter().map(|(row, ..)| ("server", row.server.as_str())).take(MAX_NAMED);
    html! {
        @if let Some(target) = target {
            p { a.button href=(link("/plan", [target].into_iter().chain(servers))) { "Push again where it was not pushed" } }
        }
    }
}

fn table(view: &View, shown: &Shown, page: usize) -> Markup {
    let mut rows: Vec<ShownRow> = shown.rows.iter().collect();
    rows.sort_by_key(|(.., state)| std::cmp::Reverse(badge::rank(badge::of_row(state).0)));
    let (total, results) = (rows.len(), shown.results());
    html! {
        table.rows {
            thead {
                tr { th scope="col" { "Server" } th scope="col" { "From → to" } th scope="col" { "Outcome" } }
            }
            tbody { @for row in page_of(rows.into_iter(), page) { (table_row(view, shown, row, &results)) } }
        }
        (pager(&format!("/pushes/{}", shown.push().id), &[], page, total))
    }
}

fn table_row(
    view: &View,
    shown: &Shown,
    (row, written, state): ShownRow,
    results: &HashMap<ServerName, PushResult>,
) -> Markup {
    let server = view.snapshot.servers.get(&row.server);
    let reported = server.and_then(|server| server.reported(shown.push().app.as_ref()?.as_str()));
    let (severity, symbol) = badge::of_row(state);
    let result = results.get(&row.server);
    html! {
        tr {
            th scope="row" data-label="Server" { (server_link(row.server.as_str())) (holds::mark(view, &row.server)) }
            td.wide data-label="From → to" {
                @if shown.push().app.is_none() { (about(None)) } @else {
                    @if shown.push().kind != PushKind::Retry { (release_or(row.from.as_ref(), "nothing")) " → " }
                    (release_or(row.to.as_ref(), "nothing"))
                    (compare_link(view, row.from.as_ref(), row.to.as_ref()))
                }
            }
            td.wide data-label="Outcome" {
                (badge(severity, symbol, &state.to_string()))
                @if let RowState::Written(state) = state {
                    @if let Some(reason) = reported.filter(|app| app.state == *state).and_then(|app| app.reason.as_ref()) {
                        (parts::reason(reason))
                    }
                    @if let Some(status) = server.and_then(|server| server.status()) {
                        " " span.facts { "reported " (ago(status.written, view.now)) }
                    }
                }
                @if let Some(error) = result.and_then(|result| result.result.as_ref().err()).filter(|_| written.is_none()) {
                    p.reason { (prose(&error.to_string())) }
                }
                @for warning in result.iter().flat_map(|result| &result.incomplete) {
                    p.reason { "▲ " (prose(&warning.to_string())) }
                }
            }
        }
    }
}

/// The notes of the releases that it brought, or took back.
fn notes(view: &View, shown: &Shown) -> Markup {
    let (is_back, notes) = between(view, shown).unwrap_or_default();
    html! {
        @if !notes.is_empty() {
            section aria-labelledby="notes-title" {
                h2 #notes-title { @if is_back { "Taken back" } @else { "Release notes" } }
                ul.notes {
                    @for listed in notes.iter().take(MAX_NOTES) {
                        li { code { (listed.name.commit().short()) } " " span.note { (prose(listed.note)) } }
                    }
                }
                @if notes.len() > MAX_NOTES { p.facts { "and " (count(notes.len() - MAX_NOTES, "more release")) } }
            }
        }
    }
}

/// The releases between the oldest and the newest that it is about, and whether it goes back.
fn between<'a>(view: &'a View, shown: &Shown) -> Option<(bool, Vec<Listed<'a>>)> {
    let releases = view.snapshot.apps.get(shown.push().app.as_ref()?)?;
    let rows = &shown.push().rows;
    let oldest_of =
        |names: Vec<&'_ ReleaseName>| names.into_iter().max_by_key(|name| releases.newer_than(name)).cloned();
    let newest_of =
        |names: Vec<&'_ ReleaseName>| names.into_iter().min_by_key(|name| releases.newer_than(name)).cloned();
    let (from, to) = (
        || rows.iter().filter_map(|row| row.from.as_ref()).collect(),
        || rows.iter().filter_map(|row| row.to.as_ref()).collect(),
    );
    let (oldest, newest) = (oldest_of(from())?, newest_of(to())?);
    if releases.newer_than(&newest) <= releases.newer_than(&oldest) {
        return Some((false, releases.between(&oldest, &newest).take(MAX_SHOWN).collect()));
    }
    let (newest, oldest) = (newest_of(from())?, oldest_of(to())?);
    Some((true, releases.between(&oldest, &newest).take(MAX_SHOWN).collect()))
}

/// Releases between two that are counted.
const MAX_SHOWN: usize = 1000;
