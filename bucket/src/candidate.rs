//! Packages that were built from changes, outside of the releases. `builds/{project}/{id}/{build}/{app}/{release}.deb` in the
//! candidate bucket; `candidates/{project}/{id}/{app}/{release}.deb` in that of the releases, when the change is about to be
//! merged.

use std::future::ready;

use futures_util::{Stream, TryStreamExt};
use jiff::Timestamp;

use crate::{
    Bucket, BuildId, ChangeId, Commit, Download, Error, Generation, Metadata, ObjectInfo, ObjectPath, PageToken,
    Promoted, ReleaseMetadata, ReleaseName, SourceFile, items, layout,
    object::{fact, named_fact},
};

/// The metadata key with the commit that a change was built on.
const BASE: &str = "base";

/// Where a candidate lies.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum CandidatePlace {
    /// In the candidate bucket: each build has a directory of its own.
    Built {
        /// The change that it was built from.
        change: ChangeId,
        /// The build.
        build: BuildId,
        /// The release that it would be.
        release: ReleaseName,
    },
    /// In the bucket of the releases, ready to be promoted.
    Gated {
        /// The change that it was built from.
        change: ChangeId,
        /// The release that it would be.
        release: ReleaseName,
    },
}

impl CandidatePlace {
    /// The path of the object.
    pub fn path(&self) -> ObjectPath {
        match self {
            Self::Built { change, build, release } => layout::built(change, build, release),
            Self::Gated { change, release } => layout::gated(change, release),
        }
    }

    /// The change that it was built from.
    pub fn change(&self) -> &ChangeId {
        match self {
            Self::Built { change, .. } | Self::Gated { change, .. } => change,
        }
    }

    /// The release that it would be.
    pub fn release(&self) -> &ReleaseName {
        match self {
            Self::Built { release, .. } | Self::Gated { release, .. } => release,
        }
    }

    fn at(path: &ObjectPath) -> Option<Self> {
        let built = || {
            let (change, build, release) = layout::built_at(path)?;
            Some(Self::Built { change, build, release })
        };
        built().or_else(|| layout::gated_at(path).map(|(change, release)| Self::Gated { change, release }))
    }
}

/// The facts about a candidate that lie beside it in the bucket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CandidateMetadata {
    /// What is said of it as of a release.
    pub release: ReleaseMetadata,
    /// `change`: what it was built from.
    pub change: ChangeId,
    /// `patchset`: which version of that.
    pub patchset: u32,
    /// `tree`: of the commit, as git names it.
    pub tree: Commit,
    /// `base`: the newest commit of the target branch that is in it, if that is known. What landed is newer.
    pub base: Option<Commit>,
    /// `build`: the build that it is of.
    pub build: BuildId,
}

impl CandidateMetadata {
    /// As an object's metadata: the keys of a release's, and `change patchset tree base build`.
    pub fn to_metadata(&self, name: &ReleaseName) -> Metadata {
        let mut metadata = self.release.to_metadata(name);
        metadata.extend(
            [
                ("change", self.change.to_string()),
                ("patchset", self.patchset.to_string()),
                ("tree", self.tree.to_string()),
                ("build", self.build.to_string()),
            ]
            .map(|(key, value)| (key.to_owned(), value)),
        );
        metadata.extend(self.base.as_ref().map(|base| (BASE.to_owned(), base.to_string())));
        metadata
    }

    /// From an object's metadata.
    ///
    /// # Errors
    /// Which key is missing or wrong, or contradicts where the candidate lies, as a sentence for people.
    fn from_metadata(place: &CandidatePlace, metadata: &Metadata) -> Result<Self, String> {
        let read = Self {
            release: ReleaseMetadata::from_metadata(place.release(), metadata)?,
            change: named_fact(metadata, "change")?,
            patchset: fact(metadata, "patchset")?
                .parse()
                .map_err(|_| "metadata `patchset` is not a number".to_owned())?,
            tree: named_fact(metadata, "tree")?,
            base: metadata.contains_key(BASE).then(|| named_fact(metadata, BASE)).transpose()?,
            build: named_fact(metadata, "build")?,
        };
        if read.change != *place.change() {
            return Err("metadata `change` is not the change that it lies with".to_owned());
        }
        if matches!(place, CandidatePlace::Built { build, .. } if read.build != *build) {
            return Err("metadata `build` is not the build that it lies with".to_owned());
        }
        Ok(read)
    }

    /// Whether it has room beside its object and, once that is promoted, beside the release, so that a promotion isn't the first
    /// to find out.
    ///
    /// # Errors
    /// As [`ReleaseMetadata::check_size`].
    pub fn check_size(&self, name: &ReleaseName) -> Result<(), String> {
        ReleaseMetadata::check_facts(&self.promoted(name, &self.tree))
    }

    /// All that is said of the release that it becomes when its change landed as that commit.
    fn promoted(&self, name: &ReleaseName, landed: &Commit) -> Metadata {
        let Self { change, patchset, .. } = self.clone();
        let promoted = Promoted { landed: landed.clone(), change, patchset };
        self.to_metadata(name).into_iter().chain(promoted.to_metadata()).collect()
    }
}

/// A candidate in a bucket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// Where it lies.
    pub place: CandidatePlace,
    /// The generation of the object.
    pub generation: Generation,
    /// Size of the object in bytes, by the bucket.
    pub size: u64,
    /// When it was uploaded, by the bucket's clock.
    pub uploaded: Timestamp,
    /// What was said of it at the upload; `Err` with the reason when metadata is missing or unreadable.
    pub metadata: Result<CandidateMetadata, String>,
}

impl Candidate {
    /// The candidate that an object is; `None` for one that lies where no candidate does.
    pub fn at(info: &ObjectInfo) -> Option<Self> {
        let place = CandidatePlace::at(&info.path)?;
        let metadata = CandidateMetadata::from_metadata(&place, &info.metadata);
        Some(Self { place, generation: info.generation, size: info.size, uploaded: info.updated, metadata })
    }
}

impl Bucket {
    /// A candidate and the facts about it, if it exists.
    pub async fn candidate(&self, place: &CandidatePlace) -> Result<Option<Candidate>, Error> {
        Ok(self.head(&place.path()).await?.as_ref().and_then(Candidate::at))
    }

    /// Uploads a candidate. Like [`Bucket::upload_release`], it never overwrites one.
    pub async fn upload_candidate(
        &self,
        place: &CandidatePlace,
        deb: &SourceFile,
        metadata: &CandidateMetadata,
        progress: &(dyn Fn(u64) + Send + Sync),
    ) -> Result<Generation, Error> {
        self.create_from_file(&place.path(), deb, &metadata.to_metadata(place.release()), progress).await
    }

    /// Makes a release of a candidate of this bucket, with the facts that were read beside it, whose change landed as that
    /// commit. Its bytes stay in the storage. Never overwrites a release: [`Error::AlreadyExists`].
    ///
    /// # Errors
    /// Also [`Error::Gone`] when the candidate is another one by now, and [`Error::Malformed`] when its bytes are not what its
    /// metadata says.
    pub async fn promote(
        &self,
        candidate: &Candidate,
        facts: &CandidateMetadata,
        landed: &Commit,
    ) -> Result<Generation, Error> {
        let name = candidate.place.release();
        let (from, to, seen) = (candidate.place.path(), layout::release(name), candidate.generation);
        let metadata = facts.promoted(name, landed);
        match self {
            // It keeps what was uploaded, and that was compared then; a directory has what somebody may have changed.
            Self::Gcs(_) => self.copy(&from, seen, &to, &metadata).await,
            Self::File(bucket) => bucket.take(bucket, (&from, seen), (&to, &metadata), &facts.release.sha256).await,
        }
    }

    /// Starts streaming a candidate from byte `offset`; `None` if it is gone.
    pub async fn download_candidate(&self, candidate: &Candidate, offset: u64) -> Result<Option<Download>, Error> {
        self.download(&candidate.place.path(), Some(candidate.generation), offset).await
    }

    /// The candidates that lie in the candidate bucket, of all changes, in the byte order of their paths.
    pub fn built_candidates(&self) -> impl Stream<Item = Result<Candidate, Error>> {
        candidates(self.built_objects())
    }

    /// The candidates that lie in the bucket of the releases, of all changes, in the byte order of their paths.
    pub fn gated_candidates(&self) -> impl Stream<Item = Result<Candidate, Error>> {
        candidates(self.gated_objects())
    }

    /// Everything that lies where only candidates should in the candidate bucket, also what [`Candidate::at`] doesn't know.
    pub fn built_objects(&self) -> impl Stream<Item = Result<ObjectInfo, Error>> {
        self.objects_below(layout::BUILDS)
    }

    /// The same in the bucket of the releases.
    pub fn gated_objects(&self) -> impl Stream<Item = Result<ObjectInfo, Error>> {
        self.objects_below(layout::CANDIDATES)
    }

    fn objects_below(&self, prefix: &'static str) -> impl Stream<Item = Result<ObjectInfo, Error>> {
        items(move |after: Option<PageToken>| async move { self.list(prefix, after.as_ref(), 1000).await })
    }

    /// Deletes a candidate that was read.
    ///
    /// # Errors
    /// [`Error::Conflict`] when it is another one by now. That it is gone is fine.
    pub async fn delete_candidate(&self, candidate: &Candidate) -> Result<(), Error> {
        self.delete(&candidate.place.path(), candidate.generation).await
    }
}

fn candidates(objects: impl Stream<Item = Result<ObjectInfo, Error>>) -> impl Stream<Item = Result<Candidate, Error>> {
    objects.try_filter_map(|info| ready(Ok(Candidate::at(&info))))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place() -> CandidatePlace {
        CandidatePlace::Built {
            change: "web/12".parse().unwrap(),
            build: "k3v9".parse().unwrap(),
            release: "web/web:dev@ci:2026-11-20T19:05:02Z:7e0ff6059e653eb75a36efb621d0fd66d1ced433.deb"
                .parse()
                .unwrap(),
        }
    }

    fn facts() -> CandidateMetadata {
        CandidateMetadata {
            release: ReleaseMetadata {
                dirty: false,
                note: "Try it.".to_owned(),
                services: vec!["web.service".to_owned()],
                sha256: [7; 32].into(),
                size: 3,
                package: "web".parse().unwrap(),
                version: "1".to_owned(),
                architecture: "all".parse().unwrap(),
                repo: String::new(),
                branch: "topic".to_owned(),
                made_by: None,
            },
            change: "web/12".parse().unwrap(),
            patchset: 3,
            tree: "e".repeat(40).parse().unwrap(),
            base: Some("b".repeat(40).parse().unwrap()),
            build: "k3v9".parse().unwrap(),
        }
    }

    #[test]
    fn a_place_is_found_again_by_its_path() {
        let built = place();
        let CandidatePlace::Built { change, release, .. } = built.clone() else { unreachable!() };
        for place in [built, CandidatePlace::Gated { change, release }] {
            assert_eq!(CandidatePlace::at(&place.path()), Some(place));
        }
        let release = "web/web:dev@ci:2026-11-20T19:05:02Z:7e0ff6059e653eb75a36efb621d0fd66d1ced433.deb";
        for other in [format!("debs/{release}"), format!("builds/web/12/{release}"), format!("candidates/{release}")] {
            assert_eq!(CandidatePlace::at(&other.parse().unwrap()), None, "{other}");
        }
    }

    #[test]
    fn facts_come_back_and_must_fit_the_place() {
        let place = place();
        let read =
            |facts: &CandidateMetadata| CandidateMetadata::from_metadata(&place, &facts.to_metadata(place.release()));
        assert_eq!(read(&facts()), Ok(facts()));
        let other = CandidateMetadata { change: "web/13".parse().unwrap(), ..facts() };
        assert_eq!(read(&other), Err("metadata `change` is not the change that it lies with".to_owned()));
        let other = CandidateMetadata { build: "k3v8".parse().unwrap(), ..facts() };
        assert_eq!(read(&other), Err("metadata `build` is not the build that it lies with".to_owned()));
        let without_base = CandidateMetadata { base: None, ..facts() };
        assert_eq!(read(&without_base), Ok(without_base.clone()));
        for key in ["change", "patchset", "tree", "build", "sha256"] {
            let mut metadata = facts().to_metadata(place.release());
            metadata.remove(key);
            let missing = CandidateMetadata::from_metadata(&place, &metadata);
            assert_eq!(missing, Err(format!("metadata has no `{key}`")));
            metadata.insert(key.to_owned(), "-1".to_owned());
            assert!(CandidateMetadata::from_metadata(&place, &metadata).is_err(), "{key}");
        }
    }
}
