//! What every page is drawn from, and the frame around it.

use std::{convert::Infallible, sync::Arc};

use axum::{
    extract::{FromRequestParts, Request},
    http::{StatusCode, request::Parts},
    response::{Html, IntoResponse, Response},
};
use bucket::{ServerName, Timestamp};
use fleet::{
    identity::{Identity, Origin},
    policy::{Policy, Role},
    server::{Reading, Server},
};
use maud::{DOCTYPE, Markup, html};

use super::{assets, parts, shared::Web};
use crate::snapshot::FleetSnapshot;

/// Everything that a page knows.
pub(crate) struct View {
    pub(crate) web: Arc<Web>,
    pub(crate) who: Identity,
    pub(crate) snapshot: Arc<FleetSnapshot>,
    /// The number of a change that is in it, as are all before.
    seen: u64,
    pub(crate) policy: Arc<Policy>,
    pub(crate) now: Timestamp,
}

/// The entries of the navigation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Nav {
    Overview,
    Servers,
    Apps,
    Channels,
    Changes,
    Runs,
    History,
    None,
}

impl FromRequestParts<Arc<Web>> for View {
    type Rejection = Infallible;

    async fn from_request_parts(request: &mut Parts, web: &Arc<Web>) -> Result<Self, Infallible> {
        let nobody = || Identity { name: String::new(), origin: Origin::SignedIn };
        let who = request.extensions.get::<Identity>().cloned().unwrap_or_else(nobody);
        Ok(Self::new(web, who))
    }
}

impl View {
    pub(crate) fn new(web: &Arc<Web>, who: Identity) -> Self {
        // Before the snapshot: of a change in between a page is told once more.
        let seen = *web.refresher.changes().borrow();
        let (snapshot, policy) = (web.refresher.snapshot(), web.policy());
        Self { web: web.clone(), who, snapshot, seen, policy, now: Timestamp::now() }
    }

    /// With what is known by now.
    pub(crate) fn afresh(self) -> Self {
        Self::new(&self.web, self.who)
    }

    pub(crate) fn of(web: &Arc<Web>, request: &Request) -> Self {
        let nobody = || Identity { name: String::new(), origin: Origin::SignedIn };
        Self::new(web, request.extensions().get::<Identity>().cloned().unwrap_or_else(nobody))
    }

    /// Whether the operator may push anything anywhere; whether here is for [`Policy::judge`] to say.
    pub(crate) fn may_push(&self) -> bool {
        self.policy.highest_role(&self.who) >= Role::Deployer
    }

    /// The time by the bucket's clock, by which pushes are dated.
    pub(crate) fn bucket_now(&self) -> Timestamp {
        self.web.refresher.bucket().now()
    }

    /// A server as it was last read; one that the bucket doesn't know has nothing.
    pub(crate) fn server(&self, name: &ServerName) -> Arc<Server> {
        let unknown =
            || Server { name: name.clone(), document: Reading::Absent, status: Reading::Absent, is_retired: false };
        self.snapshot.servers.get(name).cloned().unwrap_or_else(|| Arc::new(unknown()))
    }

    /// A page.
    pub(crate) fn page(&self, title: &str, nav: Nav, content: &Markup) -> Response {
        Html(self.frame(title, nav, content).into_string()).into_response()
    }

    /// A page that says what is wrong, why, and what to do.
    pub(crate) fn problem(&self, status: StatusCode, title: &str, text: &str) -> Response {
        let content = html! {
            h1 { (title) }
            p.lead { (parts::prose(text)) }
            p { a.button href="/" { "Overview" } }
        };
        (status, Html(self.frame(title, Nav::None, &content).into_string())).into_response()
    }

    fn frame(&self, title: &str, nav: Nav, content: &Markup) -> Markup {
        let entries = [
            (Nav::Overview, "/", "Overview"),
            (Nav::Servers, "/servers", "Servers"),
            (Nav::Apps, "/apps", "Apps"),
            (Nav::Channels, "/channels", "Channels"),
            (Nav::Changes, "/changes", "Changes"),
            (Nav::Runs, "/runs", "Runs"),
            (Nav::History, "/history", "History"),
        ];
        let has_channels = !self.policy.channels().is_empty();
        let entries = entries.into_iter().filter(|(entry, ..)| match entry {
            Nav::Channels => has_channels,
            Nav::Changes => self.web.has_changes,
            Nav::Runs => !self.snapshot.runs.projects.is_empty(),
            _ => true,
        });
        html! {
            (DOCTYPE)
            html lang="en" {
                head {
                    meta charset="utf-8";
                    meta name="viewport" content="width=device-width, initial-scale=1";
                    meta name="color-scheme" content="light dark";
                    title { (title) " · Push" }
                    link rel="icon" href=(assets::icon()) type="image/svg+xml";
                    link rel="stylesheet" href=(assets::style());
                    script src=(assets::script()) defer {}
                }
                body data-seen=(self.seen) {
                    a.skip href="#main" { "Skip to the content" }
                    header.top {
                        a.brand href="/" { "Push" }
                        nav aria-label="Main" {
                            @for (entry, href, name) in entries {
                                a href=(href) aria-current=[(entry == nav).then_some("page")] { (name) }
                            }
                        }
                        @if self.who.origin == Origin::Visitor {
                            span.who { "Read-only: to push, open the address that " code { "push serve" } " printed" }
                        } @else if !self.who.name.is_empty() {
                            span.who title="Your name, as recorded in the history" { (parts::foreign(&self.who.name, 80)) }
                        }
                    }
                    div #banners data-live { (self.banners()) }
                    main #main tabindex="-1" { (content) }
                    footer.bottom {
                        span { code { (self.web.bucket_name) } }
                        span #freshness data-live {
                            @match self.snapshot.taken {
                                Some(taken) => { "Updated " (parts::ago(taken, self.now)) },
                                None => "Not read yet",
                            }
                        }
                        a href="/halt" { "Halt" }
                        span { "Push " (env!("CARGO_PKG_VERSION")) }
                    }
                }
            }
        }
    }

    fn banners(&self) -> Markup {
        html! {
            @if let Some(failure) = &self.snapshot.failure {
                div.banner.bad role="status" {
                    strong { "The bucket is unreadable. " }
                    @match self.snapshot.taken {
                        Some(taken) => { "This page was updated " (parts::ago(taken, self.now)) ". " },
                        None => "No data is available yet. ",
                    }
                    "Pushing is disabled until the bucket is readable again. "
                    span.detail { (parts::prose(failure)) }
                }
            } @else if self.snapshot.taken.is_none() {
                div.banner.notice role="status" { "Reading the bucket for the first time." }
            }
            @if let Some(halt) = &self.snapshot.halt {
                div.banner.bad role="status" {
                    strong { "All pushes are halted. " }
                    "By " (parts::foreign(&halt.by, 80)) ", " (parts::ago(halt.at, self.now)) ". Undo and rollback work. "
                    @if self.policy.highest_role(&self.who) >= Role::Admin { a href="/halt" { "Lift the halt" } }
                    span.detail { (parts::prose(&halt.why)) }
                }
            }
            @if let Some(problem) = self.web.policy_problem() {
                div.banner.notice role="status" {
                    strong { "The policy file is invalid; the previous version stays in effect. " }
                    span.detail { (parts::prose(&problem)) }
                }
            }
        }
    }
}
