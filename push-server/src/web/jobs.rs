//! Pushes in progress and lately done by this process: what was wanted, and how each went.
//!
//! A push of many servers takes a while, so it is carried out apart from the request that asked for it, and its page
//! follows it. Only the last ones are kept, in memory: the bucket has what was written, and a job what isn't there yet, or
//! never will be, as the words in which a row was refused.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use bucket::{Push, PushId, PushRow, Timestamp};
use fleet::operation::{Intent, NotPushed, Operator, PushResult};
use tokio::sync::watch;

/// Jobs that are kept, and servers of all of them together; the newest is kept whatever its size.
const KEPT: (usize, usize) = (100, 50_000);
/// Most servers of one job.
pub(crate) const MAX_SERVERS: usize = 20_000;

/// One push of one release, or a rollback, to some servers.
#[derive(Debug)]
pub(crate) struct Job {
    /// The ID of the push, known before it is recorded; of several, that of the first.
    pub(crate) id: PushId,
    /// The push that it undoes or tries again.
    pub(crate) of: Option<PushId>,
    /// When the push began.
    began: Timestamp,
    /// Whether it continues a push, which lies in the bucket already.
    is_continued: bool,
    /// Who wants it.
    who: String,
    /// Their reason.
    reason: String,
    /// Whether an admin has it written all at once where the policy asks for waves.
    without_waves: bool,
    /// What is wanted, in order; never empty.
    pub(crate) intents: Vec<Intent>,
    progress: Mutex<Progress>,
    ended: watch::Sender<bool>,
}

/// How far a job is.
#[derive(Debug)]
pub(crate) struct Progress {
    /// How each went so far, in the order of the intents.
    pub(crate) results: Vec<Option<PushResult>>,
    /// Whether all is done, pokes too.
    pub(crate) finished: bool,
}

impl Job {
    /// A job that hasn't begun.
    pub(crate) fn new(of: Option<PushId>, operator: &Operator, intents: Vec<Intent>) -> Self {
        let progress = Progress { results: vec![None; intents.len()], finished: false };
        Self {
            id: PushId::random(),
            of,
            began: Timestamp::now(),
            is_continued: false,
            who: operator.who.name.clone(),
            reason: operator.reason.clone(),
            without_waves: operator.without_waves,
            intents,
            progress: Mutex::new(progress),
            ended: watch::Sender::new(false),
        }
    }

    /// One that continues a push that was cut off.
    pub(crate) fn continued(push: &Push, operator: &Operator, intents: Vec<Intent>) -> Self {
        let (id, of) = (push.id.clone(), push.of.clone());
        Self { id, began: push.time, is_continued: true, ..Self::new(of, operator, intents) }
    }

    /// The push, or the first of them, as it is recorded.
    pub(crate) fn push(&self) -> Push {
        let first = &self.intents[0];
        let rows = self.intents.iter().filter(|intent| intent.app == first.app && intent.kind == first.kind);
        let rows = rows.map(|Intent { server, from, to, .. }| PushRow {
            server: server.clone(),
            from: from.clone(),
            to: to.clone(),
        });
        Push {
            id: self.id.clone(),
            time: self.began,
            app: Some(first.app.clone()),
            kind: first.kind.clone(),
            of: self.of.clone(),
            rollout: false,
            who: self.who.clone(),
            why: self.reason.clone(),
            rows: rows.collect(),
            without_waves: self.without_waves,
            channel: None,
        }
    }

    /// Whether the push is known to lie in the bucket.
    pub(crate) fn is_recorded(&self) -> bool {
        self.is_continued || self.progress().results.iter().flatten().any(|result| result.push.is_some())
    }

    /// How far it is.
    pub(crate) fn progress(&self) -> MutexGuard<'_, Progress> {
        lock(&self.progress)
    }

    /// Notes how one of its pushes went.
    pub(crate) fn report(&self, place: usize, result: PushResult) {
        self.progress().results[place] = Some(result);
    }

    /// Notes that it has ended. What wasn't reported before is lost.
    pub(crate) fn finish(&self) {
        let mut progress = self.progress();
        for (intent, result) in self.intents.iter().zip(&mut progress.results) {
            result.get_or_insert_with(|| {
                let lost = "internal error of the web app: the history shows whether this was written";
                let error = NotPushed::Failed(lost.to_owned());
                PushResult { intent: intent.clone(), push: None, result: Err(error), incomplete: Vec::new() }
            });
        }
        progress.finished = true;
        self.ended.send_replace(true);
    }

    /// Waits until it has ended.
    pub(crate) async fn ended(&self) {
        // Fails only when the sender is gone, which is ours.
        let _ = self.ended.subscribe().wait_for(|ended| *ended).await;
    }
}

/// The jobs of this process.
#[derive(Debug)]
pub(crate) struct Jobs {
    kept: Mutex<VecDeque<Arc<Job>>>,
    running: watch::Sender<usize>,
}

impl Default for Jobs {
    fn default() -> Self {
        Self { kept: Mutex::default(), running: watch::Sender::new(0) }
    }
}

impl Jobs {
    /// A job by its name, if it is still kept.
    pub(crate) fn get(&self, id: &PushId) -> Option<Arc<Job>> {
        lock(&self.kept).iter().find(|job| job.id == *id).cloned()
    }

    /// Keeps a job, which is now running.
    pub(crate) fn begin(&self, job: &Arc<Job>) {
        self.keep(job);
        self.running.send_modify(|running| *running += 1);
    }

    /// Notes that one of the running jobs has ended.
    pub(crate) fn end(&self) {
        self.running.send_modify(|running| *running -= 1);
    }

    /// Waits until no job is running.
    pub(crate) async fn idle(&self) {
        // Fails only when the sender is gone, which is ours.
        let _ = self.running.subscribe().wait_for(|running| *running == 0).await;
    }

    fn keep(&self, job: &Arc<Job>) {
        let mut kept = lock(&self.kept);
        kept.push_front(job.clone());
        let mut servers = 0;
        let fits = kept.iter().take(KEPT.0).take_while(|job| {
            servers += job.intents.len();
            servers <= KEPT.1
        });
        let fits = fits.count().max(1);
        kept.truncate(fits);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
