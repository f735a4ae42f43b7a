//! Which run made a release.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{Metadata, PipelineName, RunPlace, StageName};

/// The metadata keys with the pipeline, the stage and the run.
const PIPELINE: &str = "pipeline";
const STAGE: &str = "stage";
const RUN: &str = "run";

/// Which stage of which run made a release. The run of a candidate is recorded in the candidate bucket.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MadeBy {
    /// `pipeline`.
    pub pipeline: PipelineName,
    /// `stage`: of that pipeline.
    pub stage: StageName,
    /// `run`: with its project.
    pub run: RunPlace,
}

impl MadeBy {
    pub(crate) fn from_metadata(metadata: &Metadata) -> Option<Self> {
        let get = |key| metadata.get(key);
        Some(Self {
            pipeline: get(PIPELINE)?.parse().ok()?,
            stage: get(STAGE)?.parse().ok()?,
            run: get(RUN)?.parse().ok()?,
        })
    }

    pub(crate) fn to_metadata(&self) -> [(String, String); 3] {
        let Self { pipeline, stage, run } = self;
        [(PIPELINE, pipeline.to_string()), (STAGE, stage.to_string()), (RUN, run.to_string())]
            .map(|(key, value)| (key.to_owned(), value))
    }
}

impl fmt::Display for MadeBy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { pipeline, stage, run } = self;
        write!(f, "pipeline {pipeline}, stage {stage}, run {run}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn which_run_made_a_release_is_said_whole_or_not_at_all() {
        let made_by = MadeBy {
            pipeline: "web".parse().unwrap(),
            stage: "candidate".parse().unwrap(),
            run: "acme/20261126T233000Z-k3v9".parse().unwrap(),
        };
        let metadata = Metadata::from(made_by.to_metadata());
        assert_eq!(MadeBy::from_metadata(&metadata).as_ref(), Some(&made_by));
        assert_eq!(made_by.to_string(), "pipeline web, stage candidate, run acme/20261126T233000Z-k3v9");
        for key in [PIPELINE, STAGE, RUN] {
            let mut metadata = metadata.clone();
            metadata.insert(key.to_owned(), "a b".to_owned());
            assert_eq!(MadeBy::from_metadata(&metadata), None, "{key}");
            metadata.remove(key);
            assert_eq!(MadeBy::from_metadata(&metadata), None, "{key}");
        }
    }
}
