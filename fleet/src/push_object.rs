//! The object of a push in the bucket: created before its first row is written, and ended after its last.

use std::sync::{Mutex, PoisonError};

use bucket::{
    AppName, Bucket, ChannelName, Error, NewBucket, Push, PushEnd, PushId, PushKind, PushRow, Timestamp, UnwrittenRow,
};
use futures_util::FutureExt as _;
use tokio::{
    sync::OnceCell,
    time::{Duration, Instant},
};

/// How often a push that takes long looks whether an operator stopped it.
const CHECK: Duration = Duration::from_secs(5);

/// One push, as all its rows share it.
#[derive(Debug)]
pub(crate) struct PushObject {
    bucket: Bucket,
    push: Push,
    /// For how many seconds agents watch what it brings before they report once more.
    settle_seconds: Option<u64>,
    /// Whether it lies in the bucket, once that was tried.
    created: OnceCell<Result<(), String>>,
    new_bucket: Mutex<Option<NewBucket>>,
    /// Whether somebody ended it, and when that was looked up.
    ended: tokio::sync::Mutex<(bool, Instant)>,
}

/// Why no row may be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum NotReady {
    /// The push could not be recorded.
    Failed(String),
    /// An operator stopped it.
    Stopped,
}

impl PushObject {
    /// A push that is recorded as soon as the first of its rows is to be written.
    pub(crate) fn new(
        bucket: &Bucket,
        (id, of): (PushId, Option<&PushId>),
        (app, kind): (Option<AppName>, PushKind),
        (who, why): (&str, &str),
        rows: Vec<PushRow>,
    ) -> Self {
        let push = Push {
            id,
            time: bucket.now(),
            app,
            kind,
            of: of.cloned(),
            who: who.to_owned(),
            why: why.to_owned(),
            rollout: false,
            without_waves: false,
            channel: None,
            rows,
        };
        Self::with(bucket, push, OnceCell::new())
    }

    /// The same, marked if an admin has it written all at once where the policy asks for waves, and with the channel that it is
    /// pushed for.
    pub(crate) fn marked(mut self, without_waves: bool, channel: Option<&ChannelName>) -> Self {
        self.push.without_waves = without_waves;
        self.push.channel = channel.cloned();
        self
    }

    /// A push that is written in waves. Whoever drives it first records it, and it isn't ended with a wave.
    pub(crate) fn of_rollout(bucket: &Bucket, push: Push, settle_seconds: Option<u64>) -> Self {
        Self { settle_seconds, ..Self::with(bucket, push, OnceCell::new()) }
    }

    /// For how many seconds agents watch what it brings before they report once more.
    pub(crate) fn settle_seconds(&self) -> Option<u64> {
        self.settle_seconds
    }

    /// Whether an admin has it written all at once where the policy asks for waves.
    pub(crate) fn without_waves(&self) -> bool {
        self.push.without_waves
    }

    /// The channel that it is pushed for.
    pub(crate) fn channel(&self) -> Option<&ChannelName> {
        self.push.channel.as_ref()
    }

    /// Whether its rows are written in waves.
    pub(crate) fn is_rollout(&self) -> bool {
        self.push.rollout
    }

    /// A push that lies in the bucket already, and is continued.
    pub(crate) fn continued(bucket: &Bucket, push: Push) -> Self {
        Self::with(bucket, push, OnceCell::new_with(Some(Ok(()))))
    }

    fn with(bucket: &Bucket, push: Push, created: OnceCell<Result<(), String>>) -> Self {
        let ended = tokio::sync::Mutex::new((false, Instant::now()));
        Self { bucket: bucket.clone(), push, settle_seconds: None, created, new_bucket: Mutex::default(), ended }
    }

    /// What it is called.
    pub(crate) fn id(&self) -> &PushId {
        &self.push.id
    }

    /// When it began.
    pub(crate) fn began(&self) -> Timestamp {
        self.push.time
    }

    /// Whether it lies in the bucket.
    pub(crate) fn is_created(&self) -> bool {
        self.created.get().is_some_and(Result::is_ok)
    }

    /// Records the push, unless that was done; a row may be written only after that, and not once it was stopped.
    pub(crate) async fn ready(&self) -> Result<(), NotReady> {
        self.created.get_or_init(|| self.create().boxed()).await.clone().map_err(NotReady::Failed)?;
        let mut ended = self.ended.lock().await;
        if !ended.0 && ended.1.elapsed() > CHECK {
            let found = self.bucket.is_push_ended(self.push.time, &self.push.id).await;
            let failed =
                |error: Error| NotReady::Failed(format!("could not see whether the push was stopped: {error}"));
            *ended = (found.map_err(failed)?, Instant::now());
        }
        if ended.0 { Err(NotReady::Stopped) } else { Ok(()) }
    }

    async fn create(&self) -> Result<(), String> {
        let (rows, fit) = (self.push.rows.len(), self.push.rows_that_fit());
        if fit < rows {
            return Err(format!(
                "nothing was written: a push of {rows} servers is too large, at most {fit} of these fit into one: push to \
                 fewer at a time"
            ));
        }
        let unmarked = |error: Error| format!("could not mark the bucket; nothing was written: {error}");
        *self.new_bucket.lock().unwrap_or_else(PoisonError::into_inner) = self.bucket.mark().await.map_err(unmarked)?;
        let created = match self.bucket.create_push(&self.push).await {
            Err(Error::AlreadyExists { .. }) if self.push.rollout => Ok(()),
            created => created,
        };
        created.map_err(|error| format!("could not record the push; nothing was written: {error}"))
    }

    /// That the bucket was none before, told once.
    pub(crate) fn take_new_bucket(&self) -> Option<NewBucket> {
        self.new_bucket.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Ends it: these rows were not written. That somebody else ended it is as good.
    pub(crate) async fn end(&self, who: &str, rows: Vec<UnwrittenRow>) -> Result<(), Error> {
        let end = PushEnd { time: self.bucket.now(), who: who.to_owned(), rows };
        self.bucket.end_push(self.push.time, &self.push.id, &end).boxed().await.map(drop)
    }
}
