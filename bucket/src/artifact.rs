//! Files of stages that are kept. `artifacts/{project}/{run}/{pipeline}/{stage}/{path}`, beside the record of their run; each
//! segment escaped where an object's path could not have it.

use futures_util::{Stream, TryStreamExt};
use jiff::Timestamp;

use crate::{
    ArtifactPath, Bucket, Download, Error, Generation, Metadata, ObjectInfo, ObjectPath, PageToken, PipelineName,
    RunPlace, Sha256, SourceFile, StageName, items, layout,
};

/// The metadata keys with the sum of the content, and how many bytes that has.
const SHA256: &str = "sha256";
const SIZE: &str = "size";

/// Which file of which stage of which run.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ArtifactPlace {
    /// The run.
    pub run: RunPlace,
    /// The pipeline.
    pub pipeline: PipelineName,
    /// The stage of it.
    pub stage: StageName,
    /// The file of that.
    pub path: ArtifactPath,
}

/// A file of a stage that is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Artifact {
    /// Which one it is.
    pub place: ArtifactPlace,
    /// The generation of the object.
    pub generation: Generation,
    /// Its size in bytes, by the bucket.
    pub size: u64,
    /// When it was uploaded, by the bucket's clock.
    pub uploaded: Timestamp,
    /// `sha256`: of its content; `None` if nothing is said of that.
    pub sha256: Option<Sha256>,
}

impl ArtifactPlace {
    fn object(&self) -> ObjectPath {
        let names = [self.pipeline.as_str(), self.stage.as_str()].into_iter().chain(self.path.as_str().split('/'));
        layout::artifact(&self.run, names)
    }

    fn at(path: &ObjectPath) -> Option<Self> {
        let (run, names) = layout::artifact_at(path)?;
        let [pipeline, stage, path @ ..] = &names[..] else { return None };
        Some(Self {
            run,
            pipeline: pipeline.parse().ok()?,
            stage: stage.parse().ok()?,
            path: path.join("/").parse().ok()?,
        })
    }
}

impl Artifact {
    fn at(info: &ObjectInfo) -> Option<Self> {
        let place = ArtifactPlace::at(&info.path)?;
        let sha256 = info.metadata.get(SHA256).and_then(|sha256| sha256.parse().ok());
        Some(Self { place, generation: info.generation, size: info.size, uploaded: info.updated, sha256 })
    }
}

impl Bucket {
    /// Keeps a file of a stage. Never overwrites one: [`Error::AlreadyExists`]. Nor does it keep other bytes than those that
    /// `file` was read with: [`Error::Unavailable`].
    ///
    /// `progress` receives the bytes sent so far.
    pub async fn upload_artifact(
        &self,
        place: &ArtifactPlace,
        file: &SourceFile,
        progress: &(dyn Fn(u64) + Send + Sync),
    ) -> Result<Generation, Error> {
        let facts = [(SHA256, file.sha256.to_string()), (SIZE, file.size.to_string())];
        let metadata: Metadata = facts.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
        self.create_from_file(&place.object(), file, &metadata, progress).await
    }

    /// A file of a stage, if it is kept.
    pub async fn artifact(&self, place: &ArtifactPlace) -> Result<Option<Artifact>, Error> {
        Ok(self.head(&place.object()).await?.as_ref().and_then(Artifact::at))
    }

    /// The files that are kept of a run, pipeline after pipeline, stage after stage.
    pub fn artifacts(&self, run: &RunPlace) -> impl Stream<Item = Result<Artifact, Error>> {
        let prefix = layout::artifacts_of(run);
        let page = move |after: Option<PageToken>| {
            let prefix = prefix.clone();
            async move { self.list(&prefix, after.as_ref(), 1000).await }
        };
        items(page).try_filter_map(|info| async move { Ok(Artifact::at(&info)) })
    }

    /// Everything that lies where only files of stages should, of all projects.
    pub fn artifact_objects(&self) -> impl Stream<Item = Result<ObjectInfo, Error>> {
        items(async |after: Option<PageToken>| self.list(layout::ARTIFACTS, after.as_ref(), 1000).await)
    }

    /// Starts streaming a file of a stage; `None` if it is not kept any more.
    pub async fn download_artifact(&self, artifact: &Artifact) -> Result<Option<Download>, Error> {
        self.download(&artifact.place.object(), Some(artifact.generation), 0).await
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn place(pipeline: &str, stage: &str, path: &str) -> ArtifactPlace {
        ArtifactPlace {
            run: "acme/20261126T233000Z-k3v9".parse().unwrap(),
            pipeline: pipeline.parse().unwrap(),
            stage: stage.parse().unwrap(),
            path: path.parse().unwrap(),
        }
    }

    #[test]
    fn a_file_is_found_again_by_its_path() {
        let path = place("web", "unit", "reports/.a/x.xml").object();
        assert_eq!(path.as_str(), "artifacts/acme/20261126T233000Z-k3v9/web/unit/reports/%2Ea/x.xml");
        for place in [place("web", "unit", "reports/.a/x.xml"), place("..", ".", "100%/a\\b/..c")] {
            assert_eq!(ArtifactPlace::at(&place.object()), Some(place));
        }
        for other in [
            "artifacts/acme/20261126T233000Z-k3v9/web/unit",
            "artifacts/acme/20261126T233000Z-k3v9/web/unit/%2e",
            "artifacts/acme/20261126T233000Z-k3v9/web/unit/%2E%2E",
            "artifacts/acme/k3v9/web/unit/x",
            "artifacts/a b/20261126T233000Z-k3v9/web/unit/x",
            "debs/acme/20261126T233000Z-k3v9/web/unit/x",
        ] {
            assert_eq!(ArtifactPlace::at(&other.parse().unwrap()), None, "{other}");
        }
    }

    proptest! {
        #[test]
        fn whatever_a_file_is_called_it_can_be_kept_and_comes_back(
            pipeline in "[A-Za-z0-9._-]{1,64}",
            stage in "[A-Za-z0-9._-]{1,64}",
            path in any::<String>(),
        ) {
            let Ok(path) = path.parse() else { return Ok(()) };
            let place = ArtifactPlace { path, ..place(&pipeline, &stage, "x") };
            let at = place.object();
            prop_assert!(at.as_str().parse::<ObjectPath>().is_ok(), "{}", at);
            prop_assert_eq!(ArtifactPlace::at(&at), Some(place));
        }
    }

    #[test]
    fn the_longest_names_fit_their_path() {
        let long = ArtifactPlace {
            run: format!("{}/20261126T233000Z-{}", "p".repeat(64), "x".repeat(40)).parse().unwrap(),
            ..place(&format!(".{}", "x".repeat(63)), &format!(".{}", "x".repeat(63)), &("x/".repeat(318) + "xyz"))
        };
        assert!(long.object().as_str().parse::<ObjectPath>().is_ok());
    }
}
