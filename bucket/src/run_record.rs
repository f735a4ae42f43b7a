//! Where runs are recorded, and what a listing says of each.

use futures_util::{Stream, TryStreamExt};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{
    Bucket, ChangeId, Commit, Error, Generation, Metadata, NameError, Object, ObjectInfo, PageToken, PipelineName, Run,
    RunPlace, RunResult, ascii::to_ascii_json, items, layout, newest::newest,
};

/// The metadata key with what a list shows of a run.
const HEAD: &str = "run";
/// In how many days before now the newest runs are looked for first.
const RECENT_DAYS: i64 = 7;

/// A run in a list, without being read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunSummary {
    /// Where it is recorded.
    pub place: RunPlace,
    /// The generation of its object.
    pub generation: Generation,
    /// The object's size in bytes.
    pub size: u64,
    /// When it was written last, by the bucket's clock.
    pub updated: Timestamp,
    /// What its metadata says of it; `None` of one that no program of ours wrote.
    pub head: Option<RunHead>,
}

/// What a list says of a run: written together with it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RunHead {
    /// How it ended.
    pub result: RunResult,
    /// The commit that it is of.
    pub commit: Commit,
    /// The change that it is of, if it is of one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub change: Option<ChangeId>,
    /// Which version of that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub patchset: Option<u32>,
    /// When it ended; `None` as long as it has not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended: Option<Timestamp>,
    /// How its pipelines ended, at most [`RunHead::MAX_PIPELINES`],
    pub pipelines: Vec<PipelineHead>,
    /// and how many more there are.
    #[serde(default)]
    pub more: usize,
}

/// What a list says of one pipeline of a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PipelineHead {
    /// The pipeline.
    pub name: PipelineName,
    /// How it ended.
    pub result: RunResult,
}

impl RunHead {
    /// Most pipelines that a list names.
    pub const MAX_PIPELINES: usize = 40;

    /// What a list says of a run.
    pub fn of(run: &Run) -> Self {
        let Run { result, commit, change, patchset, ended, pipelines, pipelines_left_out, .. } = run;
        let head = |pipeline: &crate::PipelineRun| PipelineHead {
            name: pipeline.name.clone(),
            result: pipeline.result(result),
        };
        Self {
            result: result.clone(),
            commit: commit.clone(),
            change: change.clone(),
            patchset: *patchset,
            ended: *ended,
            pipelines: pipelines.iter().take(Self::MAX_PIPELINES).map(head).collect(),
            more: pipelines.len().saturating_sub(Self::MAX_PIPELINES) + pipelines_left_out,
        }
    }

    fn to_metadata(&self) -> Metadata {
        Metadata::from([(HEAD.to_owned(), to_ascii_json(self))])
    }

    fn from_metadata(metadata: &Metadata) -> Option<Self> {
        serde_json::from_str(metadata.get(HEAD)?).ok()
    }
}

impl RunSummary {
    fn at(info: ObjectInfo) -> Option<Self> {
        let ObjectInfo { path, generation, size, updated, metadata } = info;
        Some(Self { place: layout::run_at(&path)?, generation, size, updated, head: RunHead::from_metadata(&metadata) })
    }
}

impl Bucket {
    /// Records a run that begins.
    ///
    /// # Errors
    /// [`Error::AlreadyExists`] when there is one of that name.
    pub async fn begin_run(&self, run: &Run) -> Result<Generation, Error> {
        self.write_run(run, None).await
    }

    /// Records how far a run is, over the generation that was read or written last.
    ///
    /// # Errors
    /// [`Error::Conflict`] when somebody else wrote it meanwhile. Nothing was written then.
    pub async fn update_run(&self, run: &Run, seen: Generation) -> Result<Generation, Error> {
        self.write_run(run, Some(seen)).await
    }

    async fn write_run(&self, run: &Run, seen: Option<Generation>) -> Result<Generation, Error> {
        let malformed =
            |error: NameError| Error::Malformed { object: format!("runs/{}", run.run), reason: error.to_string() };
        let path = layout::run(&run.place().map_err(malformed)?);
        self.write_within(Run::MAX_SIZE, &path, run.to_json(), &RunHead::of(run).to_metadata(), seen).await
    }

    /// A run, with its generation; `None` when none of that name is recorded.
    ///
    /// # Errors
    /// Also [`Error::Malformed`].
    pub async fn run(&self, place: &RunPlace) -> Result<Option<(Generation, Run)>, Error> {
        let path = layout::run(place);
        let Some(Object { generation, content, .. }) = self.get(&path, Run::MAX_SIZE).await? else { return Ok(None) };
        let malformed = |reason: String| Error::Malformed { object: path.to_string(), reason };
        let read: Run = serde_json::from_slice(&content).map_err(|error| malformed(error.to_string()))?;
        if read.project != place.project() || read.run != *place.run() {
            return Err(malformed("it says that it is another run".to_owned()));
        }
        if read.schema != 1 {
            return Err(malformed(format!("it has schema {}, which this program does not know", read.schema)));
        }
        Ok(Some((generation, read)))
    }

    /// The last runs of a project, newest first, at most `limit`.
    pub async fn runs(&self, project: &str, limit: usize) -> Result<Vec<RunSummary>, Error> {
        let objects = newest(self, &layout::runs_of(project), None, &[RECENT_DAYS], limit).await?;
        Ok(objects.into_iter().rev().filter_map(RunSummary::at).take(limit).collect())
    }

    /// The projects of which runs are recorded, in the byte order of their names.
    pub fn run_projects(&self) -> impl Stream<Item = Result<String, Error>> {
        let page = async |after: Option<PageToken>| self.list_directories(layout::RUNS, after.as_ref(), 1000).await;
        items(page).try_filter(|project| {
            let is_project = crate::change_id::check_project(project).is_ok();
            async move { is_project }
        })
    }
}
