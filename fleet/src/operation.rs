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
use futures_util::{StreamExt, stream};
use thiserror::Error;

use crate::{
    history::previous,
    identity::Identity,
    lookup::{ensure_app, ensure_server},
    poke::{PokeSettings, Poker},
    policy::{Case, Policy, Reason, Refusal},
    push::{self, Conflict, Incomplete, Request},
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

/// Carries out pushes, and reports each, by its place, as soon as it is written or isn't. Pokes at the end; the results
/// that are returned have what failed there too, in the order of the intents.
pub async fn carry_out(
    bucket: &Bucket,
    operator: &Operator,
    intents: Vec<Intent>,
    report: impl Fn(usize, &PushResult),
) -> Vec<PushResult> {
    let names: BTreeSet<ReleaseName> = intents.iter().map(|intent| intent.release.clone()).collect();
    let releases: BTreeMap<ReleaseName, Result<Release, NotPushed>> = stream::iter(names)
        .map(async |name| {
            let found = find(bucket, &name).await.map_err(NotPushed::from);
            (name, found)
        })
        .buffer_unordered(AT_ONCE)
        .collect()
        .await;
    let pushes = |(place, intent): (usize, Intent)| {
        let release = &releases[&intent.release];
        let report = &report;
        async move {
            let result = push_one(bucket, operator, intent, release).await;
            report(place, &result);
            result
        }
    };
    let mut results: Vec<PushResult> =
        stream::iter(intents.into_iter().enumerate()).map(pushes).buffered(AT_ONCE).collect().await;
    poke(&operator.poke, &mut results).await;
    results
}

async fn push_one(
    bucket: &Bucket,
    operator: &Operator,
    intent: Intent,
    release: &Result<Release, NotPushed>,
) -> PushResult {
    match write(bucket, operator, &intent, release).await {
        Ok(pushed) => PushResult { intent, result: Ok(pushed.generation), incomplete: pushed.incomplete },
        Err(error) => PushResult { intent, result: Err(error), incomplete: Vec::new() },
    }
}

async fn write(
    bucket: &Bucket,
    operator: &Operator,
    intent: &Intent,
    release: &Result<Release, NotPushed>,
) -> Result<push::Pushed, NotPushed> {
    let release = release.as_ref().map_err(Clone::clone)?;
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
        kind: intent.kind,
        who: operator.who.name.clone(),
        reason: operator.reason.clone(),
    };
    Ok(push::push(bucket, &request).await?)
}

/// Pokes the servers that were written. The pushes have succeeded whatever comes of it.
async fn poke(settings: &PokeSettings, results: &mut [PushResult]) {
    let mut pushed: BTreeMap<ServerName, Vec<ReleaseName>> = BTreeMap::new();
    for result in results.iter().filter(|result| result.is_pushed()) {
        pushed.entry(result.intent.server.clone()).or_default().push(result.intent.release.clone());
    }
    if pushed.is_empty() {
        return;
    }
    let failed: BTreeMap<ServerName, String> = match Poker::new(settings) {
        Ok(None) => return,
        Ok(Some(poker)) => {
            let attempts = poker.poke(&pushed).await.into_iter();
            attempts.filter_map(|(server, attempt)| Some((server, format!("{:#}", attempt.err()?)))).collect()
        }
        Err(error) => pushed.into_keys().map(|server| (server, format!("{error:#}"))).collect(),
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
