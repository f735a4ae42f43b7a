//! Accepting pushes that an operator asked for, and carrying them out apart from the request that asked.

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use axum::http::StatusCode;
use bucket::{AppName, HistoryEntry, PushId, ServerName};
use fleet::{
    operation::{self, Intent, Operator, PushResult},
    plan::{Insistence, Objection, objection},
};
use thiserror::Error;

use super::{jobs::Job, shared::Web, view::View};

/// How long a request waits for its job, so that small ones are done when their page is shown.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(2);

/// Why none of the pushes was begun.
#[derive(Debug, PartialEq, Eq, Error)]
pub(crate) enum NotAccepted {
    /// The operator may not push anything anywhere.
    #[error("`{0}` has read-only access")]
    ReadOnly(String),
    /// What the operator saw is older than anybody knows.
    #[error("the bucket is unreadable at the moment: try again later")]
    Unreadable,
    /// The history couldn't keep the reason.
    #[error("the reason must have at most {} bytes", HistoryEntry::MAX_WHY)]
    LongReason,
    /// Two of them would write the same entry.
    #[error("`{0}` is specified twice for `{1}`")]
    Twice(ServerName, AppName),
    /// A server would be created, and nobody confirmed that.
    #[error("server `{0}` does not exist: check the spelling, or confirm that it is new")]
    NewServer(ServerName),
    /// An app would be put on a server that doesn't have it, and nobody said that it should.
    #[error("`{0}` does not have `{1}` yet: confirm that it is to be installed there")]
    NewApp(ServerName, AppName),
}

impl NotAccepted {
    /// The status to answer.
    pub(crate) fn status(&self) -> StatusCode {
        match self {
            Self::ReadOnly(_) => StatusCode::FORBIDDEN,
            Self::Unreadable => StatusCode::SERVICE_UNAVAILABLE,
            Self::LongReason | Self::Twice(..) => StatusCode::BAD_REQUEST,
            Self::NewServer(_) | Self::NewApp(..) => StatusCode::CONFLICT,
        }
    }
}

/// Starts what an operator wants, after what can be said at once against all of it; the rest is judged for each push.
pub(crate) async fn accept(
    view: &View,
    reason: &str,
    intents: Vec<Intent>,
    insistence: Insistence,
) -> Result<Arc<Job>, NotAccepted> {
    if !view.may_push() {
        return Err(NotAccepted::ReadOnly(view.who.name.clone()));
    }
    if view.snapshot.failure.is_some() {
        return Err(NotAccepted::Unreadable);
    }
    if reason.len() > HistoryEntry::MAX_WHY {
        return Err(NotAccepted::LongReason);
    }
    let mut seen = BTreeSet::new();
    if let Some(twice) = intents.iter().find(|intent| !seen.insert((&intent.server, &intent.app))) {
        return Err(NotAccepted::Twice(twice.server.clone(), twice.app.clone()));
    }
    let installs = intents.iter().filter(|intent| intent.to.is_some());
    let mut objections = installs.filter_map(|intent| objection(&view.server(&intent.server), &intent.app));
    match objections.find(|objection| objection.stands(insistence)) {
        Some(Objection::NewServer(server)) => return Err(NotAccepted::NewServer(server)),
        Some(Objection::NewApp(server, app)) => return Err(NotAccepted::NewApp(server, app)),
        None => {}
    }
    let operator = Operator {
        who: view.who.clone(),
        reason: reason.to_owned(),
        policy: view.policy.clone(),
        poke: view.web.poke.clone(),
    };
    Ok(start(&view.web, operator, intents).await)
}

/// Starts a job, and waits a moment for its end.
async fn start(web: &Arc<Web>, operator: Operator, intents: Vec<Intent>) -> Arc<Job> {
    let job = Arc::new(Job::new(PushId::random(), None, &operator, intents));
    web.jobs.begin(&job);
    let work = tokio::spawn(finish(web.clone(), operator, job.clone()));
    // It goes on when the time is up, and when the browser goes away.
    let _ = tokio::time::timeout(RESPONSE_TIMEOUT, work).await;
    job
}

/// Runs a job to its end, even if that is a fault of ours.
async fn finish(web: Arc<Web>, operator: Operator, job: Arc<Job>) {
    // What it hasn't reported is lost; the job says so of itself.
    let _ = tokio::spawn(run(web.clone(), operator, job.clone())).await;
    job.finish();
    web.jobs.end();
    web.refresher.touch();
}

async fn run(web: Arc<Web>, operator: Operator, job: Arc<Job>) {
    let is_shown = AtomicBool::new(false);
    let report = |place: usize, result: &PushResult| {
        if result.push.is_some() && !is_shown.swap(true, Ordering::Relaxed) {
            // Everybody sees it at once, and not after the next round.
            let web = web.clone();
            tokio::spawn(async move { web.refresher.refresh_pushes().await });
        }
        job.report(place, result.clone());
        web.counters.count_push(result.is_pushed());
        web.refresher.touch();
    };
    let intents = job.intents.iter().map(|intent| (intent.clone(), None)).collect();
    let named = (job.id.clone(), job.of.as_ref());
    let results = operation::carry_out_as(web.refresher.bucket(), &operator, named, intents, report).await;
    let pushed = results.iter().filter(|result| result.is_pushed());
    let pushed: Vec<ServerName> = pushed.map(|result| result.intent.server.clone()).collect();
    for (place, result) in results.into_iter().enumerate() {
        job.report(place, result);
    }
    web.refresher.refresh_servers(&pushed).await;
    web.refresher.refresh_pushes().await;
}
