//! Pushing to any number of servers: the one way that pages, the API and the command go.
//!
//! Every server has a result of its own, and one that fails doesn't stop the others. Each write is judged by the policy
//! right before it; the pokes come when all is written, several apps of a server in one.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use anyhow::{Context, Result, bail};
use bucket::{AppName, Bucket, Generation, HistoryEntry, PushKind, Release, ReleaseName, ServerName};
use futures_util::{
    StreamExt,
    future::{Either, join_all, select},
    stream,
};
use thiserror::Error;
use tokio::task::JoinHandle;

use crate::{
    history::previous,
    identity::Identity,
    lookup::{ensure_app, ensure_server},
    poke::{PokeSettings, Poker, Prepared},
    policy::{Case, Policy, Reason, Refusal},
    push::{self, Conflict, Incomplete, Request, Seen},
};

/// Servers that are written at the same time.
const AT_ONCE: usize = 16;

/// As far back as anyone rolls back, in pushes.
const MAX_DEPTH: usize = 500;

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
}

/// One push that an operator wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Intent {
    /// The server to push to.
    pub server: ServerName,
    /// The release to push.
    pub release: ReleaseName,
    /// The release of the app that the operator saw there.
    pub from: Option<ReleaseName>,
    /// Whether it goes to a chosen release or to a previous one.
    pub kind: PushKind,
}

/// What was read for an intent a moment ago, by the program that decided on it: it isn't read again. Should it have
/// changed since, the write finds out.
#[derive(Debug, Clone)]
pub struct JustRead {
    /// The release to push.
    pub release: Release,
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
    /// Something failed; the text has the causes too.
    #[error("{0}")]
    Failed(String),
}

impl From<anyhow::Error> for NotPushed {
    fn from(error: anyhow::Error) -> Self {
        match error.downcast::<Conflict>() {
            Ok(conflict) => Self::Conflict(Box::new(conflict)),
            Err(error) => Self::Failed(format!("{error:#}")),
        }
    }
}

/// How one push went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PushResult {
    /// What was wanted.
    pub intent: Intent,
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
/// Only what depends on another waits for it: instances are looked up while documents are written, and history is written
/// while servers are poked.
pub async fn carry_out(
    bucket: &Bucket,
    operator: &Operator,
    intents: Vec<(Intent, Option<JustRead>)>,
    report: impl Fn(usize, &PushResult),
) -> Vec<PushResult> {
    let poker = Poker::new(&operator.poke);
    let servers: BTreeSet<ServerName> = intents.iter().map(|(intent, _)| intent.server.clone()).collect();
    let preparing = async {
        match &poker {
            Ok(Some(poker)) => Some(poker.prepare(&servers).await),
            _ => None,
        }
    };
    let writing = write_all(bucket, operator, intents, report);
    let (written, prepared) = match select(Box::pin(writing), Box::pin(preparing)).await {
        Either::Left((written, _)) if !written.iter().any(|(result, _)| result.is_pushed()) => (written, None),
        Either::Left((written, preparing)) => (written, preparing.await),
        Either::Right((prepared, writing)) => (writing.await, prepared),
    };
    let (mut results, records): (Vec<PushResult>, Vec<Option<Record>>) = written.into_iter().unzip();
    let records = join_all(records.into_iter().map(|record| async move {
        match record {
            Some(record) => record.await.unwrap_or_else(|lost| Some(Incomplete::NotRecorded(lost.to_string()))),
            None => None,
        }
    }));
    let (records, ()) = tokio::join!(records, poke(poker, prepared, &mut results));
    for (result, not_recorded) in results.iter_mut().zip(records) {
        result.incomplete.extend(not_recorded);
    }
    results
}

/// The record of a push on its way into the history.
type Record = JoinHandle<Option<Incomplete>>;

async fn write_all(
    bucket: &Bucket,
    operator: &Operator,
    intents: Vec<(Intent, Option<JustRead>)>,
    report: impl Fn(usize, &PushResult),
) -> Vec<(PushResult, Option<Record>)> {
    let unread = intents.iter().filter(|(_, just_read)| just_read.is_none());
    let names: BTreeSet<ReleaseName> = unread.map(|(intent, _)| intent.release.clone()).collect();
    let releases: BTreeMap<ReleaseName, Result<Release, NotPushed>> = stream::iter(names)
        .map(async |name| {
            let found = find(bucket, &name).await.map_err(NotPushed::from);
            (name, found)
        })
        .buffer_unordered(AT_ONCE)
        .collect()
        .await;
    let pushes = |(place, (intent, just_read)): (usize, (Intent, Option<JustRead>))| {
        let (releases, report) = (&releases, &report);
        async move {
            let (release, seen) = match just_read {
                Some(JustRead { release, seen }) => (Ok(release), Some(seen)),
                None => (releases[&intent.release].clone(), None),
            };
            let written = match release {
                Ok(release) => write(bucket, operator, &intent, &release, seen).await,
                Err(error) => Err(error),
            };
            let (result, record) = match written {
                Ok((pushed, record)) => {
                    (PushResult { intent, result: Ok(pushed.generation), incomplete: pushed.incomplete }, Some(record))
                }
                Err(error) => (PushResult { intent, result: Err(error), incomplete: Vec::new() }, None),
            };
            report(place, &result);
            (result, record)
        }
    };
    stream::iter(intents.into_iter().enumerate()).map(pushes).buffered(AT_ONCE).collect().await
}

async fn write(
    bucket: &Bucket,
    operator: &Operator,
    intent: &Intent,
    release: &Release,
    seen: Option<Seen>,
) -> Result<(push::Pushed, Record), NotPushed> {
    let case = Case {
        server: &intent.server,
        app: intent.release.app(),
        dirty: release.metadata.as_ref().is_ok_and(|metadata| metadata.dirty),
        reason: Reason::Given(&operator.reason),
    };
    operator.policy.judge(&operator.who, case)?;
    let request = Request {
        server: intent.server.clone(),
        release: intent.release.clone(),
        from: intent.from.clone(),
        kind: intent.kind.clone(),
        who: operator.who.name.clone(),
        reason: operator.reason.clone(),
    };
    let seen = match seen {
        Some(seen) => seen,
        None => push::read(bucket, &intent.server).await?,
    };
    let pushed = push::push(bucket, &request, seen).await?;
    let (bucket, generation) = (bucket.clone(), pushed.generation);
    Ok((pushed, tokio::spawn(async move { push::record(&bucket, &request, generation).await })))
}

/// Pokes the servers that were written. The pushes have succeeded whatever comes of it.
async fn poke(poker: Result<Option<Poker>>, prepared: Option<Prepared>, results: &mut [PushResult]) {
    let mut pushed: BTreeMap<ServerName, Vec<ReleaseName>> = BTreeMap::new();
    for result in results.iter().filter(|result| result.is_pushed()) {
        pushed.entry(result.intent.server.clone()).or_default().push(result.intent.release.clone());
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

/// What a server had before the release of `app` that its document names now.
pub async fn before(bucket: &Bucket, app: &AppName, server: &ServerName) -> Result<ReleaseName> {
    let seen = push::read(bucket, server).await?;
    let Some(current) = seen.document.release_of(app) else {
        ensure_server(bucket, server).await?;
        ensure_app(bucket, app).await?;
        bail!("`{server}` does not have `{app}`: nothing to roll back");
    };
    let newest = bucket.newest_history(server, MAX_DEPTH).await;
    let mut pushes: Vec<HistoryEntry> = newest.with_context(|| format!("could not read the history of `{server}`"))?;
    // By the bucket's order and not by the clocks of those who pushed.
    pushes.sort_by_key(|push| push.generation);
    let before = previous(&pushes, app, current).with_context(|| {
        format!(
            "no earlier release of this app in the history of `{server}` (current: `{}`): deploy a release by name instead",
            current.stem()
        )
    })?;
    Ok(before.clone())
}
