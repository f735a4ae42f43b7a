//! Which release comes through the channel before next, and what it waits for there: pure.

use std::{collections::BTreeSet, fmt};

use bucket::{AppState, Channel, ReleaseName, Soaking, Timestamp};
use jiff::SignedDuration;

use super::{choose::soaked, observe::Observed};

/// Followers that are named of those that do not run a release yet.
const NAMED: usize = 5;

/// Of the releases that have not gone through a channel and still can, the one that does so first: those that its followers run need
/// time, and what it points to needs its followers. `is_further` says which ones anybody waits for.
pub fn soaking(
    from: &Channel,
    soak: SignedDuration,
    followers: &[Observed],
    is_further: impl Fn(&ReleaseName) -> bool,
    now: Timestamp,
) -> Option<Soaking> {
    let through = soaked(from, soak, now);
    let is_rolled_back = |release: &ReleaseName| from.rolled_back.iter().any(|by| by.release == *release);
    let is_awaited =
        |release: &ReleaseName| is_further(release) && !through.contains(release) && !is_rolled_back(release);
    let awaited = from.history.iter().filter(|entry| is_awaited(&entry.release));
    let timed = awaited.filter_map(|entry| Some((entry.ran?.checked_add(soak).ok()?, &entry.release)));
    if let Some((until, release)) = timed.min_by_key(|(until, _)| *until) {
        let (release, from) = (release.clone(), from.channel.clone());
        return Some(Soaking { release, from, until: Some(until), waits_for: Vec::new(), more: 0 });
    }
    let release = from.release.as_ref().filter(|release| is_awaited(release))?;
    let runs = |it: &Observed| it.release == Some(release) && it.state == Some(AppState::Converged);
    let mut waits_for: BTreeSet<_> =
        followers.iter().filter(|it| it.is_reachable && !runs(it)).map(|it| it.server).collect();
    let more = waits_for.len().saturating_sub(NAMED);
    let waits_for = std::iter::from_fn(|| waits_for.pop_first()).take(NAMED).cloned().collect();
    Some(Soaking { release: release.clone(), from: from.channel.clone(), until: None, waits_for, more })
}

/// What it waits for, in a sentence's words.
pub struct WaitsFor<'a>(pub &'a Soaking);

impl fmt::Display for WaitsFor<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Soaking { from, until, waits_for, more, .. } = self.0;
        if let Some(until) = until {
            return write!(f, "when it has run long enough on {from}, at {}", until.strftime("%Y-%m-%d %H:%M:%S UTC"));
        }
        if waits_for.is_empty() {
            return write!(f, "when the followers of {from} report that they run it");
        }
        let verb = if waits_for.len() + more == 1 { "does" } else { "do" };
        let mut names: Vec<String> = waits_for.iter().map(ToString::to_string).collect();
        if *more > 0 {
            names.push(format!("{more} more"));
        }
        write!(
            f,
            "when all followers of {from} have run it for long enough: {} {verb} not run it yet",
            names.join(", ")
        )
    }
}

#[cfg(test)]
mod tests {
    use bucket::{MoveKind, RolledBackBy, ServerName};

    use super::*;
    use crate::channel::change::{Said, moved};

    const HOUR: SignedDuration = SignedDuration::from_hours(1);

    fn at(text: &str) -> Timestamp {
        format!("2026-11-20T{text}:00Z").parse().unwrap()
    }

    fn release(n: u8) -> ReleaseName {
        format!("web/web:dev@build-1:2026-11-20T19:05:{n:02}Z:{n:040x}.deb").parse().unwrap()
    }

    /// It pointed to three releases, one after the other.
    fn beta() -> Channel {
        let said = Said { by: "w", why: "", at: at("19:00") };
        let beta = Channel::new("web".parse().unwrap(), "beta".parse().unwrap(), "w", "", at("19:00"));
        (1..=3).fold(beta, |beta, n| moved(&beta, &release(n), MoveKind::Forward, said))
    }

    fn after(n: u8) -> impl Fn(&ReleaseName) -> bool {
        move |of_it| (n + 1..=9).any(|further| *of_it == release(further))
    }

    #[test]
    fn what_comes_through_first_is_told_and_when() {
        let mut beta = beta();
        beta.history[0].ran = Some(at("20:30"));
        beta.history[1].ran = Some(at("20:10"));
        let of = |beta: &Channel, beyond, now| {
            let soaking = soaking(beta, HOUR, &[], after(beyond), at(now))?;
            let words = WaitsFor(&soaking).to_string();
            Some((soaking.release, soaking.until, words))
        };
        let first = (
            release(2),
            Some(at("21:10")),
            "when it has run long enough on beta, at 2026-11-20 21:10:00 UTC".to_owned(),
        );
        assert_eq!(of(&beta, 1, "20:40"), Some(first));
        // That one has gone through by then, and the next is waited for.
        assert_eq!(of(&beta, 2, "21:15").unwrap().1, Some(at("21:30")));
        assert_eq!(of(&beta, 2, "21:30"), None);
        assert_eq!(of(&beta, 3, "20:40"), None, "nobody waits for what they have");
        let (server, why) = ("beta-1".parse().unwrap(), String::new());
        beta.rolled_back =
            vec![RolledBackBy { release: release(2), server, at: at("20:35"), why, other: serde_json::Map::new() }];
        assert_eq!(of(&beta, 1, "20:40").unwrap().0, release(3), "one that was rolled back never comes through");
    }

    #[test]
    fn what_does_not_run_everywhere_yet_waits_for_those_followers() {
        let beta = beta();
        let names: Vec<ServerName> = (1..=9).map(|n| format!("beta-{n}").parse().unwrap()).collect();
        let (new, old) = (release(3), release(2));
        let follower = |n: usize, release, state, is_reachable| Observed {
            server: &names[n - 1],
            release: Some(release),
            state: Some(state),
            since: None,
            reason: None,
            is_reachable,
        };
        let mut followers = vec![
            follower(3, &new, AppState::Pending, true),
            follower(1, &new, AppState::Converged, true),
            follower(2, &old, AppState::Converged, true),
            // Nobody waits for who can't be reached.
            follower(4, &old, AppState::Converged, false),
        ];
        let told = |followers: &[Observed]| {
            let soaking = soaking(&beta, HOUR, followers, after(1), at("20:00")).unwrap();
            assert_eq!((&soaking.release, soaking.until), (&new, None));
            WaitsFor(&soaking).to_string()
        };
        assert_eq!(
            told(&followers),
            "when all followers of beta have run it for long enough: beta-2, beta-3 do not run it yet"
        );
        followers.remove(0);
        assert!(told(&followers).ends_with(": beta-2 does not run it yet"));
        followers.extend((5..=9).map(|n| follower(n, &old, AppState::Converged, true)));
        assert!(told(&followers).ends_with(": beta-2, beta-5, beta-6, beta-7, beta-8, 1 more do not run it yet"));
        assert_eq!(told(&[]), "when the followers of beta report that they run it");
        // It has moved on from the second before all ran it.
        assert_eq!(soaking(&beta, HOUR, &followers, |it| *it == old, at("20:00")), None);
    }
}
