//! What a push would do, server by server, before anything is written.
//!
//! The documents are read afresh when there are few of them; with many, what was read last is shown, and the write
//! refuses where it has changed since.

pub(crate) mod page;
pub(crate) mod waves;

use axum::{http::StatusCode, response::Response};
use bucket::{AppName, NameError, PushKind, Release, ReleaseName, ServerName};
use fleet::{
    guard::judge,
    hold, operation,
    plan::{Insistence, Objection, Proposal, Warning, propose, propose_removal},
    policy::{Case, Reason, Refusal},
    proposed::Proposed,
    retry::current_on,
    rollback::previous_on,
    server::Server,
};
use futures_util::{StreamExt, stream};
use thiserror::Error;

use crate::web::{
    form::target_value,
    params::Params,
    targets::{TargetError, Targets},
    view::{Nav, View},
};

/// Up to how many servers are read afresh for a plan.
const FRESH: usize = 20;

/// What would be done to one server.
pub(crate) struct Planned {
    pub(crate) server: ServerName,
    /// What would change, or why nothing can.
    pub(crate) proposal: Result<Proposal, String>,
    /// Why nobody may do it now, or not this operator.
    pub(crate) refusal: Option<String>,
    /// The operator's own hold, in words, in spite of which it may be done if that is said.
    pub(crate) held: Option<String>,
}

/// What a plan comes to for a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    /// It is written unless somebody takes it out.
    Change,
    /// The app would come to a server that doesn't have it: written only if that is said too.
    Install,
    /// The operator has put the server on hold: written only if that is said too.
    Held,
    /// It can't be or may not be done.
    Impossible,
    /// There is nothing to do.
    Same,
}

impl Planned {
    pub(crate) fn part(&self) -> Part {
        match (&self.proposal, &self.refusal) {
            (Err(_), _) | (_, Some(_)) => Part::Impossible,
            (Ok(proposal), None) if proposal.is_no_change() => Part::Same,
            (Ok(_), None) if self.held.is_some() => Part::Held,
            (Ok(Proposal { objection: Some(Objection::NewApp(..)), .. }), None) => Part::Install,
            (Ok(_), None) => Part::Change,
        }
    }

    /// Whether it is written by a push that says so much of what servers need.
    pub(crate) fn is_pushed(&self, said: Insistence) -> bool {
        let stands = |proposal: &Proposal| proposal.objection.as_ref().is_some_and(|objection| objection.stands(said));
        let is_in_the_way = self.proposal.as_ref().is_ok_and(stands) || (self.held.is_some() && !said.held);
        matches!(self.part(), Part::Change | Part::Install | Part::Held) && !is_in_the_way
    }

    /// Whether it is in the plan unless somebody puts it in: what hasn't failed isn't tried again just because it was found
    /// with what has.
    fn is_meant(&self) -> bool {
        !self.proposal.as_ref().is_ok_and(|proposal| proposal.warnings.contains(&Warning::NothingToRetry))
    }

    fn target(&self) -> Option<String> {
        self.proposal.as_ref().ok().map(target_value)
    }
}

/// What a request wants planned.
pub(crate) enum Wanted {
    /// One release.
    Release(Box<Release>),
    /// What each server had before.
    Rollback(AppName),
    /// What each server has, once more.
    Retry(AppName),
    /// Nothing of the app any more.
    Remove(AppName),
}

impl Wanted {
    pub(crate) fn app(&self) -> &AppName {
        match self {
            Self::Release(release) => release.name.app(),
            Self::Rollback(app) | Self::Retry(app) | Self::Remove(app) => app,
        }
    }

    pub(crate) fn kind(&self) -> PushKind {
        match self {
            Self::Release(_) => PushKind::Deploy,
            Self::Rollback(_) => PushKind::Rollback,
            Self::Retry(_) => PushKind::Retry,
            Self::Remove(_) => PushKind::Remove,
        }
    }
}

/// `GET /plan`: `release=…`, `rollback=APP`, `retry=APP` or `remove=APP`, and `server=…` or `q=FILTER`.
pub(crate) async fn get(view: View, params: Params) -> Response {
    let wanted = match wanted(&view, &params).await {
        Ok(wanted) => wanted,
        Err(error) => return view.problem(error.status(), "Invalid plan", &error.to_string()),
    };
    let (view, targets) = match fresh_targets(view, &params).await {
        Ok(found) => found,
        Err((view, error)) => return view.problem(StatusCode::BAD_REQUEST, "Invalid request", &error.to_string()),
    };
    if targets.len() == 0 {
        return view.problem(StatusCode::BAD_REQUEST, "No server selected", "Select one or more servers first.");
    }
    let reason = params.get("reason").unwrap_or_default();
    let planned = plan(&view, &wanted, &targets, reason_of(params.get("reason"))).await;
    let content = page::page(&view, &wanted, &targets, &planned, reason);
    view.page("Plan", Nav::Servers, &content)
}

/// The reason in a request. The form below a plan asks for one, so that there is none yet is no refusal.
pub(crate) fn reason_of(text: Option<&str>) -> Reason<'_> {
    text.map_or(Reason::NotAskedYet, Reason::Given)
}

/// The request doesn't say what to plan.
#[derive(Debug, Error)]
pub(crate) enum WantedError {
    /// It names neither a release nor an app to roll back, to retry or to remove.
    #[error("no release specified")]
    Nothing,
    /// A name in it isn't one.
    #[error(transparent)]
    Name(#[from] NameError),
    /// The release doesn't exist, can't be deployed, or could not be looked up.
    #[error("{0:#}")]
    Release(anyhow::Error),
}

impl WantedError {
    /// The status to answer.
    pub(crate) fn status(&self) -> StatusCode {
        match self {
            Self::Nothing | Self::Name(_) => StatusCode::BAD_REQUEST,
            Self::Release(_) => StatusCode::NOT_FOUND,
        }
    }
}

/// What a request wants, looked up in the bucket.
pub(crate) async fn wanted(view: &View, params: &Params) -> Result<Wanted, WantedError> {
    if let Some(app) = params.get("rollback") {
        return Ok(Wanted::Rollback(app.parse()?));
    }
    if let Some(app) = params.get("retry") {
        return Ok(Wanted::Retry(app.parse()?));
    }
    if let Some(app) = params.get("remove") {
        return Ok(Wanted::Remove(app.parse()?));
    }
    let Some(stem) = params.get("release") else {
        return Err(WantedError::Nothing);
    };
    let name = ReleaseName::from_stem(stem)?;
    let release = operation::find(view.web.refresher.bucket(), &name).await.map_err(WantedError::Release)?;
    Ok(Wanted::Release(Box::new(release)))
}

/// The servers, read afresh when they are few, and the view with what was read.
pub(crate) async fn fresh_targets(view: View, params: &Params) -> Result<(View, Targets), (View, TargetError)> {
    let targets = match Targets::of(&view, params) {
        Ok(targets) => targets,
        Err(error) => return Err((view, error)),
    };
    if targets.servers.len() > FRESH {
        return Ok((view, targets));
    }
    let read = |name: ServerName| {
        let web = view.web.clone();
        async move { web.refresher.refresh_server(&name).await }
    };
    let names: Vec<ServerName> = targets.servers.iter().map(|server| server.name.clone()).collect();
    stream::iter(names).map(read).buffer_unordered(FRESH).collect::<Vec<()>>().await;
    let view = View::new(&view.web, view.who.clone());
    match Targets::of(&view, params) {
        Ok(targets) => Ok((view, targets)),
        Err(error) => Err((view, error)),
    }
}

/// What would be done to each server.
pub(crate) async fn plan(view: &View, wanted: &Wanted, targets: &Targets, reason: Reason<'_>) -> Vec<Planned> {
    let names: Vec<ServerName> = targets.names().cloned().collect();
    stream::iter(names).map(|name| one(view, wanted, name, reason)).buffered(16).collect().await
}

async fn one(view: &View, wanted: &Wanted, name: ServerName, reason: Reason<'_>) -> Planned {
    let server = view.server(&name);
    let bucket = view.web.refresher.bucket();
    let release = match wanted {
        Wanted::Release(release) => Ok((**release).clone()),
        Wanted::Rollback(app) => previous_on(bucket, app, &server).await,
        Wanted::Retry(app) => current_on(bucket, app, &server).await,
        Wanted::Remove(app) => return removal(view, &server, app, reason),
    };
    let release = release.map_err(|error| format!("{error:#}"));
    let release = match (release, server.document.error()) {
        (Ok(release), None) => release,
        (Err(error), _) => return Planned { server: name, proposal: Err(error), refusal: None, held: None },
        (_, Some(error)) => {
            return Planned { server: name, proposal: Err(error.to_owned()), refusal: None, held: None };
        }
    };
    let proposal = propose(&server, &release, &wanted.kind(), view.now);
    let case = Case { server: &name, app: release.name.app(), dirty: proposal.dirty, reason };
    let refusal = refusal(view, view.policy.judge(&view.who, case), &wanted.kind(), Some(&release.name));
    let (held, bound) = on_hold(view, &name, release.name.app());
    Planned { server: name, proposal: Ok(proposal), refusal: refusal.or(bound), held }
}

fn removal(view: &View, server: &Server, app: &AppName, reason: Reason<'_>) -> Planned {
    let proposal = match server.document.error() {
        Some(error) => Err(error.to_owned()),
        None if server.desired(app).is_none() => Err(format!("the document does not name `{app}`: nothing to remove")),
        None => Ok(propose_removal(server, app, view.now)),
    };
    let judged = view.policy.judge_removal(&view.who, app, &server.name, reason);
    let (held, bound) = on_hold(view, &server.name, app);
    let refusal = refusal(view, judged, &PushKind::Remove, None).or(bound);
    Planned { server: server.name.clone(), proposal, refusal, held }
}

/// The operator's own hold, in words, and the one of somebody else that keeps it from being done.
fn on_hold(view: &View, server: &ServerName, app: &AppName) -> (Option<String>, Option<String>) {
    let Some((_, holds)) = view.snapshot.holds.get(server) else { return (None, None) };
    let Some(holds) = holds.known() else {
        let error = holds.error().unwrap_or_default();
        return (None, Some(format!("could not read whether `{server}` is on hold: {error}")));
    };
    let judge = |held: bool| hold::judge(holds, server, Some(app), &view.who.name, held, view.now).err();
    match (judge(false), judge(true)) {
        (_, Some(bound)) => (None, Some(bound.to_string())),
        (Some(own), None) => (Some(hold::in_words(&own.hold, view.now)), None),
        (None, None) => (None, None),
    }
}

/// What the core proposes, with what keeps this operator or everybody from it.
pub(crate) fn judged(view: &View, proposed: &Proposed, kind: &PushKind, reason: Reason<'_>) -> Planned {
    let Proposed { server, proposal } = proposed;
    let (proposal, refusal, held) = match proposal {
        Err(error) => (Err(format!("{error:#}")), None, None),
        Ok((proposal, _)) => {
            let case = Case { server, app: &proposal.app, dirty: proposal.dirty, reason };
            let judged = match &proposal.to {
                Some(_) => view.policy.judge(&view.who, case),
                None => view.policy.judge_removal(&view.who, &proposal.app, server, reason),
            };
            let (held, bound) = on_hold(view, server, &proposal.app);
            (Ok(proposal.clone()), refusal(view, judged, kind, proposal.to.as_ref()).or(bound), held)
        }
    };
    Planned { server: server.clone(), proposal, refusal, held }
}

/// Why it may not be done: the policy, or what keeps everybody from it.
fn refusal(view: &View, judged: Result<(), Refusal>, kind: &PushKind, to: Option<&ReleaseName>) -> Option<String> {
    let guarded = judge(view.snapshot.halt.as_ref(), &view.snapshot.rejected, kind, to);
    let refused = judged.err().map(|refusal| refusal.to_string());
    refused.or_else(|| guarded.err().map(|guarded| guarded.to_string()))
}
