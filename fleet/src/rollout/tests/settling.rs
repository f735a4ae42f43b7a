//! Servers that settle, and those that fall silent.

use bucket::{AppState, RolloutStage};
use jiff::SignedDuration;

use super::story::{Story, name, reports};
use crate::{
    rollout::{
        next::{Next, Stop, Waiting},
        observe::RowState,
    },
    server::Reading,
};
#[test]
fn a_wave_is_written_when_the_one_before_has_settled() {
    let mut story = Story::new(3, "1,rest");
    assert_eq!(story.drive(), reports(&["web-1"]));
    assert_eq!(story.written, ["web-1"]);
    story.converge(&["web-1"]);
    let until = story.now + SignedDuration::from_mins(2);
    assert_eq!(story.drive(), Next::Wait(Waiting::Settling(until, vec![name("web-1")])));
    // That time has passed is not enough: it must say so once more.
    story.pass(3);
    assert_eq!(story.drive(), Next::Wait(Waiting::Settling(until, vec![name("web-1")])));
    story.converge(&["web-1"]);
    assert_eq!(story.drive(), reports(&["web-2", "web-3"]));
    assert_eq!(story.written, ["web-1", "web-2", "web-3"]);
    story.settle(&["web-2", "web-3"]);
    assert_eq!(story.drive(), Next::End(RolloutStage::Done));
    assert_eq!(story.drive(), Next::Wait(Waiting::Nothing));
}

#[test]
fn a_server_that_dies_right_after_its_first_report_has_not_settled() {
    let mut story = Story::new(2, "1,rest");
    story.drive();
    story.converge(&["web-1"]);
    story.drive();
    // Two polls, a health window, and the time to settle.
    story.pass(14);
    assert_eq!(
        (story.state("web-1"), story.drive()),
        (RowState::Silent, Next::Stop(Stop::Failures(vec![name("web-1")])))
    );
}

#[test]
fn server_falls_silent() {
    let mut story = Story::new(2, "1,rest");
    story.drive();
    story.pass(10);
    assert_eq!(story.drive(), reports(&["web-1"]));
    story.pass(2);
    assert_eq!(story.drive(), Next::Stop(Stop::Failures(vec![name("web-1")])));
}

#[test]
fn enough_is_all_of_ten_and_most_of_more() {
    let mut story = Story::new(41, "20,rest");
    story.rollout.rules.stop_at = 3;
    story.drive();
    let first: Vec<String> = story.written.clone();
    let first: Vec<&str> = first.iter().map(String::as_str).collect();
    assert_eq!(first.len(), 20);
    story.report(first[0], AppState::Quarantined);
    story.settle(&first[1..]);
    story.drive();
    assert_eq!(story.written.len(), 41, "19 of 20 are enough");
    let mut story = Story::new(41, "10,rest");
    story.rollout.rules.stop_at = 3;
    story.drive();
    let first: Vec<String> = story.written.clone();
    let first: Vec<&str> = first.iter().map(String::as_str).collect();
    story.report(first[0], AppState::Quarantined);
    story.settle(&first[1..]);
    assert_eq!((story.drive(), story.written.len()), (reports(&first[..1]), 10));
    story.pass(31);
    for server in &first[1..] {
        story.report(server, AppState::Converged);
    }
    story.report(first[0], AppState::Quarantined);
    assert_eq!(story.drive(), Next::Stop(Stop::TooSlow(1, vec![name(first[0])])));
    // A person has it go on: it gets its time once more.
    story.rollout.stage = RolloutStage::Running;
    story.verdict("continue", 1);
    assert_eq!(story.drive(), reports(&first[..1]));
    story.settle(&first[..1]);
    story.drive();
    assert_eq!(story.written.len(), 41);
}

#[test]
fn nobody_drives_while_a_server_settles() {
    let mut story = Story::new(2, "1,rest");
    story.drive();
    // Its reports that it runs the release, and that it still does, are overwritten by heartbeats.
    for minutes in [2, 3, 15, 15, 15] {
        story.pass(minutes);
        story.converge(&["web-1"]);
    }
    story.pass(14);
    assert_eq!(story.drive(), reports(&["web-2"]));
    assert_eq!((story.state("web-1"), story.written.len()), (RowState::Settled, 2));
}

#[test]
fn whatever_a_servers_clock_says_it_settles_no_earlier_than_it_can_have() {
    for wild in ["1970-01-01T00:00:00Z", "2026-11-20T19:59:00Z", "2040-01-01T00:00:00Z"] {
        let mut story = Story::new(2, "1,rest");
        let written = story.now;
        story.drive();
        story.pass(1);
        story.converge(&["web-1"]);
        let Some(Reading::Known(status)) = story.servers.get_mut(&name("web-1")).map(|server| &mut server.status)
        else {
            panic!("it has reported")
        };
        status.apps[0].since = wild.parse().unwrap();
        let since = if wild > "2030" { story.now } else { written };
        story.drive();
        assert_eq!(story.state("web-1"), RowState::Settling(since + SignedDuration::from_mins(2)), "{wild}");
    }
}

#[test]
fn an_agent_that_was_started_anew_while_its_server_settles_is_not_silent() {
    let mut story = Story::new(2, "1,rest");
    (story.rollout.rules.settle_seconds, story.rollout.rules.within_seconds) = (3600, 7200);
    story.drive();
    for minutes in [1, 15, 15, 15] {
        story.pass(minutes);
        story.converge(&["web-1"]);
        story.drive();
    }
    // It has settled after an hour, and says so at its heartbeat, or an hour after it was started anew.
    story.pass(32);
    assert!(matches!(story.drive(), Next::Wait(Waiting::Settling(..))), "{:?}", story.state("web-1"));
    story.converge(&["web-1"]);
    assert_eq!(story.drive(), reports(&["web-2"]));
}

#[test]
fn a_server_that_dies_while_it_settles_for_long_is_missed_at_its_heartbeats() {
    let mut story = Story::new(2, "1,rest");
    (story.rollout.rules.settle_seconds, story.rollout.rules.within_seconds) = (3600, 7200);
    story.drive();
    story.converge(&["web-1"]);
    story.pass(35);
    assert!(matches!(story.drive(), Next::Wait(Waiting::Settling(..))));
    story.pass(1);
    assert_eq!(story.drive(), Next::Stop(Stop::Failures(vec![name("web-1")])));
}
