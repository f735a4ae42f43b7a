//! What all requests share.

use std::sync::Arc;

use bucket::{Bucket, BucketUrl};
use fleet::{
    poke::PokeSettings,
    policy::{Policy, watched::Watched},
};
use tokio::sync::watch;

use super::{counters::Counters, jobs::Jobs, problems::Problems};
use crate::snapshot::SnapshotRefresher;

/// What all requests share.
#[derive(Debug)]
pub(crate) struct Web {
    pub(crate) refresher: SnapshotRefresher,
    /// Whether it is known where changes are that are not merged yet.
    pub(crate) has_changes: bool,
    pub(crate) bucket_name: String,
    pub(crate) poke: PokeSettings,
    pub(crate) policy: Watched,
    pub(crate) jobs: Jobs,
    pub(crate) counters: Counters,
    pub(crate) problems: Problems,
    /// Turns true when the process is asked to end.
    pub(crate) ending: watch::Sender<bool>,
}

impl Web {
    /// `candidates` is where changes are that are not merged yet, if that is known.
    pub(crate) fn new(
        bucket: Bucket,
        url: &BucketUrl,
        candidates: Option<Bucket>,
        poke: PokeSettings,
        policy: Watched,
    ) -> Self {
        Self {
            has_changes: candidates.is_some(),
            refresher: SnapshotRefresher::new(bucket).with_candidates(candidates),
            bucket_name: url.to_string(),
            poke,
            policy,
            jobs: Jobs::default(),
            counters: Counters::default(),
            problems: Problems::default(),
            ending: watch::Sender::new(false),
        }
    }

    /// The rules as they are now.
    pub(crate) fn policy(&self) -> Arc<Policy> {
        self.policy.get().0
    }

    /// Why the policy file is invalid, if the rules are those from before it was changed.
    pub(crate) fn policy_problem(&self) -> Option<String> {
        self.policy.get().1
    }
}
