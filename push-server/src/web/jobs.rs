//! Pushes under way and lately done: what was wanted, and how each went.
//!
//! A push of many servers takes a while, so it is carried out apart from the request that asked for it, and its page
//! follows it. Only the last ones are kept, in memory: the bucket's history has what was written.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use axum::http::StatusCode;
use bucket::{HistoryEntry, PushKind, ReleaseName, ServerName};

use super::{Web, params::Params, view::View};
use crate::{
    operation::{self, Intent, Operator, Outcome},
    plan::Proposal,
};

/// Jobs that are kept.
const KEPT: usize = 100;
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
    /// What is wanted, in order.
    pub(crate) intents: Vec<Intent>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    done: usize,
    outcomes: Vec<Option<Outcome>>,
    finished: bool,
}

impl Job {
    /// How each went so far, in the order of the intents, and whether all is done.
    pub(crate) fn outcomes(&self) -> (Vec<Option<Outcome>>, bool) {
        let state = lock(&self.state);
        (state.outcomes.clone(), state.finished)
    }

    /// How many are done.
    pub(crate) fn done(&self) -> usize {
        lock(&self.state).done
    }
}

/// The jobs of this process.
#[derive(Debug, Default)]
pub(crate) struct Jobs {
    kept: Mutex<VecDeque<Arc<Job>>>,
}

impl Jobs {
    /// A job by its name, if it is still kept.
    pub(crate) fn get(&self, id: &str) -> Option<Arc<Job>> {
        lock(&self.kept).iter().find(|job| job.id == id).cloned()
    }

    fn keep(&self, job: &Arc<Job>) {
        let mut kept = lock(&self.kept);
        kept.push_front(job.clone());
        kept.truncate(KEPT);
    }
}

/// Starts what an operator wants, after what can be said at once against all of it; the rest is judged for each push.
///
/// # Errors
/// Why nothing was written, with the status to answer.
pub(crate) async fn accept(view: &View, reason: &str, intents: Vec<Intent>) -> Result<Arc<Job>, (StatusCode, String)> {
    if !view.may_push() {
        return Err((StatusCode::FORBIDDEN, format!("`{}` may look, but not push", view.who.name)));
    }
    if view.picture.trouble.is_some() {
        let text = "the bucket can't be read at the moment: try again when it can";
        return Err((StatusCode::SERVICE_UNAVAILABLE, text.to_owned()));
    }
    if reason.len() > HistoryEntry::MAX_WHY {
        let text = format!("the reason is longer than {} bytes", HistoryEntry::MAX_WHY);
        return Err((StatusCode::BAD_REQUEST, text));
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
    let state = State { outcomes: vec![None; intents.len()], ..State::default() };
    let job = Arc::new(Job {
        id: format!("{:016x}", rand_id()),
        who: operator.who.name.clone(),
        reason: operator.reason.clone(),
        intents,
        state: Mutex::new(state),
    });
    web.jobs.keep(&job);
    let work = tokio::spawn(run(web.clone(), operator, job.clone()));
    // It goes on when the patience ends, and when the browser goes away.
    let _ = tokio::time::timeout(PATIENCE, work).await;
    job
}

async fn run(web: Arc<Web>, operator: Operator, job: Arc<Job>) {
    let tell = |outcome: &Outcome| {
        let mut state = lock(&job.state);
        state.done += 1;
        if let Some(at) = job.intents.iter().position(|intent| *intent == outcome.intent) {
            state.outcomes[at] = Some(outcome.clone());
        }
        drop(state);
        web.keeper.touch();
    };
    let outcomes = operation::carry_out(web.keeper.bucket(), &operator, job.intents.clone(), tell).await;
    for outcome in outcomes.iter().filter(|outcome| outcome.result.is_ok()) {
        web.keeper.refresh_server(&outcome.intent.server).await;
    }
    for outcome in &outcomes {
        web.metrics.count_push(outcome.result.is_ok());
    }
    let mut state = lock(&job.state);
    state.done = outcomes.len();
    state.outcomes = outcomes.into_iter().map(Some).collect();
    state.finished = true;
    drop(state);
    web.keeper.touch();
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

    const A: &str = "web:ana@ws1:2026-11-20T19:05:02Z:7e0ff6059e653eb75a36efb621d0fd66d1ced433";
    const B: &str = "web:ana@ws1:2026-11-20T20:05:02Z:8e0ff6059e653eb75a36efb621d0fd66d1ced433";

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
