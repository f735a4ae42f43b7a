//! What is recorded of a change's candidates: pure functions of what was there and what is said.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Result, ensure};
use bucket::{AppName, ArtifactType, Change, ChangeId, ChangeState, Commit, RecordedCandidate, Timestamp};

/// Most candidates of an app that are kept of a change, packages and images, gated ones and others apart: what is recorded of it is bounded.
const MAX_KEPT: usize = 10;
/// Most candidates that are kept of a change, whatever their apps.
const MAX_ALL: usize = 200;

/// Refuses what is checked out unless it is the last patchset of a change that is open.
pub(crate) fn ensure_last(id: &ChangeId, change: &Change, commit: &Commit) -> Result<()> {
    ensure!(
        change.state == ChangeState::Open,
        "`{id}` was {}: candidates are built of what is not merged yet",
        change.state.as_str()
    );
    ensure!(
        change.commit == *commit,
        "`{id}` is at patchset {}, which is commit {}, and {} is checked out: check out the last patchset, or record this one \
         with `release change open {id}`",
        change.patchset,
        change.commit.short(),
        commit.short()
    );
    Ok(())
}

/// The change with another candidate, the same if it is recorded already. The oldest ones of its app make room.
///
/// # Errors
/// When another commit has become its last patchset since the candidate was built, or it was ended.
pub(crate) fn recorded(
    id: &ChangeId,
    before: &Change,
    candidate: &RecordedCandidate,
    commit: &Commit,
    by: &str,
) -> Result<Change> {
    let is_it = |known: &RecordedCandidate| {
        (&known.path, &known.sha256, known.patchset) == (&candidate.path, &candidate.sha256, candidate.patchset)
    };
    if before.candidates.iter().any(is_it) {
        return Ok(before.clone());
    }
    ensure_last(id, before, commit)?;
    let mut change = Change { updated: candidate.at, by: by.to_owned(), ..before.clone() };
    change.candidates.retain(|known| !replaces(candidate, known));
    change.candidates.push(candidate.clone());
    let same = |known: &RecordedCandidate| {
        (&known.artifact, &known.app, known.gate) == (&candidate.artifact, &candidate.app, candidate.gate)
    };
    let too_many = change.candidates.iter().filter(|known| same(known)).count().saturating_sub(MAX_KEPT);
    for _ in 0..too_many {
        if let Some(oldest) = change.candidates.iter().position(same) {
            change.candidates.remove(oldest);
        }
    }
    while change.candidates.len() > MAX_ALL {
        // What no longer counts goes first, then what is only tried: what is gated may have to be promoted yet.
        let of_no_use = |known: &RecordedCandidate| known.patchset < change.patchset && known.landed.is_none();
        let first = change.candidates.iter().position(of_no_use);
        let first = first.or_else(|| change.candidates.iter().position(|known| !known.gate));
        change.candidates.remove(first.unwrap_or(0));
    }
    Ok(change)
}

/// Whether a candidate takes the place of another one: it lies there, or is the image that is gated under its tag now.
fn replaces(candidate: &RecordedCandidate, known: &RecordedCandidate) -> bool {
    let is_under_its_tag =
        (&known.artifact, &known.app, &known.tag) == (&candidate.artifact, &candidate.app, &candidate.tag);
    let are_gated_images = candidate.artifact == ArtifactType::Image && candidate.gate && known.gate;
    known.path == candidate.path || are_gated_images && is_under_its_tag
}

/// The gated candidates of a change's last patchset, or those of these apps: of each app the package and the image that were
/// recorded last.
///
/// # Errors
/// When there is none.
pub(crate) fn gated<'a>(id: &ChangeId, change: &'a Change, apps: &[AppName]) -> Result<Vec<&'a RecordedCandidate>> {
    let of_app = |app: &AppName| {
        let last = |artifact: ArtifactType| {
            let is_it =
                |known: &&RecordedCandidate| is_gated(known) && (&known.artifact, &known.app) == (&artifact, app);
            change.candidates.iter().rfind(is_it)
        };
        let found: Vec<_> = [ArtifactType::Deb, ArtifactType::Image].into_iter().filter_map(last).collect();
        ensure!(!found.is_empty(), "`{id}` has no gated candidate of `{app}`: {}", build_again(id, app.as_str()));
        Ok(found)
    };
    let chosen = if apps.is_empty() {
        promotable(change)
    } else {
        apps.iter().collect::<BTreeSet<_>>().into_iter().map(of_app).collect::<Result<Vec<_>>>()?.concat()
    };
    ensure!(!chosen.is_empty(), "`{id}` has no gated candidate of its last patchset: {}", build_again(id, ""));
    Ok(chosen)
}

/// What the promotion of a change makes releases of: of each app the last package and the last image that were gated of its last patchset. What was gated of an
/// earlier one, and not of the last, is no part of what was merged.
pub(crate) fn promotable<'a>(change: &'a Change) -> Vec<&'a RecordedCandidate> {
    let gated = change.candidates.iter().filter(|known| is_gated(known) && known.patchset == change.patchset);
    let of = |known: &'a RecordedCandidate| ((&known.app, known.artifact == ArtifactType::Image), known);
    gated.map(of).collect::<BTreeMap<_, _>>().into_values().collect()
}

fn is_gated(known: &RecordedCandidate) -> bool {
    known.gate && matches!(known.artifact, ArtifactType::Deb | ArtifactType::Image)
}

/// What helps where a candidate is missing.
fn build_again(id: &ChangeId, app: &str) -> String {
    let app = if app.is_empty() { String::new() } else { format!(" {app}") };
    format!("before it is merged, `release candidate -m NOTE{app} --change {id} --gate` builds one")
}

/// The change when candidates of it were promoted, each with the commit as which it landed; the same if that is recorded.
pub(crate) fn promoted(before: &Change, landed: &BTreeMap<String, Commit>, (by, now): (&str, Timestamp)) -> Change {
    let mut change = before.clone();
    for known in &mut change.candidates {
        if let Some(commit) = landed.get(&known.path) {
            known.landed = Some(commit.clone());
        }
    }
    if change == *before { change } else { Change { updated: now, by: by.to_owned(), ..change } }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const BY: &str = "ci@x";

    fn id() -> ChangeId {
        "web/12".parse().unwrap()
    }

    fn commit(digit: char) -> Commit {
        digit.to_string().repeat(40).parse().unwrap()
    }

    fn change() -> Change {
        serde_json::from_value(json!({
            "schema": 1, "project": "web", "change": "12", "patchset": 3, "commit": commit('a'), "tree": commit('e'),
            "branch": "main", "needs": [], "state": "open", "updated": "2026-11-20T19:00:00Z", "by": "dev@x",
        }))
        .unwrap()
    }

    fn candidate(app: &str, minute: u32, gate: bool) -> RecordedCandidate {
        let at = format!("2026-11-20T19:{minute:02}:00Z");
        let release = format!("{app}/{app}:dev@ci:{at}:{}.deb", commit('a'));
        let below = if gate { "candidates/web/12".to_owned() } else { format!("builds/web/12/b{minute}") };
        serde_json::from_value(json!({
            "type": "deb", "app": app, "release": release, "sha256": "07".repeat(32), "size": 3,
            "path": format!("{below}/{release}"), "build": format!("b{minute}"), "patchset": 3, "gate": gate, "at": at,
        }))
        .unwrap()
    }

    fn with(candidates: &[RecordedCandidate]) -> Change {
        let record = |change, candidate| recorded(&id(), &change, candidate, &commit('a'), BY).unwrap();
        candidates.iter().fold(change(), record)
    }

    #[test]
    fn a_candidate_is_recorded_once_and_of_the_last_patchset_of_an_open_change_only() {
        let one = candidate("web", 1, false);
        let change = with(&[one.clone(), one.clone()]);
        assert_eq!((change.candidates.len(), change.updated, change.by.as_str()), (1, one.at, BY));
        let next = Change { patchset: 4, commit: commit('b'), ..change.clone() };
        let late = recorded(&id(), &next, &candidate("web", 2, false), &commit('a'), BY).unwrap_err().to_string();
        assert!(
            late.starts_with("`web/12` is at patchset 4, which is commit bbbbbbbbbbbb, and aaaaaaaaaaaa"),
            "{late}"
        );
        assert_eq!(recorded(&id(), &next, &one, &commit('a'), BY).unwrap(), next, "that one is recorded");
        let merged = Change { state: ChangeState::Merged, ..change };
        let late = recorded(&id(), &merged, &candidate("web", 2, false), &commit('a'), BY).unwrap_err().to_string();
        assert!(late.starts_with("`web/12` was merged"), "{late}");
    }

    #[test]
    fn the_oldest_candidates_of_an_app_make_room_and_no_others() {
        let many: Vec<_> = (1..=12).map(|minute| candidate("web", minute, false)).collect();
        let change = with(&[&[candidate("lib", 20, false), candidate("web", 21, true)], &many[..]].concat());
        let kept: Vec<_> = change.candidates.iter().map(|known| known.build.as_str()).collect();
        assert_eq!(kept, ["b20", "b21", "b3", "b4", "b5", "b6", "b7", "b8", "b9", "b10", "b11", "b12"]);
    }

    #[test]
    fn however_many_apps_a_change_has_what_is_recorded_of_it_can_be_written() {
        let mut change = change();
        change.patchset = 2;
        let apps: Vec<String> = (0..150).map(|n| format!("app-{n}-{}", "x".repeat(40))).collect();
        let build = |change: Change, gate: bool, patchset: u32| {
            let of = |app: &String| RecordedCandidate { patchset, ..candidate(app, patchset, gate) };
            apps.iter().fold(change, |change, app| recorded(&id(), &change, &of(app), &commit('a'), BY).unwrap())
        };
        change = build(change, true, 2);
        change.patchset = 3;
        change = build(change, true, 3);
        let gated: Vec<_> = change.candidates.iter().filter(|known| known.patchset == 3).collect();
        assert_eq!((change.candidates.len(), gated.len()), (MAX_ALL, 150), "the earlier ones make room");
        change = build(change, false, 3);
        assert_eq!(change.candidates.iter().filter(|known| known.gate && known.patchset == 3).count(), 150);
        let written = serde_json::to_vec_pretty(&change).unwrap().len();
        assert!(written < 192 << 10, "{written} bytes leave no room for tries");
    }

    #[test]
    fn of_several_gated_ones_the_last_counts() {
        let lib = candidate("lib", 2, true);
        let change =
            with(&[candidate("web", 1, true), lib.clone(), candidate("web", 3, true), candidate("db", 4, false)]);
        let builds = |apps: &[&str]| -> Result<Vec<String>> {
            let apps: Vec<AppName> = apps.iter().map(|app| app.parse().unwrap()).collect();
            Ok(gated(&id(), &change, &apps)?.iter().map(|known| known.build.to_string()).collect())
        };
        assert_eq!(builds(&[]).unwrap(), ["b2", "b3"]);
        assert_eq!(builds(&["web"]).unwrap(), ["b3"]);
        let none = builds(&["web", "db"]).unwrap_err().to_string();
        assert!(
            none.starts_with("`web/12` has no gated candidate of `db`: before it is merged, `release candidate"),
            "{none}"
        );
        assert!(gated(&id(), &with(&[candidate("db", 4, false)]), &[]).is_err());
        let earlier = RecordedCandidate { patchset: 2, ..lib };
        let later = with(&[candidate("web", 3, true)]);
        let mixed = Change { candidates: [&[earlier][..], &later.candidates].concat(), ..later };
        let meant: Vec<_> = gated(&id(), &mixed, &[]).unwrap().iter().map(|known| known.app.to_string()).collect();
        assert_eq!(meant, ["web"], "that of an earlier patchset is not merged with it");
        assert_eq!(
            gated(&id(), &mixed, &["lib".parse().unwrap()]).unwrap()[0].patchset,
            2,
            "and refused when it is named"
        );
    }

    #[test]
    fn an_app_may_have_a_package_and_an_image_and_a_place_has_what_was_recorded_there_last() {
        let image = |minute: u32, tag: &str| {
            let recorded = RecordedCandidate { artifact: ArtifactType::Image, ..candidate("web", minute, true) };
            let (path, tag) = (format!("candidates/web/12/web/{tag}@{minute}.json"), Some(tag.parse().unwrap()));
            RecordedCandidate { path, tag, ..recorded }
        };
        let again = image(4, "1234");
        let change = with(&[
            image(0, "1"),
            image(1, "1234"),
            candidate("web", 2, true),
            candidate("lib", 3, true),
            again.clone(),
        ]);
        assert_eq!(change.candidates.len(), 4, "that of another tag stays");
        let builds = |apps: &[AppName]| {
            gated(&id(), &change, apps).unwrap().iter().map(|known| known.build.to_string()).collect::<Vec<_>>()
        };
        assert_eq!(builds(&[]), ["b3", "b2", "b4"]);
        assert_eq!(builds(&["web".parse().unwrap()]), ["b2", "b4"]);
        assert_eq!(change.candidates.last(), Some(&again));
    }

    #[test]
    fn a_promotion_is_recorded_once() {
        let one = candidate("web", 1, true);
        let change = with(&[one.clone(), candidate("lib", 2, true)]);
        let landed = BTreeMap::from([(one.path, commit('f'))]);
        let now: Timestamp = "2026-11-20T20:00:00Z".parse().unwrap();
        let after = promoted(&change, &landed, (BY, now));
        let commits: Vec<_> = after.candidates.iter().map(|known| known.landed.clone()).collect();
        assert_eq!((commits, after.updated), (vec![Some(commit('f')), None], now));
        assert_eq!(promoted(&after, &landed, ("other@x", Timestamp::UNIX_EPOCH)), after);
    }
}
