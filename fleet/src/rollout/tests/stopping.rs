//! Rollouts that stop, wait for a person, or are undone.

use bucket::{AppState, Generation, RolloutStage};
use jiff::SignedDuration;

use super::story::{Story, name, reports, undo};
use crate::{
    rollout::{
        next::{Next, Stop, Waiting},
        observe::RowState,
    },
    server::Reading,
};

#[test]
fn second_wave_fails() {
    let mut story = Story::new(3, "1,1,rest");
    story.drive();
    story.settle(&["web-1"]);
    story.drive();
    assert_eq!(story.written, ["web-1", "web-2"]);
    story.report("web-2", AppState::Quarantined);
    assert_eq!(story.drive(), Next::Stop(Stop::Failures(vec![name("web-2")])));
    for _ in 0..5 {
        story.pass(10);
        assert_eq!(story.drive(), Next::Wait(Waiting::Decision));
    }
    assert_eq!(story.written, ["web-1", "web-2"]);
    // Newest wave first.
    (story.rollout.stage, story.rollout.undo) = (RolloutStage::Undoing, Some(undo()));
    assert_eq!(story.drive(), Next::End(RolloutStage::Undone));
    assert_eq!(story.written[2..], ["web-2", "web-1"]);
}

#[test]
fn whatever_an_agent_calls_its_failure_that_stops_the_rollout_and_nothing_is_undone_by_itself() {
    use AppState::{Degraded, Failed, Quarantined, Refused, Unstable};
    for state in [Failed, Quarantined, Degraded, Refused, Unstable] {
        let mut story = Story::new(2, "1,rest");
        story.drive();
        story.report("web-1", state);
        assert_eq!(story.drive(), Next::Stop(Stop::Failures(vec![name("web-1")])), "{state:?}");
        story.pass(600);
        assert_eq!((story.drive(), story.written.len()), (Next::Wait(Waiting::Decision), 1), "{state:?}");
    }
}

#[test]
fn a_release_that_fails_after_it_has_settled_stops_what_follows() {
    let mut story = Story::new(3, "1,1,rest");
    story.drive();
    story.settle(&["web-1"]);
    story.drive();
    story.report("web-1", AppState::Unstable);
    assert_eq!(story.drive(), Next::Stop(Stop::Failures(vec![name("web-1")])));
    assert_eq!(story.written, ["web-1", "web-2"]);
}

#[test]
fn after_a_wave_it_waits_for_a_verdict() {
    let mut story = Story::new(2, "1,rest");
    story.rollout.rules.pause_after = vec![1];
    story.drive();
    story.settle(&["web-1"]);
    for unsure in ["unsure", "fail"] {
        assert_eq!(story.drive(), Next::Wait(Waiting::Verdict(1)));
        story.verdict(unsure, 1);
    }
    story.verdict("pass", 1);
    assert_eq!(story.drive(), reports(&["web-2"]));
}

#[test]
fn who_fails_while_it_is_stopped_is_undone_all_the_same() {
    let mut story = Story::new(4, "2,rest");
    story.rollout.budgets[0].allowed = 1;
    story.drive();
    assert_eq!(story.written, ["web-1"]);
    story.report("web-1", AppState::Degraded);
    story.drive();
    (story.rollout.stage, story.rollout.undo) = (RolloutStage::Undoing, Some(undo()));
    assert_eq!(story.drive(), Next::End(RolloutStage::Undone));
    assert_eq!((story.written[1..].to_vec(), story.state("web-1")), (vec!["web-1".to_owned()], RowState::Undone));
}

#[test]
fn an_undo_skips_waves_and_keeps_the_budget() {
    let mut story = Story::new(4, "2,rest");
    story.drive();
    story.settle(&["web-1", "web-2"]);
    story.drive();
    story.settle(&["web-3", "web-4"]);
    story.drive();
    story.rollout.budgets[0].allowed = 1;
    (story.rollout.stage, story.rollout.undo) = (RolloutStage::Undoing, Some(undo()));
    assert!(matches!(story.drive(), Next::Wait(Waiting::Budget { out: 1, .. })));
    assert_eq!(story.written[4..], ["web-3"]);
    story.converge(&["web-3"]);
    story.drive();
    assert_eq!(story.written[4..], ["web-3", "web-4"]);
}

#[test]
fn an_undo_first_sees_to_it_that_nobody_writes_what_some_driver_has_noted() {
    let mut story = Story::new(4, "2,rest");
    story.drive();
    let generation =
        |story: &Story, server: &str| story.servers[&name(server)].document.known().map(|(generation, _)| *generation);
    // One was noted and is as it was then; another one was written since, by somebody who told of a hold.
    let noted = [generation(&story, "web-3"), generation(&story, "web-4").map(|noted| Generation(noted.0 - 1))];
    for (row, noted) in story.rollout.waves[1].rows.iter_mut().zip(noted) {
        row.noted = noted;
    }
    (story.rollout.stage, story.rollout.undo) = (RolloutStage::Undoing, Some(undo()));
    assert_eq!(story.decide(), Next::Close(vec![name("web-3")]));
    assert_eq!(story.drive(), Next::End(RolloutStage::Undone));
    assert_ne!(generation(&story, "web-3"), noted[0]);
    assert_eq!(
        (story.state("web-3"), story.written[2..].to_vec()),
        (RowState::Waiting, vec!["web-1".to_owned(), "web-2".to_owned()])
    );
}

#[test]
fn an_undo_leaves_a_held_server_until_its_hold_ends() {
    let mut story = Story::new(2, "1,rest");
    story.drive();
    story.settle(&["web-1"]);
    story.drive();
    (story.rollout.stage, story.rollout.undo) = (RolloutStage::Undoing, Some(undo()));
    let until = story.now + SignedDuration::from_hours(2);
    story.held.insert(name("web-1"), until);
    assert_eq!(story.drive(), Next::Wait(Waiting::Holds(until, vec![name("web-1")])));
    assert_eq!(story.written[2..], ["web-2"]);
    story.held.clear();
    assert_eq!(story.drive(), Next::End(RolloutStage::Undone));
}

#[test]
fn a_stage_of_a_newer_program_is_left_alone() {
    let mut story = Story::new(2, "1,rest");
    story.rollout.stage = RolloutStage::from("dreaming".to_owned());
    assert_eq!((story.drive(), story.written.len()), (Next::Wait(Waiting::Nothing), 0));
}

#[test]
fn an_agent_that_polls_every_second_has_a_minute_for_its_work() {
    let mut story = Story::new(2, "1,rest");
    let Reading::Known(status) = &mut story.servers.get_mut(&name("web-1")).unwrap().status else { panic!() };
    (status.agent.poll_seconds, status.agent.health_window_seconds) = (1, Some(2));
    story.drive();
    story.now += SignedDuration::from_secs(60);
    assert_eq!(story.state("web-1"), RowState::Pending);
    story.now += SignedDuration::from_secs(1);
    assert_eq!(story.state("web-1"), RowState::Silent);
}
