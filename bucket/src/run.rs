//! What is recorded of a run of a repository's pipelines. `runs/{project}/{time}-{id}.json`: in the bucket of the releases, or in
//! the candidate bucket when it is a run of a change.
//!
//! Written at the beginning, after each stage, once an hour and at the end. Unmerged code may write it: nothing that gives rights is decided
//! by it.

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::{
    ArtifactPath, ChangeId, Commit, NameError, PipelineName, ReleaseName, RunId, RunPlace, Sha256, StageName,
    ascii::cut,
};

/// One run. Unknown fields are kept by whoever writes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Run {
    /// The version of the format: 1.
    pub schema: u32,
    /// The project.
    pub project: String,
    /// What the run is called.
    pub run: RunId,
    /// The commit that it is of.
    pub commit: Commit,
    /// The branch that was checked out; empty when none was.
    #[serde(default)]
    pub branch: String,
    /// Whether it took changes that were not committed.
    pub dirty: bool,
    /// The change that it is of, if it is of one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub change: Option<ChangeId>,
    /// Which version of that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub patchset: Option<u32>,
    /// Who started it.
    pub by: String,
    /// The machine that it runs on.
    pub host: String,
    /// Why, in their words; empty when they said nothing.
    #[serde(default)]
    pub note: String,
    /// When it began, by the bucket's clock as far as that was known.
    pub began: Timestamp,
    /// When it ended; `None` while it runs, and for ever if it was killed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended: Option<Timestamp>,
    /// When it last said that it goes on, of a run in which nothing happens for hours.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub told: Option<Timestamp>,
    /// How it ended.
    pub result: RunResult,
    /// Its pipelines, as the file has them.
    pub pipelines: Vec<PipelineRun>,
    /// How many more there were than fit.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub pipelines_left_out: usize,
    /// What this program doesn't know.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

/// One pipeline of a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PipelineRun {
    /// The pipeline.
    pub name: PipelineName,
    /// Its stages, as the file has them.
    pub stages: Vec<StageRun>,
    /// How many more there were than fit.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub stages_left_out: usize,
    /// What its stages published.
    #[serde(default)]
    pub releases: Vec<PublishedRelease>,
    /// How many more there were than fit.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub releases_left_out: usize,
    /// The images that its stages published.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub images: Vec<PublishedImage>,
    /// How many more there were than fit.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub images_left_out: usize,
    /// The files of its stages that are kept.
    #[serde(default)]
    pub artifacts: Vec<KeptArtifact>,
    /// How many more there were than fit; a listing has them all.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub artifacts_left_out: usize,
    /// What this program doesn't know.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

/// One stage of a pipeline in a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StageRun {
    /// The stage.
    pub name: StageName,
    /// The stages that it begins right after.
    #[serde(default)]
    pub after: Vec<StageName>,
    /// How it ended.
    pub result: StageResult,
    /// When it began, if it did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub began: Option<Timestamp>,
    /// When it ended, if it did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended: Option<Timestamp>,
    /// Why, for people; empty when there is nothing to say.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub why: String,
    /// What this program doesn't know.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

/// A release, or a candidate, that a stage published.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PublishedRelease {
    /// The stage.
    pub stage: StageName,
    /// The release; of a candidate, the one that it would be.
    pub release: ReleaseName,
    /// Where it lies, if it is a candidate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub candidate: Option<String>,
}

/// An image that a stage published.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PublishedImage {
    /// The stage.
    pub stage: StageName,
    /// What it is called, with its registry. Foreign text to whoever reads it.
    pub name: String,
    /// Its tag, that is the same.
    pub tag: String,
    /// The sum of its manifest.
    #[serde(with = "crate::image::digest")]
    pub digest: Sha256,
    /// The image that it was built on, with its digest, as far as that is known. Foreign text, too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base: Option<String>,
}

/// A file of a stage that is kept in the bucket.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct KeptArtifact {
    /// The stage.
    pub stage: StageName,
    /// Which file of it.
    pub path: ArtifactPath,
    /// Its size, in bytes.
    pub size: u64,
    /// Of its content.
    pub sha256: Sha256,
}

/// How a run ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RunResult {
    /// It has not, as far as was written.
    Running,
    /// Every stage passed.
    Passed,
    /// A stage failed.
    Failed,
    /// It was ended from outside before it could tell.
    Interrupted,
    /// What this program doesn't know.
    #[serde(untagged)]
    Other(String),
}

/// How a stage ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StageResult {
    /// It has not begun.
    Waiting,
    /// It has not ended, as far as was written.
    Running,
    /// All of it was done.
    Passed,
    /// Something of it failed.
    Failed,
    /// The run ended it.
    Stopped,
    /// It did not begin, and will not.
    Skipped,
    /// What this program doesn't know.
    #[serde(untagged)]
    Other(String),
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes references")]
fn is_zero(count: &usize) -> bool {
    *count == 0
}

impl RunResult {
    /// A run that was not written for so long, and has not ended, never will: each is written once an hour.
    const DIED_AFTER: SignedDuration = SignedDuration::from_hours(3);

    /// Whether the process of a run that says so, and was last written then, was killed.
    pub fn has_died(&self, written: Timestamp, now: Timestamp) -> bool {
        *self == Self::Running && now.duration_since(written) > Self::DIED_AFTER
    }

    /// In one word. Of a result that this program doesn't know it is foreign text.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Running => "running",
            Self::Passed => "passed",
            Self::Failed => "failed",
            Self::Interrupted => "interrupted",
            Self::Other(result) => result,
        }
    }
}

impl StageResult {
    /// In one word. Of a result that this program doesn't know it is foreign text.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Waiting => "waiting",
            Self::Running => "running",
            Self::Passed => "passed",
            Self::Failed => "failed",
            Self::Stopped => "stopped",
            Self::Skipped => "skipped",
            Self::Other(result) => result,
        }
    }
}

impl PipelineRun {
    /// Whether it says of any stage what became of it.
    fn says_more(&self) -> bool {
        !self.stages.is_empty() || !self.releases.is_empty() || !self.images.is_empty()
    }

    /// How this pipeline ended in a run that ended so, or goes on.
    pub fn result(&self, run: &RunResult) -> RunResult {
        let has = |result: StageResult| self.stages.iter().any(|stage| stage.result == result);
        if has(StageResult::Failed) {
            RunResult::Failed
        } else if self.stages_left_out == 0 && self.stages.iter().all(|stage| stage.result == StageResult::Passed) {
            RunResult::Passed
        } else if *run == RunResult::Running && !has(StageResult::Stopped) && !has(StageResult::Skipped) {
            RunResult::Running
        } else if self.stages_left_out > 0 && *run == RunResult::Passed {
            RunResult::Passed
        } else {
            RunResult::Interrupted
        }
    }
}

impl Run {
    /// Most bytes of the object.
    pub const MAX_SIZE: u64 = 256 << 10;
    /// Most bytes of why a stage ended as it did, and of who, where, and the branch.
    pub const MAX_TEXT: usize = 1000;
    /// Most bytes of the note.
    pub const MAX_NOTE: usize = 4000;

    /// Where it is recorded.
    ///
    /// # Errors
    /// What is wrong with the name of the project.
    pub fn place(&self) -> Result<RunPlace, NameError> {
        RunPlace::new(&self.project, self.run.clone())
    }

    /// The record as it is written. Whatever a run has, that fits: texts are cut; then as many artifacts as need be are left
    /// out, which a listing has all the same, then stages and what they published, then pipelines, the last ones first. How
    /// many those were is said.
    pub(crate) fn to_json(&self) -> Vec<u8> {
        let mut run = self.clone();
        run.cut_texts();
        loop {
            let json = serde_json::to_vec(&run).expect("a run is JSON");
            if json.len() as u64 <= Self::MAX_SIZE || !run.leave_out() {
                return json;
            }
        }
    }

    fn cut_texts(&mut self) {
        self.note = cut(&self.note, Self::MAX_NOTE);
        for text in [&mut self.by, &mut self.host, &mut self.branch] {
            *text = cut(text, Self::MAX_TEXT);
        }
        for stage in self.pipelines.iter_mut().flat_map(|pipeline| &mut pipeline.stages) {
            stage.why = cut(&stage.why, Self::MAX_TEXT);
        }
    }

    /// Leaves out half of what can best be spared; whether there was anything.
    fn leave_out(&mut self) -> bool {
        let pipelines = &mut self.pipelines;
        if pipelines.iter().any(|pipeline| !pipeline.artifacts.is_empty()) {
            for pipeline in pipelines {
                halve(&mut pipeline.artifacts, &mut pipeline.artifacts_left_out);
            }
        } else if pipelines.iter().any(PipelineRun::says_more) {
            for pipeline in pipelines {
                halve(&mut pipeline.stages, &mut pipeline.stages_left_out);
                halve(&mut pipeline.releases, &mut pipeline.releases_left_out);
                halve(&mut pipeline.images, &mut pipeline.images_left_out);
            }
        } else if !pipelines.is_empty() {
            halve(pipelines, &mut self.pipelines_left_out);
        } else if !self.other.is_empty() {
            self.other.clear();
        } else {
            return false;
        }
        true
    }
}

fn halve<T>(items: &mut Vec<T>, left_out: &mut usize) {
    let kept = items.len() / 2;
    *left_out += items.len() - kept;
    items.truncate(kept);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn run(pipelines: &Value) -> Run {
        serde_json::from_value(json!({
            "schema": 1, "project": "acme", "run": "20261126T233000Z-k3v9", "commit": "7e".repeat(20), "dirty": false,
            "by": "dev@ci", "host": "ci", "began": "2026-11-26T23:30:00Z", "result": "running", "pipelines": pipelines,
        }))
        .unwrap()
    }

    fn stages(results: &[&str]) -> PipelineRun {
        let stages: Vec<_> = results.iter().map(|result| json!({ "name": "s", "result": result })).collect();
        serde_json::from_value(json!({ "name": "web", "stages": stages })).unwrap()
    }

    #[test]
    fn a_pipeline_passed_only_if_every_stage_did() {
        use RunResult::{Failed, Interrupted, Passed, Running};
        for (results, run, expected) in [
            (&["passed", "passed"][..], Running, Passed),
            (&["passed", "waiting"], Running, Running),
            (&["passed", "failed", "waiting"], Running, Failed),
            (&["passed", "failed", "skipped"], Failed, Failed),
            (&["passed", "stopped"], Failed, Interrupted),
            (&["passed", "waiting"], Interrupted, Interrupted),
            (&["passed", "levitating"], Passed, Interrupted),
        ] {
            assert_eq!(stages(results).result(&run), expected, "{results:?} in {run:?}");
        }
        let left_out = PipelineRun { stages_left_out: 3, ..stages(&["passed"]) };
        assert_eq!((left_out.result(&Passed), left_out.result(&Running)), (Passed, Running));
    }

    #[test]
    fn what_is_said_otherwise_is_kept() {
        let mut value = serde_json::to_value(run(&json!([{
            "name": "web", "stages": [{ "name": "unit", "after": ["lint"], "result": "levitating", "later": 1 }], "later": 2
        }])))
        .unwrap();
        value["later"] = 3.into();
        value["result"] = "postponed".into();
        let read: Run = serde_json::from_value(value.clone()).unwrap();
        assert_eq!(read.result, RunResult::Other("postponed".to_owned()));
        assert_eq!(read.pipelines[0].stages[0].result.as_str(), "levitating");
        assert_eq!(serde_json::from_slice::<Value>(&read.to_json()).unwrap(), value);
    }

    #[test]
    fn a_record_is_never_too_large_to_be_written() {
        let artifact = json!({ "stage": "unit", "path": "x/".repeat(300) + "y", "size": 3, "sha256": "07".repeat(32) });
        let stage = json!({ "name": "unit", "result": "failed", "why": "ü".repeat(9000) });
        let mut large = run(&json!([{ "name": "web", "stages": [stage], "artifacts": vec![artifact; 1000] }]));
        large.note = "ü".repeat(1 << 20);
        let written: Run = serde_json::from_slice(&large.to_json()).unwrap();
        let web = &written.pipelines[0];
        assert_eq!((web.stages.len(), web.artifacts.len() + web.artifacts_left_out), (1, 1000));
        assert!(web.artifacts.len() > 100, "{}", web.artifacts.len());
        assert_eq!((web.stages[0].why.len(), written.note.len()), (Run::MAX_TEXT, Run::MAX_NOTE));

        let names: Vec<_> = (0..3000)
            .map(|n| json!({ "name": format!("s{n}"), "after": vec!["x".repeat(64); 3], "result": "passed" }))
            .collect();
        let written: Run =
            serde_json::from_slice(&run(&json!([{ "name": "web", "stages": names }])).to_json()).unwrap();
        let web = &written.pipelines[0];
        assert_eq!(web.stages.len() + web.stages_left_out, 3000);
        assert_eq!(web.stages[0].name.as_str(), "s0");

        let many: Vec<_> = (0..5000).map(|n| json!({ "name": format!("{n:064}"), "stages": [] })).collect();
        let written: Run = serde_json::from_slice(&run(&json!(many)).to_json()).unwrap();
        assert_eq!(written.pipelines.len() + written.pipelines_left_out, 5000);
    }

    proptest! {
        // Each case has half a megabyte.
        #![proptest_config(ProptestConfig::with_cases(16))]
        #[test]
        fn whatever_a_run_has_its_record_fits_and_can_be_read(
            note in ".{0,9000}",
            whys in prop::collection::vec(".{0,3000}", 0..200),
            artifacts in 0..2000_usize,
        ) {
            let stages: Vec<_> = whys.iter().map(|why| json!({ "name": "s", "result": "failed", "why": why })).collect();
            let artifact = json!({ "stage": "s", "path": "a", "size": 3, "sha256": "07".repeat(32) });
            let mut large = run(&json!([{ "name": "web", "stages": stages, "artifacts": vec![artifact; artifacts] }]));
            large.note = note;
            let json = large.to_json();
            prop_assert!(json.len() as u64 <= Run::MAX_SIZE);
            let read: Run = serde_json::from_slice(&json).unwrap();
            let web = &read.pipelines[0];
            prop_assert_eq!(web.stages.len() + web.stages_left_out, whys.len());
            prop_assert_eq!(web.artifacts.len() + web.artifacts_left_out, artifacts);
            prop_assert_eq!(read.to_json(), json);
        }
    }
}
