//! Changes that are not merged yet, in the candidate bucket. `changes/{project}/{id}.json`.
//!
//! Unmerged code may write them: what one says is a hint where to look, and nothing that gives rights is decided by it.

use futures_util::{Stream, TryStreamExt};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::{Bucket, ChangeId, Commit, Error, Generation, Metadata, Object, PageToken, items, layout};

/// Most bytes of a change.
const MAX_SIZE: u64 = 256 << 10;

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

impl Change {
    /// Most changes that one may need.
    pub const MAX_NEEDS: usize = 200;
}

impl Bucket {
    /// The changes of a project, or of all, by name.
    pub fn changes(&self, project: Option<&str>) -> impl Stream<Item = Result<ChangeId, Error>> {
        let prefix = layout::changes_of(project);
        let page = move |after: Option<PageToken>| {
            let prefix = prefix.clone();
            async move { self.list(&prefix, after.as_ref(), 1000).await }
        };
        items(page).try_filter_map(|info| async move { Ok(layout::change_at(&info.path)) })
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
        self.write_within(MAX_SIZE, &layout::change(id), content, &Metadata::new(), seen).await
    }
}
