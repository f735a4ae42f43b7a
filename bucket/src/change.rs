//! Changes that are not merged yet, in the candidate bucket. `changes/{project}/{id}.json`.
//!
//! Unmerged code may write them: what one says is a hint where to look, and nothing that gives rights is decided by it.

use futures_util::{Stream, TryStreamExt};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::{
    AppName, Bucket, BuildId, CandidatePlace, ChangeId, Commit, Error, Generation, ImagePlace, ImageTag, Metadata,
    Object, ObjectInfo, ObjectPath, PageToken, ReleaseName, Sha256, items, layout,
};

/// Most bytes of a change.
const MAX_SIZE: u64 = 256 << 10;
/// The metadata key with what became of a change, so that a listing tells which are open.
const STATE: &str = "state";

/// Something proposed for merging: a pull request, a review. Unknown fields are kept by whoever writes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Change {
    /// The version of the format: 1.
    pub schema: u32,
    /// The project.
    pub project: String,
    /// What the project calls it.
    pub change: String,
    /// Which version of it this is, from 1: the last one counts.
    pub patchset: u32,
    /// The commit of that.
    pub commit: Commit,
    /// The tree of that commit, as git names it.
    pub tree: Commit,
    /// The branch that it is to be merged into.
    pub branch: String,
    /// The changes that it needs.
    pub needs: Vec<ChangeId>,
    /// What became of it.
    pub state: ChangeState,
    /// What was built from it, in the order in which that was recorded.
    #[serde(default)]
    pub candidates: Vec<RecordedCandidate>,
    /// How it was tried, the oldest first.
    #[serde(default)]
    pub tries: Vec<Try>,
    /// When this was last written, by the bucket's clock as far as that was known.
    pub updated: Timestamp,
    /// Who wrote it then.
    pub by: String,
    /// What this program doesn't know.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

/// What became of a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ChangeState {
    /// It may be merged yet.
    Open,
    /// It was merged.
    Merged,
    /// It will not be merged.
    Abandoned,
}

/// What a change says of a package or an image that was built from it: where to look.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RecordedCandidate {
    /// What it is.
    #[serde(rename = "type")]
    pub artifact: ArtifactType,
    /// The app.
    pub app: AppName,
    /// The release that it would be; an image is called so where releases are named.
    pub release: ReleaseName,
    /// Of the whole file; of an image, of its manifest.
    pub sha256: Sha256,
    /// Of the whole file, in bytes; of an image, of all its parts.
    pub size: u64,
    /// Where it, or the record of an image, lies: in the candidate bucket, or in that of the releases when it is gated.
    pub path: String,
    /// Where an image is until it is promoted, for people: `ci.example/acme/web:k3v9_1234`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// The tag that an image is to have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tag: Option<ImageTag>,
    /// The build that it is of.
    pub build: BuildId,
    /// The patchset that was built.
    pub patchset: u32,
    /// Whether it was built to be promoted.
    pub gate: bool,
    /// When it was recorded, by the bucket's clock as far as that was known.
    pub at: Timestamp,
    /// The commit as which its change landed, once it was promoted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub landed: Option<Commit>,
    /// What this program doesn't know.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

/// What is tried and promoted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ArtifactType {
    /// A Debian package.
    Deb,
    /// A container image.
    Image,
    /// What this program doesn't know, and leaves alone.
    #[serde(untagged)]
    Other(String),
}

/// How a change was tried once.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Try {
    /// The buildset.
    pub buildset: BuildId,
    /// Of everything that was in its overlay.
    pub sha256: Vec<Sha256>,
    /// How it ended.
    pub result: TryResult,
    /// When, by the bucket's clock as far as that was known.
    pub at: Timestamp,
    /// What this program doesn't know.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

/// How a try ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TryResult {
    /// The command said that all is well.
    Passed,
    /// It said that something is not.
    Failed,
    /// It was ended by a signal before it could say anything.
    Interrupted,
}

impl RecordedCandidate {
    /// Where it lies, if that is a place where candidates of this change lie.
    ///
    /// # Errors
    /// What is wrong with what is said of it, as a sentence for people.
    pub fn place(&self, change: &ChangeId) -> Result<CandidatePlace, String> {
        let Self { app, release, .. } = self;
        if app != release.app() {
            return Err(format!("the candidate `{}` of `{change}` is recorded as one of `{app}`", release.stem()));
        }
        let (change, release) = (change.clone(), release.clone());
        let place = if self.gate {
            CandidatePlace::Gated { change, release }
        } else {
            CandidatePlace::Built { change, build: self.build.clone(), release }
        };
        self.ensure_at(&place.path(), place.change())?;
        Ok(place)
    }

    /// The same of an image: where its record lies.
    ///
    /// # Errors
    /// As [`RecordedCandidate::place`]; also that it is no image.
    pub fn image_place(&self, change: &ChangeId) -> Result<ImagePlace, String> {
        let (change, app) = (change.clone(), self.app.clone());
        let tag = self.tag.clone().filter(|_| self.artifact == ArtifactType::Image);
        let tag = tag.ok_or_else(|| format!("the candidate `{}` of `{change}` is recorded without a tag", self.app))?;
        let place = if self.gate {
            ImagePlace::Gated { change, app, tag, digest: self.sha256.clone() }
        } else {
            ImagePlace::Built { change, build: self.build.clone(), app, tag }
        };
        self.ensure_at(&place.path(), place.change())?;
        Ok(place)
    }

    fn ensure_at(&self, place: &ObjectPath, change: &ChangeId) -> Result<(), String> {
        if place.as_str() == self.path {
            return Ok(());
        }
        let shown: String = self.path.chars().take(1024).flat_map(char::escape_debug).collect();
        Err(format!("a candidate of `{change}` is recorded at `{shown}`, and would lie at `{place}`"))
    }
}

impl ChangeState {
    /// In one word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Merged => "merged",
            Self::Abandoned => "abandoned",
        }
    }
}

/// What a listing says of a change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChangeSummary {
    /// The change.
    pub id: ChangeId,
    /// The generation of its object.
    pub generation: Generation,
    /// The size of that, in bytes.
    pub size: u64,
    /// When that was written, by the bucket's clock.
    pub updated: Timestamp,
    /// What became of it; `None` if the listing doesn't say.
    pub state: Option<ChangeState>,
}

impl ChangeSummary {
    fn at(info: &ObjectInfo) -> Option<Self> {
        let states = [ChangeState::Open, ChangeState::Merged, ChangeState::Abandoned];
        let said = info.metadata.get(STATE);
        let state = said.and_then(|said| states.into_iter().find(|state| state.as_str() == said));
        let ObjectInfo { generation, size, updated, .. } = *info;
        Some(Self { id: layout::change_at(&info.path)?, generation, size, updated, state })
    }
}

impl Change {
    /// Most changes that one may need.
    pub const MAX_NEEDS: usize = 200;
}

impl Bucket {
    /// The changes of a project, or of all, by name.
    pub fn changes(&self, project: Option<&str>) -> impl Stream<Item = Result<ChangeSummary, Error>> {
        let prefix = layout::changes_of(project);
        let page = move |after: Option<PageToken>| {
            let prefix = prefix.clone();
            async move { self.list(&prefix, after.as_ref(), 1000).await }
        };
        items(page).try_filter_map(|info| async move { Ok(ChangeSummary::at(&info)) })
    }

    /// A change, with its generation; `None` when there is none of that name.
    ///
    /// # Errors
    /// Also [`Error::Malformed`]: what can't be understood is never written over.
    pub async fn change(&self, id: &ChangeId) -> Result<Option<(Generation, Change)>, Error> {
        let path = layout::change(id);
        let Some(Object { generation, content, .. }) = self.get(&path, MAX_SIZE).await? else { return Ok(None) };
        let malformed = |reason: String| Error::Malformed { object: path.to_string(), reason };
        let read: Change = serde_json::from_slice(&content).map_err(|error| malformed(error.to_string()))?;
        if read.project != id.project() || read.change != id.change() {
            return Err(malformed("it says that it is another change".to_owned()));
        }
        if read.schema != 1 {
            return Err(malformed(format!("it has schema {}, which this program does not know", read.schema)));
        }
        if read.needs.len() > Change::MAX_NEEDS {
            return Err(malformed(format!("it needs more than {} changes", Change::MAX_NEEDS)));
        }
        Ok(Some((generation, read)))
    }

    /// Writes a change: over the generation that was read, or as the first.
    ///
    /// # Errors
    /// [`Error::Conflict`] or [`Error::AlreadyExists`] when somebody else wrote it meanwhile, [`Error::TooLarge`] when nobody
    /// would read all of it. Nothing was written then.
    pub async fn write_change(
        &self,
        id: &ChangeId,
        change: &Change,
        seen: Option<Generation>,
    ) -> Result<Generation, Error> {
        let content = serde_json::to_vec_pretty(change).expect("a change is JSON");
        let metadata = Metadata::from([(STATE.to_owned(), change.state.as_str().to_owned())]);
        self.write_within(MAX_SIZE, &layout::change(id), content, &metadata, seen).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_candidate_is_only_looked_for_where_those_of_its_change_lie() {
        let stem = "web:dev@ci:2026-11-20T19:05:02Z:7e0ff6059e653eb75a36efb621d0fd66d1ced433";
        let recorded = |app: &str, gate: bool, path: &str| -> RecordedCandidate {
            let sha256 = "07".repeat(32);
            serde_json::from_value(serde_json::json!({
                "type": "deb", "app": app, "release": format!("web/{stem}.deb"), "sha256": sha256, "size": 3, "path": path,
                "build": "k3v9", "patchset": 1, "gate": gate, "at": "2026-11-20T19:06:00Z",
            }))
            .unwrap()
        };
        let change: ChangeId = "web/12".parse().unwrap();
        let place = |app: &str, gate: bool, path: &str| recorded(app, gate, path).place(&change);
        for (gate, good) in [(false, "builds/web/12/k3v9/web/"), (true, "candidates/web/12/web/")] {
            let path = format!("{good}{stem}.deb");
            assert_eq!(place("web", gate, &path).unwrap().path().as_str(), path);
            assert!(place("web", !gate, &path).is_err());
            assert!(place("lib", gate, &path).unwrap_err().contains("is recorded as one of `lib`"));
        }
        for bad in [
            format!("debs/web/{stem}.deb"),
            format!("builds/web/13/k3v9/web/{stem}.deb"),
            format!("builds/web/12/k3v8/web/{stem}.deb"),
            format!("builds/web/12/k3v9/../k3v9/web/{stem}.deb"),
            "\u{1b}[2J".to_owned(),
        ] {
            let refused = place("web", false, &bad).unwrap_err();
            assert!(refused.contains("and would lie at `builds/web/12/k3v9/web/"), "{refused}");
            assert!(!refused.contains('\u{1b}'), "{refused:?}");
        }
    }

    #[test]
    fn the_record_of_an_image_is_only_looked_for_where_those_of_its_change_lie() {
        let commit = "7e0ff6059e653eb75a36efb621d0fd66d1ced433";
        let change: ChangeId = "web/12".parse().unwrap();
        let place = |kind: &str, gate: bool, path: &str| {
            let recorded: RecordedCandidate = serde_json::from_value(serde_json::json!({
                "type": kind, "app": "web", "release": format!("web/web:dev@ci:2026-11-20T19:05:02Z:{commit}.deb"),
                "sha256": "07".repeat(32), "size": 3, "path": path, "image": "ci.example/acme/web:k3v9_1234", "tag": "1234",
                "build": "k3v9", "patchset": 1, "gate": gate, "at": "2026-11-20T19:06:00Z",
            }))
            .unwrap();
            recorded.image_place(&change)
        };
        let of = |digit: &str| format!("candidates/web/12/web/1234@{}.json", digit.repeat(32));
        for (gate, path) in [(false, "builds/web/12/k3v9/web/1234.json"), (true, &*of("07"))] {
            assert_eq!(place("image", gate, path).unwrap().path().as_str(), path);
            assert!(place("image", !gate, path).unwrap_err().contains("and would lie at `"));
            assert!(place("deb", gate, path).unwrap_err().contains("without a tag"));
        }
        for other in [of("08"), of("07").replace("/12/", "/13/")] {
            assert!(place("image", true, &other).is_err(), "{other}");
        }
    }

    #[test]
    fn what_is_built_otherwise_is_kept() {
        let known: ArtifactType = serde_json::from_str("\"deb\"").unwrap();
        let image: ArtifactType = serde_json::from_str("\"image\"").unwrap();
        let other: ArtifactType = serde_json::from_str("\"wheel\"").unwrap();
        let all = (known, image, &other);
        assert_eq!(all, (ArtifactType::Deb, ArtifactType::Image, &ArtifactType::Other("wheel".to_owned())));
        assert_eq!(serde_json::to_string(&other).unwrap(), "\"wheel\"");
    }
}
