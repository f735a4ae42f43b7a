//! What becomes of a channel's release on its followers, as their agents report it: pure.

use bucket::{AppState, Channel, ReleaseName, RolledBackBy, ServerName, Timestamp};

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

/// The channel with what its followers say of its release: who rolled it back by itself or is degraded by it, since a person
/// pointed it there if one did, and whether all that can be reached run it.
pub fn observed(channel: &Channel, followers: &[Observed], now: Timestamp) -> Channel {
    let mut observed = channel.clone();
    let Some(release) = &channel.release else { return observed };
    for follower in followers.iter().filter(|follower| follower.release == Some(release)) {
        let is_it = |entry: &RolledBackBy| entry.release == *release && entry.server == *follower.server;
        match follower.state {
            Some(AppState::Quarantined | AppState::Degraded) => {
                let of_it = observed.rolled_back.iter().filter(|entry| entry.release == *release).count();
                // A person who points it there once more means it.
                let is_since = !channel.is_pointed() || follower.since >= Some(channel.moved);
                if !is_since || of_it == MAX_WITNESSES || observed.rolled_back.iter().any(is_it) {
                    continue;
                }
                let (server, why) = (follower.server.clone(), follower.reason.unwrap_or_default());
                let why = console::one_line(why).chars().take(MAX_WHY).collect();
                observed.rolled_back.insert(0, RolledBackBy { release: release.clone(), server, at: now, why });
            }
            // It was tried again, and runs.
            Some(AppState::Converged) => observed.rolled_back.retain(|entry| !is_it(entry)),
            _ => {}
        }
    }
    observed.rolled_back.truncate(Channel::MAX_ENTRIES);
    let mut reachable = followers.iter().filter(|follower| follower.is_reachable).peekable();
    let all_run = reachable.peek().is_some()
        && reachable.all(|follower| follower.release == Some(release) && follower.state == Some(AppState::Converged));
    if let Some(entry) = observed.history.first_mut().filter(|entry| entry.release == *release && all_run) {
        entry.ran.get_or_insert(now);
    }
    observed
}

/// Followers that are named of those that rolled back one release: the first keeps it from all others.
const MAX_WITNESSES: usize = 10;

/// Most characters that are kept of what an agent says.
const MAX_WHY: usize = 500;

#[cfg(test)]
mod tests {
    use bucket::MoveKind;

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
            let after = observed(&channel, &[first.clone(), second], now);
            assert_eq!(
                (after.history[0].ran.is_some(), !after.rolled_back.is_empty()),
                (ran, rolled_back),
                "{first:?}"
            );
            // What was observed once isn't so again.
            let again = observed(&after, &[first], "2026-11-20T21:00:00Z".parse().unwrap());
            assert_eq!(again.rolled_back, after.rolled_back);
        }
        let failed = observed(&channel, &[follower(&one, &new, AppState::Quarantined, true)], now);
        assert_eq!((&failed.rolled_back[0].server, failed.rolled_back[0].why.as_str()), (&one, "it ⏎ crashed"));
        let later = "2026-11-20T21:00:00Z".parse().unwrap();
        let set = moved(&channel, &new, MoveKind::Set, Said { by: "dev", why: "once more", at: later });
        let before = observed(&set, &[follower(&one, &new, AppState::Quarantined, true)], later);
        assert!(before.rolled_back.is_empty());
        // A program that points it there says nothing of what was rolled back before.
        let canary = moved(&channel, &new, MoveKind::Forward, Said { by: "w", why: "newer", at: later });
        assert!(!observed(&canary, &[follower(&one, &new, AppState::Quarantined, true)], later).rolled_back.is_empty());
        let names: Vec<ServerName> = (0..150).map(|n| format!("web-{n}").parse().unwrap()).collect();
        let all: Vec<_> = names.iter().map(|name| follower(name, &new, AppState::Degraded, true)).collect();
        let many = observed(&channel, &all, now);
        assert_eq!(many.rolled_back.len(), MAX_WITNESSES);
        assert_eq!(observed(&many, &all, later), many, "a quiet round changes nothing");
        let again = observed(&failed, &[follower(&one, &new, AppState::Converged, true)], now);
        assert!(again.rolled_back.is_empty() && again.history[0].ran.is_some());
    }
}
