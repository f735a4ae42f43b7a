//! Pushing to any number of servers: the one way that pages, the API and the command go.
//!
//! The push itself is recorded before anything is written (`push_object.rs`). Every server has a result of its own,
//! and one that fails doesn't stop the others. Each write is judged by the policy right before it; the pokes come when all
//! is written, several apps of a server in one.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use anyhow::{Context, Result, bail};
use bucket::{
    AppName, Bucket, ChannelName, Generation, Push, PushId, PushKind, PushRow, Release, ReleaseName, ServerName,
    UnwrittenCause, UnwrittenRow,
};
use futures_util::{
    FutureExt as _, StreamExt,
    future::{Either, join_all, select},
    stream,
};
use thiserror::Error;
use tokio::task::JoinHandle;

use crate::{
    guard::{Guard, Guarded, Intended},
    identity::Identity,
    lookup::ensure_app,
    poke::{PokeSettings, Poker, Prepared},
    policy::{Case, Policy, Reason, Refusal},
    push::{self, Conflict, Incomplete, Pushed, Request, Seen},
    push_object::{NotReady, PushObject},
};

/// Servers that are written at the same time.
const AT_ONCE: usize = 16;

/// Who pushes, why, and by which rules.
#[derive(Debug, Clone)]
pub struct Operator {
    /// The operator.
    pub who: Identity,
    /// Their reason, for the history.
    pub reason: String,
    /// The rules that bind them.
    pub policy: Arc<Policy>,
    /// Whether and how servers are poked.
    pub poke: PokeSettings,
    /// Whether they push in spite of their own holds.
    pub held: bool,
    /// Whether they push all at once where the policy asks for waves, which only an admin may ([`Policy::way`]).
    pub without_waves: bool,
    /// The channel that they push for, if it is what that points to.
    pub channel: Option<ChannelName>,
}

/// One push that an operator wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Intent {
    /// The server to push to.
    pub server: ServerName,
    /// The app to push.
    pub app: AppName,
    /// The release of the app that the operator saw there.
    pub from: Option<ReleaseName>,
    /// The release to push; `None` takes the app off the server. A deploy, a rollback and a retry have one.
    pub to: Option<ReleaseName>,
    /// Whether it goes to a chosen release or to a previous one.
    pub kind: PushKind,
}

/// What was read for an intent a moment ago, by the program that decided on it: it isn't read again. Should it have
/// changed since, the write finds out.
#[derive(Debug, Clone)]
pub struct JustRead {
    /// The release to push, if there is one and it is judged: what was there before a trial goes back whatever it is.
    pub release: Option<Release>,
    /// The server's document.
    pub seen: Seen,
}

/// Why a push was not written.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum NotPushed {
    /// The policy forbids it.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The app's entry is no longer what the operator saw.
    #[error(transparent)]
    Conflict(Box<Conflict>),
    /// Nobody may push that now.
    #[error(transparent)]
    Guarded(#[from] Guarded),
    /// An operator stopped the push before it came to this server, or the program was told to end.
    #[error("nothing was written: the push was stopped")]
    Stopped,
    /// Something failed; the text has the causes too.
    #[error("{0}")]
    Failed(String),
}

impl NotPushed {
    /// In a word, for the end of the push.
    pub fn cause(&self) -> UnwrittenCause {
        match self {
            Self::Refused(_) => UnwrittenCause::Policy,
            Self::Conflict(_) => UnwrittenCause::Conflict,
            Self::Guarded(Guarded::Halted(_)) => UnwrittenCause::Halted,
            Self::Guarded(Guarded::Rejected(_)) => UnwrittenCause::Rejected,
            Self::Guarded(Guarded::Held(_)) => UnwrittenCause::Hold,
            Self::Stopped => UnwrittenCause::Stopped,
            Self::Failed(_) => UnwrittenCause::Failed,
        }
    }
}

impl From<NotReady> for NotPushed {
    fn from(not_ready: NotReady) -> Self {
        match not_ready {
            NotReady::Stopped => Self::Stopped,
            NotReady::Failed(reason) => Self::Failed(reason),
        }
    }
}

impl From<anyhow::Error> for NotPushed {
    fn from(error: anyhow::Error) -> Self {
        let error = match error.downcast::<Conflict>() {
            Ok(conflict) => return Self::Conflict(Box::new(conflict)),
            Err(error) => error,
        };
        match error.downcast::<Guarded>() {
            Ok(guarded) => Self::Guarded(guarded),
            Err(error) => Self::Failed(format!("{error:#}")),
        }
    }
}

/// How one push went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PushResult {
    /// What was wanted.
    pub intent: Intent,
    /// The push that it is a row of, once that lies in the bucket.
    pub push: Option<PushId>,
    /// The generation of the document that holds it, or why nothing was written.
    pub result: Result<Generation, NotPushed>,
    /// What failed after the write; the push itself succeeded.
    pub incomplete: Vec<Incomplete>,
}

impl PushResult {
    /// Whether the document was written.
    pub fn is_pushed(&self) -> bool {
        self.result.is_ok()
    }
}

/// Carries out pushes, and reports each, by its place, as soon as it is written or isn't. Pokes when all are written; the
/// results that are returned have what failed after the write, in the order of the intents.
///
/// The intents for one app and of one kind are one push. Only what depends on another waits for it: instances are looked up
/// while documents are written, and history is written while servers are poked.
pub async fn carry_out(
    bucket: &Bucket,
    operator: &Operator,
    intents: Vec<(Intent, Option<JustRead>)>,
    report: impl Fn(usize, &PushResult),
) -> Vec<PushResult> {
    carry_out_of(bucket, operator, None, intents, report).await
}

/// Like [`carry_out`], for a push that undoes another one or tries it again.
pub async fn carry_out_of(
    bucket: &Bucket,
    operator: &Operator,
    of: Option<&PushId>,
    intents: Vec<(Intent, Option<JustRead>)>,
    report: impl Fn(usize, &PushResult),
) -> Vec<PushResult> {
    carry_out_as(bucket, operator, (PushId::random(), of), intents, report).await
}

/// Like [`carry_out_of`], for a push whose ID somebody was told before it began; if the intents are more than one push, it
/// is that of the first.
pub async fn carry_out_as(
    bucket: &Bucket,
    operator: &Operator,
    (id, of): (PushId, Option<&PushId>),
    intents: Vec<(Intent, Option<JustRead>)>,
    report: impl Fn(usize, &PushResult),
) -> Vec<PushResult> {
    let rows = rows_of(bucket, operator, (id, of), intents);
    carry_out_rows(bucket, operator, rows, (report, || true)).await
}

/// Like [`carry_out`], as long as it `goes_on`: a write that has begun ends, no other begins after that, and the push ends with those
/// rows stopped.
pub async fn carry_out_while(
    bucket: &Bucket,
    operator: &Operator,
    intents: Vec<(Intent, Option<JustRead>)>,
    goes_on: impl Fn() -> bool,
) -> Vec<PushResult> {
    let rows = rows_of(bucket, operator, (PushId::random(), None), intents);
    carry_out_rows(bucket, operator, rows, (|_, _| (), goes_on)).await
}

/// The rows of pushes that are not recorded yet, one push for each app and kind, the first one under this ID.
fn rows_of(
    bucket: &Bucket,
    operator: &Operator,
    (id, of): (PushId, Option<&PushId>),
    intents: Vec<(Intent, Option<JustRead>)>,
) -> Vec<Row> {
    let key = |intent: &Intent| (intent.app.clone(), intent.kind.clone());
    let mut rows: Vec<((AppName, PushKind), Vec<PushRow>)> = Vec::new();
    for (intent, _) in &intents {
        let key = key(intent);
        let place = rows.iter().position(|(known, _)| *known == key).unwrap_or_else(|| {
            rows.push((key, Vec::new()));
            rows.len() - 1
        });
        let (server, from, to) = (intent.server.clone(), intent.from.clone(), intent.to.clone());
        rows[place].1.push(PushRow { server, from, to });
    }
    let who = (operator.who.name.as_str(), operator.reason.as_str());
    let ids = std::iter::once(id).chain(std::iter::repeat_with(PushId::random));
    let pushes: Vec<((AppName, PushKind), Arc<PushObject>)> = rows
        .into_iter()
        .zip(ids)
        .map(|((key, rows), id)| {
            let (app, kind) = key.clone();
            let push = PushObject::new(bucket, (id, of), (Some(app), kind), who, rows);
            (key, Arc::new(push.marked(operator.without_waves, operator.channel.as_ref())))
        })
        .collect();
    let of_intent =
        |intent: &Intent| pushes.iter().find(|(known, _)| *known == key(intent)).map(|(_, push)| push.clone());
    let rows = intents.into_iter().filter_map(|(intent, just_read)| {
        let push = of_intent(&intent)?;
        Some(Row { intent, just_read, push })
    });
    rows.collect()
}

/// Writes rows of a push that was cut off, under its ID, and ends it.
pub async fn carry_on(
    bucket: &Bucket,
    operator: &Operator,
    push: Push,
    intents: Vec<(Intent, Option<JustRead>)>,
    report: impl Fn(usize, &PushResult),
) -> Vec<PushResult> {
    let push = Arc::new(PushObject::continued(bucket, push));
    let row = |(intent, just_read)| Row { intent, just_read, push: push.clone() };
    carry_out_rows(bucket, operator, intents.into_iter().map(row).collect(), (report, || true)).await
}

/// Writes some rows of a push that is written in waves, as long as it `goes_on`, each over the document that was read, and doesn't end
/// it. Their agents report once more when the app has run for so many seconds.
pub async fn carry_wave(
    bucket: &Bucket,
    operator: &Operator,
    (push, settle_seconds): (Push, Option<u64>),
    intents: Vec<(Intent, JustRead)>,
    goes_on: impl Fn() -> bool,
) -> Vec<PushResult> {
    let push = Arc::new(PushObject::of_rollout(bucket, push, settle_seconds));
    let row = |(intent, just_read)| Row { intent, just_read: Some(just_read), push: push.clone() };
    carry_out_rows(bucket, operator, intents.into_iter().map(row).collect(), (|_, _| (), goes_on)).await
}

/// One row on its way.
struct Row {
    intent: Intent,
    just_read: Option<JustRead>,
    push: Arc<PushObject>,
}

async fn carry_out_rows(
    bucket: &Bucket,
    operator: &Operator,
    rows: Vec<Row>,
    (report, goes_on): (impl Fn(usize, &PushResult), impl Fn() -> bool),
) -> Vec<PushResult> {
    let poker = Poker::new(&operator.poke);
    let servers: BTreeSet<ServerName> = rows.iter().map(|row| row.intent.server.clone()).collect();
    let pushes: Vec<Arc<PushObject>> = rows.iter().map(|row| row.push.clone()).collect();
    let preparing = async {
        match &poker {
            Ok(Some(poker)) => Some(poker.prepare(&servers).await),
            _ => None,
        }
    };
    let writing = write_all(bucket, operator, rows, (report, goes_on));
    let (written, prepared) = match select(Box::pin(writing), Box::pin(preparing)).await {
        Either::Left((written, _)) if !written.iter().any(|(result, _)| result.is_pushed()) => (written, None),
        Either::Left((written, preparing)) => (written, preparing.await),
        Either::Right((prepared, writing)) => (writing.await, prepared),
    };
    let (mut results, records): (Vec<PushResult>, Vec<Option<Record>>) = written.into_iter().unzip();
    let unwritten = results.iter().map(|result| {
        let cause = result.result.as_ref().err()?.cause();
        Some(UnwrittenRow { server: result.intent.server.clone(), cause })
    });
    let ends = end_all(operator, pushes, unwritten.collect());
    let records = join_all(records.into_iter().map(|record| async move {
        match record {
            Some(record) => record.await.unwrap_or_else(|lost| Some(Incomplete::NotRecorded(lost.to_string()))),
            None => None,
        }
    }));
    let (records, ends, ()) = tokio::join!(records, ends, poke(poker, prepared, &mut results));
    for (result, not_recorded) in results.iter_mut().zip(records) {
        result.incomplete.extend(not_recorded);
    }
    for (place, error) in ends {
        results[place].incomplete.push(Incomplete::NotEnded(error));
    }
    results
}

/// Ends each push, by its first row. Gives where that failed, and why.
async fn end_all(
    operator: &Operator,
    pushes: Vec<Arc<PushObject>>,
    unwritten: Vec<Option<UnwrittenRow>>,
) -> Vec<(usize, String)> {
    let mut ends: Vec<(usize, Arc<PushObject>, Vec<UnwrittenRow>)> = Vec::new();
    for (place, (push, row)) in
        pushes.into_iter().zip(unwritten).enumerate().filter(|(_, (push, _))| push.is_created() && !push.is_rollout())
    {
        match ends.iter_mut().find(|(_, known, _)| Arc::ptr_eq(known, &push)) {
            Some((.., rows)) => rows.extend(row),
            None => ends.push((place, push, row.into_iter().collect())),
        }
    }
    let ended = ends.into_iter().map(async |(place, push, rows)| {
        let error = push.end(&operator.who.name, rows).await.err()?;
        Some((place, error.to_string()))
    });
    join_all(ended).await.into_iter().flatten().collect()
}

/// The record of a push on its way into the history.
type Record = JoinHandle<Option<Incomplete>>;

async fn write_all(
    bucket: &Bucket,
    operator: &Operator,
    rows: Vec<Row>,
    (report, goes_on): (impl Fn(usize, &PushResult), impl Fn() -> bool),
) -> Vec<(PushResult, Option<Record>)> {
    let unread = rows.iter().filter(|row| row.just_read.is_none());
    let names: BTreeSet<ReleaseName> = unread.filter_map(|row| row.intent.to.clone()).collect();
    let releases: BTreeMap<ReleaseName, Result<Release, NotPushed>> = stream::iter(names)
        .map(async |name| {
            let found = find(bucket, &name).await.map_err(NotPushed::from);
            (name, found)
        })
        .buffer_unordered(AT_ONCE)
        .collect()
        .await;
    let guard = Guard::new(bucket, rows.iter().map(|row| row.intent.app.clone()));
    let pushes = |(place, Row { intent, just_read, push }): (usize, Row)| {
        let (releases, report, goes_on, guard) = (&releases, &report, &goes_on, &guard);
        async move {
            let (release, seen) = match just_read {
                Some(JustRead { release, seen }) => (Ok(release), Some(seen)),
                None => match &intent.to {
                    Some(to) if releases[to].is_err() && is_cached(bucket, &intent, to).await => {
                        (Ok(Some(Release::gone(to.clone()))), None)
                    }
                    Some(to) => (releases[to].clone().map(Some), None),
                    None => (Ok(None), None),
                },
            };
            let written = match release {
                _ if !goes_on() => Err(NotPushed::Stopped),
                Ok(release) => write(bucket, operator, guard, &push, &intent, release.as_ref(), seen).await,
                Err(error) => Err(error),
            };
            let (result, record) = match written {
                Ok((generation, record)) => (Ok(generation), Some(record)),
                Err(error) => (Err(error), None),
            };
            let new_bucket = push.take_new_bucket().map(Incomplete::NewBucket);
            let push = push.is_created().then(|| push.id().clone());
            let result = PushResult { intent, push, result, incomplete: new_bucket.into_iter().collect() };
            report(place, &result);
            (result, record)
        }
    };
    stream::iter(rows.into_iter().enumerate()).map(pushes).buffered(AT_ONCE).collect().await
}

async fn write(
    bucket: &Bucket,
    operator: &Operator,
    guard: &Guard<'_>,
    push: &PushObject,
    intent: &Intent,
    release: Option<&Release>,
    seen: Option<Seen>,
) -> Result<(Generation, Record), NotPushed> {
    let (server, app, reason) = (&intent.server, &intent.app, Reason::Given(&operator.reason));
    match release {
        Some(release) => {
            let dirty = release.metadata.as_ref().is_ok_and(|metadata| metadata.dirty);
            operator.policy.judge(&operator.who, Case { server, app, dirty, reason })?;
        }
        None => operator.policy.judge_removal(&operator.who, app, server, reason)?,
    }
    let request = Request {
        id: push.id().clone(),
        began: push.began(),
        settle_seconds: push.settle_seconds(),
        without_waves: push.without_waves(),
        channel: push.channel().cloned(),
        server: intent.server.clone(),
        app: intent.app.clone(),
        to: intent.to.clone(),
        from: intent.from.clone(),
        only_as_seen: push.is_rollout() || matches!(intent.kind, PushKind::Trial | PushKind::TrialEnd),
        kind: intent.kind.clone(),
        who: operator.who.name.clone(),
        reason: operator.reason.clone(),
    };
    // The types of futures that go through the storage's client are deep: one box here keeps them bearable above.
    let filled = async {
        let seen = match seen {
            Some(seen) => seen,
            None => push::read(bucket, &intent.server).await?,
        };
        anyhow::Ok(push::fill(bucket, &intent.server, seen).await)
    };
    let filled = filled.boxed();
    let intended = Intended {
        kind: &intent.kind,
        server,
        app: Some(app),
        release: intent.to.as_ref(),
        who: &operator.who.name,
        held: operator.held,
    };
    // The push is recorded also if it is halted: that somebody tried is worth knowing.
    let guarded = guard.judge(intended).boxed();
    let (ready, filled, guarded) = tokio::join!(push.ready(), filled, guarded);
    guarded?;
    ready?;
    let Pushed { generation, entry } = push::push(bucket, &request, filled?).boxed().await?;
    let bucket = bucket.clone();
    Ok((generation, tokio::spawn(async move { push::record(&bucket, &entry).await })))
}

/// Whether a release that may be gone from the bucket can be restored all the same, because the server has it.
async fn is_cached(bucket: &Bucket, intent: &Intent, release: &ReleaseName) -> bool {
    let restores = matches!(intent.kind, PushKind::Rollback | PushKind::Undo);
    let status = if restores { bucket.status(&intent.server).await.ok().flatten() } else { None };
    status.is_some_and(|(_, status)| status.has_cached(release))
}

/// Pokes the servers that were written. The pushes have succeeded whatever comes of it.
async fn poke(poker: Result<Option<Poker>>, prepared: Option<Prepared>, results: &mut [PushResult]) {
    let mut pushed: BTreeMap<ServerName, Vec<ReleaseName>> = BTreeMap::new();
    for result in results.iter().filter(|result| result.is_pushed()) {
        pushed.entry(result.intent.server.clone()).or_default().extend(result.intent.to.clone());
    }
    let failed: BTreeMap<ServerName, String> = match (poker, prepared) {
        (Ok(Some(poker)), Some(prepared)) => {
            let attempts = poker.poke(prepared, &pushed).await.into_iter();
            attempts.filter_map(|(server, attempt)| Some((server, format!("{:#}", attempt.err()?)))).collect()
        }
        (Err(error), _) => pushed.into_keys().map(|server| (server, format!("{error:#}"))).collect(),
        _ => return,
    };
    for result in results {
        if let Some(error) = failed.get(&result.intent.server) {
            result.incomplete.push(Incomplete::NotPoked(error.clone()));
        }
    }
}

/// A release by name, which must exist and be known by its facts.
pub async fn find(bucket: &Bucket, name: &ReleaseName) -> Result<Release> {
    let found = bucket.release(name).await.with_context(|| format!("could not look up `{}`", name.stem()))?;
    let Some(release) = found else {
        ensure_app(bucket, name.app()).await?;
        bail!("release `{}` does not exist; `push list {}` lists the releases", name.stem(), name.app());
    };
    if let Err(reason) = &release.metadata {
        bail!("`{}` cannot be deployed: {reason}", name.stem());
    }
    Ok(release)
}
