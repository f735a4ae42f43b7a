//! From a package that was built of a change to the bucket that candidates of it lie in.

use std::path::Path;

use anyhow::{Context as _, Result, bail};
use bucket::{
    ArtifactType, Bucket, BuildId, CandidateMetadata, CandidatePlace, ChangeId, Commit, Error, MadeBy,
    RecordedCandidate, ReleaseMetadata, SourceFile, Timestamp,
};
use console::size;
use serde_json::Map;

use crate::{progress::Progress, upload::describe};

/// What is built of a change.
pub(crate) struct Building<'a> {
    /// The change.
    pub(crate) change: &'a ChangeId,
    /// Which version of it.
    pub(crate) patchset: u32,
    /// The tree of that.
    pub(crate) tree: Commit,
    /// What it is built on, of what is to be promoted.
    pub(crate) base: Option<Commit>,
    /// What the build is called.
    pub(crate) id: BuildId,
    /// Whether it is to be promoted.
    pub(crate) gate: bool,
    /// Which stage of which run made it, if one did.
    pub(crate) made_by: Option<MadeBy>,
}

impl Building<'_> {
    /// Uploads a package; what is then recorded of it.
    pub(crate) async fn upload(&self, target: &Bucket, deb: &Path, now: Timestamp) -> Result<RecordedCandidate> {
        let (source, release, facts) = describe(deb)?;
        let facts = ReleaseMetadata { made_by: self.made_by.clone(), ..facts };
        let (change, build) = (self.change.clone(), self.id.clone());
        let place = if self.gate {
            CandidatePlace::Gated { change: change.clone(), release: release.clone() }
        } else {
            CandidatePlace::Built { change: change.clone(), build: build.clone(), release: release.clone() }
        };
        let facts = CandidateMetadata {
            release: facts,
            change,
            patchset: self.patchset,
            tree: self.tree.clone(),
            base: self.base.clone(),
            build,
        };
        if let Err(reason) = facts.check_size(&release) {
            bail!("the candidate could not be promoted: {reason}");
        }
        let build = upload(target, &place, &source, &facts).await?;
        let (sha256, size) = (facts.release.sha256, facts.release.size);
        Ok(RecordedCandidate {
            artifact: ArtifactType::Deb,
            app: release.app().clone(),
            path: place.path().to_string(),
            image: None,
            tag: None,
            release,
            sha256,
            size,
            build,
            patchset: self.patchset,
            gate: self.gate,
            at: now,
            landed: None,
            other: Map::new(),
        })
    }
}

/// Uploads a candidate, unless it is there; the build that it is of.
async fn upload(
    target: &Bucket,
    place: &CandidatePlace,
    deb: &SourceFile,
    facts: &CandidateMetadata,
) -> Result<BuildId> {
    let stem = place.release().stem();
    if let Some(new) = target.mark().await.context("could not mark the bucket")? {
        console::note(new);
    }
    let uploaded = {
        let progress = Progress::begin(&format!("uploading {stem}"), deb.size);
        target.upload_candidate(place, deb, facts, &|done| progress.at(done)).await
    };
    match uploaded {
        Ok(_) => {
            console::note(format_args!("uploaded {} ({})", place.path(), size(deb.size)));
            Ok(facts.build.clone())
        }
        // An upload that was killed before it was recorded, of a build of the same time.
        Err(Error::AlreadyExists { .. }) => {
            let there = target.candidate(place).await.with_context(|| format!("could not read `{}`", place.path()))?;
            let there = there.and_then(|there| there.metadata.ok());
            let same = there.filter(|there| {
                let of = |facts: &CandidateMetadata| (facts.release.sha256.clone(), facts.patchset, facts.tree.clone());
                of(there) == of(facts)
            });
            let Some(same) = same else {
                bail!("`{}` already exists with different content: build again to get a new name", place.path());
            };
            Ok(same.build)
        }
        Err(error) => Err(error).with_context(|| format!("could not upload the candidate `{stem}`")),
    }
}
