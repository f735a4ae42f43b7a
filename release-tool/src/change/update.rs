//! What is written of a change: pure functions of what was there and what is said.

use anyhow::{Result, bail, ensure};
use bucket::{Change, ChangeId, ChangeState, Commit, Timestamp, Try};

/// What is said of a change that is open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Opened {
    /// Its commit.
    pub(crate) commit: Commit,
    /// The tree of that.
    pub(crate) tree: Commit,
    /// Which patchset that is, if somebody says so.
    pub(crate) patchset: Option<u32>,
    /// The branch that it is to be merged into.
    pub(crate) branch: String,
    /// The changes that it needs, if somebody says so.
    pub(crate) needs: Option<Vec<ChangeId>>,
}

/// The change with what is said of it, `before` being what was known; the same if nothing is new.
///
/// # Errors
/// When it was merged, or what is said is of an earlier patchset, as a job that was late says.
pub(crate) fn opened(
    id: &ChangeId,
    before: Option<&Change>,
    said: Opened,
    (by, now): (&str, Timestamp),
) -> Result<Change> {
    let Opened { commit, tree, patchset, branch, needs } = said;
    let patchset = match before {
        Some(before) => {
            ensure!(
                before.state != ChangeState::Merged,
                "`{id}` was merged, and what is merged is not opened again: record what follows as a change of its own"
            );
            let next = if commit == before.commit { before.patchset } else { before.patchset.saturating_add(1) };
            match patchset.unwrap_or(next) {
                earlier if earlier < before.patchset => {
                    bail!("`{id}` is at patchset {}: patchset {earlier} no longer counts", before.patchset)
                }
                same if same == before.patchset && commit != before.commit => bail!(
                    "patchset {same} of `{id}` is commit {}, not {}: a patchset never changes; say --patchset {}",
                    before.commit.short(),
                    commit.short(),
                    same.saturating_add(1)
                ),
                patchset => patchset,
            }
        }
        None => patchset.unwrap_or(1),
    };
    let needs = needs.unwrap_or_else(|| before.map(|before| before.needs.clone()).unwrap_or_default());
    ensure!(!needs.contains(id), "`{id}` cannot need itself");
    let max = Change::MAX_NEEDS;
    ensure!(needs.len() <= max, "`{id}` would need {} changes, and {max} is the most", needs.len());
    let state = ChangeState::Open;
    let (candidates, tries, other) = before
        .map(|before| (before.candidates.clone(), before.tries.clone(), before.other.clone()))
        .unwrap_or_default();
    let same = |before: &&Change| {
        before.state == state
            && (before.patchset, &before.commit, &before.tree) == (patchset, &commit, &tree)
            && (&before.branch, &before.needs) == (&branch, &needs)
    };
    if let Some(before) = before.filter(same) {
        return Ok(before.clone());
    }
    Ok(Change {
        schema: 1,
        project: id.project().to_owned(),
        change: id.change().to_owned(),
        patchset,
        commit,
        tree,
        branch,
        needs,
        state,
        candidates,
        tries,
        updated: now,
        by: by.to_owned(),
        other,
    })
}

/// The change when it was merged or given up; the same if that was known.
///
/// # Errors
/// When it ended otherwise.
pub(crate) fn ended(
    id: &ChangeId,
    before: &Change,
    state: ChangeState,
    (by, now): (&str, Timestamp),
) -> Result<Change> {
    if before.state == state {
        return Ok(before.clone());
    }
    ensure!(before.state != ChangeState::Merged, "`{id}` was merged: it cannot be {} any more", state.as_str());
    Ok(Change { state, updated: now, by: by.to_owned(), ..before.clone() })
}

/// Most tries that are kept of a change.
const MAX_TRIES: usize = 20;

/// Most artifacts that the tries of a change are kept of together: what is recorded of it is bounded.
const MAX_TRIED: usize = 1500;

/// The change when it was tried once more. The oldest tries make room.
pub(crate) fn tried(before: &Change, this: Try, by: &str) -> Change {
    let mut change = Change { updated: this.at, by: by.to_owned(), ..before.clone() };
    let too_many =
        |tries: &[Try]| tries.len() > MAX_TRIES || tries.iter().map(|one| one.sha256.len()).sum::<usize>() > MAX_TRIED;
    change.tries.push(this);
    while change.tries.len() > 1 && too_many(&change.tries) {
        change.tries.remove(0);
    }
    change
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const BY: &str = "dev@build-1";

    fn id() -> ChangeId {
        "web/12".parse().unwrap()
    }

    fn commit(digit: char) -> Commit {
        digit.to_string().repeat(40).parse().unwrap()
    }

    fn at(minute: u32) -> Timestamp {
        format!("2026-11-20T19:{minute:02}:00Z").parse().unwrap()
    }

    fn said(digit: char, patchset: Option<u32>) -> Opened {
        Opened { commit: commit(digit), tree: commit('e'), patchset, branch: "main".to_owned(), needs: None }
    }

    fn first() -> Change {
        let needs = Some(vec!["lib/11".parse().unwrap()]);
        let mut first = opened(&id(), None, Opened { needs, ..said('a', None) }, (BY, at(1))).unwrap();
        first.other.insert("run".to_owned(), json!([1]));
        first
    }

    #[test]
    fn another_commit_is_the_next_patchset_and_what_nobody_speaks_of_stays() {
        let first = first();
        assert_eq!((first.patchset, first.state, first.updated), (1, ChangeState::Open, at(1)));
        assert_eq!(opened(&id(), Some(&first), said('a', None), (BY, at(2))).unwrap(), first, "nothing new");
        let second = opened(&id(), Some(&first), said('b', None), ("ci@x", at(2))).unwrap();
        assert_eq!((second.patchset, second.updated, second.by.as_str()), (2, at(2), "ci@x"));
        assert_eq!((&second.needs, &second.other), (&first.needs, &first.other));
        let none = Opened { needs: Some(Vec::new()), ..said('b', None) };
        assert!(opened(&id(), Some(&second), none, (BY, at(3))).unwrap().needs.is_empty());
        let stable = Opened { branch: "stable".to_owned(), ..said('a', None) };
        assert_eq!(opened(&id(), Some(&first), stable, (BY, at(3))).unwrap().branch, "stable");
    }

    #[test]
    fn the_oldest_tries_make_room() {
        let one = |minute, artifacts| -> Try {
            let (sums, at) = (vec!["07".repeat(32); artifacts], at(minute));
            serde_json::from_value(json!({ "buildset": "b", "sha256": sums, "result": "passed", "at": at })).unwrap()
        };
        let mut change = first();
        for minute in 2..30 {
            change = tried(&change, one(minute, 1), "ci@x");
        }
        assert_eq!((change.tries.len(), change.tries[0].at, change.tries[19].at), (20, at(10), at(29)));
        assert_eq!((change.updated, change.by.as_str(), change.patchset), (at(29), "ci@x", 1));
        let change = tried(&change, one(40, 1495), "ci@x");
        assert_eq!((change.tries.len(), change.tries[0].at), (6, at(25)));
        let change = tried(&change, one(41, 3000), "ci@x");
        assert_eq!((change.tries.len(), change.tries[0].at), (1, at(41)));
    }

    #[test]
    fn a_patchset_only_grows_and_never_changes() {
        let fourth = opened(&id(), Some(&first()), said('d', Some(4)), (BY, at(2))).unwrap();
        assert_eq!(fourth.patchset, 4);
        let refused = |said| opened(&id(), Some(&fourth), said, (BY, at(3))).unwrap_err().to_string();
        assert_eq!(refused(said('c', Some(3))), "`web/12` is at patchset 4: patchset 3 no longer counts");
        assert!(refused(said('c', Some(4))).contains("say --patchset 5"));
        let itself = Opened { needs: Some(vec![id()]), ..said('d', None) };
        assert_eq!(refused(itself), "`web/12` cannot need itself");
    }

    #[test]
    fn what_was_abandoned_may_be_taken_up_again_and_what_was_merged_stays_merged() {
        let first = first();
        let abandoned = ended(&id(), &first, ChangeState::Abandoned, (BY, at(2))).unwrap();
        assert_eq!(ended(&id(), &abandoned, ChangeState::Abandoned, (BY, at(3))).unwrap(), abandoned);
        let again = opened(&id(), Some(&abandoned), said('a', None), (BY, at(3))).unwrap();
        assert_eq!((again.state, again.patchset), (ChangeState::Open, 1));
        let merged = ended(&id(), &again, ChangeState::Merged, (BY, at(4))).unwrap();
        assert!(ended(&id(), &merged, ChangeState::Abandoned, (BY, at(5))).is_err());
        assert!(opened(&id(), Some(&merged), said('b', None), (BY, at(5))).is_err());
    }
}
