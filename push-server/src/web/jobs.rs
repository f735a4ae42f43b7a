//! Pushes under way and lately done: what was wanted, and how each went.
//!
//! A push of many servers takes a while, so it is carried out apart from the request that asked for it, and its page
//! follows it. Only the last ones are kept, in memory: the bucket's history has what was written.

use std::{
    collections::{BTreeSet, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use axum::http::StatusCode;
use bucket::{HistoryEntry, PushKind, ReleaseName, ServerName};

use tokio::sync::watch;

use super::{Web, params::Params, view::View};
use fleet::{
    operation::{self, Intent, Operator, Outcome},
    plan::Proposal,
};

/// Jobs that are kept, and servers of all of them together; the newest is kept whatever its size.
const KEPT: (usize, usize) = (100, 50_000);
/// How long a request waits for its job, so that small ones are done when their page is shown.
const PATIENCE: Duration = Duration::from_secs(2);
/// Most servers of one job.
pub(crate) const MOST: usize = 20_000;

/// One push of one release, or a rollback, to some servers.
#[derive(Debug)]
pub(crate) struct Job {
    /// Its name in addresses.
    pub(crate) id: String,
    /// Who wants it.
    pub(crate) who: String,
    /// Why.
    pub(crate) reason: String,
    /// What is wanted, in order; never empty.
    pub(crate) intents: Vec<Intent>,
    progress: Mutex<Progress>,
}

/// How far a job is.
#[derive(Debug)]
pub(crate) struct Progress {
    /// How each went so far, in the order of the intents.
    pub(crate) outcomes: Vec<Option<Outcome>>,
    /// Whether all is done, pokes too.
    pub(crate) finished: bool,
}

impl Job {
    /// How far it is.
    pub(crate) fn progress(&self) -> MutexGuard<'_, Progress> {
        lock(&self.progress)
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
    pub(crate) fn get(&self, id: &str) -> Option<Arc<Job>> {
        lock(&self.kept).iter().find(|job| job.id == id).cloned()
    }

    /// Waits until no job is under way.
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

/// Starts what an operator wants, after what can be said at once against all of it; the rest is judged for each push.
///
/// # Errors
/// Why nothing was written, with the status to answer.
pub(crate) async fn accept(
    view: &View,
    reason: &str,
    intents: Vec<Intent>,
    new_servers: bool,
) -> Result<Arc<Job>, (StatusCode, String)> {
    if !view.may_push() {
        return Err((StatusCode::FORBIDDEN, format!("`{}` may look, but not push", view.who.name)));
    }
    if view.snapshot.trouble.is_some() {
        let text = "the bucket can't be read at the moment: try again when it can";
        return Err((StatusCode::SERVICE_UNAVAILABLE, text.to_owned()));
    }
    if reason.len() > HistoryEntry::MAX_WHY {
        let text = format!("the reason is longer than {} bytes", HistoryEntry::MAX_WHY);
        return Err((StatusCode::BAD_REQUEST, text));
    }
    let mut seen = BTreeSet::new();
    if let Some(twice) = intents.iter().find(|intent| !seen.insert((&intent.server, intent.release.app()))) {
        let text = format!("`{}` is named twice for `{}`", twice.server, twice.release.app());
        return Err((StatusCode::BAD_REQUEST, text));
    }
    if let Some(new) = intents.iter().find(|intent| !new_servers && is_new(view, &intent.server)) {
        let text = format!("there is no server `{}` yet: if it isn't misspelt, confirm that it is new", new.server);
        return Err((StatusCode::CONFLICT, text));
    }
    let operator = Operator {
        who: view.who.clone(),
        reason: reason.to_owned(),
        policy: view.policy.clone(),
        poke: view.web.poke.clone(),
    };
    Ok(start(&view.web, operator, intents).await)
}

/// Whether a server has neither a document nor ever reported: a push makes it, so its name had better be right.
pub(crate) fn is_new(view: &View, server: &ServerName) -> bool {
    !view.snapshot.servers.contains_key(server)
}

/// Starts a job, and waits a moment for its end.
async fn start(web: &Arc<Web>, operator: Operator, intents: Vec<Intent>) -> Arc<Job> {
    let progress = Progress { outcomes: vec![None; intents.len()], finished: false };
    let job = Arc::new(Job {
        id: format!("{:016x}", rand_id()),
        who: operator.who.name.clone(),
        reason: operator.reason.clone(),
        intents,
        progress: Mutex::new(progress),
    });
    web.jobs.keep(&job);
    web.jobs.running.send_modify(|running| *running += 1);
    let work = tokio::spawn(follow(web.clone(), operator, job.clone()));
    // It goes on when the patience ends, and when the browser goes away.
    let _ = tokio::time::timeout(PATIENCE, work).await;
    job
}

/// Runs a job to its end, even if that is a fault of ours.
async fn follow(web: Arc<Web>, operator: Operator, job: Arc<Job>) {
    let ended = tokio::spawn(run(web.clone(), operator, job.clone())).await;
    let mut progress = job.progress();
    if ended.is_err() {
        let lost = "the web app failed in the middle of it: the history says whether this was written";
        for (intent, outcome) in job.intents.iter().zip(&mut progress.outcomes) {
            let result = Err(lost.to_owned());
            outcome.get_or_insert_with(|| Outcome { intent: intent.clone(), result, warnings: Vec::new() });
        }
    }
    progress.finished = true;
    drop(progress);
    web.jobs.running.send_modify(|running| *running -= 1);
    web.refresher.touch();
}

async fn run(web: Arc<Web>, operator: Operator, job: Arc<Job>) {
    let tell = |place: usize, outcome: &Outcome| {
        job.progress().outcomes[place] = Some(outcome.clone());
        web.metrics.count_push(outcome.result.is_ok());
        web.refresher.touch();
    };
    let outcomes = operation::carry_out(web.refresher.bucket(), &operator, job.intents.clone(), tell).await;
    let written = outcomes.iter().filter(|outcome| outcome.result.is_ok());
    let written: Vec<ServerName> = written.map(|outcome| outcome.intent.server.clone()).collect();
    job.progress().outcomes = outcomes.into_iter().map(Some).collect();
    // Its author sees it at once, and not after the next round.
    web.refresher.refresh_servers(&written).await;
}

fn rand_id() -> u64 {
    use std::hash::{BuildHasher, Hasher, RandomState};
    // The keys of every state are random: that is all a name that can't be guessed needs.
    RandomState::new().build_hasher().finish()
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What a form says of one server: `SERVER FROM TO`, with `-` where there was nothing.
pub(crate) fn target_value(proposal: &Proposal) -> String {
    let from = proposal.from.as_ref().map_or("-", ReleaseName::stem);
    format!("{} {from} {}", proposal.server, proposal.to.stem())
}

/// The intents of a form.
///
/// # Errors
/// What in it can't be understood.
pub(crate) fn intents(form: &Params) -> Result<Vec<Intent>, String> {
    let kind = match form.get("kind") {
        Some("deploy") => PushKind::Deploy,
        Some("rollback") => PushKind::Rollback,
        _ => return Err("it says neither deploy nor rollback".to_owned()),
    };
    let intents: Vec<Intent> = form.all("target").map(|value| intent(kind, value)).collect::<Result<_, _>>()?;
    match intents.len() {
        0 => Err("it names no server".to_owned()),
        1..=MOST => Ok(intents),
        _ => Err(format!("it names more than {MOST} servers")),
    }
}

fn intent(kind: PushKind, value: &str) -> Result<Intent, String> {
    let mut words = value.split(' ');
    let (Some(server), Some(from), Some(to), None) = (words.next(), words.next(), words.next(), words.next()) else {
        return Err("a target isn't a server and two releases".to_owned());
    };
    let release = |stem: &str| ReleaseName::from_stem(stem).map_err(|error| error.to_string());
    let intent = Intent {
        server: server.parse::<ServerName>().map_err(|error| error.to_string())?,
        from: if from == "-" { None } else { Some(release(from)?) },
        release: release(to)?,
        kind,
    };
    if intent.from.as_ref().is_some_and(|from| from.app() != intent.release.app()) {
        return Err("a target goes from one app to another".to_owned());
    }
    Ok(intent)
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: &str = "web:dev@build-1:2026-11-20T19:05:02Z:7e0ff6059e653eb75a36efb621d0fd66d1ced433";
    const B: &str = "web:dev@build-1:2026-11-20T20:05:02Z:8e0ff6059e653eb75a36efb621d0fd66d1ced433";

    fn read(kind: &str, targets: &[&str]) -> Result<Vec<Intent>, String> {
        let mut form = url::form_urlencoded::Serializer::new(String::new());
        form.append_pair("kind", kind).extend_pairs(targets.iter().map(|target| ("target", target)));
        intents(&Params::parse(form.finish().as_bytes()))
    }

    #[test]
    fn a_form_says_what_the_operator_saw() {
        let read = read("deploy", &[&format!("web-1 {A} {B}"), &format!("web-2 - {B}")]).unwrap();
        assert_eq!((read[0].from.as_ref().unwrap().stem(), read[0].release.stem()), (A, B));
        assert_eq!((read[1].server.as_str(), read[1].from.as_ref()), ("web-2", None));
    }

    #[test]
    fn what_a_form_cannot_say_is_refused() {
        let other = A.replace("web:", "api:");
        for (kind, targets) in [
            ("deploy", vec![]),
            ("", vec![format!("web-1 {A} {B}")]),
            ("deploy", vec![format!("web-1 {A}")]),
            ("deploy", vec![format!("../x {A} {B}")]),
            ("deploy", vec![format!("web-1 {A} {B} {B}")]),
            ("deploy", vec![format!("web-1 {other} {B}")]),
        ] {
            let targets: Vec<&str> = targets.iter().map(String::as_str).collect();
            assert!(read(kind, &targets).is_err(), "{kind} {targets:?}");
        }
    }
}
