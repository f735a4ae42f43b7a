//! What is recorded of a run while it goes on: in the bucket, where whoever looks sees it, also of a run that was killed.

use std::{sync::Arc, time::Duration};

use bucket::{Bucket, Error, Generation, PublishedRelease, Run, RunResult, StageResult, StageRun, Timestamp};
use console::{note, warning};
use tokio::{
    sync::{oneshot, watch},
    task::JoinHandle,
    time::{sleep, timeout},
};

use crate::run::{
    Shared,
    graph::{Graph, StageId, State},
    running::Made,
    stage::Ended,
};

/// How long a run waits for its beginning to be recorded.
const PATIENCE: Duration = Duration::from_secs(10);

/// How often the end of a run is tried to be written that could not be, and how long after each other.
const TRIES: usize = 3;
const PAUSE: Duration = Duration::from_secs(1);

/// Writes down how far a run is. What can't be written is a warning, and keeps nothing from going on.
#[derive(Debug)]
pub(super) struct Recorder {
    run: watch::Sender<Run>,
    writer: JoinHandle<()>,
}

impl Recorder {
    /// Writes that a run begins, and from then on whatever becomes of it, side by side with all else. What runs waits only for
    /// the beginning, and not for long.
    pub(super) async fn begin(shared: Arc<Shared>, run: Run) -> Self {
        let (run, changes) = watch::channel(run);
        let (wrote, begun) = oneshot::channel();
        let writer = tokio::spawn(write(shared, changes, wrote));
        // Neither that it takes longer nor that it can't be written keeps anything from going on.
        let _ = timeout(PATIENCE, begun).await;
        Self { run, writer }
    }

    /// Something became of the run, now.
    pub(super) fn change(&mut self, change: impl FnOnce(&mut Run, Timestamp)) {
        self.run.send_modify(|run| change(run, Timestamp::now()));
    }

    /// All is said: waits until it is written.
    pub(super) async fn end(self) -> Run {
        let run = self.run.borrow().clone();
        drop(self.run);
        if self.writer.await.is_err() {
            warning("the end of the run may not be recorded");
        }
        run
    }
}

/// `wrote` is told, or dropped, when the first was written or can't be.
async fn write(shared: Arc<Shared>, mut changes: watch::Receiver<Run>, wrote: oneshot::Sender<()>) {
    if !shared.has_bucket() {
        note("no bucket is specified: the run is not recorded");
        return;
    }
    let (mut seen, mut wrote) = (None, Some(wrote));
    let (mut is_warned, mut left) = (false, TRIES);
    loop {
        let run = changes.borrow_and_update().clone();
        let is_late = match write_once(&shared, &run, seen).await {
            Ok(generation) => {
                seen = Some(generation);
                // Whoever waited may have gone on.
                wrote.take().map(|wrote| wrote.send(()));
                false
            }
            // It is tried again whenever something becomes of the run, and a few times in the end.
            Err(error) => {
                if !is_warned {
                    warning(format_args!("the run is not recorded for now, and goes on: {error:#}"));
                }
                (is_warned, wrote) = (true, None);
                true
            }
        };
        if changes.changed().await.is_ok() {
            continue;
        }
        // Nobody says anything any more.
        if !is_late || left == 0 {
            return;
        }
        left -= 1;
        sleep(PAUSE).await;
    }
}

async fn write_once(shared: &Shared, run: &Run, seen: Option<Generation>) -> anyhow::Result<Generation> {
    let bucket: &Bucket = shared.bucket().await?;
    if let Some(new) = bucket.mark().await? {
        note(new);
    }
    let written = match seen {
        Some(seen) => bucket.update_run(run, seen).await,
        None => bucket.begin_run(run).await,
    };
    match written {
        Ok(generation) => Ok(generation),
        // An answer was lost: no other run has this name.
        Err(Error::AlreadyExists { .. } | Error::Conflict { .. }) => {
            let there = bucket.run(&shared.place).await?;
            let (generation, _) = there.ok_or_else(|| anyhow::anyhow!("the record is gone"))?;
            Ok(bucket.update_run(run, generation).await?)
        }
        Err(error) => Err(error.into()),
    }
}

/// What is recorded of a stage.
pub(super) fn stage(run: &mut Run, id: StageId) -> &mut StageRun {
    &mut run.pipelines[id.pipeline].stages[id.stage]
}

/// A stage ended.
pub(super) fn end(run: &mut Run, ended: &Ended, now: Timestamp) {
    let recorded = stage(run, ended.id);
    recorded.ended = Some(now);
    recorded.why = ended.why.clone().unwrap_or_default();
    recorded.result = ended.state.result();
    let stage = recorded.name.clone();
    let pipeline = &mut run.pipelines[ended.id.pipeline];
    pipeline.artifacts.extend(ended.artifacts.iter().cloned());
    let made = ended.made.clone();
    pipeline.releases.extend(made.map(|Made { release, candidate }| PublishedRelease { stage, release, candidate }));
}

/// The run ended: what has not begun never will.
pub(super) fn finish(run: &mut Run, graph: &Graph, result: RunResult, now: Timestamp) {
    for (pipeline, recorded) in run.pipelines.iter_mut().enumerate() {
        let names: Vec<_> = recorded.stages.iter().map(|stage| stage.name.clone()).collect();
        for (stage, recorded) in recorded.stages.iter_mut().enumerate() {
            let id = StageId { pipeline, stage };
            if graph.state(id) == State::Running {
                (recorded.result, recorded.why) = (StageResult::Failed, "it broke off".to_owned());
            }
            if graph.state(id) == State::Waiting {
                recorded.result = StageResult::Skipped;
                recorded.why = match graph.held_up_by(id) {
                    Some(before) => format!("`{}` did not pass", names[before]),
                    None if result == RunResult::Interrupted => "the run was interrupted".to_owned(),
                    None => "another stage failed".to_owned(),
                };
            }
        }
    }
    (run.result, run.ended) = (result, Some(now));
}
