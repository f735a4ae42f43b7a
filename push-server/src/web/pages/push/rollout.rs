//! How a rollout is drawn on the page of its push: what it waits for and what would stop it, each wave with how far its servers
//! are, and the form by which somebody decides about it.

use bucket::{Rollout, RolloutStage, Uncounted, Wave, WaveRow};
use console::count;
use fleet::rollout::{decide::Decision, next::stops_when, observe::RowState};
use maud::{Markup, html};

use crate::{
    badge::{self, Badge, Severity},
    web::{
        parts::{ago, badge, first_up, foreign, prose, server_link},
        rollouts::{ShownRollout, wave},
        view::View,
    },
};

/// Most servers of a wave in one state that are named.
const NAMED: usize = 12;
/// Most decisions that are shown, the last ones.
const DECISIONS: usize = 10;

/// The rollout.
pub(super) fn section(view: &View, shown: &ShownRollout) -> Markup {
    let rollout = &shown.rollout;
    html! {
        section #rollout data-live aria-labelledby="rollout-title" {
            h2 #rollout-title { "Rollout" }
            p.summary role="status" {
                (stage(rollout)) " "
                @match (&rollout.stage, &rollout.stopped) {
                    (RolloutStage::Stopped, Some(why)) => (prose(&first_up(why))),
                    (RolloutStage::Running | RolloutStage::Undoing, _) => (prose(&first_up(&shown.next.to_string()))),
                    _ => {}
                }
                @if !rollout.stage.is_over() { "." }
            }
            @if let Some(problem) = &shown.problem {
                p.banner.notice { "It could not be carried on, and that will be tried again: " (prose(problem)) }
            }
            @if !rollout.stage.is_over() { (rules(view, shown)) }
            (table(view, shown))
            (decisions(view, rollout))
            (form(view, shown))
        }
    }
}

/// How a rollout is, in a badge.
pub(crate) fn stage(rollout: &Rollout) -> Markup {
    let waves = format!("wave {} of {}", wave(rollout), rollout.waves.len());
    match &rollout.stage {
        RolloutStage::Running => badge(Severity::Notice, "…", &waves),
        RolloutStage::Stopped => badge(Severity::Bad, "‖", &format!("stopped in {waves}")),
        RolloutStage::Undoing => badge(Severity::Notice, "↩", "undoing"),
        RolloutStage::Done => badge(Severity::Good, "✓", "done"),
        RolloutStage::Undone => badge(Severity::Quiet, "↩", "undone"),
        RolloutStage::Abandoned => badge(Severity::Quiet, "–", "abandoned"),
        RolloutStage::Other(stage) => badge(Severity::Notice, "?", &console::cut(stage, 40)),
    }
}

fn rules(view: &View, shown: &ShownRollout) -> Markup {
    let rollout = &shown.rollout;
    html! {
        @if rollout.stage == RolloutStage::Running { p.facts { (stops_when(&rollout.rules)) } }
        @if rollout.channel.is_some() && rollout.waves.len() == 1 {
            p.facts {
                "All servers are in one wave, as those of a channel with " code { "MaxDown" } " and no " code { "Waves" }
                ": only how many may be out at a time holds them back."
            }
        }
        ul.facts {
            @for (budget, out) in rollout.budgets.iter().zip(&shown.out) {
                li {
                    @match &budget.group { Some(group) => { "Group " (foreign(group, 60)) }, None => "Servers in no group" }
                    ": " (out) " of " (budget.servers.len()) " out, " (budget.allowed) " allowed"
                }
            }
            li {
                @match &rollout.driven {
                    Some(driven) => { "Last driven " (ago(driven.at, view.now)) " by " (foreign(&driven.by, 80)) },
                    None => "Not driven yet",
                }
            }
        }
    }
}

fn table(view: &View, shown: &ShownRollout) -> Markup {
    html! {
        table.rows {
            thead { tr { th scope="col" { "Wave" } th scope="col" { "Servers" } th scope="col" { "State" } } }
            tbody {
                @for (at, wave) in shown.rollout.waves.iter().enumerate() {
                    tr {
                        th scope="row" data-label="Wave" {
                            (at + 1) " " span.tag { (foreign(&wave.what, 60)) }
                            @if shown.rollout.rules.pause_after.contains(&(at + 1)) { " " span.facts { "then waits for a verdict" } }
                        }
                        td data-label="Servers" { (wave.rows.len()) }
                        td.wide data-label="State" { (states(view, shown, wave)) }
                    }
                }
            }
        }
    }
}

/// The servers of a wave by how far they are, the worst first.
fn states(view: &View, shown: &ShownRollout, wave: &Wave) -> Markup {
    /// How servers look, and those that look so.
    type Group<'a> = ((Badge, Option<Uncounted>), Vec<(&'a WaveRow, RowState)>);
    let mut groups: Vec<Group> = Vec::new();
    for row in &wave.rows {
        let state = shown.state(view, row);
        let look = (badge::of_rollout_row(&state), row.uncounted);
        match groups.iter_mut().find(|(known, _)| *known == look) {
            Some((_, rows)) => rows.push((row, state)),
            None => groups.push((look, vec![(row, state)])),
        }
    }
    groups.sort_by_key(|((look, _), _)| std::cmp::Reverse(badge::rank(look.severity)));
    html! {
        @for ((look, uncounted), rows) in &groups {
            p.wave {
                (badge(look.severity, look.symbol, &format!("{} {}", rows.len(), look.text))) " "
                @if let Some(why) = uncounted { span.facts { (uncounted_because(*why)) } " " }
                @for (n, (row, _)) in rows.iter().take(NAMED).enumerate() { @if n > 0 { ", " } (server_link(row.server.as_str())) }
                @if rows.len() > NAMED { " and " (rows.len() - NAMED) " more" }
            }
            @for (row, state) in rows.iter().take(NAMED) {
                @if let RowState::Left(why) = state { p.reason { (row.server) ": " (prose(why)) } }
            }
        }
    }
}

fn uncounted_because(why: Uncounted) -> &'static str {
    match why {
        Uncounted::Silent => "not counted, because it did not report when the rollout was planned:",
        Uncounted::Excused => "not counted, because somebody had the rollout go on:",
        Uncounted::Unknown => "not counted:",
    }
}

/// What was decided about it.
fn decisions(view: &View, rollout: &Rollout) -> Markup {
    html! {
        @if !rollout.verdicts.is_empty() {
            ul.facts {
                @for verdict in rollout.verdicts.iter().rev().take(DECISIONS) {
                    li {
                        strong { (foreign(&verdict.what, 20)) } " after wave " (verdict.wave) ", by " (foreign(&verdict.by, 80)) ", "
                        (ago(verdict.at, view.now))
                        @if !verdict.why.is_empty() { ": " (prose(&verdict.why)) }
                    }
                }
            }
        }
    }
}

/// What this operator can decide about it, with one reason for whatever that is.
fn form(view: &View, shown: &ShownRollout) -> Markup {
    let (decisions, id) = (shown.decisions(view), &shown.rollout.id);
    html! {
        @if !decisions.is_empty() {
            form.push method="post" action={ "/pushes/" (id) "/rollout" } {
                label for="rollout-reason" { "Reason (optional)" }
                input #rollout-reason type="text" name="reason" maxlength="500" autocomplete="off" aria-describedby="rollout-help";
                p #rollout-help.help { "Recorded in the rollout." }
                @let can_be_raised = shown.can_be_raised(view);
                @if can_be_raised {
                    label for="rollout-max-down" { "Out of a group at a time, at most" }
                    input #rollout-max-down type="text" name="max_down" autocomplete="off" aria-describedby="rollout-max-down-help";
                    p #rollout-max-down-help.help {
                        "A number or a share, if more servers than now may be out when the rollout goes on: " code { "2" } ", " code { "50%" } "."
                    }
                }
                div.actions {
                    @if can_be_raised && !decisions.contains(&Decision::Continue) {
                        button type="submit" name="decision" value=(Decision::Continue) { "Allow more out" } " "
                    }
                    @for decision in decisions {
                        button.primary[matches!(decision, Decision::Pass | Decision::Continue)] type="submit" name="decision" value=(decision) {
                            (label(decision, shown))
                        }
                        " "
                    }
                }
            }
        }
    }
}

fn label(decision: Decision, shown: &ShownRollout) -> String {
    match decision {
        Decision::Pass => format!("Pass wave {}", shown.wave()),
        Decision::Fail => format!("Fail wave {}", shown.wave()),
        Decision::Unsure => "Pause".to_owned(),
        Decision::Continue | Decision::ContinueWith(_) => "Continue rollout".to_owned(),
        Decision::Stop => "Stop rollout".to_owned(),
        Decision::Undo => {
            let written = shown.rollout.rows().filter(|row| row.written.is_some() && row.left.is_none()).count();
            format!("Undo on {}", count(written, "server"))
        }
        Decision::Abandon => "Abandon rollout".to_owned(),
    }
}
