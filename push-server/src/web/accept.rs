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
    account::Account,
    operation::{self, Intent, JustRead, Operator, PushResult},
    plan::{Insistence, Objection, objection},
    redo,
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
    /// Nothing of a push is left to be written, or not by this program.
    #[error("{0}")]
    NotLeft(String),
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
            Self::NotLeft(_) | Self::NewServer(_) | Self::NewApp(..) => StatusCode::CONFLICT,
        }
    }
}

/// Starts what an operator wants, after what can be said at once against all of it; the rest is judged for each push. It is
/// marked if an admin has it written all at once where the policy asks for waves.
pub(crate) async fn accept(
    view: &View,
    reason: &str,
    intents: Vec<Intent>,
    insistence: Insistence,
    without_waves: bool,
) -> Result<Arc<Job>, NotAccepted> {
    let operator = Operator { without_waves, ..acceptable(view, reason, &intents, insistence)? };
    begin(view, operator, None, intents.into_iter().map(|intent| (intent, None)).collect()).await
}

/// Who asks, unless something can be said at once against all that they want.
pub(crate) fn acceptable(
    view: &View,
    reason: &str,
    intents: &[Intent],
    insistence: Insistence,
) -> Result<Operator, NotAccepted> {
    let operator = Operator { held: insistence.held, ..operator(view, reason)? };
    let installs = intents.iter().filter(|intent| intent.to.is_some());
    let mut objections = installs.filter_map(|intent| objection(&view.server(&intent.server), &intent.app));
    match objections.find(|objection| objection.stands(insistence)) {
        Some(Objection::NewServer(server)) => Err(NotAccepted::NewServer(server)),
        Some(Objection::NewApp(server, app)) => Err(NotAccepted::NewApp(server, app)),
        None => Ok(operator),
    }
}

/// Starts what undoes a push or tries it again, as it was read just now; also where the operator has a hold, if that is `held`.
pub(crate) async fn accept_of(
    view: &View,
    reason: &str,
    of: &PushId,
    intents: Vec<(Intent, JustRead)>,
    held: bool,
) -> Result<Arc<Job>, NotAccepted> {
    let operator = Operator { held, ..operator(view, reason)? };
    let intents = intents.into_iter().map(|(intent, just_read)| (intent, Some(just_read))).collect();
    begin(view, operator, Some(of.clone()), intents).await
}

/// Continues a push that was cut off.
pub(crate) async fn accept_rest(view: &View, reason: &str, account: Account) -> Result<Arc<Job>, NotAccepted> {
    let reason = if reason.is_empty() { account.push.why.clone() } else { reason.to_owned() };
    let operator = operator(view, &reason)?;
    let intents = redo::left(&account).map_err(|error| NotAccepted::NotLeft(format!("{error:#}")))?;
    let job = Arc::new(Job::continued(&account.push, &operator, intents));
    Ok(start(&view.web, operator, job, Work::Rest(Box::new(account))).await)
}

/// Who asks, if they may ask for anything now.
fn operator(view: &View, reason: &str) -> Result<Operator, NotAccepted> {
    if !view.may_push() {
        return Err(NotAccepted::ReadOnly(view.who.name.clone()));
    }
    if view.snapshot.failure.is_some() {
        return Err(NotAccepted::Unreadable);
    }
    if reason.len() > HistoryEntry::MAX_WHY {
        return Err(NotAccepted::LongReason);
    }
    Ok(Operator {
        who: view.who.clone(),
        reason: reason.to_owned(),
        policy: view.policy.clone(),
        poke: view.web.poke.clone(),
        held: false,
        without_waves: false,
        channel: None,
    })
}

/// What a job does.
enum Work {
    /// Push what is wanted, with what was read of it.
    Push(Vec<Option<JustRead>>),
    /// Write what is left of a push.
    Rest(Box<Account>),
}

async fn begin(
    view: &View,
    operator: Operator,
    of: Option<PushId>,
    intents: Vec<(Intent, Option<JustRead>)>,
) -> Result<Arc<Job>, NotAccepted> {
    let (intents, just_read): (Vec<Intent>, Vec<Option<JustRead>>) = intents.into_iter().unzip();
    let mut seen = BTreeSet::new();
    if let Some(twice) = intents.iter().find(|intent| !seen.insert((&intent.server, &intent.app))) {
        return Err(NotAccepted::Twice(twice.server.clone(), twice.app.clone()));
    }
    let job = Arc::new(Job::new(of, &operator, intents));
    Ok(start(&view.web, operator, job, Work::Push(just_read)).await)
}

/// Starts a job, and waits a moment for its end.
async fn start(web: &Arc<Web>, operator: Operator, job: Arc<Job>, work: Work) -> Arc<Job> {
    web.jobs.begin(&job);
    let work = tokio::spawn(finish(web.clone(), operator, job.clone(), work));
    // It goes on when the time is up, and when the browser goes away.
    let _ = tokio::time::timeout(RESPONSE_TIMEOUT, work).await;
    job
}

/// Runs a job to its end, even if that is a fault of ours.
async fn finish(web: Arc<Web>, operator: Operator, job: Arc<Job>, work: Work) {
    // What it hasn't reported is lost; the job says so of itself.
    let _ = tokio::spawn(run(web.clone(), operator, job.clone(), work)).await;
    job.finish();
    web.jobs.end();
    web.refresher.touch();
}

async fn run(web: Arc<Web>, operator: Operator, job: Arc<Job>, work: Work) {
    let is_shown = AtomicBool::new(false);
    let report = |place: usize, result: &PushResult| {
        job.report(place, result.clone());
        web.counters.count_push(result.is_pushed());
        if result.push.is_some() && !is_shown.swap(true, Ordering::Relaxed) {
            // Everybody sees it at once, and not after the next round.
            let web = web.clone();
            tokio::spawn(async move {
                web.refresher.refresh_pushes().await;
                web.refresher.touch();
            });
        } else {
            web.refresher.touch();
        }
    };
    let bucket = web.refresher.bucket();
    let results = match work {
        Work::Push(just_read) => {
            let named = (job.id.clone(), job.of.as_ref());
            let intents = job.intents.iter().cloned().zip(just_read).collect();
            operation::carry_out_as(bucket, &operator, named, intents, report).await
        }
        // What is left was judged when the job was made.
        Work::Rest(account) => redo::carry_on_with(bucket, &operator, &account, report).await.unwrap_or_default(),
    };
    let pushed = results.iter().filter(|result| result.is_pushed());
    let pushed: Vec<ServerName> = pushed.map(|result| result.intent.server.clone()).collect();
    for (place, result) in results.into_iter().enumerate() {
        job.report(place, result);
    }
    web.refresher.refresh_servers(&pushed).await;
    web.refresher.refresh_pushes().await;
}
