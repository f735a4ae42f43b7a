//! Carrying on the rollouts that run, by what the snapshot has: after every round of it, and at rest without asking the bucket.
//!
//! Any number of processes may do so. What can't be done is tried again at the next look, and the rollout's page says why.

use std::{sync::Arc, time::Duration};

use anyhow::Result;
use bucket::{Generation, PushId, Rollout, RolloutStage};
use fleet::rollout::{
    drive::{Driver, Step},
    read::held,
};
use futures_util::{StreamExt, stream};
use tracing::{error, info, warn};

use super::shared::Web;

/// Rollouts that are driven at the same time.
const AT_ONCE: usize = 4;
/// While rollouts move, so many looks follow each other without waiting for the next round, and so closely.
const LOOKS: (usize, Duration) = (20, Duration::from_millis(200));

/// Carries rollouts on until the process is asked to end. `name` says who does so.
pub(crate) async fn keep(web: Arc<Web>, name: String) {
    let (mut rounds, mut ending) = (web.refresher.rounds(), web.ending.subscribe());
    loop {
        tokio::select! {
            biased;
            // Fails only when the sender is gone, which is ours.
            _ = ending.wait_for(|ending| *ending) => return,
            round = rounds.changed() => if round.is_err() { return },
        }
        for _ in 0..LOOKS.0 {
            // Apart, so that a fault of ours ends one look and not the driving.
            let looking = tokio::spawn({
                let (web, name) = (web.clone(), name.clone());
                async move { look(&web, &name).await }
            });
            let has_moved = looking.await.unwrap_or_else(|fault| {
                error!("internal error while rollouts were carried on: {fault}");
                false
            });
            if !has_moved || *web.ending.borrow() {
                break;
            }
            tokio::time::sleep(LOOKS.1).await;
            web.refresher.refresh().await;
            if *web.ending.borrow() {
                break;
            }
        }
    }
}

/// Does what there is to do about each rollout now; whether there was something.
pub(crate) async fn look(web: &Arc<Web>, name: &str) -> bool {
    let snapshot = web.refresher.snapshot();
    let running = snapshot.rollouts.values().filter_map(|known| {
        let rollout = known.rollout.known()?;
        matches!(rollout.stage, RolloutStage::Running | RolloutStage::Undoing).then(|| rollout.id.clone())
    });
    let running: Vec<PushId> = running.collect();
    let stepped = stream::iter(running).map(async |id| match step(web, name, &id).await {
        Ok(Some(rollout)) => {
            web.problems.note(&id, None);
            told(&rollout);
            true
        }
        Ok(None) => {
            web.problems.note(&id, None);
            false
        }
        Err(error) => {
            let problem = format!("{error:#}");
            if web.problems.note(&id, Some(problem.clone())) {
                warn!(rollout = %id, "could not carry rollout {id} on, will retry: {problem}");
                web.refresher.touch();
            }
            false
        }
    });
    stepped.buffer_unordered(AT_ONCE).fold(false, async |moved, one| moved | one).await
}

fn told(rollout: &Rollout) {
    let (id, stage) = (&rollout.id, console::safe(rollout.stage.as_str()));
    match &rollout.stopped {
        Some(why) if rollout.stage == RolloutStage::Stopped => {
            warn!(rollout = %id, "rollout {id} has stopped: {}", console::safe(why));
        }
        _ => info!(rollout = %id, stage, "carried rollout {id} on: it is {stage}"),
    }
}

/// The rollout after something was done; `None` when there was nothing to do.
async fn step(web: &Web, name: &str, id: &PushId) -> Result<Option<Box<Rollout>>> {
    let (bucket, snapshot) = (web.refresher.bucket(), web.refresher.snapshot());
    // By old reports everybody would seem silent.
    let is_fresh = snapshot.failure.is_none() && snapshot.taken.is_some();
    let known = snapshot.rollouts.get(id).filter(|_| is_fresh);
    let Some((generation, rollout)) = known.and_then(|known| Some((known.generation, known.rollout.known()?))) else {
        return Ok(None);
    };
    // Whoever drives it next writes what this process does not begin.
    let stop = Some(web.ending.subscribe());
    let driver = Driver { name: name.to_owned(), policy: web.policy(), poke: web.poke.clone(), stop };
    let held = held(rollout, &snapshot.holds, bucket.now())?;
    let read: (Generation, Rollout) = (generation, (**rollout).clone());
    match driver.step(bucket, read, &snapshot.servers, &held, snapshot.halt.is_some()).await? {
        Step::Moved(rollout) => Ok(Some(rollout)),
        Step::Waits(..) | Step::Contended => Ok(None),
    }
}
