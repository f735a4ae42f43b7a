//! A push as a page or a program asks for it, and what it says of waves: all at once, or in waves.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use axum::http::StatusCode;
use bucket::{AppName, PushId, PushKind, ReleaseName, ServerName};
use console::count;
use fleet::{
    guard::judge,
    operation::{Intent, NotPushed, Operator, find},
    plan::Insistence,
    policy::{Reason, Refusal, Way},
    rollout::{
        drive,
        plan::{Division, Subject, divide, unfit},
        waves::{Candidate, Undivided},
    },
    server::Server,
    wish::{NoShare, Said, WavesError, Wish, enough, settle},
};
use thiserror::Error;

use super::{
    accept::{NotAccepted, accept, acceptable},
    jobs::Job,
    params::Params,
    rollouts::be_seen,
    view::View,
};

/// Why several releases don't go out together.
const NOT_ONE_RELEASE: &str = "a push in waves is of one release: push one after the other";
/// Why a push that isn't a deploy doesn't go out in waves.
pub(crate) const NOT_A_DEPLOY: &str = "only a deploy goes out in waves";

/// What is said of waves, as text: `None` where nothing is said.
#[derive(Debug, Default)]
pub(crate) struct WavesText<'a> {
    /// Which servers come when: `1,10%,rest`; or `all` at once.
    pub(crate) waves: Option<&'a str>,
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

/// A push that was begun.
pub(crate) enum Begun {
    /// All servers at once, by this job.
    AtOnce(Arc<Job>),
    /// In waves, as the rollout of this ID.
    InWaves(PushId),
}

/// Why no push was begun.
#[derive(Debug, Error)]
pub(crate) enum NotBegun {
    /// What is said of the waves isn't understood.
    #[error(transparent)]
    Waves(#[from] WavesProblem),
    /// It can't go out so.
    #[error(transparent)]
    Way(#[from] Refusal),
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
            Self::Waves(_) | Self::Way(Refusal::NoWaves) => StatusCode::BAD_REQUEST,
            Self::NotAccepted(error) => error.status(),
            Self::Way(Refusal::DifferentWaves { .. }) | Self::Impossible(_) => StatusCode::CONFLICT,
            Self::Way(_) | Self::Forbidden(_) => StatusCode::FORBIDDEN,
        }
    }
}

impl<'a> WavesText<'a> {
    /// What a form or a query says.
    pub(crate) fn of(params: &'a Params) -> Self {
        Self {
            waves: params.get("waves"),
            settle: params.get("settle"),
            stop_at: params.get("stop_at"),
            enough: params.get("enough"),
            within: params.get("within"),
            max_down: params.get("max_down"),
            pause_after: params.get("pause_after"),
            undo_on_stop: params.get("undo_on_stop").is_some(),
        }
    }

    /// What is said.
    ///
    /// # Errors
    /// The first of these that isn't understood.
    pub(crate) fn said(&self) -> Result<Said, WavesProblem> {
        let servers = |text: &str| number(text).ok_or_else(|| "must be a number of servers, at least 1".to_owned());
        let after = |text: &str| {
            let waves = text.split(',').map(|wave| number(wave.trim())).collect::<Option<Vec<usize>>>();
            waves.ok_or_else(|| "must be numbers of waves, from 1".to_owned())
        };
        let time = |text: &str| console::duration::parse(text).map_err(|error| error.to_string());
        let share = |text: &str| text.parse().map_err(|error: NoShare| error.to_string());
        let waves = |text: &str| text.parse().map_err(|error: WavesError| format!("cannot be used: {error}"));
        Ok(Said {
            waves: parsed("waves", self.waves, waves)?,
            settle: parsed("settle", self.settle, settle)?,
            enough: parsed("enough", self.enough, enough)?,
            stop_at: parsed("stop_at", self.stop_at, servers)?,
            within: parsed("within", self.within, time)?,
            max_down: parsed("max_down", self.max_down, share)?,
            pause_after: parsed("pause_after", self.pause_after, after)?.unwrap_or_default(),
            undo_on_stop: self.undo_on_stop,
        })
    }
}

fn parsed<T>(
    field: &'static str,
    text: Option<&str>,
    parse: impl Fn(&str) -> Result<T, String>,
) -> Result<Option<T>, WavesProblem> {
    let problem = |text: &str, expected| WavesProblem { field, text: text.to_owned(), expected };
    text.map(|text| parse(text).map_err(|expected| problem(text, expected))).transpose()
}

fn number(text: &str) -> Option<usize> {
    text.parse().ok().filter(|number| *number >= 1)
}

/// A push that can be begun: all of it is possible and allowed, as far as that can be said before it is written.
pub(crate) enum Prepared {
    /// All servers at once; marked if waves are set aside.
    AtOnce {
        /// Whether an admin sets them aside.
        without_waves: bool,
    },
    /// In waves.
    InWaves(Box<PreparedWaves>),
}

/// A rollout that can be begun.
pub(crate) struct PreparedWaves {
    /// Who wants it.
    operator: Operator,
    /// The release.
    release: ReleaseName,
    /// What is wanted of the waves.
    wish: Box<Wish>,
    /// Which servers are in which.
    pub(crate) division: Division,
}

/// Begins what an operator wants: all at once, or in waves if they say some or the policy asks for them.
pub(crate) async fn begin(
    view: &View,
    reason: &str,
    intents: Vec<Intent>,
    insistence: Insistence,
    said: &Said,
) -> Result<Begun, NotBegun> {
    match prepare(view, reason, &intents, insistence, said).await? {
        Prepared::AtOnce { without_waves } => {
            Ok(Begun::AtOnce(accept(view, reason, intents, insistence, without_waves).await?))
        }
        Prepared::InWaves(prepared) => begin_rollout(view, *prepared).await.map(Begun::InWaves),
    }
}

/// What [`begin`] would begin.
pub(crate) async fn prepare(
    view: &View,
    reason: &str,
    intents: &[Intent],
    insistence: Insistence,
    said: &Said,
) -> Result<Prepared, NotBegun> {
    match way(view, reason, intents, said)? {
        Way::AtOnce { instead_of } => Ok(Prepared::AtOnce { without_waves: instead_of.is_some() }),
        Way::Waves { wish, .. } => {
            let prepared = prepare_rollout(view, reason, intents, insistence, wish).await?;
            Ok(Prepared::InWaves(Box::new(prepared)))
        }
    }
}

/// How what is wanted goes out. Only deploys go out in waves, and each such push is of one app.
fn way(view: &View, reason: &str, intents: &[Intent], said: &Said) -> Result<Way, NotBegun> {
    let mut apps: BTreeMap<&AppName, Vec<&ServerName>> = BTreeMap::new();
    for intent in intents {
        let servers = apps.entry(&intent.app).or_default();
        servers.extend((intent.kind == PushKind::Deploy && intent.from != intent.to).then_some(&intent.server));
    }
    let of = |(app, servers): (&AppName, Vec<&ServerName>)| {
        view.policy.way(&view.who, app, &servers, Reason::Given(reason), said)
    };
    let ways: Vec<Way> = apps.into_iter().map(of).collect::<Result<_, _>>()?;
    let is_in_waves = |way: &Way| matches!(way, Way::Waves { .. });
    if ways.len() > 1 && ways.iter().any(is_in_waves) {
        return Err(NotBegun::Impossible(NOT_ONE_RELEASE.to_owned()));
    }
    let is_marked = |way: &Way| matches!(way, Way::AtOnce { instead_of: Some(_) } | Way::Waves { .. });
    Ok(ways.into_iter().find(is_marked).unwrap_or(Way::AtOnce { instead_of: None }))
}

/// Divides the servers of a deploy as is wanted, of the fleet as it was read last.
pub(crate) fn divided(
    view: &View,
    app: &AppName,
    servers: &BTreeSet<&ServerName>,
    wish: &Wish,
) -> Result<Division, Undivided> {
    let unknown = servers.iter().filter(|name| !view.snapshot.servers.contains_key(**name));
    let new: Vec<Arc<Server>> = unknown.map(|name| view.server(name)).collect();
    let fleet = view.snapshot.servers.values().chain(&new).map(|server| &**server);
    let candidates = fleet.clone().filter(|server| servers.contains(&server.name));
    let candidates: Vec<Candidate> = candidates.map(|server| Candidate { server, from: server.desired(app) }).collect();
    divide(app, wish, &candidates, &fleet, &view.policy, view.bucket_now())
}

/// A rollout of what an operator wants, all of which must be possible and allowed: waves are decided once.
async fn prepare_rollout(
    view: &View,
    reason: &str,
    intents: &[Intent],
    insistence: Insistence,
    wish: Box<Wish>,
) -> Result<PreparedWaves, NotBegun> {
    let operator = acceptable(view, reason, intents, insistence)?;
    let impossible = |text: String| NotBegun::Impossible(text);
    let release = the_release(intents).map_err(|text| impossible(text.to_owned()))?;
    let found = find(view.web.refresher.bucket(), release).await.map_err(|error| impossible(format!("{error:#}")))?;
    judge(view.snapshot.halt.as_ref(), &view.snapshot.rejected, &PushKind::Deploy, Some(release))
        .map_err(|guarded| impossible(guarded.to_string()))?;
    let servers: Vec<Arc<Server>> = intents.iter().map(|intent| view.server(&intent.server)).collect();
    let candidates = servers.iter().zip(intents);
    let candidates = candidates.map(|(server, intent)| Candidate { server, from: intent.from.as_ref() });
    let candidates: Vec<Candidate> = candidates.collect();
    if let Some((server, error)) = unfit(&operator, &found, &candidates).next() {
        return Err(match error {
            NotPushed::Refused(refusal) => NotBegun::Forbidden(format!("nothing was written: {server}: {refusal}")),
            error => impossible(error.to_string()),
        });
    }
    let chosen: BTreeSet<&ServerName> =
        intents.iter().filter(|intent| intent.from != intent.to).map(|intent| &intent.server).collect();
    if chosen.is_empty() {
        let all = count(intents.len(), "server");
        return Err(impossible(format!(
            "nothing was written: {all} of {all} should have `{}` already",
            release.stem()
        )));
    }
    let division = divided(view, release.app(), &chosen, &wish);
    let division = division.map_err(|error| impossible(format!("nothing was written: {error}")))?;
    Ok(PreparedWaves { operator, release: release.clone(), wish, division })
}

/// Begins a rollout, and gives its ID; it is carried on from then on.
async fn begin_rollout(view: &View, prepared: PreparedWaves) -> Result<PushId, NotBegun> {
    let PreparedWaves { operator, release, wish, division } = prepared;
    let impossible = |text: String| NotBegun::Impossible(text);
    let (id, bucket) = (PushId::random(), view.web.refresher.bucket());
    let (who, why, held) = (&operator.who, operator.reason.as_str(), operator.held);
    let channel = operator.channel.as_ref();
    let subject = Subject { id: &id, release: &release, who, why, held, channel };
    let rollout = division.rollout(subject, &wish, bucket.now());
    drive::begin(bucket, &rollout).await.map_err(|error| impossible(format!("{error:#}")))?;
    be_seen(&view.web).await;
    Ok(id)
}

/// The one release that all intents are about.
fn the_release(intents: &[Intent]) -> Result<&ReleaseName, &'static str> {
    let first = intents.first().filter(|intent| intent.kind == PushKind::Deploy).and_then(|intent| intent.to.as_ref());
    let first = first.ok_or(NOT_A_DEPLOY)?;
    let is_one = intents.iter().all(|intent| intent.to.as_ref() == Some(first));
    is_one.then_some(first).ok_or(NOT_ONE_RELEASE)
}
