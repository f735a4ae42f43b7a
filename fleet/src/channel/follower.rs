//! Whether a follower of a channel gets what that points to: pure.

use bucket::{Channel, ChannelName, HistoryEntry, LastPush, PushKind, ReleaseName, ServerName, Timestamp};
use thiserror::Error;

use super::line::Places;

/// What becomes of a follower.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Follows {
    /// Its document names what the channel points to.
    There,
    /// It is pushed to.
    Behind,
    /// It is left alone.
    LeftAlone(LeftAlone),
}

/// Why a follower is left alone.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum LeftAlone {
    /// Somebody is debugging there.
    #[error("its release is dirty: somebody is debugging there")]
    Dirty,
    /// A person moved it off the channel.
    #[error("taken over: {} by {} at {at}", kind.as_str(), console::safe(by))]
    TakenOver {
        /// What their push was for.
        kind: PushKind,
        /// Who.
        by: String,
        /// When.
        at: Timestamp,
    },
    /// Its release is further on the branch than the channel's.
    #[error("its release is further on the branch than the channel's")]
    Ahead,
    /// Its entry was written by hand, and its commit is not on the branch.
    #[error("its entry was written by hand, and its commit is not on the branch")]
    ByHand,
    /// A follower rolled the channel's release back by itself.
    #[error("`{0}` rolled this release back by itself")]
    RolledBack(ServerName),
    /// Another channel of the app may have it, too.
    #[error("the channel `{0}` has it, too: neither pushes")]
    TwoChannels(ChannelName),
    /// Where the channel points, nobody pointed it and the branch does not go.
    #[error("the channel has diverged")]
    Diverged,
    /// The policy refuses it, as a sentence.
    #[error("{0}")]
    Refused(String),
    /// Somebody works on it, pushes are halted, or that can't be read; as a sentence.
    #[error("{0}")]
    Guarded(String),
}

/// The last push that chose a release of the app for a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Choice {
    /// What it was for. A retry and a trial choose nothing.
    pub kind: PushKind,
    /// Who pushed.
    pub by: String,
    /// When.
    pub at: Timestamp,
    /// What the document named before.
    pub from: Option<ReleaseName>,
    /// What it named then.
    pub to: Option<ReleaseName>,
    /// The channel that it was pushed for.
    pub channel: Option<ChannelName>,
}

/// What becomes of a follower whose document names `release` for the app, or only its placeholder. `is_dirty` says that of its
/// release, and `last` who chose it, as far as that is known.
pub fn follows(
    channel: &Channel,
    places: &Places,
    release: Option<&ReleaseName>,
    is_dirty: bool,
    last: Option<&Choice>,
) -> Follows {
    let Some(wanted) = &channel.release else { return Follows::There };
    if release == Some(wanted) {
        return Follows::There;
    }
    let left_alone = |why| Follows::LeftAlone(why);
    if let Some(entry) = channel.rolled_back.iter().find(|entry| entry.release == *wanted) {
        return left_alone(LeftAlone::RolledBack(entry.server.clone()));
    }
    let place = places.of(wanted);
    if place.is_none() && !channel.is_pointed() {
        return left_alone(LeftAlone::Diverged);
    }
    let Some(release) = release else { return Follows::Behind };
    if is_dirty {
        return left_alone(LeftAlone::Dirty);
    }
    let own = places.of(release);
    match last.filter(|last| last.to.as_ref() == Some(release)) {
        Some(last) if takes_over(last, channel, places) => {
            return left_alone(LeftAlone::TakenOver { kind: last.kind.clone(), by: last.by.clone(), at: last.at });
        }
        None if own.is_none() => return left_alone(LeftAlone::ByHand),
        _ => {}
    }
    // Where a person points it, it goes, back too.
    if own > place && !channel.is_pointed() {
        return left_alone(LeftAlone::Ahead);
    }
    Follows::Behind
}

/// Whether a person moved a server off the channel: not if they pushed what it pointed to.
fn takes_over(last: &Choice, channel: &Channel, places: &Places) -> bool {
    let place = |release: &Option<ReleaseName>| release.as_ref().and_then(|release| places.of(release));
    if last.channel.is_some() || channel.release_at(last.at) == last.to.as_ref() {
        return false;
    }
    last.kind != PushKind::Deploy || place(&last.to).is_none() || place(&last.to) < place(&last.from)
}

impl Choice {
    /// Whether a push chooses a release.
    pub fn is_made_by(kind: &PushKind) -> bool {
        !matches!(kind, PushKind::Retry | PushKind::Trial | PushKind::TrialEnd)
    }
}

impl From<&LastPush> for Choice {
    fn from(push: &LastPush) -> Self {
        let LastPush { kind, who, time, from, to, channel, .. } = push.clone();
        Self { kind, by: who, at: time, from, to, channel }
    }
}

impl From<&HistoryEntry> for Choice {
    fn from(entry: &HistoryEntry) -> Self {
        let HistoryEntry { kind, who, time, from, to, channel, .. } = entry.clone();
        Self { kind, by: who, at: time, from, to, channel }
    }
}

#[cfg(test)]
mod tests {
    use bucket::{MoveKind, RolledBackBy};

    use super::*;
    use crate::channel::{
        change::{Said, moved},
        line::Line,
    };

    const NOW: &str = "2026-11-20T19:00:00Z";

    fn release(n: u8) -> ReleaseName {
        format!("web/web:dev@build-1:2026-11-20T19:05:{n:02}Z:{n:040x}.deb").parse().unwrap()
    }

    fn line() -> Line {
        Line::new((1..=5_u8).map(|n| format!("{n:040x}").parse().unwrap()).collect())
    }

    /// A channel that was pointed to these releases, one after the other, at that hour each.
    fn channel(moves: &[(u8, u8, MoveKind)]) -> Channel {
        let (app, name) = ("web".parse().unwrap(), "prod".parse().unwrap());
        let start = Channel::new(app, name, "watcher", "", NOW.parse().unwrap());
        moves.iter().fold(start, |channel, (n, hour, kind)| {
            let at = format!("2026-11-20T{hour:02}:00:00Z").parse().unwrap();
            moved(&channel, &release(*n), kind.clone(), Said { by: "w", why: "", at })
        })
    }

    fn at_4() -> Channel {
        channel(&[(4, 10, MoveKind::Forward)])
    }

    fn choice(n: u8, kind: PushKind, from: u8, channel: Option<&str>) -> Choice {
        let from = (from > 0).then(|| release(from));
        let channel = channel.map(|channel| channel.parse().unwrap());
        Choice { kind, by: "dev".into(), at: NOW.parse().unwrap(), from, to: Some(release(n)), channel }
    }

    fn taken_over(kind: PushKind) -> Follows {
        Follows::LeftAlone(LeftAlone::TakenOver { kind, by: "dev".into(), at: NOW.parse().unwrap() })
    }

    #[test]
    fn a_person_takes_a_server_over_and_a_program_does_not() {
        for (n, push, want) in [
            (2, None, Follows::Behind),
            (2, Some((PushKind::Deploy, 1, Some("prod"))), Follows::Behind),
            (2, Some((PushKind::Rollback, 3, Some("prod"))), Follows::Behind),
            (2, Some((PushKind::Deploy, 1, None)), Follows::Behind),
            (2, Some((PushKind::Deploy, 0, None)), Follows::Behind),
            (2, Some((PushKind::Rollback, 3, None)), taken_over(PushKind::Rollback)),
            (2, Some((PushKind::Undo, 3, None)), taken_over(PushKind::Undo)),
            // Backwards, and off the line.
            (2, Some((PushKind::Deploy, 3, None)), taken_over(PushKind::Deploy)),
            (9, Some((PushKind::Deploy, 3, None)), taken_over(PushKind::Deploy)),
            (9, Some((PushKind::Deploy, 3, Some("prod"))), Follows::Behind),
            (9, None, Follows::LeftAlone(LeftAlone::ByHand)),
            (4, Some((PushKind::Rollback, 3, None)), Follows::There),
            (5, None, Follows::LeftAlone(LeftAlone::Ahead)),
        ] {
            let last = push.clone().map(|(kind, from, channel)| choice(n, kind, from, channel));
            let got = follows(&at_4(), &Places::on(&line()), Some(&release(n)), false, last.as_ref());
            assert_eq!(got, want, "{n} {push:?}");
        }
        // A push of a release that is no longer there says nothing.
        let changed_since = choice(3, PushKind::Rollback, 4, None);
        assert_eq!(
            follows(&at_4(), &Places::on(&line()), Some(&release(2)), false, Some(&changed_since)),
            Follows::Behind
        );
        // An undo that brings back what the channel pointed to then brings the server back to the channel.
        let moved_on = channel(&[(2, 10, MoveKind::Forward), (4, 20, MoveKind::Forward)]);
        let undone = choice(2, PushKind::Undo, 1, None);
        assert_eq!(follows(&moved_on, &Places::on(&line()), Some(&release(2)), false, Some(&undone)), Follows::Behind);
    }

    #[test]
    fn what_a_person_points_a_channel_to_goes_back_too_also_once_it_is_resumed() {
        for (kind, want) in [
            (MoveKind::Set, Follows::Behind),
            (MoveKind::Rollback, Follows::Behind),
            (MoveKind::Forward, Follows::LeftAlone(LeftAlone::Ahead)),
        ] {
            let channel = channel(&[(4, 10, kind.clone())]);
            assert_eq!(follows(&channel, &Places::on(&line()), Some(&release(5)), false, None), want, "{kind:?}");
        }
    }

    #[test]
    fn nothing_goes_where_the_branch_does_not_go_unless_a_person_points_there() {
        for (kind, want) in
            [(MoveKind::Set, Follows::Behind), (MoveKind::Forward, Follows::LeftAlone(LeftAlone::Diverged))]
        {
            for release in [Some(release(2)), None] {
                let channel = channel(&[(9, 10, kind.clone())]);
                assert_eq!(
                    follows(&channel, &Places::on(&line()), release.as_ref(), false, None),
                    want,
                    "{kind:?} {release:?}"
                );
            }
        }
    }

    #[test]
    fn nobody_who_debugs_is_disturbed_and_nothing_that_failed_goes_further() {
        let dirty = follows(&at_4(), &Places::on(&line()), Some(&release(2)), true, None);
        assert_eq!(dirty, Follows::LeftAlone(LeftAlone::Dirty));
        assert_eq!(follows(&at_4(), &Places::on(&line()), None, false, None), Follows::Behind);
        let (mut channel, server) = (at_4(), ServerName::try_from("web-1".to_owned()).unwrap());
        let at = NOW.parse().unwrap();
        channel.rolled_back = vec![RolledBackBy {
            release: release(4),
            server: server.clone(),
            at,
            why: "died".into(),
            other: serde_json::Map::new(),
        }];
        for release in [Some(release(2)), None] {
            let left = follows(&channel, &Places::on(&line()), release.as_ref(), false, None);
            assert_eq!(left, Follows::LeftAlone(LeftAlone::RolledBack(server.clone())));
        }
    }
}
