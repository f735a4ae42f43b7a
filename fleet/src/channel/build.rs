//! What a channel may point to: a release, or an image that is named like one.

use bucket::{Commit, Image, NameError, Release, ReleaseName, Timestamp};

/// Something that was built from a commit, as far as it matters to a channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Build {
    /// What it is called.
    pub name: ReleaseName,
    /// When it was uploaded, or recorded, by the bucket's clock.
    pub uploaded: Timestamp,
    /// The commit as which its change was merged, of one that was promoted.
    pub landed: Option<Commit>,
    /// What is said of it; `Err` with the reason when that can't be read.
    pub facts: Result<Facts, String>,
}

/// What is said of a build.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// Whether it was built with uncommitted changes.
    pub dirty: bool,
    /// Why it was built.
    pub note: String,
}

impl From<Release> for Build {
    fn from(release: Release) -> Self {
        let facts = release.metadata.map(|metadata| Facts { dirty: metadata.dirty, note: metadata.note });
        let landed = release.promoted.map(|promoted| promoted.landed);
        Self { name: release.name, uploaded: release.uploaded, landed, facts }
    }
}

impl TryFrom<&Image> for Build {
    type Error = NameError;

    /// A tag that is a commit is clean: of other builds a builder says so in the tag.
    fn try_from(image: &Image) -> Result<Self, NameError> {
        let facts = Ok(Facts { dirty: false, note: String::new() });
        Ok(Self { name: image.release()?, uploaded: image.time, landed: image.landed.clone(), facts })
    }
}

impl Build {
    /// The commit that it counts as: the one as which it was merged, or else the one that it was built from.
    pub fn commit(&self) -> &Commit {
        self.landed.as_ref().unwrap_or_else(|| self.name.commit())
    }
}
