//! What is said of a release that was a candidate.

use std::fmt;

use serde::Serialize;

use crate::{ChangeId, Commit, Metadata};

/// The metadata key with the commit as which a change landed.
const LANDED: &str = "landed";
/// The metadata key with the change and its patchset.
const PROMOTED: &str = "promoted";
/// What is between the two there.
const PATCHSET: &str = " patchset ";

/// That a release was a candidate, and what became of the change that it was built from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Promoted {
    /// `landed`: the commit on the branch that has the tree that was built. The one in the release's name need not be there.
    pub landed: Commit,
    /// The change.
    pub change: ChangeId,
    /// Which version of it.
    pub patchset: u32,
}

impl Promoted {
    pub(crate) fn from_metadata(metadata: &Metadata) -> Option<Self> {
        let (change, patchset) = metadata.get(PROMOTED)?.split_once(PATCHSET)?;
        let landed = metadata.get(LANDED)?.parse().ok()?;
        Some(Self { landed, change: change.parse().ok()?, patchset: patchset.parse().ok()? })
    }

    pub(crate) fn to_metadata(&self) -> [(String, String); 2] {
        let Self { landed, change, patchset } = self;
        [(LANDED.to_owned(), landed.to_string()), (PROMOTED.to_owned(), format!("{change}{PATCHSET}{patchset}"))]
    }
}

impl fmt::Display for Promoted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "promoted from {}, patchset {}", self.change, self.patchset)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_promoted_is_said_beside_the_release_and_anything_else_is_not_that() {
        let promoted =
            Promoted { landed: "b".repeat(40).parse().unwrap(), change: "web/12".parse().unwrap(), patchset: 3 };
        let metadata = Metadata::from(promoted.to_metadata());
        assert_eq!(metadata["promoted"], "web/12 patchset 3");
        assert_eq!(Promoted::from_metadata(&metadata), Some(promoted.clone()));
        assert_eq!(promoted.to_string(), "promoted from web/12, patchset 3");
        for (key, bad) in [("landed", "main"), ("promoted", "web/12"), ("promoted", "web patchset 3"), ("promoted", "")]
        {
            let mut metadata = metadata.clone();
            metadata.insert(key.to_owned(), bad.to_owned());
            assert_eq!(Promoted::from_metadata(&metadata), None, "{key}: {bad}");
        }
    }
}
