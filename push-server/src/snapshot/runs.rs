//! The last runs of the pipelines of each project, as listings tell of them: those of what is merged, and, beside the candidates,
//! those of changes.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result};
use bucket::{Bucket, Commit, RunSummary};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};

/// Projects of each bucket that are kept, and runs of each of them.
const PROJECTS: usize = 200;
const KEPT: usize = 200;
/// Projects that are listed at the same time.
const AT_ONCE: usize = 8;

/// What is known of runs.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Runs {
    /// The last runs of each project, newest first.
    pub projects: BTreeMap<String, Vec<RunSummary>>,
}

impl Runs {
    /// The newest run of a commit.
    pub fn of_commit(&self, commit: &Commit) -> Option<&RunSummary> {
        let is_of_it = |run: &&RunSummary| run.head.as_ref().is_some_and(|head| head.commit == *commit);
        let runs = self.projects.values().filter_map(|runs| runs.iter().find(is_of_it));
        runs.max_by_key(|run| run.place.run())
    }
}

/// Lists the runs that are recorded beside the releases, and those beside the candidates.
pub(super) async fn read(releases: &Bucket, candidates: Option<&Bucket>) -> Result<Runs> {
    let mut projects: BTreeMap<String, Vec<RunSummary>> = BTreeMap::new();
    for bucket in [Some(releases), candidates].into_iter().flatten() {
        let found: Vec<String> =
            bucket.run_projects().take(PROJECTS).try_collect().await.context("could not list runs")?;
        let listed = stream::iter(found).map(async |project| {
            let runs = bucket.runs(&project, KEPT).await;
            anyhow::Ok((runs.with_context(|| format!("could not list the runs of `{project}`"))?, project))
        });
        let listed: Vec<(Vec<RunSummary>, String)> = listed.buffered(AT_ONCE).try_collect().await?;
        for (runs, project) in listed {
            projects.entry(project).or_default().extend(runs);
        }
    }
    for runs in projects.values_mut() {
        runs.sort_by(|a, b| b.place.cmp(&a.place));
        runs.truncate(KEPT);
    }
    Ok(Runs { projects })
}
