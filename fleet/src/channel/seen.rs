//! What is known of a channel without git, from what a round of the watcher saw of it: pure.

use std::fmt;

use bucket::{
    Channel, ChannelState, LaterCommit, OffState, ReleaseName, ServerName, Soaking, Timestamp, WatcherReport,
};
use jiff::SignedDuration;
use thiserror::Error;

use super::{change::Moves, soaking::WaitsFor};

/// Where the release of a channel stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// So many commits of the branch landed after it.
    Behind(usize),
    /// Its commit is not on the branch.
    Off,
    /// No round has seen it yet.
    Unknown,
}

impl Place {
    /// Where the release of a channel stands, by what a round saw; that may have been before the channel was moved.
    pub fn of(channel: &Channel, state: Option<&ChannelState>) -> Option<Self> {
        let release = channel.release.as_ref()?;
        let Some(state) = state else { return Some(Self::Unknown) };
        Some(match behind(state, release) {
            Some(behind) => Self::Behind(behind),
            None if state.release.as_ref() == Some(release) => Self::Off,
            None => Self::Unknown,
        })
    }

    /// In words: `3 commits behind main`.
    pub fn words(self, branch: &str) -> String {
        match self {
            Self::Behind(0) => format!("the newest commit of {branch}"),
            Self::Behind(behind) => format!("{} behind {branch}", console::count(behind, "commit")),
            Self::Off => format!("not on {branch}"),
            Self::Unknown => "not known before the next round".to_owned(),
        }
    }
}

/// How many commits landed after that of a release; `None` if it isn't known.
fn behind(state: &ChannelState, release: &ReleaseName) -> Option<usize> {
    let is_own = state.release.as_ref().is_some_and(|own| own.commit() == release.commit());
    let own = || state.behind.filter(|_| is_own);
    later(state, release).or_else(own)
}

/// How many commits landed after that of a release which is among the last ones, by itself or, as one that was promoted, by
/// another commit than its own.
fn later(state: &ChannelState, release: &ReleaseName) -> Option<usize> {
    let is_it = |later: &LaterCommit| later.release.as_ref() == Some(release) || later.commit == *release.commit();
    state.later.iter().position(is_it)
}

/// Why it isn't known that a release is further on a branch than where a channel points.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum NotForward {
    /// What a round saw of the branch is absent, or can't be read.
    #[error("what the last round of `push watch` saw of its branch is not known")]
    NotSeen,
    /// Where the channel points isn't on it.
    #[error("where the channel points is not on its branch, as far as the last round saw")]
    Nowhere,
    /// It isn't among the commits that landed since.
    #[error(
        "its commit is not among the last {} that landed after that of the channel, as the last round saw them",
        ChannelState::MAX_LATER
    )]
    NotLater,
}

/// Whether a release is further on the branch than where a channel points, by what a round saw. What isn't known isn't so.
///
/// # Errors
/// Why that isn't known.
pub fn is_forward(channel: &Channel, state: Option<&ChannelState>, release: &ReleaseName) -> Result<(), NotForward> {
    let state = state.ok_or(NotForward::NotSeen)?;
    let later = later(state, release).ok_or(NotForward::NotLater)?;
    let Some(own) = &channel.release else { return Ok(()) };
    let own = behind(state, own).ok_or(NotForward::Nowhere)?;
    if later < own { Ok(()) } else { Err(NotForward::NotLater) }
}

/// What the next round would do with a channel if nothing changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outlook<'a> {
    /// No round has seen it yet.
    Unknown,
    /// It pushes what the channel was pointed to since the last one.
    Push(&'a ReleaseName),
    /// It tries again what failed.
    TryAgain,
    /// It moves to this release, since nothing keeps it any more.
    Move(Target<'a>),
    /// Nothing, while the channel is frozen; it would move to this release.
    Frozen(Target<'a>),
    /// Nothing, since the channel moves only when told; it would move to this release.
    Told(Target<'a>),
    /// It pushes to so many followers once more, which failed.
    Retry(usize),
    /// Nothing.
    Nothing,
}

/// A release that a channel would move to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target<'a> {
    /// At once.
    Ready(&'a ReleaseName),
    /// Once it has gone through the channel before.
    Soaking(&'a Soaking),
}

impl<'a> Outlook<'a> {
    /// By what a round saw.
    pub fn of(channel: &'a Channel, moves: Moves, state: Option<&'a ChannelState>) -> Self {
        let Some(state) = state else { return Self::Unknown };
        if let Some(release) = channel.release.as_ref().filter(|release| state.release.as_ref() != Some(release)) {
            return Self::Push(release);
        }
        if state.problem.is_some() {
            return Self::TryAgain;
        }
        let to = |target| match channel.frozen {
            Some(_) => Self::Frozen(target),
            None if moves == Moves::Told => Self::Told(target),
            None => Self::Move(target),
        };
        if let Some(would) = &state.would {
            return to(Target::Ready(would));
        }
        match state.off.iter().filter(|off| off.state == OffState::Failed).count() {
            0 => state.soaking.as_ref().map_or(Self::Nothing, |soaking| to(Target::Soaking(soaking))),
            failed => Self::Retry(failed),
        }
    }
}

impl fmt::Display for Outlook<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown => f.write_str("not known before the first round"),
            Self::Push(release) => write!(f, "pushes {} to its followers", release.stem()),
            Self::TryAgain => f.write_str("tries again"),
            Self::Move(target) => write!(f, "moves to {target}"),
            Self::Frozen(target) => write!(f, "stays, being frozen; would otherwise move to {target}"),
            Self::Told(target) => write!(f, "stays, moving only when told; would otherwise move to {target}"),
            Self::Retry(failed) => write!(f, "pushes to {} once more", console::count(*failed, "server")),
            Self::Nothing => f.write_str("nothing, before a later commit has a release"),
        }
    }
}

impl fmt::Display for Target<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ready(release) => f.write_str(release.stem()),
            Self::Soaking(soaking) => write!(f, "{} {}", soaking.release.stem(), WaitsFor(soaking)),
        }
    }
}

/// Why a follower did not have the channel's release when a round last saw it; `None` once the channel was moved since.
pub fn why_off<'a>(channel: &Channel, state: Option<&'a ChannelState>, server: &ServerName) -> Option<&'a str> {
    let state = state.filter(|state| state.release == channel.release)?;
    state.off.iter().find(|off| off.server == *server).map(|off| off.why.as_str())
}

/// How often a watcher says that it lives.
pub const REPORTS_EVERY: SignedDuration = SignedDuration::from_mins(15);

/// Whether a watcher is to say that it lives, as it last did so.
pub fn is_to_report(last: Option<&WatcherReport>, now: Timestamp) -> bool {
    last.is_none_or(|last| now.duration_since(last.at) >= REPORTS_EVERY || last.at > now)
}

/// That nothing moves channels any more, as it seems by what the newest watcher last said.
pub fn silence(newest: Option<&WatcherReport>, now: Timestamp) -> Option<String> {
    let Some(last) = newest else {
        return Some(
            "no `push watch` has reported yet: nothing moves channels or pushes to their followers".to_owned(),
        );
    };
    let polls = SignedDuration::from_secs(i64::try_from(last.poll_seconds).unwrap_or(i64::MAX).saturating_mul(3));
    let age = now.duration_since(last.at);
    (age > polls.saturating_add(REPORTS_EVERY)).then(|| {
        let ago = console::ago(age);
        format!(
            "`push watch` on {} last reported {ago}: nothing moves channels or pushes to their followers until one runs \
             again",
            last.host
        )
    })
}

#[cfg(test)]
mod tests {
    use bucket::{Frozen, LaterCommit, MoveKind, OffChannel};
    use serde_json::Map;

    use super::*;
    use crate::channel::change::{Said, moved};

    const NOW: &str = "2026-11-20T20:00:00Z";

    fn now() -> Timestamp {
        NOW.parse().unwrap()
    }

    fn release(n: u8) -> ReleaseName {
        format!("web/web:dev@build-1:2026-11-20T19:05:{n:02}Z:{n:040x}.deb").parse().unwrap()
    }

    fn channel(n: u8) -> Channel {
        let channel = Channel::new("web".parse().unwrap(), "prod".parse().unwrap(), "w", "", now());
        moved(&channel, &release(n), MoveKind::Forward, Said { by: "w", why: "newer", at: now() })
    }

    /// Seen at 3, with 4 and 5 after it on the line.
    fn state() -> ChannelState {
        let later = |n: u8| LaterCommit { commit: release(n).commit().clone(), release: Some(release(n)) };
        ChannelState {
            schema: 1,
            app: "web".parse().unwrap(),
            channel: "prod".parse().unwrap(),
            at: now(),
            problem: None,
            release: Some(release(3)),
            place: Some(2),
            behind: Some(2),
            would: None,
            soaking: None,
            rollout: None,
            unreadable: 0,
            passed_over: Vec::new(),
            why_passed_over: Vec::new(),
            followers: 2,
            off: Vec::new(),
            later: vec![later(5), later(4)],
            on_older: Vec::new(),
            other: Map::new(),
        }
    }

    #[test]
    fn where_a_channel_stands_is_known_as_far_as_a_round_saw_it() {
        let off = ChannelState { behind: None, place: None, ..state() };
        for (at, state, want) in [
            (3, Some(state()), "2 commits behind main"),
            // Moved since.
            (4, Some(state()), "1 commit behind main"),
            (5, Some(state()), "the newest commit of main"),
            (2, Some(state()), "not known before the next round"),
            (3, Some(off), "not on main"),
            (3, None, "not known before the next round"),
        ] {
            let place = Place::of(&channel(at), state.as_ref()).unwrap();
            assert_eq!(place.words("main"), want, "{at}");
        }
        assert_eq!(Place::of(&Channel { release: None, ..channel(1) }, Some(&state())), None);
    }

    #[test]
    fn a_release_is_known_to_be_forward_by_what_a_round_saw_and_otherwise_not() {
        let nowhere = Channel { release: None, ..channel(1) };
        let off = ChannelState { behind: None, place: None, ..state() };
        for (channel, state, to, want) in [
            (channel(3), Some(state()), 4, Ok(())),
            (channel(3), Some(state()), 5, Ok(())),
            (nowhere, Some(state()), 5, Ok(())),
            // Moved since.
            (channel(4), Some(state()), 5, Ok(())),
            (channel(5), Some(state()), 4, Err(NotForward::NotLater)),
            (channel(4), Some(state()), 4, Err(NotForward::NotLater)),
            (channel(3), Some(state()), 2, Err(NotForward::NotLater)),
            (channel(3), Some(state()), 9, Err(NotForward::NotLater)),
            (channel(2), Some(state()), 5, Err(NotForward::Nowhere)),
            (channel(3), Some(off), 5, Err(NotForward::Nowhere)),
            (channel(3), None, 5, Err(NotForward::NotSeen)),
        ] {
            assert_eq!(is_forward(&channel, state.as_ref(), &release(to)), want, "{:?} {to}", channel.release);
        }
    }

    #[test]
    fn what_the_next_round_would_do_is_said_of_the_channel_of_now() {
        let would = ChannelState { would: Some(release(5)), ..state() };
        let frozen = |n| Channel {
            frozen: Some(Frozen {
                by: "dev".into(),
                at: now(),
                why: "fair".into(),
                because: None,
                other: serde_json::Map::new(),
            }),
            ..channel(n)
        };
        let failed = OffChannel { server: "web-1".parse().unwrap(), state: OffState::Failed, why: "no".into() };
        let left_alone = OffChannel { state: OffState::LeftAlone, ..failed.clone() };
        let five = release(5);
        let from = "beta".parse().unwrap();
        let soaking = Soaking { release: five.clone(), from, until: Some(now()), waits_for: Vec::new(), more: 0 };
        let waits = ChannelState { soaking: Some(soaking.clone()), ..state() };
        for (channel, moves, state, want) in [
            (channel(3), Moves::Newest, None, Outlook::Unknown),
            (channel(3), Moves::Newest, Some(state()), Outlook::Nothing),
            (channel(5), Moves::Newest, Some(state()), Outlook::Push(&five)),
            (frozen(3), Moves::Newest, Some(would.clone()), Outlook::Frozen(Target::Ready(&five))),
            (channel(3), Moves::Told, Some(would.clone()), Outlook::Told(Target::Ready(&five))),
            // Resumed since.
            (channel(3), Moves::Newest, Some(would), Outlook::Move(Target::Ready(&five))),
            (channel(3), Moves::Newest, Some(ChannelState { problem: Some("x".into()), ..state() }), Outlook::TryAgain),
            (
                channel(3),
                Moves::Newest,
                Some(ChannelState { off: vec![failed, left_alone], ..state() }),
                Outlook::Retry(1),
            ),
            (channel(3), Moves::Newest, Some(waits.clone()), Outlook::Move(Target::Soaking(&soaking))),
            (frozen(3), Moves::Newest, Some(waits.clone()), Outlook::Frozen(Target::Soaking(&soaking))),
            (channel(5), Moves::Newest, Some(waits), Outlook::Push(&five)),
        ] {
            assert_eq!(Outlook::of(&channel, moves, state.as_ref()), want, "{channel:?}");
        }
    }

    #[test]
    fn why_a_follower_is_elsewhere_counts_for_the_release_that_it_was_seen_of() {
        let server: ServerName = "web-1".parse().unwrap();
        let off = vec![OffChannel { server: server.clone(), state: OffState::LeftAlone, why: "dirty".into() }];
        let state = ChannelState { off, ..state() };
        assert_eq!(why_off(&channel(3), Some(&state), &server), Some("dirty"));
        assert_eq!(why_off(&channel(3), Some(&state), &"web-2".parse().unwrap()), None);
        assert_eq!(why_off(&channel(4), Some(&state), &server), None);
        assert_eq!(why_off(&channel(3), None, &server), None);
    }

    #[test]
    fn a_watcher_that_is_silent_for_three_polls_and_a_quarter_of_an_hour_is_told() {
        let report = |minutes: i64| WatcherReport {
            schema: 1,
            host: "ops-1".parse().unwrap(),
            at: now() - SignedDuration::from_mins(minutes),
            poll_seconds: 300,
            version: "1".into(),
            other: Map::new(),
        };
        for (minutes, is_told, reports) in [(0, false, false), (15, false, true), (30, false, true), (31, true, true)] {
            let last = report(minutes);
            assert_eq!(silence(Some(&last), now()).is_some(), is_told, "{minutes}");
            assert_eq!(is_to_report(Some(&last), now()), reports, "{minutes}");
        }
        assert!(silence(Some(&report(120)), now()).unwrap().contains("on ops-1 last reported 2 h ago"));
        assert!(silence(None, now()).is_some() && is_to_report(None, now()));
        // Of a clock that was wrong.
        assert!(is_to_report(Some(&report(-60)), now()));
        let far = WatcherReport { poll_seconds: u64::MAX, ..report(120) };
        assert_eq!(silence(Some(&far), now()), None);
    }
}
