//! What is swept away: pure functions of what it is, how old it is, and what became of its change.

use std::{collections::BTreeSet, fmt};

use bucket::{Change, ChangeState};
use jiff::SignedDuration;

use crate::change::candidates::promotable;

/// Nothing younger is deleted, whatever became of its change: whoever wrote it may be about to use it.
const MIN_AGE: SignedDuration = SignedDuration::from_hours(1);

/// What is about to be merged, or was merged and not promoted yet, is kept that long: a failed promotion is made up for. So are
/// files of runs, which somebody may want to look into.
const MONTH: SignedDuration = SignedDuration::from_hours(30 * 24);

/// What may be swept away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A candidate in the candidate bucket, or an image in the registry of candidates.
    Built,
    /// A candidate in the bucket of the releases, or an image in production's registry.
    Gated,
    /// The overlay of a buildset on this machine, and what is recorded of it.
    Overlay,
    /// What is recorded of a buildset on another machine, by which `sweep` finds the overlay there, or what can't be read.
    Elsewhere,
    /// What lies where candidates do, and is none.
    Stray,
    /// A file that is kept of a run, in either bucket.
    Artifact,
}

/// What its age says of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ByAge {
    /// It stays.
    Stays,
    /// It goes.
    Goes,
    /// It goes if it, or its change, has ended ([`ended`], [`gated_ended`]).
    Depends,
}

/// Why something goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Why {
    /// By its age.
    Old(SignedDuration),
    /// Its change was promoted.
    Promoted,
    /// Its change was abandoned.
    Abandoned,
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Old(age) => write!(f, "{} old", console::age(*age)),
            Self::Promoted => f.write_str("its change was promoted"),
            Self::Abandoned => f.write_str("its change was abandoned"),
        }
    }
}

/// What becomes of something of this age; `older_than` is what somebody asked for. All of the time that has passed counts: a
/// day and a minute is older than a day.
pub(crate) fn by_age(kind: Kind, age: SignedDuration, older_than: SignedDuration) -> ByAge {
    match kind {
        _ if age < MIN_AGE => ByAge::Stays,
        _ if age > limit(kind, older_than) => ByAge::Goes,
        Kind::Elsewhere | Kind::Stray | Kind::Artifact => ByAge::Stays,
        Kind::Built | Kind::Gated | Kind::Overlay => ByAge::Depends,
    }
}

/// The age over which something goes, whatever became of its change.
pub(crate) fn limit(kind: Kind, older_than: SignedDuration) -> SignedDuration {
    match kind {
        Kind::Built | Kind::Overlay => older_than,
        Kind::Gated | Kind::Elsewhere | Kind::Stray | Kind::Artifact => older_than.max(MONTH),
    }
}

/// Why nothing of a change is of use any more, if it is so; `released` are those of its candidates, by where
/// they lie, that are releases by now, or images of the branch.
pub(crate) fn ended(change: &Change, released: &BTreeSet<String>) -> Option<Why> {
    let promotable = promotable(change);
    let all_are = !promotable.is_empty() && promotable.iter().all(|candidate| released.contains(&candidate.path));
    match change.state {
        ChangeState::Abandoned => Some(Why::Abandoned),
        ChangeState::Merged if all_are => Some(Why::Promoted),
        ChangeState::Merged | ChangeState::Open => None,
    }
}

/// The same of what was gated. Whoever tries may write what is recorded of a change, so nothing of that makes it go at once: it
/// goes once it is a release itself, with these bytes, or is as old as what was built and its change was abandoned.
pub(crate) fn gated_ended(
    is_released: bool,
    change: Option<&Why>,
    age: SignedDuration,
    older_than: SignedDuration,
) -> Option<Why> {
    match change {
        _ if is_released => Some(Why::Promoted),
        Some(Why::Abandoned) if age > older_than => Some(Why::Abandoned),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{
        ByAge::{Depends, Goes, Stays},
        *,
    };

    #[test]
    fn age_is_whole_elapsed_time_and_what_is_gated_survives_a_weekend() {
        let (day, week) = (SignedDuration::from_hours(24), SignedDuration::from_hours(7 * 24));
        let minutes = |hours: i64, minutes: i64| SignedDuration::from_mins(hours * 60 + minutes);
        for (kind, age, older_than, expected) in [
            (Kind::Built, minutes(0, 59), day, Stays),
            (Kind::Built, minutes(0, 59), SignedDuration::ZERO, Stays),
            (Kind::Built, minutes(1, 1), SignedDuration::ZERO, Goes),
            (Kind::Built, minutes(23, 0), day, Depends),
            (Kind::Built, minutes(24, 0), day, Depends),
            (Kind::Built, minutes(24, 1), day, Goes),
            (Kind::Built, minutes(73, 0), day, Goes),
            (Kind::Built, week, day, Goes),
            (Kind::Built, minutes(73, 0), week, Depends),
            (Kind::Gated, minutes(0, 30), day, Stays),
            (Kind::Gated, minutes(73, 0), day, Depends),
            (Kind::Gated, minutes(30 * 24, 0), day, Depends),
            (Kind::Gated, minutes(30 * 24, 1), day, Goes),
            (Kind::Gated, minutes(30 * 24, 1), week * 8, Depends),
            (Kind::Overlay, minutes(0, 30), SignedDuration::ZERO, Stays),
            (Kind::Overlay, minutes(23, 0), day, Depends),
            (Kind::Overlay, minutes(25, 0), day, Goes),
            (Kind::Elsewhere, minutes(73, 0), day, Stays),
            (Kind::Elsewhere, minutes(31 * 24, 0), day, Goes),
            (Kind::Stray, minutes(30 * 24, 0), day, Stays),
            (Kind::Stray, minutes(30 * 24, 1), day, Goes),
            (Kind::Stray, minutes(31 * 24, 0), week * 8, Stays),
            (Kind::Artifact, minutes(30 * 24, 0), day, Stays),
            (Kind::Artifact, minutes(30 * 24, 1), day, Goes),
            (Kind::Artifact, minutes(31 * 24, 0), week * 8, Stays),
        ] {
            assert_eq!(by_age(kind, age, older_than), expected, "{kind:?} {age:#} {older_than:#}");
        }
    }

    #[test]
    fn a_change_is_promoted_when_all_that_was_gated_last_is_released() {
        let release = |app: &str, minute: u32| {
            let commit = "7e0ff6059e653eb75a36efb621d0fd66d1ced433";
            format!("{app}/{app}:dev@ci:2026-11-20T19:{minute:02}:00Z:{commit}.deb")
        };
        let candidate = |app: &str, minute: u32, patchset: u32, gate: bool| {
            json!({
                "type": "deb", "app": app, "release": release(app, minute), "sha256": "07".repeat(32), "size": 3,
                "path": release(app, minute), "build": "b", "patchset": patchset, "gate": gate, "at": "2026-11-20T19:00:00Z",
            })
        };
        let change = |state: &str| -> Change {
            serde_json::from_value(json!({
                "schema": 1, "project": "web", "change": "12", "patchset": 2, "commit": "7".repeat(40),
                "tree": "7".repeat(40), "branch": "main", "needs": [], "state": state,
                "candidates": [candidate("web", 1, 1, true), candidate("web", 2, 2, true), candidate("web", 3, 2, true),
                    candidate("lib", 4, 2, true), candidate("cron", 5, 2, false)],
                "updated": "2026-11-20T19:00:00Z", "by": "dev@ci",
            }))
            .unwrap()
        };
        let all = BTreeSet::from([release("web", 3), release("lib", 4)]);
        for (state, released, expected) in [
            ("merged", all.clone(), Some(Why::Promoted)),
            ("merged", BTreeSet::from([release("web", 3)]), None),
            ("merged", BTreeSet::from([release("web", 2), release("lib", 4)]), None),
            ("merged", BTreeSet::new(), None),
            ("open", all, None),
            ("abandoned", BTreeSet::new(), Some(Why::Abandoned)),
        ] {
            assert_eq!(ended(&change(state), &released), expected, "{state} {released:?}");
        }
        let mut nothing_gated = change("merged");
        nothing_gated.candidates.truncate(1);
        assert_eq!(ended(&nothing_gated, &BTreeSet::new()), None);
    }

    #[test]
    fn of_what_is_gated_the_word_of_its_change_makes_nothing_go_at_once() {
        let (hours, day) = (SignedDuration::from_hours, SignedDuration::from_hours(24));
        for (is_released, change, age, expected) in [
            (true, None, hours(2), Some(Why::Promoted)),
            (false, Some(Why::Promoted), hours(25), None),
            (false, Some(Why::Abandoned), hours(2), None),
            (false, Some(Why::Abandoned), hours(25), Some(Why::Abandoned)),
            (false, None, hours(25), None),
        ] {
            assert_eq!(gated_ended(is_released, change.as_ref(), age, day), expected, "{is_released} {change:?}");
        }
    }
}
