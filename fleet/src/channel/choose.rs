//! Which release a channel points to: pure.

use std::collections::{BTreeMap, BTreeSet};

use bucket::{Channel, ChannelState, LaterCommit, Move, ReleaseName, Timestamp};
use jiff::SignedDuration;

use super::{
    build::Build,
    change::Moves,
    line::{Line, Places},
};

/// Looks through the releases of an app for the one that is furthest on a line; of the others it keeps the names of those of
/// the last commits.
#[derive(Debug)]
pub struct Furthest<'a> {
    places: Places<'a>,
    /// Those of which it is remembered where they stand, besides the furthest one: there is no end to all others.
    remembered: BTreeSet<ReleaseName>,
    rejected: &'a BTreeSet<ReleaseName>,
    /// The only ones that count, if they are few.
    only: Option<BTreeSet<ReleaseName>>,
    found: Option<(usize, Build)>,
    /// By their places, the last release of each of the line's last commits, whether or not it may be chosen yet.
    last: BTreeMap<usize, (Timestamp, ReleaseName)>,
    unreadable: usize,
    /// The first of those, and why.
    passed_over: Vec<(ReleaseName, String)>,
    /// The channel's release, and when the channel moved there.
    moved: Option<(ReleaseName, Timestamp)>,
    /// Where those stand that were uploaded after that.
    late: Vec<usize>,
}

/// What a channel does next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Next {
    /// It points to the furthest release, or nothing may be chosen.
    Stay,
    /// It moves to this release.
    Move(ReleaseName),
    /// It is frozen or moves only when told, and would otherwise move to this release.
    Would(ReleaseName),
    /// Its release is not on the line, where nobody pointed it: the branch was rewritten.
    Diverged,
}

impl<'a> Furthest<'a> {
    /// On this line; `rejected` is passed over, and all but `only` if that is said.
    pub fn on(line: &'a Line, rejected: &'a BTreeSet<ReleaseName>, only: Option<BTreeSet<ReleaseName>>) -> Self {
        let (places, last) = (Places::on(line), BTreeMap::new());
        Self {
            places,
            remembered: BTreeSet::new(),
            rejected,
            only,
            found: None,
            last,
            unreadable: 0,
            passed_over: Vec::new(),
            moved: None,
            late: Vec::new(),
        }
    }

    /// The same for a channel, of which it counts the stale releases. Where these stand is asked afterwards, and where that of the
    /// channel does.
    #[must_use]
    pub fn of(self, channel: &Channel, mut remembered: BTreeSet<ReleaseName>) -> Self {
        remembered.extend(channel.release.clone());
        Self { moved: channel.release.clone().map(|release| (release, channel.moved)), remembered, ..self }
    }

    /// Looks at one more. What its metadata says of repository and branch isn't trusted: its commit is on the line or it
    /// isn't. Of several builds of a commit the one that was uploaded last counts.
    pub fn look(&mut self, release: impl Into<Build>) {
        let release = release.into();
        let place = self.places.line().place(release.commit());
        if self.remembered.contains(&release.name) {
            self.places.learn(&release);
        }
        if self.rejected.contains(&release.name) {
            return;
        }
        match &release.facts {
            Ok(facts) if facts.dirty => return,
            Ok(_) => {}
            Err(reason) => {
                self.unreadable += 1;
                if self.passed_over.len() < ChannelState::MAX_PASSED_OVER {
                    self.passed_over.push((release.name, reason.clone()));
                }
                return;
            }
        }
        let Some(place) = place else { return };
        if place + ChannelState::MAX_LATER >= self.places.line().len() {
            let of_it = (release.uploaded, release.name.clone());
            let last = self.last.entry(place).or_insert_with(|| of_it.clone());
            *last = of_it.max(last.clone());
        }
        if self.only.as_ref().is_some_and(|only| !only.contains(&release.name)) {
            return;
        }
        if self.moved.as_ref().is_some_and(|(_, moved)| release.uploaded > *moved) {
            self.late.push(place);
        }
        let is_further = |(known, of_it): &(usize, Build)| (place, release.uploaded) > (*known, of_it.uploaded);
        if self.found.as_ref().is_none_or(is_further) {
            self.found = Some((place, release));
        }
    }

    /// Releases of which nothing is known, because their metadata can't be read.
    pub fn unreadable(&self) -> usize {
        self.unreadable
    }

    /// Some of them, and why.
    pub fn passed_over(&self) -> &[(ReleaseName, String)] {
        &self.passed_over
    }

    /// The last commits of the line that landed after a place, or at all, newest first, with their releases.
    pub fn later(&self, place: Option<usize>) -> Vec<LaterCommit> {
        let line = self.places.line();
        let first = place.map_or(0, |place| place + 1).max(line.len().saturating_sub(ChannelState::MAX_LATER));
        let release = |place| self.last.get(&place).map(|(_, release)| release.clone());
        let places = (first..line.len()).rev();
        let newest_first = line.from(first).iter().rev().zip(places);
        newest_first.map(|(commit, place)| LaterCommit { commit: commit.clone(), release: release(place) }).collect()
    }

    /// Releases of older commits than the channel's that were uploaded after it had moved there: builds that finished late.
    pub fn stale(&self) -> usize {
        let of_channel = self.moved.as_ref().and_then(|(release, _)| self.places.of(release));
        of_channel.map_or(0, |of_channel| self.late.iter().filter(|place| **place < of_channel).count())
    }

    /// Where the releases stand that are remembered, the furthest one, and all that were not promoted.
    pub fn places(&self) -> Places<'a> {
        let mut places = self.places.clone();
        if let Some((_, found)) = &self.found {
            places.learn(found);
        }
        places
    }

    /// The furthest one, and its place.
    pub fn found(&self) -> Option<(usize, &Build)> {
        self.found.as_ref().map(|(place, release)| (*place, release))
    }
}

/// The releases that have gone through a channel: its followers that could be reached ran them for at least so long, and none
/// rolled them back. That it points elsewhere by now doesn't matter.
pub fn soaked(from: &Channel, soak: SignedDuration, now: Timestamp) -> BTreeSet<ReleaseName> {
    from.history.iter().filter(|entry| has_soaked(from, entry, soak, now)).map(|entry| entry.release.clone()).collect()
}

/// Whether what an entry of a channel's history names has gone through it.
pub(super) fn has_soaked(from: &Channel, entry: &Move, soak: SignedDuration, now: Timestamp) -> bool {
    entry.ran.is_some_and(|ran| now.duration_since(ran) >= soak)
        && !from.rolled_back.iter().any(|by| by.release == entry.release)
}

/// The channel with as much of its history as is kept: of `soak`, the longest that a release must have run there for a channel
/// behind it, all that may still come to that.
pub fn trimmed(mut channel: Channel, soak: Option<SignedDuration>, now: Timestamp) -> Channel {
    let kept = soak.map_or(0, |soak| {
        // Those behind go to the newest that has soaked, at the latest.
        let newest = channel.history.iter().position(|entry| has_soaked(&channel, entry, soak, now));
        newest.map_or(channel.history.len(), |newest| newest + 1)
    });
    channel.history.truncate(kept.max(Channel::MAX_ENTRIES));
    channel
}

/// What a channel does next: it moves forward on the line, never along a side branch, and not to another build of the same
/// commit.
pub fn next(channel: &Channel, moves: Moves, places: &Places, furthest: Option<(usize, &ReleaseName)>) -> Next {
    let from = channel.release.as_ref().and_then(|release| places.of(release));
    if channel.release.is_some() && from.is_none() && channel.frozen.is_none() {
        return Next::Diverged;
    }
    match furthest {
        Some((place, release)) if from.is_none_or(|from| place > from) => {
            if channel.frozen.is_some() || moves == Moves::Told {
                Next::Would(release.clone())
            } else {
                Next::Move(release.clone())
            }
        }
        _ => Next::Stay,
    }
}

#[cfg(test)]
mod tests {
    use bucket::{Frozen, Generation, MoveKind, Promoted, Release, ReleaseMetadata, RolledBackBy};

    use super::*;
    use crate::channel::change::{Said, moved};

    fn commit(n: u8) -> bucket::Commit {
        format!("{n:040x}").parse().unwrap()
    }

    fn numbered(n: u32) -> bucket::Commit {
        format!("{n:040x}").parse().unwrap()
    }

    fn release(n: u8, minute: u8) -> Release {
        let name: ReleaseName =
            format!("web/web:dev@build-1:2026-11-20T19:{minute:02}:00Z:{n:040x}.deb").parse().unwrap();
        let metadata = ReleaseMetadata {
            dirty: false,
            note: String::new(),
            services: Vec::new(),
            sha256: [0; 32].into(),
            size: 3,
            package: "web".parse().unwrap(),
            version: "1".into(),
            architecture: "all".parse().unwrap(),
            repo: "https://elsewhere.example/x".into(),
            branch: "other".into(),
            made_by: None,
        };
        let uploaded = name.time();
        Release {
            name,
            generation: Generation(1),
            size: 3,
            uploaded,
            adopted: None,
            promoted: None,
            metadata: Ok(metadata),
        }
    }

    fn channel(n: Option<u8>) -> Channel {
        let at = "2026-11-20T19:00:00Z".parse().unwrap();
        let mut channel = Channel::new("web".parse().unwrap(), "prod".parse().unwrap(), "dev", "", at);
        channel.release = n.map(|n| release(n, n).name);
        channel
    }

    fn furthest(line: &Line, rejected: &[ReleaseName], releases: Vec<Release>) -> Option<(usize, ReleaseName)> {
        let rejected = rejected.iter().cloned().collect();
        let mut furthest = Furthest::on(line, &rejected, None);
        for release in releases {
            furthest.look(release);
        }
        furthest.found().map(|(place, release)| (place, release.name.clone()))
    }

    #[test]
    fn a_promoted_release_stands_where_its_change_landed() {
        let line = Line::new((0..10).map(commit).collect());
        // Built from a commit that is not on the line, or is elsewhere there.
        let promoted = |built, landed, minute| Release {
            promoted: Some(Promoted { landed: commit(landed), change: "web/12".parse().unwrap(), patchset: 3 }),
            ..release(built, minute)
        };
        let (far, near) = (promoted(200, 7, 1), promoted(9, 3, 2));
        let (nothing, mut channel) = (BTreeSet::new(), channel(None));
        let mut furthest = Furthest::on(&line, &nothing, None).of(&channel, [near.name.clone()].into());
        // However many were promoted: of those that nobody asks about nothing is remembered.
        let others = [promoted(201, 4, 4), promoted(202, 5, 5), promoted(203, 6, 6)];
        for release in [near.clone(), release(5, 3)].into_iter().chain(others.clone()).chain([far.clone()]) {
            furthest.look(release);
        }
        let found = furthest.found().map(|(place, release)| (place, &release.name));
        assert_eq!(found, Some((7, &far.name)));
        assert_eq!([&near.name, &far.name].map(|name| furthest.places().of(name)), [Some(3), Some(7)]);
        assert_eq!(others.map(|other| furthest.places().of(&other.name)), [None; 3]);
        channel.release = Some(far.name.clone());
        assert_eq!(next(&channel, Moves::Newest, &furthest.places(), found), Next::Stay, "it has not diverged");
        let nearer = Some((5, &near.name));
        assert_eq!(next(&channel, Moves::Newest, &furthest.places(), nearer), Next::Stay);
    }

    #[test]
    fn the_furthest_on_the_line_counts_in_whatever_order_builds_finish() {
        let line = Line::new([1, 2, 3].map(commit).to_vec());
        for order in [[1, 2, 3], [1, 3, 2], [2, 1, 3], [2, 3, 1], [3, 1, 2], [3, 2, 1]] {
            let releases = order.into_iter().zip(0..).map(|(n, minute)| release(n, minute)).collect();
            assert_eq!(furthest(&line, &[], releases).unwrap().0, 2, "{order:?}");
        }
        // Of two builds of one commit the last, and none that is dirty, rejected, unreadable or off the line.
        let (mut dirty, mut unreadable) = (release(3, 5), release(3, 6));
        dirty.metadata.as_mut().unwrap().dirty = true;
        unreadable.metadata = Err("no metadata".into());
        let releases = vec![release(2, 3), release(2, 4), dirty, unreadable, release(3, 7), release(9, 9)];
        let found = furthest(&line, &[release(3, 7).name], releases);
        assert_eq!(found, Some((1, release(2, 4).name)));
    }

    #[test]
    fn the_commits_after_a_place_are_told_with_their_releases_newest_first() {
        let (line, rejected) = (Line::new([1, 2, 3, 4].map(commit).to_vec()), BTreeSet::from([release(4, 4).name]));
        // None has gone through the channel before yet.
        let mut furthest = Furthest::on(&line, &rejected, Some(BTreeSet::new()));
        for release in [release(1, 1), release(3, 9), release(3, 3), release(4, 4), release(9, 9)] {
            furthest.look(release);
        }
        let told = |place| -> Vec<_> {
            let later = furthest.later(place).into_iter();
            later.map(|later| (later.commit, later.release)).collect()
        };
        let (three, two) = ((commit(3), Some(release(3, 9).name)), (commit(2), None));
        assert_eq!(told(Some(0)), [(commit(4), None), three.clone(), two.clone()]);
        assert_eq!(told(None), [(commit(4), None), three, two, (commit(1), Some(release(1, 1).name))]);
        assert_eq!(told(Some(3)), []);
        let long = Line::new((0..=250_u8).map(commit).collect());
        let mut furthest = Furthest::on(&long, &rejected, None);
        for n in [100, 150, 151, 250] {
            furthest.look(release(n, 1));
        }
        let later = furthest.later(Some(100));
        assert_eq!((later.len(), later.last().unwrap().commit.clone()), (ChannelState::MAX_LATER, commit(151)));
        let named: Vec<_> = later.iter().filter(|later| later.release.is_some()).map(|later| &later.commit).collect();
        assert_eq!(named, [&commit(250), &commit(151)]);
        assert_eq!(furthest.last.len(), 2, "it keeps no more than it tells");
        // However many releases there are.
        let (nothing, long) = (BTreeSet::new(), Line::new((0..20_000_u32).map(numbered).collect()));
        let mut furthest = Furthest::on(&long, &nothing, None);
        for n in 0..20_000 {
            let name = format!("web/web:dev@build-1:2026-11-20T19:05:02Z:{}.deb", numbered(n)).parse().unwrap();
            furthest.look(Release { name, ..release(1, 1) });
        }
        assert_eq!((furthest.last.len(), furthest.found().unwrap().0), (ChannelState::MAX_LATER, 19_999));
    }

    #[test]
    fn builds_that_finish_after_the_channel_has_passed_their_commit_are_stale() {
        let (line, rejected) = (Line::new([1, 2, 3].map(commit).to_vec()), BTreeSet::from([release(1, 50).name]));
        let at_two = Channel { moved: release(2, 30).uploaded, ..channel(Some(2)) };
        for (of, releases, stale) in [
            (&channel(None), vec![release(1, 40)], 0),
            // Before it moved, the same commit, a later one, one that nobody may choose, off the line.
            (&at_two, vec![release(1, 20), release(2, 40), release(3, 40), release(1, 50), release(9, 40)], 0),
            (&at_two, vec![release(1, 40), release(1, 41), release(3, 42)], 2),
            // Where it points nothing is earlier.
            (&Channel { moved: at_two.moved, ..channel(Some(9)) }, vec![release(1, 40)], 0),
        ] {
            let mut furthest = Furthest::on(&line, &rejected, None).of(of, BTreeSet::new());
            for release in releases {
                furthest.look(release);
            }
            assert_eq!(furthest.stale(), stale);
        }
    }

    #[test]
    fn a_release_qualifies_once_it_ran_long_enough_and_nobody_went_back() {
        let at = |text: &str| -> Timestamp { text.parse().unwrap() };
        let said = |at| Said { by: "w", why: "", at };
        let mut from = channel(None);
        for n in [1, 2, 3] {
            from = moved(&from, &release(n, n).name, MoveKind::Forward, said(at("2026-11-20T19:00:00Z")));
        }
        // Newest first: the third did not run everywhere, and the second was rolled back.
        from.history[1].ran = Some(at("2026-11-20T20:00:00Z"));
        from.history[2].ran = Some(at("2026-11-20T20:00:00Z"));
        let now = at("2026-11-20T21:00:00Z");
        let names = |from: &Channel, minutes| -> Vec<_> {
            soaked(from, SignedDuration::from_mins(minutes), now).iter().map(|name| name.commit().clone()).collect()
        };
        assert_eq!(names(&from, 60), [commit(1), commit(2)]);
        assert_eq!(names(&from, 61), []);
        let (server, why) = ("beta-1".parse().unwrap(), "died".to_owned());
        from.rolled_back =
            vec![RolledBackBy { release: release(2, 2).name, server, at: now, why, other: serde_json::Map::new() }];
        assert_eq!(names(&from, 60), [commit(1)]);
        // Only those count.
        let line = Line::new([1, 2, 3].map(commit).to_vec());
        let nothing = BTreeSet::new();
        let mut furthest = Furthest::on(&line, &nothing, Some(soaked(&from, SignedDuration::ZERO, now)));
        for n in [1, 2, 3] {
            furthest.look(release(n, n));
        }
        assert_eq!(furthest.found().map(|(place, _)| place), Some(0));
    }

    #[test]
    fn a_channel_moves_forward_on_its_line_only() {
        let line = Line::new([1, 2, 3].map(commit).to_vec());
        let (at, new) = (|n| release(n, n).name, release(3, 9).name);
        let frozen = Frozen {
            by: "dev".into(),
            at: "2026-11-20T19:00:00Z".parse().unwrap(),
            why: String::new(),
            because: None,
            other: serde_json::Map::new(),
        };
        for (from, place, release, is_frozen, moves, want) in [
            (None, 2, &new, false, Moves::Newest, Next::Move(new.clone())),
            (Some(2), 2, &new, false, Moves::Newest, Next::Move(new.clone())),
            (Some(2), 2, &new, true, Moves::Newest, Next::Would(new.clone())),
            (Some(2), 2, &new, false, Moves::Told, Next::Would(new.clone())),
            // The same commit, and an older one.
            (Some(3), 2, &new, false, Moves::Newest, Next::Stay),
            (Some(3), 0, &at(1), false, Moves::Newest, Next::Stay),
            // What it points to isn't on the line.
            (Some(9), 2, &new, false, Moves::Newest, Next::Diverged),
            // A person has it stay at a hotfix.
            (Some(9), 2, &new, true, Moves::Newest, Next::Would(new.clone())),
        ] {
            let mut channel = channel(from);
            channel.frozen = is_frozen.then(|| frozen.clone());
            assert_eq!(next(&channel, moves, &Places::on(&line), Some((place, release))), want, "{from:?}");
        }
        assert_eq!(next(&channel(Some(1)), Moves::Newest, &Places::on(&line), None), Next::Stay);
    }

    #[test]
    fn the_history_is_bounded_and_keeps_what_a_channel_behind_waits_for() {
        let numbers: Vec<u8> = (0..150).map(|n| n % 50).collect();
        let said = Said { by: "w", why: "", at: "2026-11-20T19:00:00Z".parse().unwrap() };
        let many = |channel, n: &u8| moved(&channel, &release(*n, *n).name, MoveKind::Forward, said);
        let mut channel = numbers.iter().fold(channel(None), many);
        let now: Timestamp = "2026-11-20T21:00:00Z".parse().unwrap();
        let kept = |channel: &Channel, minutes: Option<i64>| {
            trimmed(channel.clone(), minutes.map(SignedDuration::from_mins), now).history.len()
        };
        assert_eq!((kept(&channel, None), kept(&channel, Some(60))), (100, 150), "none of them has run");
        // The 130th move from now ran an hour ago, and what came before it no longer matters.
        channel.history[129].ran = Some("2026-11-20T20:00:00Z".parse().unwrap());
        for (minutes, want) in [(Some(60), 130), (Some(61), 150), (None, 100)] {
            assert_eq!(kept(&channel, minutes), want, "{minutes:?}");
        }
        channel.history[3].ran = channel.history[129].ran;
        assert_eq!(kept(&channel, Some(60)), 100);
        let (server, why) = ("web-1".parse().unwrap(), String::new());
        channel.rolled_back = vec![RolledBackBy {
            release: channel.history[3].release.clone(),
            server,
            at: now,
            why,
            other: serde_json::Map::new(),
        }];
        assert_eq!(kept(&channel, Some(60)), 130, "one that was rolled back never qualifies");
    }
}
