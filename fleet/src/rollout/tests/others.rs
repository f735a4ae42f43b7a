//! What others do to the servers of a rollout, and how it waits for them.

use bucket::{AppState, Generation, RolloutStage};
use jiff::SignedDuration;

use super::story::{Story, name, reports};
use crate::{
    condition::tests::release,
    rollout::{
        next::{Next, Waiting},
        observe::RowState,
    },
    server::Reading,
};
#[test]
fn taken_over_by_another_push() {
    let mut story = Story::new(3, "1,rest");
    story.drive();
    story.push("web-1", "other", 3);
    story.push("web-2", "other", 3);
    assert_eq!(story.drive(), reports(&["web-3"]));
    let RowState::Left(why) = story.state("web-2") else { panic!("it is still of the rollout") };
    assert!(why.contains(&release(3).stem().to_string()), "{why}");
    story.settle(&["web-3"]);
    assert_eq!(story.drive(), Next::End(RolloutStage::Done));
    assert_eq!(story.written, ["web-1", "web-1", "web-2", "web-3"]);
}

#[test]
fn another_app_of_the_server_takes_nothing_over() {
    let mut story = Story::new(2, "1,rest");
    story.drive();
    let server = story.servers.get_mut(&name("web-1")).unwrap();
    let Reading::Known((generation, document)) = &server.document else { panic!() };
    let metadata = document.metadata().clone().carried(*generation, &[]);
    server.document = Reading::Known((Generation(generation.0 + 1), document.clone().with_metadata(metadata)));
    story.settle(&["web-1"]);
    assert_eq!(story.drive(), reports(&["web-2"]));
}

#[test]
fn document_is_gone() {
    let mut story = Story::new(2, "1,rest");
    story.drive();
    story.servers.get_mut(&name("web-1")).unwrap().document = Reading::Absent;
    assert_eq!(story.drive(), reports(&["web-2"]));
    assert_eq!(story.state("web-1"), RowState::Left("its document is gone".into()));
}

#[test]
fn silent_at_planning_counts_for_nothing() {
    let mut servers = Story::new(4, "rest").servers;
    let now = Story::new(1, "rest").now;
    servers.get_mut(&name("web-1")).unwrap().status = Reading::Absent;
    let mut story = Story::with(now, servers, "1,50%,rest");
    assert_eq!(story.waves(), [vec!["web-2"], vec!["web-3", "web-4"], vec!["web-1"]]);
    story.drive();
    story.settle(&["web-2"]);
    story.drive();
    story.settle(&["web-3", "web-4"]);
    assert_eq!(story.drive(), Next::End(RolloutStage::Done));
    assert_eq!(story.written, ["web-2", "web-3", "web-4", "web-1"]);
    story.pass(60);
    assert_eq!(story.state("web-1"), RowState::Silent);
}

#[test]
fn no_more_are_out_than_the_budget_allows() {
    let mut story = Story::new(8, "1,rest");
    story.rollout.budgets[0].allowed = 2;
    story.drive();
    story.settle(&["web-1"]);
    let waiting = Waiting::Budget { group: Some("prod".into()), out: 2, size: 8, allowed: 2 };
    assert_eq!(story.drive(), Next::Wait(waiting.clone()));
    assert_eq!(story.written, ["web-1", "web-2", "web-3"]);
    assert_eq!(waiting.to_string(), "waiting until fewer servers of group prod are out: 2 of 8 out, 2 allowed");
    story.converge(&["web-2"]);
    story.drive();
    assert_eq!(story.written, ["web-1", "web-2", "web-3", "web-4"]);
    // What is out already may be written: it can't be more out than that.
    story.report("web-7", AppState::Failed);
    story.drive();
    assert_eq!(story.written[4..], ["web-7"]);
}

#[test]
fn a_halt_pauses_and_a_held_server_waits() {
    let mut story = Story::new(4, "1,2,rest");
    let until = story.now + SignedDuration::from_hours(2);
    story.held.insert(name("web-2"), until);
    story.halted = true;
    assert_eq!((story.drive(), story.written.len()), (Next::Wait(Waiting::Halt), 0));
    story.halted = false;
    story.drive();
    story.settle(&["web-1"]);
    story.drive();
    assert_eq!(story.written, ["web-1", "web-3"]);
    story.settle(&["web-3"]);
    story.drive();
    story.settle(&["web-4"]);
    assert_eq!(story.drive(), Next::Wait(Waiting::Holds(until, vec![name("web-2")])));
    story.held.clear();
    assert_eq!(story.drive(), reports(&["web-2"]));
    assert_eq!(story.written, ["web-1", "web-3", "web-4", "web-2"]);
}
