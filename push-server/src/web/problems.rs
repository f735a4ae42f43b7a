//! What keeps this process from carrying rollouts on: noted by who tries, and shown on their pages.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
};

use bucket::PushId;

/// Why this process could not carry rollouts on when it last tried.
#[derive(Debug, Default)]
pub(crate) struct Problems(Mutex<BTreeMap<PushId, String>>);

impl Problems {
    /// That of one rollout.
    pub(crate) fn of(&self, id: &PushId) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(id).cloned()
    }

    /// Notes how the last try ended; whether that is another problem than before.
    pub(crate) fn note(&self, id: &PushId, problem: Option<String>) -> bool {
        let mut problems = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let before = problems.remove(id);
        let is_new = problem.is_some() && problem != before;
        problems.extend(problem.map(|problem| (id.clone(), problem)));
        is_new
    }
}
