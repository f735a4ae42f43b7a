//! What a push would do, server by server, before anything is written.
//!
//! The documents are read afresh when there are few of them; with many, what was read last is shown, and the write
//! refuses where it has changed since.

use axum::{http::StatusCode, response::Response};
use bucket::{AppName, NameError, PushKind, Release, ReleaseName, ServerName};
use console::count;
use futures_util::{StreamExt, stream};
use maud::{Markup, html};

use fleet::{
    operation,
    plan::{Objection, Proposal, Warning, is_new, propose},
    policy::{Case, Reason, Refusal},
    rollback::previous_on,
    server::Server,
};
use thiserror::Error;

use super::apps::not_latest;
use crate::{
    badge::Severity,
    web::{
        compare::compare_link,
        form::target_value,
        params::Params,
        parts::{badge, prose, release, release_or, server_link},
        targets::{TargetError, Targets},
        view::{Nav, View},
    },
};

/// Up to how many servers are read afresh for a plan.
const FRESH: usize = 20;

/// What would be done to one server.
pub(crate) struct Planned {
    pub(crate) server: ServerName,
    /// What would change, or why nothing can.
    pub(crate) proposal: Result<Proposal, String>,
    /// Why the policy refuses it.
    pub(crate) refusal: Option<Refusal>,
}

impl Planned {
    /// Whether it would be written.
    pub(crate) fn goes(&self) -> bool {
        self.refusal.is_none() && self.proposal.as_ref().is_ok_and(|proposal| !proposal.is_no_change())
    }

    /// Whether that would put the app on a server that doesn't have it.
    fn installs(&self) -> bool {
        self.proposal.as_ref().is_ok_and(|proposal| matches!(proposal.objection, Some(Objection::NewApp(..))))
    }

    fn target(&self) -> Option<String> {
        self.proposal.as_ref().ok().map(target_value)
    }
}

/// What a request wants planned.
pub(crate) enum Wanted {
    /// One release, forward or (undo) back.
    Release(Box<Release>, PushKind),
    /// What each server had before.
    Rollback(AppName),
}

impl Wanted {
    pub(crate) fn app(&self) -> &AppName {
        match self {
            Self::Release(release, _) => release.name.app(),
            Self::Rollback(app) => app,
        }
    }

    pub(crate) fn kind(&self) -> PushKind {
        match self {
            Self::Release(_, kind) => kind.clone(),
            Self::Rollback(_) => PushKind::Rollback,
        }
    }
}

/// `GET /plan`: `release=…` or `rollback=APP`, and `server=…` or `q=FILTER`.
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
    let content = page(&view, &wanted, &targets, &planned, reason);
    view.page("Plan", Nav::Servers, &content)
}

/// The reason in a request. The form below a plan asks for one, so that there is none yet is no refusal.
pub(crate) fn reason_of(text: Option<&str>) -> Reason<'_> {
    text.map_or(Reason::NotAskedYet, Reason::Given)
}

/// The request doesn't say what to plan.
#[derive(Debug, Error)]
pub(crate) enum WantedError {
    /// It names neither a release nor an app to roll back.
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
    let Some(stem) = params.get("release") else {
        return Err(WantedError::Nothing);
    };
    let name = ReleaseName::from_stem(stem)?;
    let kind = if params.get("undo").is_some() { PushKind::Rollback } else { PushKind::Deploy };
    let release = operation::find(view.web.refresher.bucket(), &name).await.map_err(WantedError::Release)?;
    Ok(Wanted::Release(Box::new(release), kind))
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
    let release = match wanted {
        Wanted::Release(release, _) => Ok((**release).clone()),
        Wanted::Rollback(app) => before(view, app, &server).await,
    };
    let release = match (release, server.document.error()) {
        (Ok(release), None) => release,
        (Err(error), _) => return Planned { server: name, proposal: Err(error), refusal: None },
        (_, Some(error)) => return Planned { server: name, proposal: Err(error.to_owned()), refusal: None },
    };
    let proposal = propose(&server, &release, &wanted.kind(), view.now);
    let case = Case { server: &name, app: release.name.app(), dirty: proposal.dirty, reason };
    let refusal = view.policy.judge(&view.who, case).err();
    Planned { server: name, proposal: Ok(proposal), refusal }
}

async fn before(view: &View, app: &AppName, server: &Server) -> Result<Release, String> {
    let bucket = view.web.refresher.bucket();
    previous_on(bucket, app, server).await.map_err(|error| format!("{error:#}"))
}

/// The plan, and the form that carries it out.
pub(crate) fn page(view: &View, wanted: &Wanted, targets: &Targets, planned: &[Planned], reason: &str) -> Markup {
    let (installing, going): (Vec<&Planned>, Vec<&Planned>) =
        planned.iter().filter(|planned| planned.goes()).partition(|planned| planned.installs());
    let needs_reason = going.iter().chain(&installing).any(|planned| view.policy.requires_reason(&planned.server));
    let (verb, preposition) =
        if wanted.kind() == PushKind::Rollback { ("Roll back", " on ") } else { ("Push", " to ") };
    html! {
        h1 {
            @match wanted {
                Wanted::Rollback(app) => { "Roll back " (app) " on " (targets.summary()) },
                Wanted::Release(release, PushKind::Rollback) => { "Undo push of " (release.name.app()) " on " (targets.summary()) },
                Wanted::Release(release, _) => { "Push " (release.name.app()) " to " (targets.summary()) },
            }
        }
        @if let Wanted::Release(chosen, _) = wanted { (chosen_release(view, chosen)) }
        (table(view, planned))
        @if going.is_empty() && installing.is_empty() {
            p.lead { "No changes to push." }
            p { a.button href="/servers" { "Servers" } }
        } @else {
            form.push method="post" action="/push" {
                input type="hidden" name="kind" value=(if wanted.kind() == PushKind::Rollback { "rollback" } else { "deploy" });
                @for target in going.iter().filter_map(|planned| planned.target()) {
                    input type="hidden" name="target" value=(target);
                }
                @for target in installing.iter().filter_map(|planned| planned.target()) {
                    input type="hidden" name="install_target" value=(target);
                }
                label for="reason" { "Reason" @if !needs_reason { " (optional)" } }
                input #reason type="text" name="reason" value=(reason) maxlength="500" autocomplete="off" required[needs_reason]
                    aria-describedby="reason-help";
                p #reason-help.help {
                    "Recorded in the history."
                    @if needs_reason { " A group of these servers requires a reason for every push." }
                }
                @let new: Vec<&str> = going.iter().map(|planned| &planned.server).filter(|name| is_new(&view.server(name)))
                    .map(ServerName::as_str).collect();
                @if !new.is_empty() {
                    p.confirm {
                        input #new_servers type="checkbox" name="new_servers" value="yes" required;
                        " " label for="new_servers" {
                            @if let [one] = new.as_slice() {
                                code { (one) } " does not exist yet. Create a new server with this name."
                            } @else {
                                (new.join(", ")) " do not exist yet. Create new servers with these names."
                            }
                        }
                    }
                }
                @if !installing.is_empty() {
                    @let all = installing.len();
                    p.confirm {
                        input #install type="checkbox" name="install" value="yes" required[going.is_empty()];
                        " " label for="install" {
                            (if going.is_empty() { "Install on " } else { "Also install on " }) (count(all, "server"))
                            " that " (if all == 1 { "does" } else { "do" })
                            " not have " code { (wanted.app()) } " yet."
                        }
                    }
                }
                div.actions {
                    @let named = if going.is_empty() { installing.len() } else { going.len() };
                    button.primary type="submit" { (verb) " " (wanted.app()) (preposition) (count(named, "server")) }
                    " "
                    a.button href=(back(wanted, targets)) { "Cancel" }
                }
            }
        }
    }
}

fn back(wanted: &Wanted, targets: &Targets) -> String {
    match targets.names().next() {
        Some(name) if targets.len() == 1 => format!("/servers/{name}"),
        _ => format!("/apps/{}", wanted.app()),
    }
}

fn chosen_release(view: &View, chosen: &Release) -> Markup {
    let releases = view.snapshot.apps.get(chosen.name.app());
    html! {
        p.lead {
            (release(&chosen.name))
            @if let Ok(facts) = &chosen.metadata {
                @if facts.dirty { " " (badge(Severity::Notice, "±", "dirty")) }
                @if !facts.note.is_empty() { " — " span.note { (prose(&facts.note)) } }
            }
            @if let Some(releases) = releases { (not_latest(releases, &chosen.name)) }
        }
    }
}

fn table(view: &View, planned: &[Planned]) -> Markup {
    html! {
        table.rows {
            thead {
                tr { th scope="col" { "Server" } th scope="col" { "From → to" } th scope="col" { "Notes" } }
            }
            tbody {
                @for planned in planned {
                    tr {
                        th scope="row" data-label="Server" { (server_link(planned.server.as_str())) }
                        td.wide data-label="From → to" {
                            @match &planned.proposal {
                                Err(_) => span.none { "no change" },
                                Ok(proposal) if proposal.is_no_change() => { (release(&proposal.to)) " " span.none { "no change" } },
                                Ok(proposal) => {
                                    (release_or(proposal.from.as_ref(), "nothing")) " → " (release(&proposal.to))
                                    (compare_link(view, proposal.from.as_ref(), Some(&proposal.to)))
                                },
                            }
                        }
                        td.wide data-label="Notes" { (notes(planned)) }
                    }
                }
            }
        }
    }
}

fn notes(planned: &Planned) -> Markup {
    html! {
        @match (&planned.proposal, &planned.refusal) {
            (Err(error), _) => { (badge(Severity::Bad, "✗", "not possible")) p.reason { (prose(error)) } },
            (_, Some(refusal)) => { (badge(Severity::Bad, "⊘", "not allowed")) p.reason { (prose(&refusal.to_string())) } },
            (Ok(proposal), None) => {
                @let texts = to_note(proposal);
                @if texts.is_empty() { span.none { "none" } }
                ul.warnings {
                    @for text in texts { li { span.symbol aria-hidden="true" { "▲" } " " (prose(&text)) } }
                }
            }
        }
    }
}

fn to_note(proposal: &Proposal) -> Vec<String> {
    // That nothing changes stands beside it.
    let warnings = proposal.warnings.iter().filter(|warning| **warning != Warning::NoChange);
    let objection = proposal.objection.iter().map(Objection::to_string);
    objection.chain(warnings.map(Warning::to_string)).collect()
}
