//! The rollouts that were written last, as they lie in the bucket: one listing, and what has changed is read.

use std::{collections::BTreeMap, sync::Arc};

use anyhow::{Context, Result};
use bucket::{Bucket, Generation, PushId, Rollout, RolloutSummary};
use fleet::server::Reading;
use futures_util::{StreamExt, TryStreamExt, stream};

/// Rollouts that are kept, and bytes of their objects together. One that runs is written every minute, so it is among them.
const KEPT: (usize, u64) = (200, 32 << 20);
/// Objects that are read at the same time.
const AT_ONCE: usize = 16;

/// The rollouts that are kept.
pub type Rollouts = BTreeMap<PushId, KnownRollout>;

/// A rollout, and which generation of it that is.
#[derive(Debug, Clone)]
pub struct KnownRollout {
    /// The generation.
    pub generation: Generation,
    /// What was read.
    pub rollout: Reading<Arc<Rollout>>,
}

/// What an object is doesn't change without its generation.
impl PartialEq for KnownRollout {
    fn eq(&self, other: &Self) -> bool {
        self.generation == other.generation && self.rollout.error() == other.rollout.error()
    }
}

/// The rollouts that are in the bucket; what is `known` of the same generation isn't read again.
pub(super) async fn read(bucket: &Bucket, known: &Rollouts) -> Result<Rollouts> {
    let listed: Vec<RolloutSummary> = bucket.rollouts().try_collect().await.context("could not list the rollouts")?;
    let read = stream::iter(newest(listed)).map(async |RolloutSummary { id, generation, .. }| {
        let known = known.get(&id).filter(|known| known.generation == generation && known.rollout.error().is_none());
        if let Some(known) = known {
            return Some((id, known.clone()));
        }
        let (generation, rollout) = match bucket.rollout(&id).await {
            Ok(Some((generation, rollout))) => (generation, Reading::Known(Arc::new(rollout))),
            Ok(None) => return None,
            Err(error) => (generation, Reading::Unreadable(error.to_string())),
        };
        Some((id, KnownRollout { generation, rollout }))
    });
    Ok(read.buffer_unordered(AT_ONCE).filter_map(async |read| read).collect().await)
}

/// Those that are kept.
fn newest(mut listed: Vec<RolloutSummary>) -> impl Iterator<Item = RolloutSummary> {
    listed.sort_by_key(|summary| std::cmp::Reverse(summary.updated));
    let mut bytes = 0_u64;
    listed.into_iter().take(KEPT.0).take_while(move |summary| {
        bytes = bytes.saturating_add(summary.size);
        bytes <= KEPT.1
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn those_that_were_written_last_are_kept() {
        let summary = |n: u32, size: u64| RolloutSummary {
            id: format!("r{n}").parse().unwrap(),
            generation: Generation(1),
            size,
            updated: bucket::Timestamp::from_second(n.into()).unwrap(),
            head: None,
        };
        let kept = |listed: Vec<RolloutSummary>| newest(listed).map(|found| found.id.to_string()).collect::<Vec<_>>();
        assert_eq!(kept((0..300).map(|n| summary(n, 1)).collect()).len(), KEPT.0);
        assert_eq!(kept(vec![summary(1, 4), summary(3, KEPT.1 - 4), summary(2, 4)]), ["r3", "r2"]);
    }
}
