//! What becomes of a channel's release on its followers, as their agents report it: pure.

use std::collections::BTreeSet;

use bucket::{AppState, Channel, MoveKind, ReleaseName, RolledBackBy, ServerName, Timestamp};
use jiff::SignedDuration;
use serde_json::Map;

use super::choose::has_soaked;

/// What is known of the app on a follower.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Observed<'a> {
    /// The follower.
    pub server: &'a ServerName,
    /// The release that its document names.
    pub release: Option<&'a ReleaseName>,
    /// What its agent says of that release; `None` when it said nothing of it yet.
    pub state: Option<AppState>,
    /// Since when, by the bucket's clock.
    pub since: Option<Timestamp>,
    /// Why, in the agent's words.
    pub reason: Option<&'a str>,
    /// Whether its agent reports.
    pub is_reachable: bool,
}

/// The channel with what its followers say of its release, and of one that still goes out though it points elsewhere by now: who
/// rolled it back by itself or is degraded by it, since a person pointed the channel there if one did, and whether all that can be
/// reached run it. With `soak`, the longest that a release must have run there for a channel behind it, who did of those that may
/// still go on to that.
pub fn observed(
    channel: &Channel,
    going: Option<&ReleaseName>,
    soak: Option<SignedDuration>,
    followers: &[Observed],
    now: Timestamp,
) -> Channel {
    let mut observed = channel.clone();
    let releases: BTreeSet<&ReleaseName> = channel.release.iter().chain(going).collect();
    for release in releases {
        note_rolled_back(&mut observed, release, followers, now);
        note_ran(&mut observed, release, followers, now);
    }
    if let Some(soak) = soak {
        for entry in channel.history.iter().filter(|entry| entry.ran.is_some()) {
            note_rolled_back(&mut observed, &entry.release, followers, now);
            // Those behind go to the newest that has gone through, at the latest.
            if has_soaked(&observed, entry, soak, now) {
                break;
            }
        }
    }
    observed.rolled_back.truncate(Channel::MAX_ENTRIES);
    observed
}

fn note_rolled_back(channel: &mut Channel, release: &ReleaseName, followers: &[Observed], now: Timestamp) {
    let pointed = channel.history.iter().find(|entry| entry.release == *release);
    // A person who points it there once more means it.
    let since = pointed.filter(|entry| matches!(entry.kind, MoveKind::Set | MoveKind::Rollback)).map(|entry| entry.at);
    for follower in followers.iter().filter(|follower| follower.release == Some(release)) {
        let is_it = |entry: &RolledBackBy| entry.release == *release && entry.server == *follower.server;
        match follower.state {
            Some(AppState::Quarantined | AppState::Degraded) => {
                let of_it = channel.rolled_back.iter().filter(|entry| entry.release == *release).count();
                let is_since = since.is_none() || follower.since >= since;
                if !is_since || of_it == MAX_WITNESSES || channel.rolled_back.iter().any(is_it) {
                    continue;
                }
                let (server, why) = (follower.server.clone(), follower.reason.unwrap_or_default());
                let why = console::one_line(why).chars().take(MAX_WHY).collect();
                channel
                    .rolled_back
                    .insert(0, RolledBackBy { release: release.clone(), server, at: now, why, other: Map::new() });
            }
            // It was tried again, and runs.
            Some(AppState::Converged) => channel.rolled_back.retain(|entry| !is_it(entry)),
            _ => {}
        }
    }
}

fn note_ran(channel: &mut Channel, release: &ReleaseName, followers: &[Observed], now: Timestamp) {
    let mut reachable = followers.iter().filter(|follower| follower.is_reachable).peekable();
    let all_run = reachable.peek().is_some()
        && reachable.all(|follower| follower.release == Some(release) && follower.state == Some(AppState::Converged));
    if let Some(entry) = channel.history.iter_mut().find(|entry| entry.release == *release && all_run) {
        entry.ran.get_or_insert(now);
    }
}

/// The channel with that its tag was seen to be its release's image: of one that no server follows that is all that is known.
pub fn tagged(channel: &Channel, now: Timestamp) -> Channel {
    let mut tagged = channel.clone();
    let entry = tagged.history.iter_mut().find(|entry| Some(&entry.release) == channel.release.as_ref());
    if let Some(entry) = entry {
        entry.ran.get_or_insert(now);
    }
    tagged
}

/// Followers that are named of those that rolled back one release: the first keeps it from all others.
const MAX_WITNESSES: usize = 10;

/// Most characters that are kept of what an agent says.
const MAX_WHY: usize = 500;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::channel::change::{Said, moved};

    fn release(n: u8) -> ReleaseName {
        format!("web/web:dev@build-1:2026-11-20T19:05:{n:02}Z:{n:040x}.deb").parse().unwrap()
    }

    #[test]
    fn a_release_that_all_reachable_followers_run_ran_and_one_that_went_back_is_named() {
        let now = "2026-11-20T20:00:00Z".parse().unwrap();
        let channel = Channel::new("web".parse().unwrap(), "prod".parse().unwrap(), "w", "", now);
        let channel = moved(&channel, &release(2), MoveKind::Forward, Said { by: "w", why: "newer", at: now });
        let (one, two) = ("web-1".parse().unwrap(), "web-2".parse().unwrap());
        let (old, new) = (release(1), release(2));
        let follower = |server, release, state, is_reachable| Observed {
            server,
            release: Some(release),
            state: Some(state),
            since: Some(now),
            reason: Some("it\ncrashed"),
            is_reachable,
        };
        let good = |is_reachable| follower(&two, &new, AppState::Converged, is_reachable);
        for (first, second, ran, rolled_back) in [
            (follower(&one, &new, AppState::Converged, true), good(true), true, false),
            // One that can't be reached counts for nothing; without any nothing is known.
            (follower(&one, &old, AppState::Converged, false), good(true), true, false),
            (follower(&one, &new, AppState::Converged, false), good(false), false, false),
            (follower(&one, &new, AppState::Pending, true), good(true), false, false),
            (follower(&one, &old, AppState::Converged, true), good(true), false, false),
            (follower(&one, &new, AppState::Quarantined, true), good(true), false, true),
            // Of another release it says nothing of this one.
            (follower(&one, &old, AppState::Quarantined, true), good(true), false, false),
        ] {
            let after = observed(&channel, None, None, &[first.clone(), second], now);
            assert_eq!(
                (after.history[0].ran.is_some(), !after.rolled_back.is_empty()),
                (ran, rolled_back),
                "{first:?}"
            );
            // What was observed once isn't so again.
            let again = observed(&after, None, None, &[first], "2026-11-20T21:00:00Z".parse().unwrap());
            assert_eq!(again.rolled_back, after.rolled_back);
        }
        let failed = observed(&channel, None, None, &[follower(&one, &new, AppState::Quarantined, true)], now);
        assert_eq!((&failed.rolled_back[0].server, failed.rolled_back[0].why.as_str()), (&one, "it ⏎ crashed"));
        let later = "2026-11-20T21:00:00Z".parse().unwrap();
        let set = moved(&channel, &new, MoveKind::Set, Said { by: "dev", why: "once more", at: later });
        let before = observed(&set, None, None, &[follower(&one, &new, AppState::Quarantined, true)], later);
        assert!(before.rolled_back.is_empty());
        // A program that points it there says nothing of what was rolled back before.
        let canary = moved(&channel, &new, MoveKind::Forward, Said { by: "w", why: "newer", at: later });
        assert!(
            !observed(&canary, None, None, &[follower(&one, &new, AppState::Quarantined, true)], later)
                .rolled_back
                .is_empty()
        );
        let names: Vec<ServerName> = (0..150).map(|n| format!("web-{n}").parse().unwrap()).collect();
        let all: Vec<_> = names.iter().map(|name| follower(name, &new, AppState::Degraded, true)).collect();
        let many = observed(&channel, None, None, &all, now);
        assert_eq!(many.rolled_back.len(), MAX_WITNESSES);
        assert_eq!(observed(&many, None, None, &all, later), many, "a quiet round changes nothing");
        let again = observed(&failed, None, None, &[follower(&one, &new, AppState::Converged, true)], now);
        assert!(again.rolled_back.is_empty() && again.history[0].ran.is_some());
    }

    #[test]
    fn what_still_goes_out_when_the_channel_has_moved_on_is_observed_too() {
        let now = "2026-11-20T20:00:00Z".parse().unwrap();
        let channel = Channel::new("web".parse().unwrap(), "prod".parse().unwrap(), "w", "", now);
        let said = Said { by: "w", why: "newer", at: now };
        let channel =
            [1, 2, 3].iter().fold(channel, |channel, n| moved(&channel, &release(*n), MoveKind::Forward, said));
        let (one, two) = ("web-1".parse().unwrap(), "web-2".parse().unwrap());
        let (old, going) = (release(1), release(2));
        let follower = |server, release, state| Observed {
            server,
            release: Some(release),
            state: Some(state),
            since: Some(now),
            reason: None,
            is_reachable: true,
        };
        let runs = [&one, &two].map(|server| follower(server, &going, AppState::Converged));
        let ran = |after: &Channel| [0, 1, 2].map(|at| after.history[at].ran.is_some());
        assert_eq!(ran(&observed(&channel, Some(&going), None, &runs, now)), [false, true, false]);
        assert_eq!(ran(&observed(&channel, None, None, &runs, now)), [false; 3]);
        let broken = [follower(&one, &going, AppState::Quarantined), follower(&two, &old, AppState::Degraded)];
        let after = observed(&channel, Some(&going), None, &broken, now);
        let named: Vec<_> = after.rolled_back.iter().map(|entry| (&entry.release, &entry.server)).collect();
        assert_eq!(named, [(&going, &one)], "of what it pointed to long before nothing is noted");
    }

    #[test]
    fn who_goes_back_while_a_release_soaks_is_named_though_the_channel_points_elsewhere_by_then() {
        let at = |minute: u8| format!("2026-11-20T20:{minute:02}:00Z").parse::<Timestamp>().unwrap();
        let channel = Channel::new("web".parse().unwrap(), "beta".parse().unwrap(), "w", "", at(0));
        let said = Said { by: "w", why: "newer", at: at(0) };
        let mut channel = (1..=4).fold(channel, |channel, n| moved(&channel, &release(n), MoveKind::Forward, said));
        // The last one runs nowhere yet, and the first has gone through long ago, as the one after it.
        for (n, ran) in [(1, 10), (2, 20), (3, 50)] {
            channel.history[4 - n].ran = Some(at(ran));
        }
        let servers = [1, 2, 3].map(|n| format!("beta-{n}").parse::<ServerName>().unwrap());
        let releases = [1, 2, 3].map(release);
        let follower = |n: usize, state| Observed {
            server: &servers[n - 1],
            release: Some(&releases[n - 1]),
            state: Some(state),
            since: Some(at(55)),
            reason: None,
            is_reachable: true,
        };
        let soak = Some(SignedDuration::from_mins(30));
        let named = |soak, followers: &[Observed]| -> Vec<ReleaseName> {
            let after = observed(&channel, None, soak, followers, at(59));
            after.rolled_back.into_iter().map(|entry| entry.release).collect()
        };
        let broken = [1, 2, 3].map(|n| follower(n, AppState::Quarantined));
        assert_eq!(named(soak, &broken[2..]), [release(3)], "it soaks");
        assert_eq!(named(soak, &broken[1..2]), [release(2)], "it would be the next to go through");
        assert_eq!(named(soak, &broken[..1]), [], "nobody goes to it any more");
        assert_eq!(named(soak, &broken), [release(1), release(2), release(3)], "unless none after it is left");
        assert_eq!(named(None, &broken), [], "nothing is behind this channel");
        // It is tried again, and runs.
        let after = observed(&channel, None, soak, &broken[2..], at(58));
        let again = observed(&after, None, soak, &[follower(3, AppState::Converged)], at(59));
        assert!(!after.rolled_back.is_empty() && again.rolled_back.is_empty());
    }
}
