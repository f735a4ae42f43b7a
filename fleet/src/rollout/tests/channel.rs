//! Rollouts of a channel.

use bucket::{AppState, Channel, MoveKind, RolledBackBy, Rollout, RolloutStage, Timestamp, Uncounted, Verdict};
use jiff::SignedDuration;

use super::story::{Story, name};
use crate::{
    channel::change::{Said, moved},
    condition::tests::release,
    rollout::{
        channel::{Turn, after, last, turn},
        next::{Next, Stop},
    },
};

fn at(hour: u8) -> Timestamp {
    format!("2026-11-20T{hour:02}:00:00Z").parse().unwrap()
}

/// A channel that was pointed to these releases at these hours.
fn channel(moves: &[(u8, u8, MoveKind)]) -> Channel {
    let start = Channel::new("web".parse().unwrap(), "prod".parse().unwrap(), "w", "", at(0));
    let said = |hour| Said { by: "dev", why: "", at: at(hour) };
    moves.iter().fold(start, |channel, (n, hour, kind)| moved(&channel, &release(*n), kind.clone(), said(*hour)))
}

/// A rollout of a release that began at that hour.
fn rollout(id: &str, n: u8, hour: u8, stage: RolloutStage) -> Rollout {
    let rollout = Story::new(2, "1,rest").rollout;
    Rollout { id: id.parse().unwrap(), release: release(n), began: at(hour), stage, ..rollout }
}

/// What is done, in words.
fn words(channel: &Channel, rollouts: &[Rollout]) -> String {
    match turn(channel, rollouts.iter()) {
        Turn::Free => "free".to_owned(),
        Turn::CarryOn(rollout) => format!("carry on {}", rollout.id),
        Turn::Decide(rollout, decision, _) => format!("{decision} {}", rollout.id),
        Turn::Stays(rollout) => format!("{} stays", rollout.id),
    }
}

#[test]
fn one_goes_on_at_a_time_and_keeps_to_its_release_until_a_person_points_elsewhere() {
    use MoveKind::{Forward, Rollback, Set};
    use RolloutStage::{Abandoned, Done, Running, Stopped, Undoing, Undone};
    let to = |moves: &[(u8, u8, MoveKind)]| channel(moves);
    let two = to(&[(1, 5, Forward), (2, 8, Forward)]);
    let three = to(&[(2, 8, Forward), (3, 10, Forward)]);
    for (channel, n, stage, want) in [
        (&two, 2, Running, "carry on a"),
        (&two, 2, Undoing, "carry on a"),
        (&two, 2, Done, "free"),
        // It moved meanwhile, forward.
        (&three, 2, Running, "carry on a"),
        (&three, 2, Stopped, "abandon a"),
        (&three, 2, Abandoned, "free"),
        (&three, 2, Undone, "free"),
        // Of what it points to still nothing goes on that a person ended, or is to decide about.
        (&two, 2, Stopped, "a stays"),
        (&two, 2, Abandoned, "a stays"),
        (&two, 2, Undone, "a stays"),
        (&two, 2, RolloutStage::Other("resting".to_owned()), "carry on a"),
        // A person pointed it elsewhere, also if it moves again since, or the watcher had not seen it when it began.
        (&to(&[(2, 8, Forward), (1, 10, Rollback)]), 2, Running, "abandon a"),
        (&to(&[(2, 8, Forward), (1, 10, Rollback)]), 2, Undoing, "abandon a"),
        (&to(&[(2, 8, Forward), (1, 10, Set), (3, 11, Forward)]), 2, Running, "abandon a"),
        (&to(&[(2, 7, Forward), (1, 8, Rollback)]), 2, Running, "abandon a"),
        // What they did before it began doesn't matter.
        (&to(&[(1, 7, Rollback), (2, 8, Forward)]), 2, Running, "carry on a"),
        (&to(&[(2, 8, Set)]), 2, Running, "carry on a"),
        // Who points it there once more means it.
        (&to(&[(2, 8, Forward), (2, 10, Set)]), 2, Stopped, "abandon a"),
        (&to(&[(2, 8, Forward), (2, 10, Set)]), 2, Abandoned, "free"),
    ] {
        let rollouts = [rollout("z", 1, 6, Done), rollout("a", n, 9, stage.clone())];
        assert_eq!(words(channel, &rollouts), want, "{stage:?} {:?}", channel.history);
    }
    assert_eq!(words(&two, &[]), "free");
}

#[test]
fn what_any_follower_rolled_back_stops_its_rollout_unless_a_person_had_it_go_on() {
    let mut of_two = channel(&[(2, 8, MoveKind::Forward), (3, 10, MoveKind::Forward)]);
    let entry = |n, server| RolledBackBy {
        release: release(n),
        server: name(server),
        at: at(11),
        why: String::new(),
        other: serde_json::Map::new(),
    };
    of_two.rolled_back = vec![entry(3, "web-9")];
    let mut going = rollout("a", 2, 9, RolloutStage::Running);
    assert_eq!(words(&of_two, std::slice::from_ref(&going)), "carry on a");
    for server in ["web-1", "web-9"] {
        of_two.rolled_back = vec![entry(2, server)];
        assert_eq!(words(&of_two, std::slice::from_ref(&going)), "stop a", "{server}");
    }
    let verdict =
        |hour| Verdict { what: "continue".into(), wave: 1, by: "dev".into(), at: at(hour), why: String::new() };
    going.verdicts = vec![verdict(10)];
    assert_eq!(words(&of_two, std::slice::from_ref(&going)), "stop a", "that was before");
    going.verdicts = vec![verdict(12)];
    assert_eq!(words(&of_two, std::slice::from_ref(&going)), "carry on a");
    // Whoever was excused may be seen by the watcher later.
    (going.verdicts, of_two.rolled_back) = (Vec::new(), vec![entry(2, "web-1")]);
    going.rows_mut().for_each(|row| row.uncounted = Some(Uncounted::Excused));
    assert_eq!(words(&of_two, std::slice::from_ref(&going)), "carry on a");
}

#[test]
fn all_who_begin_the_next_one_call_it_the_same_and_it_is_the_last_then_whatever_their_clocks_say() {
    let of = (&"web".parse().unwrap(), &"prod".parse().unwrap());
    let mut rollouts = Vec::new();
    // Clocks of several watchers, each behind the one before.
    for (n, hour) in [(1, 9), (2, 8), (3, 7)] {
        let next = after(of, last(rollouts.iter()), at(hour));
        assert_eq!(after(of, last(rollouts.iter()), at(20)).0, next.0);
        let began = Rollout { began: next.1, ..rollout(next.0.as_str(), n, 0, RolloutStage::Done) };
        assert!(!rollouts.iter().any(|known: &Rollout| known.id == began.id));
        rollouts.push(began);
        assert_eq!(last(rollouts.iter()).map(|last| &last.release), Some(&release(n)));
    }
    let other = (&"web".parse().unwrap(), &"beta".parse().unwrap());
    assert_ne!(after(other, None, at(9)).0, after(of, None, at(9)).0);
}

#[test]
fn what_a_channel_brings_stops_when_one_rolls_it_back_whatever_it_stops_at_and_waits_for_nobody_on_hold() {
    for (state, stops) in [(AppState::Quarantined, true), (AppState::Degraded, true), (AppState::Failed, false)] {
        let mut story = Story::new(3, "1,rest");
        (story.rollout.channel, story.rollout.rules.stop_at) = (Some("prod".parse().unwrap()), 3);
        story.drive();
        story.report("web-1", state);
        let stopped = story.drive() == Next::Stop(Stop::RolledBack(vec![name("web-1")]));
        assert_eq!((stopped, story.written.len()), (stops, 1), "{state:?}");
        story.rollout.stage = RolloutStage::Running;
        story.rollout.rows_mut().for_each(|row| row.uncounted = Some(Uncounted::Excused));
        assert!(!matches!(story.drive(), Next::Stop(_)), "a person had it go on");
    }
    let mut story = Story::new(2, "1,rest");
    story.rollout.channel = Some("prod".parse().unwrap());
    story.drive();
    story.held.insert(name("web-2"), story.now + SignedDuration::from_hours(4));
    story.settle(&["web-1"]);
    assert_eq!(story.drive(), Next::End(RolloutStage::Done));
    assert_eq!(story.written, ["web-1"]);
}
