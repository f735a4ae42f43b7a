//! What a person changes about a channel: pure.

use bucket::{Channel, Frozen, Move, MoveKind, ReleaseName, Timestamp};
use serde_json::Map;
use thiserror::Error;

/// What moves a channel.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Moves {
    /// Every newer release of its branch.
    #[default]
    Newest,
    /// Only who is told to.
    Told,
}

impl Moves {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Newest, Self::Told];

    /// As the policy file spells it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Newest => "newest",
            Self::Told => "told",
        }
    }
}

/// What a person wants of a channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// That it points to a release, wherever that is.
    Set(Set),
    /// That it points to what it pointed to before, and stays there.
    Rollback,
    /// That it moves only by hand.
    Freeze,
    /// That it moves again.
    Resume,
}

/// Where a channel is to point.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Set {
    /// The release.
    pub release: ReleaseName,
    /// Whether though it has not gone through the channel before ([`super::choose::soaked`]).
    pub without_soak: bool,
}

/// Who wants it, why, and when that is.
#[derive(Debug, Clone, Copy)]
pub struct Said<'a> {
    /// Who.
    pub by: &'a str,
    /// Their reason, in their words.
    pub why: &'a str,
    /// The time by the bucket's clock.
    pub at: Timestamp,
}

/// Why a channel stays as it is.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Unchanged {
    /// It points there already.
    #[error("`{0}` is what the channel points to already; `freeze` keeps it there")]
    There(String),
    /// It pointed to nothing else before.
    #[error("the channel pointed to nothing else before: name the release, with `set`")]
    NothingBefore,
    /// It moves only by hand already.
    #[error("the channel is frozen already, by `{by}` at {at}: {why}", by = console::safe(&.0.by), at = .0.at, why = console::safe(&.0.why))]
    Frozen(Frozen),
    /// Nothing keeps it from moving.
    #[error("the channel is not frozen")]
    NotFrozen,
}

/// The channel after a change. `freezes` says whether it stays where it is set to; after a rollback it always does.
///
/// # Errors
/// Why nothing would change.
pub fn changed(channel: &Channel, change: &Change, freezes: bool, said: Said) -> Result<Channel, Unchanged> {
    let frozen = || {
        let (by, why) = (said.by.to_owned(), said.why.to_owned());
        Some(Frozen { by, at: said.at, why, because: None, other: Map::new() })
    };
    let mut changed = channel.clone();
    match change {
        Change::Set(Set { release, without_soak }) => {
            let is_rolled_back = channel.rolled_back.iter().any(|entry| entry.release == *release);
            if channel.release.as_ref() == Some(release) && !is_rolled_back {
                return Err(Unchanged::There(release.stem().to_owned()));
            }
            changed = moved(channel, release, MoveKind::Set, said);
            changed.rolled_back.retain(|entry| entry.release != *release);
            changed.history.iter_mut().take(1).for_each(|entry| entry.without_soak = *without_soak);
            if freezes {
                changed.frozen = frozen();
            }
        }
        Change::Rollback => {
            let before = before(channel).ok_or(Unchanged::NothingBefore)?;
            changed = moved(channel, before, MoveKind::Rollback, said);
            changed.frozen = frozen();
        }
        Change::Freeze => match &channel.frozen {
            Some(frozen) => return Err(Unchanged::Frozen(frozen.clone())),
            None => changed.frozen = frozen(),
        },
        Change::Resume => {
            changed.frozen.take().ok_or(Unchanged::NotFrozen)?;
        }
    }
    Ok(changed)
}

/// The channel when it points to a release.
pub fn moved(channel: &Channel, release: &ReleaseName, kind: MoveKind, said: Said) -> Channel {
    let (by, why) = (said.by.to_owned(), said.why.to_owned());
    let entry = Move {
        release: release.clone(),
        at: said.at,
        by: by.clone(),
        why: why.clone(),
        kind,
        without_soak: false,
        ran: None,
        other: Map::new(),
    };
    let history = std::iter::once(entry).chain(channel.history.iter().cloned()).collect();
    Channel { release: Some(release.clone()), moved: said.at, by, why, history, ..channel.clone() }
}

/// What the channel pointed to before. Who goes back twice goes back twice: a move back to the release before takes away what
/// came after that.
pub fn before(channel: &Channel) -> Option<&ReleaseName> {
    let mut way: Vec<&ReleaseName> = Vec::new();
    for entry in channel.history.iter().rev() {
        let is_back = way.iter().nth_back(1) == Some(&&entry.release);
        let is_same = way.last() == Some(&&entry.release);
        if is_back {
            way.pop();
        } else if !is_same {
            way.push(&entry.release);
        }
    }
    way.into_iter().nth_back(1)
}

#[cfg(test)]
mod tests {
    use bucket::RolledBackBy;

    use super::*;

    fn release(n: u8) -> ReleaseName {
        format!("web/web:dev@build-1:2026-11-20T19:05:{n:02}Z:{n:040x}.deb").parse().unwrap()
    }

    fn said(why: &str) -> Said<'_> {
        Said { by: "dev", why, at: "2026-11-20T20:00:00Z".parse().unwrap() }
    }

    fn set(n: u8) -> Change {
        Change::Set(Set { release: release(n), without_soak: false })
    }

    fn channel(moves: &[u8]) -> Channel {
        let at = "2026-11-20T19:00:00Z".parse().unwrap();
        let mut channel = Channel::new("web".parse().unwrap(), "prod".parse().unwrap(), "dev", "first", at);
        for n in moves {
            channel = moved(&channel, &release(*n), MoveKind::Forward, said("newer"));
        }
        channel
    }

    #[test]
    fn who_goes_back_twice_goes_back_twice() {
        for (moves, expected) in [
            (&[][..], None),
            (&[1], None),
            (&[1, 2], Some(1)),
            (&[1, 2, 3], Some(2)),
            (&[1, 2, 3, 2], Some(1)),
            (&[1, 2, 3, 2, 1], None),
            (&[1, 2, 3, 2, 4], Some(2)),
            (&[1, 2, 1, 2], Some(1)),
            (&[1, 1, 2, 2], Some(1)),
        ] {
            assert_eq!(before(&channel(moves)), expected.map(release).as_ref(), "{moves:?}");
        }
        let mut going = channel(&[1, 2, 3]);
        for expected in [2, 1] {
            going = changed(&going, &Change::Rollback, true, said("too slow")).unwrap();
            assert_eq!(going.release, Some(release(expected)));
        }
        assert_eq!(changed(&going, &Change::Rollback, true, said("")), Err(Unchanged::NothingBefore));
    }

    #[test]
    fn what_a_person_points_it_to_it_stays_at() {
        let channel = channel(&[1, 2]);
        for (change, expected) in [(set(1), 1), (Change::Rollback, 1), (set(9), 9)] {
            let after = changed(&channel, &change, true, said("too slow")).unwrap();
            assert_eq!(after.release, Some(release(expected)), "{change:?}");
            let frozen = after.frozen.as_ref().unwrap();
            assert_eq!((frozen.by.as_str(), frozen.why.as_str()), ("dev", "too slow"));
            assert_eq!((after.why.as_str(), after.history.len()), ("too slow", 3));
            let resumed = changed(&after, &Change::Resume, true, said("mended")).unwrap();
            assert_eq!((resumed.frozen, resumed.release), (None, after.release.clone()));
            assert!(matches!(changed(&after, &Change::Freeze, true, said("")), Err(Unchanged::Frozen(_))));
        }
        assert!(matches!(changed(&channel, &set(2), true, said("")), Err(Unchanged::There(_))));
        assert_eq!(changed(&channel, &Change::Resume, true, said("")), Err(Unchanged::NotFrozen));
        let frozen = changed(&channel, &Change::Freeze, true, said("the fair")).unwrap();
        assert_eq!((frozen.release.as_ref(), frozen.history.len()), (channel.release.as_ref(), 2));
    }

    #[test]
    fn a_release_that_is_set_may_be_tried_again() {
        let mut channel = channel(&[1, 2]);
        let entry = |n| RolledBackBy {
            release: release(n),
            server: "web-1".parse().unwrap(),
            at: "2026-11-20T19:30:00Z".parse().unwrap(),
            why: "it crashed".to_owned(),
            other: Map::new(),
        };
        channel.rolled_back = vec![entry(2), entry(1)];
        let after = changed(&channel, &set(2), true, said("mended elsewhere")).unwrap();
        assert_eq!(after.rolled_back, [entry(1)]);
    }

    #[test]
    fn a_set_that_does_not_freeze_leaves_a_channel_as_frozen_as_it_was() {
        let channel = channel(&[1, 2]);
        let after = changed(&channel, &set(3), false, said("next")).unwrap();
        assert_eq!((after.release.clone(), after.frozen.clone()), (Some(release(3)), None));
        let frozen = changed(&after, &Change::Freeze, true, said("fair")).unwrap();
        assert_eq!(changed(&frozen, &set(4), false, said("next")).unwrap().frozen, frozen.frozen);
        let without_soak = Change::Set(Set { release: release(3), without_soak: true });
        let marked = changed(&channel, &without_soak, true, said("hotfix")).unwrap();
        let marks: Vec<bool> = marked.history.iter().map(|entry| entry.without_soak).collect();
        assert_eq!(marks, [true, false, false]);
    }
}
