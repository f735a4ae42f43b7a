//! Whether a candidate is promoted, and what is left of that: pure functions of what was read.
//!
//! What decides is what lies beside the candidate in the bucket of the releases, and git. A change says where to look, and that
//! it was merged: who forges one has to be borne out by both.

use anyhow::{Result, bail, ensure};
use bucket::{
    Candidate, CandidateMetadata, Change, ChangeId, ChangeState, Commit, RecordedCandidate, Release, TryResult,
};

use super::line::Line;

/// What is left to do for one candidate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Left {
    /// It becomes a release.
    Copy {
        /// The candidate.
        candidate: Candidate,
        /// What lies beside it.
        facts: Box<CandidateMetadata>,
        /// The commit as which its change landed.
        landed: Commit,
    },
    /// The release is there; the candidate goes, if it hasn't gone.
    Clear {
        /// The candidate.
        candidate: Option<Candidate>,
        /// The commit as which the release counts.
        landed: Commit,
    },
}

/// Refuses a change that was not merged.
pub(crate) fn ensure_merged(id: &ChangeId, change: &Change) -> Result<()> {
    match change.state {
        ChangeState::Merged => Ok(()),
        ChangeState::Open => {
            bail!("`{id}` is not merged: once it is, `release change merged {id}` records that, and promote it then")
        }
        ChangeState::Abandoned => bail!("`{id}` was abandoned, and only what was merged is promoted"),
    }
}

/// What is left to do for a candidate that is `recorded` of a change, of what is in the bucket of the releases now.
///
/// # Errors
/// Why it isn't promoted, and what to do.
pub(crate) fn left<'a>(
    (id, change): (&ChangeId, &Change),
    recorded: &RecordedCandidate,
    (candidate, release): (Option<Candidate>, Option<&Release>),
    line: impl FnOnce() -> Result<&'a Line>,
) -> Result<Left> {
    let stem = recorded.release.stem();
    let facts = candidate.as_ref().map(|candidate| verified(recorded, candidate)).transpose()?;
    if let Some(release) = release {
        let (sha256, size) =
            facts.map_or((&recorded.sha256, recorded.size), |facts| (&facts.release.sha256, facts.release.size));
        ensure_same(release, sha256, size)?;
        let is_of_it = |promoted: &bucket::Promoted| promoted.change == *id && promoted.patchset == recorded.patchset;
        ensure!(
            candidate.is_some() || release.promoted.as_ref().is_some_and(is_of_it),
            "`{stem}` is a release that was not promoted from `{id}`, patchset {}, and there is no such candidate: nothing was done",
            recorded.patchset
        );
        return Ok(Left::Clear { candidate, landed: release.commit().clone() });
    }
    let (Some(candidate), Some(facts)) = (candidate.as_ref(), facts) else {
        bail!(
            "the candidate `{stem}` is gone, and there is no such release: what is left is a release of the merged commit"
        )
    };
    ensure!(
        !facts.release.dirty,
        "the candidate `{stem}` was built with uncommitted changes: make a release of the merged commit"
    );
    let (commit, tree, base) = (recorded.release.commit(), &facts.tree, facts.base.as_ref());
    let landed = landed((id, change), &Built { called: stem, patchset: facts.patchset, commit, tree, base }, line)?;
    Ok(Left::Copy { candidate: candidate.clone(), facts: Box::new(facts.clone()), landed })
}

/// What was built, as it is said beside it.
pub(crate) struct Built<'a> {
    /// What it is called, for people.
    pub(crate) called: &'a str,
    /// Which version of the change.
    pub(crate) patchset: u32,
    /// The commit of that.
    pub(crate) commit: &'a Commit,
    /// The tree of the commit.
    pub(crate) tree: &'a Commit,
    /// What it was built on, if that is known.
    pub(crate) base: Option<&'a Commit>,
}

/// The commit as which a change landed of which this was built.
///
/// # Errors
/// Why that is none, and what to do.
pub(crate) fn landed<'a>(
    (id, change): (&ChangeId, &Change),
    built: &Built<'_>,
    line: impl FnOnce() -> Result<&'a Line>,
) -> Result<Commit> {
    let &Built { called, patchset, commit, tree, base } = built;
    ensure!(
        patchset == change.patchset,
        "the candidate `{called}` was built of patchset {patchset}, and `{id}` was merged at patchset {}: make a release of the \
         merged commit",
        change.patchset
    );
    let Some(base) = base else {
        bail!(
            "of the candidate `{called}` it is not known what it was built on, so nothing tells that it was merged: make a release \
             of the merged commit"
        )
    };
    let line = line()?;
    ensure!(
        line.has(base),
        "none of the newest {} commits of `{}` is {}, on which `{called}` was built: --branch names the branch that it was merged \
         into; if history was rewritten, make a release of the merged commit",
        line.len(),
        line.branch,
        base.short()
    );
    let Some(landed) = line.landed(base, (commit, tree)) else {
        bail!(
            "what was merged is not what was tried: no commit of `{}` since {}, on which `{called}` was built, has its tree. If the \
             merge is not in this checkout yet, `git fetch` gets it; else build again: make a release of the merged commit",
            line.branch,
            base.short()
        )
    };
    Ok(landed.clone())
}

/// What lies beside a candidate, if that is of the object itself and what was recorded of it.
fn verified<'a>(recorded: &RecordedCandidate, candidate: &'a Candidate) -> Result<&'a CandidateMetadata> {
    let stem = recorded.release.stem();
    let facts = match &candidate.metadata {
        Ok(facts) => facts,
        Err(reason) => bail!("the candidate `{stem}` cannot be promoted: {reason}"),
    };
    let of_it = &facts.release;
    for (size, of) in [(of_it.size, "its own metadata says"), (recorded.size, "the change says")] {
        ensure!(
            candidate.size == size,
            "the candidate `{stem}` has {} bytes, not {size} as {of}: build again",
            candidate.size
        );
    }
    ensure!(
        of_it.sha256 == recorded.sha256,
        "the candidate `{stem}` has the SHA-256 {}, not {} as the change says: build again",
        of_it.sha256,
        recorded.sha256
    );
    Ok(facts)
}

/// Refuses a release that is other bytes than the candidate of its name.
pub(crate) fn ensure_same(release: &Release, sha256: &bucket::Sha256, size: u64) -> Result<()> {
    let is_same = release.size == size && release.metadata.as_ref().is_ok_and(|facts| facts.sha256 == *sha256);
    ensure!(
        is_same,
        "`{}` already exists in the bucket with different content, and releases are immutable: nothing was overwritten; make a \
         release of the merged commit",
        release.name
    );
    Ok(())
}

/// Whether a try with exactly these bytes has passed.
pub(crate) fn is_tried(change: &Change, candidate: &RecordedCandidate) -> bool {
    change.tries.iter().any(|one| one.result == TryResult::Passed && one.sha256.contains(&candidate.sha256))
}
