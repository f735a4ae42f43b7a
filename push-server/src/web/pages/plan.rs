//! What a push would do, server by server, before anything is written.
//!
//! The documents are read afresh when there are few of them; with many, what was read last is shown, and the write
//! refuses where it has changed since.

use std::collections::BTreeMap;

use axum::{http::StatusCode, response::Response};
use bucket::{AppName, PushKind, Release, ReleaseName, ServerName};
use futures_util::{StreamExt, stream};
use maud::{Markup, html};

use super::apps::not_latest;
use crate::web::{
    jobs::{self, target_value},
    params::Params,
    parts::{badge, count, prose, release, release_or, server_link},
    targets::Targets,
    view::{Nav, View},
};
use fleet::{
    condition::Tone,
    operation,
    plan::{Proposal, propose},
    policy::Change,
};

/// Up to how many servers are read afresh for a plan.
const FRESH: usize = 20;

/// What would be done to one server.
pub(crate) struct Planned {
    pub(crate) server: ServerName,
    /// What would change, or why nothing can.
    pub(crate) proposal: Result<Proposal, String>,
    /// Why the policy refuses it.
    pub(crate) refusal: Option<String>,
}

impl Planned {
    /// Whether it would be written.
    pub(crate) fn goes(&self) -> bool {
        self.refusal.is_none() && self.proposal.as_ref().is_ok_and(|proposal| !proposal.is_no_change())
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
            Self::Release(_, kind) => *kind,
            Self::Rollback(_) => PushKind::Rollback,
        }
    }
}

/// `GET /plan`: `release=…` or `rollback=APP`, and `server=…` or `q=FILTER`.
pub(crate) async fn get(view: View, params: Params) -> Response {
    let wanted = match wanted(&view, &params).await {
        Ok(wanted) => wanted,
        Err((status, text)) => return view.problem(status, "That can't be planned", &text),
    };
    let (view, targets) = match fresh_targets(view, &params).await {
        Ok(found) => found,
        Err((view, wrong)) => return view.problem(StatusCode::BAD_REQUEST, "That isn't understood", &wrong),
    };
    if targets.len() == 0 {
        return view.problem(StatusCode::BAD_REQUEST, "No server was chosen", "Choose one server or several first.");
    }
    let reason = params.get("reason").unwrap_or_default();
    let planned = plan(&view, &wanted, &targets, reason).await;
    let content = page(&view, &wanted, &targets, &planned, reason, None);
    view.page("Plan", Nav::Servers, &content)
}

/// What a request wants, looked up in the bucket.
pub(crate) async fn wanted(view: &View, params: &Params) -> Result<Wanted, (StatusCode, String)> {
    if let Some(app) = params.get("rollback") {
        let app = app.parse().map_err(|error| (StatusCode::BAD_REQUEST, format!("{error}")))?;
        return Ok(Wanted::Rollback(app));
    }
    let Some(stem) = params.get("release") else {
        return Err((StatusCode::BAD_REQUEST, "no release was chosen".to_owned()));
    };
    let name = ReleaseName::from_stem(stem).map_err(|error| (StatusCode::BAD_REQUEST, error.to_string()))?;
    let kind = if params.get("undo").is_some() { PushKind::Rollback } else { PushKind::Deploy };
    match operation::find(view.web.refresher.bucket(), &name).await {
        Ok(release) => Ok(Wanted::Release(Box::new(release), kind)),
        Err(error) => Err((StatusCode::NOT_FOUND, format!("{error:#}"))),
    }
}

/// The servers, read afresh when they are few, and the view with what was read.
pub(crate) async fn fresh_targets(view: View, params: &Params) -> Result<(View, Targets), (View, String)> {
    let targets = match Targets::of(&view, params) {
        Ok(targets) => targets,
        Err(wrong) => return Err((view, wrong)),
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
        Err(wrong) => Err((view, wrong)),
    }
}

/// What would be done to each server.
pub(crate) async fn plan(view: &View, wanted: &Wanted, targets: &Targets, reason: &str) -> Vec<Planned> {
    let names: Vec<ServerName> = targets.names().cloned().collect();
    stream::iter(names).map(|name| one(view, wanted, name, reason)).buffered(16).collect().await
}

async fn one(view: &View, wanted: &Wanted, name: ServerName, reason: &str) -> Planned {
    let server = view.snapshot.servers.get(&name);
    let release = match wanted {
        Wanted::Release(release, _) => Ok((**release).clone()),
        Wanted::Rollback(app) => before(view, app, &name).await,
    };
    let release = match (release, server.and_then(|server| server.document_error.as_ref())) {
        (Ok(release), None) => release,
        (Err(error), _) => return Planned { server: name, proposal: Err(error), refusal: None },
        (_, Some(error)) => return Planned { server: name, proposal: Err(error.clone()), refusal: None },
    };
    let document = server.and_then(|server| server.document.as_ref()).map(|(_, document)| document);
    let status = server.and_then(|server| server.status.as_ref());
    let mut proposal = propose(&name, document, &release, status, view.now);
    if wanted.kind() == PushKind::Rollback {
        // That it is older is the point.
        proposal.warnings.retain(|warning| !warning.starts_with("it is older"));
    }
    // The reason is asked for below the plan: that it isn't there yet is no refusal.
    let change = Change {
        server: &name,
        app: release.name.app(),
        dirty: proposal.dirty,
        reason: if reason.is_empty() { "to be given" } else { reason },
    };
    let refusal = view.policy.judge(&view.who, change).err();
    Planned { server: name, proposal: Ok(proposal), refusal }
}

async fn before(view: &View, app: &AppName, server: &ServerName) -> Result<Release, String> {
    let bucket = view.web.refresher.bucket();
    let before = operation::before(bucket, app, server).await.map_err(|error| format!("{error:#}"))?;
    operation::find(bucket, &before).await.map_err(|error| format!("{error:#}"))
}

/// The plan, and the form that carries it out.
pub(crate) fn page(
    view: &View,
    wanted: &Wanted,
    targets: &Targets,
    planned: &[Planned],
    reason: &str,
    wrong: Option<&str>,
) -> Markup {
    let going: Vec<&Planned> = planned.iter().filter(|planned| planned.goes()).collect();
    let needs_reason = going.iter().any(|planned| view.policy.requires_reason(&planned.server));
    let (verb, preposition) =
        if wanted.kind() == PushKind::Rollback { ("Roll back", " on ") } else { ("Push", " to ") };
    html! {
        h1 {
            @match wanted {
                Wanted::Rollback(app) => { "Roll back " (app) " on " (targets.words()) },
                Wanted::Release(release, PushKind::Rollback) => { "Take " (release.name.app()) " back on " (targets.words()) },
                Wanted::Release(release, PushKind::Deploy) => { "Push " (release.name.app()) " to " (targets.words()) },
            }
        }
        @if let Wanted::Release(chosen, _) = wanted { (chosen_release(view, chosen)) }
        @if let Some(wrong) = wrong { p.banner.bad role="alert" { (prose(wrong)) } }
        (table(view, planned))
        @if going.is_empty() {
            p.lead { "Nothing would be written." }
            p { a.button href="/servers" { "Servers" } }
        } @else {
            form.push method="post" action="/push" {
                input type="hidden" name="kind" value=(if wanted.kind() == PushKind::Rollback { "rollback" } else { "deploy" });
                @for planned in &going {
                    @if let Ok(proposal) = &planned.proposal { input type="hidden" name="target" value=(target_value(proposal)); }
                }
                label for="reason" { "Why" @if !needs_reason { " (optional)" } }
                input #reason type="text" name="reason" value=(reason) maxlength="500" autocomplete="off" required[needs_reason]
                    aria-describedby="reason-help";
                p #reason-help.help { "The history keeps it." @if needs_reason { " A group here wants a reason for every push." } }
                @let new: Vec<&str> = going.iter().map(|planned| &planned.server).filter(|name| jobs::is_new(view, name))
                    .map(ServerName::as_str).collect();
                @if !new.is_empty() {
                    p.confirm {
                        input #new_servers type="checkbox" name="new_servers" value="yes" required;
                        " " label for="new_servers" {
                            @if let [one] = new.as_slice() { "There is no server " code { (one) } " yet; it is new, not misspelt" }
                            @else { "There are no servers " (new.join(", ")) " yet; they are new, not misspelt" }
                        }
                    }
                }
                div.actions {
                    button.primary type="submit" { (verb) " " (wanted.app()) (preposition) (count(going.len(), "server")) }
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
                @if facts.dirty { " " (badge(Tone::Notice, "±", "dirty")) }
                @if !facts.note.is_empty() { " — " span.note { (prose(&facts.note)) } }
            }
            @if let Some(releases) = releases { (not_latest(releases, &chosen.name)) }
        }
    }
}

fn table(view: &View, planned: &[Planned]) -> Markup {
    let mut repos = BTreeMap::new();
    html! {
        table.rows {
            thead {
                tr { th scope="col" { "Server" } th scope="col" { "From → to" } th scope="col" { "To know" } }
            }
            tbody {
                @for planned in planned {
                    tr {
                        th scope="row" data-label="Server" { (server_link(planned.server.as_str())) }
                        td.wide data-label="From → to" {
                            @match &planned.proposal {
                                Err(_) => span.none { "nothing changes" },
                                Ok(proposal) if proposal.is_no_change() => { (release(&proposal.to)) " " span.none { "stays" } },
                                Ok(proposal) => {
                                    (release_or(proposal.from.as_ref(), "nothing")) " → " (release(&proposal.to))
                                    @if let Some(href) = compare(view, &mut repos, proposal) {
                                        " " a rel="noreferrer" href=(href) { "compare" }
                                    }
                                },
                            }
                        }
                        td.wide data-label="To know" { (to_know(planned)) }
                    }
                }
            }
        }
    }
}

fn compare(view: &View, repos: &mut BTreeMap<ReleaseName, String>, proposal: &Proposal) -> Option<String> {
    let repo = repos.entry(proposal.to.clone()).or_insert_with(|| {
        let releases = view.snapshot.apps.get(proposal.to.app());
        releases.and_then(|releases| Some(releases.get(&proposal.to)?.repo.to_owned())).unwrap_or_default()
    });
    let from = proposal.from.as_ref()?;
    view.policy.links().compare(repo, from.commit().as_str(), proposal.to.commit().as_str())
}

fn to_know(planned: &Planned) -> Markup {
    html! {
        @match (&planned.proposal, &planned.refusal) {
            (Err(error), _) => { (badge(Tone::Bad, "✗", "not possible")) p.reason { (prose(error)) } },
            (_, Some(refusal)) => { (badge(Tone::Bad, "⊘", "not allowed")) p.reason { (prose(refusal)) } },
            (Ok(proposal), None) => {
                // That nothing changes is said beside it.
                @let told: Vec<&String> = proposal.objection.iter().chain(&proposal.warnings)
                    .filter(|warning| !warning.starts_with("no change")).collect();
                @if told.is_empty() { span.none { "nothing special" } }
                ul.warnings {
                    @for warning in told {
                        li { span.symbol aria-hidden="true" { "▲" } " " (prose(warning)) }
                    }
                }
            }
        }
    }
}
