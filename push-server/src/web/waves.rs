//! A push in waves, as a page or a program asks for it: read, and begun.

use std::collections::BTreeSet;

use axum::http::StatusCode;
use bucket::{PushId, PushKind, ReleaseName, RolloutRules, ServerName};
use console::count;
use fleet::{
    guard::judge,
    operation::{Intent, find},
    plan::Insistence,
    policy::{Case, Reason},
    push::Conflict,
    rollout::{
        budget::NoShare,
        drive,
        plan::{Subject, Wish, enough, plan, settle, usual},
        waves::{Candidate, WavesError},
    },
    server::Server,
};
use thiserror::Error;

use super::{
    accept::{NotAccepted, acceptable},
    rollouts::be_seen,
    view::View,
};

/// What is said of waves, as text: `None` where nothing is said.
#[derive(Debug, Default)]
pub(crate) struct WavesText<'a> {
    /// Which servers come when: `1,10%,rest`.
    pub(crate) waves: &'a str,
    /// How long a server must stay converged: `1m`.
    pub(crate) settle: Option<&'a str>,
    /// How many failing servers stop it.
    pub(crate) stop_at: Option<&'a str>,
    /// How many of a hundred servers are enough: `95%`.
    pub(crate) enough: Option<&'a str>,
    /// How long a wave may take: `30m`.
    pub(crate) within: Option<&'a str>,
    /// How many servers of a group may be out: `4`, `10%`.
    pub(crate) max_down: Option<&'a str>,
    /// After which waves it waits for a verdict: `1,2`.
    pub(crate) pause_after: Option<&'a str>,
    /// Whether it undoes what it wrote when it stops.
    pub(crate) undo_on_stop: bool,
}

/// What is said of waves isn't understood.
#[derive(Debug, PartialEq, Eq, Error)]
#[error("{field} `{text}` {expected}", text = console::safe(.text))]
pub(crate) struct WavesProblem {
    field: &'static str,
    text: String,
    expected: String,
}

/// Why no rollout was begun.
#[derive(Debug, Error)]
pub(crate) enum NotBegun {
    /// What is said of the waves isn't understood.
    #[error(transparent)]
    Waves(#[from] WavesProblem),
    /// What can be said at once against it.
    #[error(transparent)]
    NotAccepted(#[from] NotAccepted),
    /// The policy forbids it on some servers.
    #[error("{0}")]
    Forbidden(String),
    /// It can't be done so.
    #[error("{0}")]
    Impossible(String),
}

impl NotBegun {
    /// The status to answer.
    pub(crate) fn status(&self) -> StatusCode {
        match self {
            Self::Waves(_) => StatusCode::BAD_REQUEST,
            Self::NotAccepted(error) => error.status(),
            Self::Forbidden(_) => StatusCode::FORBIDDEN,
            Self::Impossible(_) => StatusCode::CONFLICT,
        }
    }
}

impl WavesText<'_> {
    /// Whether it says something beside which servers come when.
    pub(crate) fn says_something(&self) -> bool {
        let said = [self.settle, self.stop_at, self.enough, self.within, self.max_down, self.pause_after];
        self.undo_on_stop || said.iter().any(Option::is_some)
    }

    /// What is wanted.
    ///
    /// # Errors
    /// The first of these that isn't understood.
    pub(crate) fn wish(&self) -> Result<Wish, WavesProblem> {
        let servers = |text: &str| number(text).ok_or_else(|| "must be a number of servers, at least 1".to_owned());
        let waves = |text: &str| {
            let waves = text.split(',').map(|wave| number(wave.trim())).collect::<Option<Vec<usize>>>();
            waves.ok_or_else(|| "must be numbers of waves, from 1".to_owned())
        };
        let time = |text: &str| console::duration::parse(text).map_err(|error| error.to_string());
        let rules = RolloutRules {
            settle_seconds: parsed("settle", self.settle.unwrap_or(usual::SETTLE), settle)?.as_secs(),
            within_seconds: parsed("within", self.within.unwrap_or(usual::WITHIN), time)?.as_secs(),
            enough_percent: parsed("enough", self.enough.unwrap_or(usual::ENOUGH), enough)?,
            stop_at: parsed("stop_at", self.stop_at.unwrap_or(usual::STOP_AT), servers)?,
            pause_after: match self.pause_after {
                Some(after) => parsed("pause_after", after, waves)?,
                None => Vec::new(),
            },
            undo_on_stop: self.undo_on_stop,
        };
        let share = |text: &str| text.parse().map_err(|error: NoShare| error.to_string());
        let in_waves = |text: &str| text.parse().map_err(|error: WavesError| format!("cannot be used: {error}"));
        Ok(Wish {
            waves: parsed("waves", self.waves, in_waves)?,
            rules,
            max_down: self.max_down.map(|max_down| parsed("max_down", max_down, share)).transpose()?,
        })
    }
}

fn parsed<T>(field: &'static str, text: &str, parse: impl Fn(&str) -> Result<T, String>) -> Result<T, WavesProblem> {
    parse(text).map_err(|expected| WavesProblem { field, text: text.to_owned(), expected })
}

fn number(text: &str) -> Option<usize> {
    text.parse().ok().filter(|number| *number >= 1)
}

/// Begins a rollout of what an operator wants, all of which must be possible and allowed: waves are decided once. Gives its ID;
/// it is carried on from then on.
pub(crate) async fn begin(
    view: &View,
    reason: &str,
    intents: &[Intent],
    insistence: Insistence,
    wish: &Wish,
) -> Result<PushId, NotBegun> {
    let operator = acceptable(view, reason, intents, insistence)?;
    let impossible = |text: String| NotBegun::Impossible(text);
    let release = the_release(intents).map_err(|text| impossible(text.to_owned()))?;
    let bucket = view.web.refresher.bucket();
    let found = find(bucket, release).await.map_err(|error| impossible(format!("{error:#}")))?;
    let dirty = found.metadata.as_ref().is_ok_and(|metadata| metadata.dirty);
    judge(view.snapshot.halt.as_ref(), &view.snapshot.rejected, &PushKind::Deploy, Some(release))
        .map_err(|guarded| impossible(guarded.to_string()))?;
    let mut fleet: Vec<Server> = view.snapshot.servers.values().map(|server| (**server).clone()).collect();
    for intent in intents {
        let case = Case { server: &intent.server, app: &intent.app, dirty, reason: Reason::Given(reason) };
        let judged = operator.policy.judge(&operator.who, case);
        judged.map_err(|refusal| NotBegun::Forbidden(format!("nothing was written: {}: {refusal}", intent.server)))?;
        let server = view.server(&intent.server);
        let now = server.desired(&intent.app);
        if now != intent.from.as_ref() {
            let Intent { app, server, from: seen, .. } = intent.clone();
            return Err(impossible(Conflict { app, server, seen, now: now.cloned() }.to_string()));
        }
        if !view.snapshot.servers.contains_key(&intent.server) {
            fleet.push((*server).clone());
        }
    }
    let chosen: BTreeSet<&ServerName> =
        intents.iter().filter(|intent| intent.from != intent.to).map(|intent| &intent.server).collect();
    let candidates = fleet.iter().filter(|server| chosen.contains(&server.name));
    let candidates: Vec<Candidate> =
        candidates.map(|server| Candidate { server, from: server.desired(release.app()) }).collect();
    if candidates.is_empty() {
        let all = count(intents.len(), "server");
        return Err(impossible(format!(
            "nothing was written: {all} of {all} should have `{}` already",
            release.stem()
        )));
    }
    let (id, now) = (PushId::random(), view.bucket_now());
    let subject = Subject { id: &id, release, who: &operator.who, why: reason };
    let rollout = plan(subject, wish, &candidates, &fleet, &operator.policy, now);
    let rollout = rollout.map_err(|error| impossible(format!("nothing was written: {error}")))?;
    let marked = bucket.mark().await;
    marked.map_err(|error| impossible(format!("could not mark the bucket; nothing was written: {error}")))?;
    drive::begin(bucket, &rollout).await.map_err(|error| impossible(format!("{error:#}")))?;
    be_seen(&view.web).await;
    Ok(id)
}

/// The one release that all intents are about.
fn the_release(intents: &[Intent]) -> Result<&ReleaseName, &'static str> {
    let first = intents.first().filter(|intent| intent.kind == PushKind::Deploy).and_then(|intent| intent.to.as_ref());
    let first = first.ok_or("only a deploy goes out in waves")?;
    let is_one = intents.iter().all(|intent| intent.to.as_ref() == Some(first));
    is_one.then_some(first).ok_or("a push in waves is of one release")
}
