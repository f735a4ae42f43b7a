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

use crate::{
    history::previous,
    identity::Identity,
    poke::{PokeSettings, Poker},
    policy::{Change, Policy},
    push::{self, Request},
};

/// Servers that are written at the same time.
const AT_ONCE: usize = 16;

/// As far back as anyone rolls back, in pushes.
const DEPTH: usize = 500;

/// Who pushes, why, and by which rules.
#[derive(Debug, Clone)]
pub struct Operator {
    /// Who.
    pub who: Identity,
    /// Why, in their words.
    pub reason: String,
    /// By which rules.
    pub policy: Arc<Policy>,
    /// Whether and how servers are woken.
    pub poke: PokeSettings,
}

/// One push that an operator wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Intent {
    /// Where to.
    pub server: ServerName,
    /// Which release.
    pub release: ReleaseName,
    /// The release of the app that the operator saw there.
    pub from: Option<ReleaseName>,
    /// Forward or back.
    pub kind: PushKind,
}

/// How one push went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// What was wanted.
    pub intent: Intent,
    /// The generation of the document that holds it, or why nothing was written.
    pub result: Result<Generation, String>,
    /// What went wrong after the write; the push stands.
    pub warnings: Vec<String>,
}

/// Carries out pushes, and tells of each, by its place, as soon as it is written or isn't. Pokes at the end; the outcomes
/// that are returned have the warnings of that too, in the order of the intents.
pub async fn carry_out(
    bucket: &Bucket,
    operator: &Operator,
    intents: Vec<Intent>,
    tell: impl Fn(usize, &Outcome),
) -> Vec<Outcome> {
    let names: BTreeSet<ReleaseName> = intents.iter().map(|intent| intent.release.clone()).collect();
    let releases: BTreeMap<ReleaseName, Result<Release, String>> = stream::iter(names)
        .map(async |name| {
            let found = find(bucket, &name).await.map_err(|error| format!("{error:#}"));
            (name, found)
        })
        .buffer_unordered(AT_ONCE)
        .collect()
        .await;
    let work = |(place, intent): (usize, Intent)| {
        let release = &releases[&intent.release];
        let tell = &tell;
        async move {
            let outcome = one(bucket, operator, intent, release).await;
            tell(place, &outcome);
            outcome
        }
    };
    let mut outcomes: Vec<Outcome> =
        stream::iter(intents.into_iter().enumerate()).map(work).buffered(AT_ONCE).collect().await;
    poke(&operator.poke, &mut outcomes).await;
    outcomes
}

async fn one(bucket: &Bucket, operator: &Operator, intent: Intent, release: &Result<Release, String>) -> Outcome {
    let written = async {
        let release = release.as_ref().map_err(Clone::clone)?;
        let change = Change {
            server: &intent.server,
            app: intent.release.app(),
            dirty: release.metadata.as_ref().is_ok_and(|metadata| metadata.dirty),
            reason: &operator.reason,
        };
        operator.policy.judge(&operator.who, change)?;
        let request = Request {
            server: intent.server.clone(),
            release: intent.release.clone(),
            from: intent.from.clone(),
            kind: intent.kind,
            who: operator.who.name.clone(),
            why: operator.reason.clone(),
        };
        push::push(bucket, &request).await.map_err(|error| format!("{error:#}"))
    };
    match written.await {
        Ok(pushed) => Outcome { intent, result: Ok(pushed.generation), warnings: pushed.warnings },
        Err(error) => Outcome { intent, result: Err(error), warnings: Vec::new() },
    }
}

/// Wakes the servers that were written. The pushes stand whatever comes of it, so what failed is a warning.
async fn poke(settings: &PokeSettings, outcomes: &mut [Outcome]) {
    let mut pushed: BTreeMap<ServerName, Vec<ReleaseName>> = BTreeMap::new();
    for outcome in outcomes.iter().filter(|outcome| outcome.result.is_ok()) {
        pushed.entry(outcome.intent.server.clone()).or_default().push(outcome.intent.release.clone());
    }
    if pushed.is_empty() {
        return;
    }
    let failed: BTreeMap<ServerName, anyhow::Error> = match Poker::new(settings) {
        Ok(None) => return,
        Ok(Some(poker)) => {
            let outcomes = poker.poke(&pushed).await.into_iter();
            outcomes.filter_map(|(server, outcome)| Some((server, outcome.err()?))).collect()
        }
        Err(error) => pushed.into_keys().map(|server| (server, anyhow::anyhow!("{error:#}"))).collect(),
    };
    for outcome in outcomes {
        if let Some(error) = failed.get(&outcome.intent.server) {
            outcome.warnings.push(format!("not poked, so it finds out when it polls next: {error:#}"));
        }
    }
}

/// A release by name, which must exist and be known by its facts.
pub async fn find(bucket: &Bucket, name: &ReleaseName) -> Result<Release> {
    let found = bucket.release(name).await.with_context(|| format!("could not look for `{}`", name.stem()))?;
    let release = found.with_context(|| {
        format!("there is no release `{}`; `push list {}` lists what there is", name.stem(), name.app())
    })?;
    if let Err(reason) = &release.metadata {
        bail!("`{}` can't be deployed: {reason}", name.stem());
    }
    Ok(release)
}

/// What a server had before the release of `app` that its document names now.
pub async fn before(bucket: &Bucket, app: &AppName, server: &ServerName) -> Result<ReleaseName> {
    let seen = push::read(bucket, server).await?;
    let current = seen.document.release_of(app);
    let current = current.with_context(|| format!("`{server}` doesn't have `{app}`: there is nothing to roll back"))?;
    let newest = bucket.newest_history(server, DEPTH).await;
    let mut pushes: Vec<HistoryEntry> = newest.with_context(|| format!("could not read the history of `{server}`"))?;
    // By the bucket's order and not by the clocks of those who pushed.
    pushes.sort_by_key(|push| push.generation);
    let before = previous(&pushes, app, current).with_context(|| {
        format!(
            "the history knows of nothing that `{server}` had before `{}`: choose a release by name instead",
            current.stem()
        )
    })?;
    Ok(before.clone())
}
