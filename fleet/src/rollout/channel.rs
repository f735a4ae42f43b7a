//! The rollouts of a channel, of which one goes on at a time. Pure.

use bucket::{
    AppName, Channel, ChannelName, Move, MoveKind, PushId, RolledBackBy, Rollout, RolloutStage, Timestamp, Uncounted,
};
use jiff::SignedDuration;

use super::decide::Decision;

/// What a channel does about its rollouts before anything else.
#[derive(Debug, Clone, PartialEq)]
pub enum Turn<'a> {
    /// Nothing: followers that are behind get what it points to.
    Free,
    /// This one is carried on, and what the channel points to by now goes out after it.
    CarryOn(&'a Rollout),
    /// This is decided about it, and why.
    Decide(&'a Rollout, Decision, String),
    /// It brought what the channel points to, and did not reach all: what it has not written stays as it is until a person
    /// decides otherwise, or the channel points elsewhere.
    Stays(&'a Rollout),
}

/// What a channel does about its rollouts, of which `rollouts` has at least those that are not over, and the last one.
pub fn turn<'a>(channel: &Channel, rollouts: impl Iterator<Item = &'a Rollout> + Clone) -> Turn<'a> {
    let open = rollouts.clone().filter(|rollout| !rollout.stage.is_over()).min_by_key(|rollout| rollout.began);
    let Some(open) = open else {
        // Whoever undid or abandoned it doesn't want it to go on as another one.
        let last = last(rollouts).filter(|last| last.stage != RolloutStage::Done && brings(last, channel));
        return last.map_or(Turn::Free, Turn::Stays);
    };
    match open.stage {
        RolloutStage::Running | RolloutStage::Undoing => {
            if let Some(there) = pointed_elsewhere(channel, open) {
                let why = format!("`{}` pointed the channel to `{}`", there.by, there.release.commit().short());
                return Turn::Decide(open, Decision::Abandon, why);
            }
            match rolled_back(channel, open).filter(|_| open.stage == RolloutStage::Running) {
                Some(by) => Turn::Decide(open, Decision::Stop, format!("`{}` rolled the release back", by.server)),
                None => Turn::CarryOn(open),
            }
        }
        RolloutStage::Stopped if brings(open, channel) => Turn::Stays(open),
        RolloutStage::Stopped => Turn::Decide(open, Decision::Abandon, "the channel points elsewhere".to_owned()),
        _ => Turn::CarryOn(open),
    }
}

/// The last rollout of a channel.
pub fn last<'a>(rollouts: impl Iterator<Item = &'a Rollout>) -> Option<&'a Rollout> {
    rollouts.max_by_key(|rollout| rollout.began)
}

/// What the rollout after the last one is called, and when it begins. All who know the same last one call the next one the same,
/// so that only one of them begins it; and it is the last one then, whatever the clocks say.
pub fn after((app, channel): (&AppName, &ChannelName), last: Option<&Rollout>, now: Timestamp) -> (PushId, Timestamp) {
    let before = last.map_or("", |last| last.id.as_str());
    let earliest = last.and_then(|last| last.began.checked_add(SignedDuration::from_micros(1)).ok());
    (PushId::derived(&[app.as_str(), channel.as_str(), before]), earliest.map_or(now, |earliest| earliest.max(now)))
}

/// What the next round would do about a channel's rollout, or that it keeps the channel's release from going out, in a sentence's words;
/// `None` if it is over and keeps nothing.
pub fn next_of(channel: &Channel, rollout: &Rollout) -> Option<String> {
    let Rollout { id, stage, .. } = rollout;
    let name = format!("rollout {id} of {}", rollout.release.stem());
    let wave = format!("wave {} of {}", rollout.begun_waves().max(1), rollout.waves.len());
    match stage {
        RolloutStage::Running => Some(format!("carries {name} on: {wave}")),
        RolloutStage::Undoing => Some(format!("carries the undo of {name} on")),
        RolloutStage::Stopped if brings(rollout, channel) => {
            let why = rollout.stopped.as_deref().unwrap_or("a person wants that");
            Some(format!(
                "pushes to nobody, because {name} has stopped in {wave}: {why}; `push rollout continue {id}` goes on, \
                 `push rollout undo {id}` restores what ran before"
            ))
        }
        RolloutStage::Stopped => Some(format!("abandons {name}, which has stopped")),
        RolloutStage::Undone | RolloutStage::Abandoned if brings(rollout, channel) => {
            let was = stage.as_str();
            Some(format!(
                "leaves servers where they are that {name} has not written, because it was {was}; `push channel set` has it go \
                out once more"
            ))
        }
        _ => None,
    }
}

/// Whether a rollout was begun for what the channel points to since it was pointed there.
fn brings(rollout: &Rollout, channel: &Channel) -> bool {
    channel.release.as_ref() == Some(&rollout.release) && channel.moved <= rollout.began
}

/// That a person has pointed the channel to another release than a rollout brings, since that began. They may have let it move
/// again meanwhile.
fn pointed_elsewhere<'a>(channel: &'a Channel, rollout: &Rollout) -> Option<&'a Move> {
    let by_hand = channel.history.iter().find(|entry| matches!(entry.kind, MoveKind::Set | MoveKind::Rollback))?;
    let is_since = channel.is_pointed() || by_hand.at >= rollout.began;
    (is_since && by_hand.release != rollout.release).then_some(by_hand)
}

/// Which follower rolled the release of a rollout back, unless a person had it go on all the same.
fn rolled_back<'a>(channel: &'a Channel, rollout: &Rollout) -> Option<&'a RolledBackBy> {
    let continued = rollout.verdicts.iter().filter(|verdict| verdict.what == Decision::Continue.as_str());
    let continued = continued.map(|verdict| verdict.at).max();
    channel.rolled_back.iter().find(|entry| {
        let is_excused = rollout.row(&entry.server).is_some_and(|row| row.uncounted == Some(Uncounted::Excused));
        entry.release == rollout.release && !is_excused && continued.is_none_or(|at| entry.at > at)
    })
}
