//! Whether an image is promoted, and what is left of that: a pure function of what was read.
//!
//! What decides is what is recorded beside the candidates in the bucket of the releases, and git, as for packages.

use anyhow::{Result, bail, ensure};
use bucket::{Change, ChangeId, Commit, Generation, Image, ImageCandidate, RecordedCandidate};

use crate::change::{
    line::Line,
    promotion::{Built, landed},
};

/// What is left to do for one image.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Left {
    /// It gets its tags.
    Tag {
        /// What is recorded of the candidate.
        candidate: Box<ImageCandidate>,
        /// The generation of that.
        generation: Generation,
        /// The commit as which its change landed.
        landed: Commit,
    },
    /// It has them, and nothing is left of the candidate.
    Nothing {
        /// The commit as which it counts.
        landed: Commit,
    },
}

impl Left {
    /// The commit as which it counts.
    pub(crate) fn landed(&self) -> &Commit {
        match self {
            Self::Tag { landed, .. } | Self::Nothing { landed } => landed,
        }
    }
}

/// Whether what is recorded of the image of a commit is this candidate of a change, promoted.
pub(crate) fn is_promoted(image: &Image, id: &ChangeId, digest: &bucket::Sha256) -> bool {
    image.digest == *digest && image.promoted.as_ref().is_some_and(|promoted| promoted.change == *id)
}

/// What is left to do for a candidate that is `recorded` of a change; `candidate` is what is recorded beside it, and `image` what is
/// of the commit as which the change says that it landed.
///
/// # Errors
/// Why it isn't promoted, and what to do.
pub(crate) fn left<'a>(
    (id, change): (&ChangeId, &Change),
    recorded: &RecordedCandidate,
    (candidate, image): (Option<(Generation, ImageCandidate)>, Option<&Image>),
    line: impl FnOnce() -> Result<&'a Line>,
) -> Result<Left> {
    let called = called(recorded);
    let Some((generation, candidate)) = candidate else {
        return match image.filter(|image| is_promoted(image, id, &recorded.sha256)) {
            Some(image) => Ok(Left::Nothing { landed: image.commit.clone() }),
            None => bail!(
                "the candidate `{called}` is gone, and no image was promoted from it: what is left is an image of the merged commit"
            ),
        };
    };
    ensure!(
        candidate.digest == recorded.sha256,
        "the candidate `{called}` is the image `sha256:{}`, and not `sha256:{}` as the change says: build again",
        candidate.digest,
        recorded.sha256
    );
    let ImageCandidate { patchset, commit, tree, base, .. } = &candidate;
    let built = Built { called: &called, patchset: *patchset, commit, tree, base: base.as_ref() };
    let landed = match image.filter(|image| is_promoted(image, id, &recorded.sha256)) {
        // It was found out before, and may be none of the newest commits by now.
        Some(image) => image.commit.clone(),
        None => landed((id, change), &built, line)?,
    };
    Ok(Left::Tag { candidate: Box::new(candidate), generation, landed })
}

/// What an image of a change is called, for people.
pub(crate) fn called(recorded: &RecordedCandidate) -> String {
    let tag = recorded.tag.as_ref().map(ToString::to_string).unwrap_or_default();
    format!("{}:{tag}", recorded.app)
}
