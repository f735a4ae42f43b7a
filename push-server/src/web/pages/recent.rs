//! Pushes in rows, one for each whatever its number of servers: on the overview and in the history.

use console::count;
use fleet::{account::Stage, history::about};
use maud::{Markup, html};

use super::push::rollout_stage;
use crate::{
    badge::{self, Severity},
    snapshot::RecentPush,
    web::{
        compare::compare_link,
        parts::{ago, badge, foreign, kind_tags, prose, release_or},
        view::View,
    },
};

/// Pushes, newest first.
pub(crate) fn pushes_table<'a>(view: &View, pushes: impl Iterator<Item = &'a RecentPush>) -> Markup {
    html! {
        table.rows {
            thead {
                tr {
                    th scope="col" { "When" } th scope="col" { "Push" } th scope="col" { "From → to" }
                    th scope="col" { "By, reason" } th scope="col" { "Outcome" }
                }
            }
            tbody { @for push in pushes { (row(view, push)) } }
        }
    }
}

fn row(view: &View, push: &RecentPush) -> Markup {
    let head = &push.head;
    html! {
        tr {
            td data-label="When" { (ago(head.time, view.now)) }
            th scope="row" data-label="Push" {
                a href={ "/pushes/" (head.id) } { (title(push)) }
                (kind_tags(&head.kind, head.without_waves))
            }
            td.wide data-label="From → to" {
                @match (push.from(), &head.to) {
                    (None, None) => span.none { "one for each server" },
                    (from, to) => {
                        @if from.is_some() || head.rows == 1 { (release_or(from, "nothing")) } @else { span.none { "several" } }
                        " → "
                        @if to.is_some() || head.rows == 1 { (release_or(to.as_ref(), "nothing")) } @else { span.none { "several" } }
                        (compare_link(view, from, to.as_ref()))
                    }
                }
            }
            td.wide data-label="By, reason" {
                (foreign(&head.who, 80)) @if !head.why.is_empty() { p.reason { (prose(&head.why)) } }
            }
            td.wide data-label="Outcome" { (outcome(view, push)) }
        }
    }
}

/// What it was, in a line: `web → 417ac97f2f08 on 200 servers`.
fn title(push: &RecentPush) -> Markup {
    let head = &push.head;
    html! {
        (about(head.app.as_ref())) @if let Some(to) = &head.to { " → " (to.commit().short()) } " on "
        @match (&head.server, head.rows) {
            (Some(server), 1) => (server),
            _ => (count(head.rows, "server")),
        }
    }
}

/// What became of it.
fn outcome(view: &View, push: &RecentPush) -> Markup {
    let is_cut_off = push.stage(view.bucket_now()) == Stage::CutOff;
    let rollout = view.snapshot.rollouts.get(&push.head.id).and_then(|known| known.rollout.known());
    html! {
        @if let Some(rollout) = rollout {
            (rollout_stage(rollout)) " "
            @if let Some(driven) = rollout.driven.as_ref().filter(|_| !rollout.stage.is_over()) {
                span.facts { "driven " (ago(driven.at, view.now)) } " "
            }
        }
        @if is_cut_off { (badge(Severity::Bad, "!", "cut off")) " " }
        @match (&push.rows, push.head.unwritten) {
            (Some(rows), _) => {
                @let (severity, symbol) = badge::of_rows(&rows.states);
                (badge(severity, symbol, &rows.summary))
            }
            (None, Some(0)) => (badge(Severity::Quiet, "–", "written")),
            (None, Some(unwritten)) => (badge(Severity::Bad, "✗", &format!("{unwritten} not written"))),
            (None, None) => { @if !is_cut_off { (badge(Severity::Notice, "…", "under way")) } },
        }
    }
}
