//! What is recorded of a run while it goes on: in the bucket, where whoever looks sees it, also of a run that was killed.

use std::{sync::Arc, time::Duration};

use bucket::{Bucket, Error, Generation, PublishedRelease, Run, RunResult, StageResult, StageRun, Timestamp};
use console::{note, warning};
use futures_util::{FutureExt as _, future::BoxFuture};
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

/// How often it is written that a run goes on in which nothing happens.
const GOES_ON: Duration = Duration::from_hours(1);

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
async fn write(shared: Arc<Shared>, changes: watch::Receiver<Run>, wrote: oneshot::Sender<()>) {
    if !shared.has_bucket() {
        note("no bucket is specified: the run is not recorded");
        return;
    }
    let put = move |run, seen| {
        let shared = shared.clone();
        async move { write_once(&shared, &run, seen).await }.boxed()
    };
    keep(changes, wrote, put).await;
}

/// Writes a run by `put` whenever something becomes of it, and as long as nothing does every now and then that it goes on: only of
/// one that was killed nothing is heard.
async fn keep(
    mut changes: watch::Receiver<Run>,
    wrote: oneshot::Sender<()>,
    put: impl Fn(Run, Option<Generation>) -> BoxFuture<'static, anyhow::Result<Generation>>,
) {
    let (mut seen, mut wrote) = (None, Some(wrote));
    let (mut is_warned, mut left, mut told) = (false, TRIES, None);
    loop {
        let run = Run { told, ..changes.borrow_and_update().clone() };
        let is_late = match put(run, seen).await {
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
        match timeout(GOES_ON, changes.changed()).await {
            Ok(Ok(())) => continue,
            Err(_) => {
                told = Some(Timestamp::now());
                continue;
            }
            // Nobody says anything any more.
            Ok(Err(_)) => {}
        }
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
    pipeline.images.extend(ended.image.clone());
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

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use serde_json::json;

    use super::*;

    fn run() -> Run {
        serde_json::from_value(json!({
            "schema": 1, "project": "web", "run": "20261126T233000Z-k3v9", "commit": "a".repeat(40), "dirty": false,
            "by": "dev@ci", "host": "ci", "began": "2026-11-26T23:30:00Z", "result": "running", "pipelines": [],
        }))
        .unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn of_a_run_in_which_nothing_happens_it_is_written_every_hour_that_it_goes_on() {
        let (change, changes) = watch::channel(run());
        let written = Arc::new(Mutex::new(Vec::<Run>::new()));
        let (wrote, begun) = oneshot::channel();
        let put = {
            let written = written.clone();
            move |run, seen: Option<Generation>| {
                written.lock().unwrap().push(run);
                let next = seen.map_or(1, |seen| seen.0 + 1);
                async move { Ok(Generation(next)) }.boxed()
            }
        };
        let writer = tokio::spawn(keep(changes, wrote, put));
        begun.await.unwrap();
        let so_far = || written.lock().unwrap().len();
        sleep(GOES_ON / 2).await;
        assert_eq!(so_far(), 1);
        // What becomes of it is written at once, and that it goes on an hour after that.
        change.send_modify(|run| run.note = "a stage ended".to_owned());
        sleep(GOES_ON * 3 / 4).await;
        assert_eq!(so_far(), 2);
        sleep(GOES_ON * 3).await;
        assert_eq!(so_far(), 5);
        change.send_modify(|run| run.result = RunResult::Passed);
        drop(change);
        writer.await.unwrap();
        let written = written.lock().unwrap();
        let told: Vec<bool> = written.iter().map(|run| run.told.is_some()).collect();
        assert_eq!(told, [false, false, true, true, true, true]);
        assert!(written[2..5].iter().all(|run| run.note == "a stage ended" && run.result == RunResult::Running));
        assert_eq!(written[5].result, RunResult::Passed);
    }
}
