//! The last run of each pipeline of a change, as the candidate bucket tells of it.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result};
use bucket::{Bucket, ChangeId, PipelineName, RunPlace, RunResult, RunSummary, Timestamp};
use serde::Serialize;

/// Runs of the change's project that are looked at.
const LOOKED_AT: usize = 1000;

/// How a pipeline ended the last time that it was run for a change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct LastRun {
    pub(crate) pipeline: PipelineName,
    /// Also `died`: it has not ended, and was not written for long.
    pub(crate) result: String,
    pub(crate) run: RunPlace,
    pub(crate) patchset: Option<u32>,
    pub(crate) began: Timestamp,
}

/// The last run of each pipeline of a change, the newest first.
pub(crate) async fn last_runs(bucket: &Bucket, id: &ChangeId) -> Result<Vec<LastRun>> {
    let runs = bucket.runs(id.project(), LOOKED_AT).await;
    let runs = runs.with_context(|| format!("could not list the runs of `{}`", id.project()))?;
    Ok(last_of_each(&runs, id, bucket.now()))
}

/// Of runs, newest first, the last one of each pipeline of a change.
fn last_of_each(runs: &[RunSummary], id: &ChangeId, now: Timestamp) -> Vec<LastRun> {
    let mut seen = BTreeSet::new();
    let mut last = Vec::new();
    for run in runs {
        let Some(head) = run.head.as_ref().filter(|head| head.change.as_ref() == Some(id)) else { continue };
        for pipeline in head.pipelines.iter().filter(|pipeline| seen.insert(&pipeline.name)) {
            let shown = |result: &RunResult| {
                if result.has_died(run.updated, now) { "died" } else { result.as_str() }.to_owned()
            };
            last.push(LastRun {
                pipeline: pipeline.name.clone(),
                result: shown(&pipeline.result),
                run: run.place.clone(),
                patchset: head.patchset,
                began: run.place.run().time(),
            });
        }
    }
    last
}

#[cfg(test)]
mod tests {
    use bucket::{Generation, PipelineHead, RunHead};

    use super::*;

    #[test]
    fn of_each_pipeline_of_a_change_the_last_run_counts() {
        let now: Timestamp = "2026-11-28T12:00:00Z".parse().unwrap();
        let run = |day: u8, change: &str, pipelines: &[(&str, RunResult)]| {
            let place: RunPlace = format!("web/202611{day}T120000Z-k3v9").parse().unwrap();
            let head = |(name, result): &(&str, RunResult)| PipelineHead {
                name: name.parse().unwrap(),
                result: result.clone(),
            };
            RunSummary {
                generation: Generation(1),
                size: 1,
                updated: place.run().time(),
                place,
                head: Some(RunHead {
                    result: RunResult::Failed,
                    commit: "a".repeat(40).parse().unwrap(),
                    change: change.parse().ok(),
                    patchset: Some(2),
                    ended: None,
                    pipelines: pipelines.iter().map(head).collect(),
                    more: 0,
                }),
            }
        };
        let unknown = RunSummary { head: None, ..run(28, "web/12", &[]) };
        let runs = [
            unknown,
            run(28, "web/13", &[("web", RunResult::Passed)]),
            run(27, "", &[("web", RunResult::Passed)]),
            run(26, "web/12", &[("web", RunResult::Failed), ("api", RunResult::Running)]),
            run(25, "web/12", &[("web", RunResult::Passed), ("docs", RunResult::Passed)]),
        ];
        let last = last_of_each(&runs, &"web/12".parse().unwrap(), now);
        let shown: Vec<_> =
            last.iter().map(|last| (last.pipeline.as_str(), &*last.result, last.began.to_string())).collect();
        let (first, second) = ("2026-11-26T12:00:00Z".to_owned(), "2026-11-25T12:00:00Z".to_owned());
        assert_eq!(shown, [("web", "failed", first.clone()), ("api", "died", first), ("docs", "passed", second)]);
    }
}
