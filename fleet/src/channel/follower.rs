//! Whether a follower of a channel gets what that points to: pure.

use bucket::{Channel, ChannelName, LastPush, PushKind, ReleaseName, ServerDocument, ServerName, Timestamp};
use thiserror::Error;

use super::line::Line;

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
    /// The branch can't be read, so nobody knows what comes after what.
    #[error("the branch is gone")]
    NoLine,
    /// The policy refuses it, as a sentence.
    #[error("{0}")]
    Refused(String),
    /// Somebody works on it, pushes are halted, or that can't be read; as a sentence.
    #[error("{0}")]
    Guarded(String),
}

/// What becomes of a follower whose document names `release` for the app, or only its placeholder. `is_dirty` says that of its
/// release.
pub fn follows(
    channel: &Channel,
    line: Option<&Line>,
    document: &ServerDocument,
    release: Option<&ReleaseName>,
    is_dirty: bool,
) -> Follows {
    let Some(wanted) = &channel.release else { return Follows::There };
    if release == Some(wanted) {
        return Follows::There;
    }
    let left_alone = |why| Follows::LeftAlone(why);
    if let Some(entry) = channel.rolled_back.iter().find(|entry| entry.release == *wanted) {
        return left_alone(LeftAlone::RolledBack(entry.server.clone()));
    }
    let (Some(line), Some(release)) = (line, release) else {
        return if line.is_some() { Follows::Behind } else { left_alone(LeftAlone::NoLine) };
    };
    if is_dirty {
        return left_alone(LeftAlone::Dirty);
    }
    let own = line.place(release.commit());
    let pushes = document.metadata().pushes();
    let last = pushes.iter().find(|push| push.app == channel.app && push.to.as_ref() == Some(release));
    match last {
        Some(push) if push.channel.is_none() && takes_over(push, line) => {
            return left_alone(LeftAlone::TakenOver { kind: push.kind.clone(), by: push.who.clone(), at: push.time });
        }
        None if own.is_none() => return left_alone(LeftAlone::ByHand),
        _ => {}
    }
    // Where a person points it, it goes, back too.
    let is_pointed = channel.frozen.as_ref().is_some_and(|frozen| frozen.at == channel.moved);
    if own > line.place(wanted.commit()) && !is_pointed {
        return left_alone(LeftAlone::Ahead);
    }
    Follows::Behind
}

/// Whether a person's push moves a server off the channel.
fn takes_over(push: &LastPush, line: &Line) -> bool {
    let place = |release: &Option<ReleaseName>| release.as_ref().and_then(|release| line.place(release.commit()));
    match push.kind {
        PushKind::Retry | PushKind::Trial => false,
        PushKind::Deploy => place(&push.to).is_none() || place(&push.to) < place(&push.from),
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use bucket::{DocumentMetadata, Frozen, RolledBackBy};

    use super::*;

    const NOW: &str = "2026-11-20T19:00:00Z";

    fn release(n: u8) -> ReleaseName {
        format!("web/web:dev@build-1:2026-11-20T19:05:{n:02}Z:{n:040x}.deb").parse().unwrap()
    }

    fn line() -> Line {
        Line::new((1..=5_u8).map(|n| format!("{n:040x}").parse().unwrap()).collect())
    }

    fn channel(n: u8) -> Channel {
        let (app, name) = ("web".parse().unwrap(), "prod".parse().unwrap());
        let mut channel = Channel::new(app, name, "watcher", "", NOW.parse().unwrap());
        channel.release = Some(release(n));
        channel
    }

    /// A document that names a release, with the push that put it there.
    fn document(n: u8, push: Option<(PushKind, u8, Option<&str>)>) -> ServerDocument {
        let document = ServerDocument::parse(format!("[\"{}\"]", release(n)).as_bytes()).unwrap();
        let Some((kind, from, channel)) = push else { return document };
        let push = LastPush {
            id: "k3v9w1c7m2xq".parse().unwrap(),
            time: NOW.parse().unwrap(),
            app: "web".parse().unwrap(),
            from: (from > 0).then(|| release(from)),
            to: Some(release(n)),
            kind,
            who: "dev".into(),
            why: String::new(),
            generation: None,
            settle_seconds: None,
            without_waves: false,
            channel: channel.map(|channel| channel.parse().unwrap()),
            recorded: false,
        };
        document.with_metadata(DocumentMetadata::default().with_push(&push))
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
            (2, Some((PushKind::Retry, 2, None)), Follows::Behind),
            (2, Some((PushKind::Trial, 3, None)), Follows::Behind),
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
            let got = follows(&channel(4), Some(&line()), &document(n, push.clone()), Some(&release(n)), false);
            assert_eq!(got, want, "{n} {push:?}");
        }
        // A push of a release that is no longer there says nothing.
        let changed_since = document(3, Some((PushKind::Rollback, 4, None)));
        assert_eq!(follows(&channel(4), Some(&line()), &changed_since, Some(&release(2)), false), Follows::Behind);
    }

    #[test]
    fn what_a_person_points_a_channel_to_goes_back_too() {
        let mut channel = channel(4);
        let frozen = |at: &str| Some(Frozen { by: "dev".into(), at: at.parse().unwrap(), why: String::new() });
        channel.frozen = frozen(NOW);
        let ahead = document(5, None);
        assert_eq!(follows(&channel, Some(&line()), &ahead, Some(&release(5)), false), Follows::Behind);
        // One that was only frozen later doesn't.
        channel.frozen = frozen("2026-11-20T20:00:00Z");
        let left = Follows::LeftAlone(LeftAlone::Ahead);
        assert_eq!(follows(&channel, Some(&line()), &ahead, Some(&release(5)), false), left);
    }

    #[test]
    fn nobody_who_debugs_is_disturbed_and_nothing_that_failed_goes_further() {
        let (document, release) = (document(2, None), release(2));
        let dirty = follows(&channel(4), Some(&line()), &document, Some(&release), true);
        assert_eq!(dirty, Follows::LeftAlone(LeftAlone::Dirty));
        assert_eq!(follows(&channel(4), Some(&line()), &document, None, false), Follows::Behind);
        assert_eq!(follows(&channel(4), None, &document, None, false), Follows::LeftAlone(LeftAlone::NoLine));
        let mut channel = channel(4);
        let (server, at) = (ServerName::try_from("web-1".to_owned()).unwrap(), NOW.parse().unwrap());
        let release_4 = channel.release.clone().unwrap();
        channel.rolled_back = vec![RolledBackBy { release: release_4, server: server.clone(), at, why: "died".into() }];
        let left = follows(&channel, Some(&line()), &document, Some(&release), false);
        assert_eq!(left, Follows::LeftAlone(LeftAlone::RolledBack(server)));
    }
}
