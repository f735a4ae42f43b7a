//! What the API says and takes. Names of releases are whole ones without directory and `.deb`; times are RFC 3339, UTC.

use bucket::{AppStatus, HistoryEntry, PushKind, ReleaseName, Timestamp};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    snapshot::{Listed, Server},
    web::{jobs::Job, pages::plan::Planned, view::View},
};
use fleet::condition::{AppRow, app_word, apps, condition};

/// One page of a list.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Page<T> {
    /// The items of this page.
    pub(crate) items: Vec<T>,
    /// How many there are on all pages.
    pub(crate) total: usize,
    /// The number of the next page; absent on the last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) next: Option<usize>,
    /// When the bucket was read; what is said is as old as that.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) read: Option<String>,
}

/// One server: what it should run, and what its agent last said.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct ServerOut {
    /// Its name.
    pub(crate) name: String,
    /// How it is: `converged`, `drifted`, `pending`, `unknown`, `never`, `silent`, `unreadable`, `failed` or `degraded`.
    pub(crate) state: &'static str,
    /// In a sentence, why, when there is something to say.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) reason: Option<String>,
    /// When its agent last reported.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) reported: Option<String>,
    /// The version of its agent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) agent: Option<String>,
    /// The generation of its document.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) generation: Option<i64>,
    /// The groups of the policy file that it is in.
    pub(crate) groups: Vec<String>,
    /// Its apps.
    pub(crate) apps: Vec<AppOn>,
}

/// One app on a server.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct AppOn {
    /// Its name.
    pub(crate) app: String,
    /// The release that the document names.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) desired: Option<String>,
    /// The release that the agent says is installed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) installed: Option<String>,
    /// How it is: `converged`, `drifted`, `pending`, `failed`, `rolled-back`, `degraded`, `refused`, `orphan` or `unknown`.
    pub(crate) state: &'static str,
    /// In a sentence, why, when there is something to say.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) reason: Option<String>,
    /// What was changed by hand.
    pub(crate) drift: Vec<String>,
    /// Its units.
    pub(crate) units: Vec<Unit>,
}

/// One systemd unit, in systemd's own words.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Unit {
    /// Its name.
    pub(crate) name: String,
    /// Its `ActiveState`.
    pub(crate) active: String,
    /// Its `SubState`.
    pub(crate) sub: String,
    /// Since when it is so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) since: Option<String>,
    /// How often systemd restarted it by itself.
    pub(crate) restarts: u32,
}

/// One app that has releases.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct AppOut {
    /// Its name.
    pub(crate) name: String,
    /// Its newest release that isn't dirty.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) latest: Option<String>,
    /// How many releases it has.
    pub(crate) releases: usize,
    /// On how many servers it is.
    pub(crate) servers: usize,
}

/// One release.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct ReleaseOut {
    /// Its name.
    pub(crate) name: String,
    /// When it was built.
    pub(crate) built: String,
    /// Who built it, `user@host`.
    pub(crate) by: String,
    /// The commit it was built from.
    pub(crate) commit: String,
    /// Whether it was built with uncommitted changes.
    pub(crate) dirty: bool,
    /// Why it was built.
    pub(crate) note: String,
    /// The branch it was built from.
    pub(crate) branch: String,
    /// Its size in bytes.
    pub(crate) size: u64,
    /// Why it can't be deployed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) trouble: Option<String>,
}

/// One push that was written.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct PushOut {
    /// When.
    pub(crate) time: String,
    /// Where to.
    pub(crate) server: String,
    /// Which app.
    pub(crate) app: String,
    /// The release before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) from: Option<String>,
    /// The release since.
    pub(crate) to: String,
    /// `deploy` or `rollback`.
    pub(crate) kind: &'static str,
    /// Who.
    pub(crate) who: String,
    /// Why.
    pub(crate) why: String,
    /// The generation of the document that holds it.
    pub(crate) generation: i64,
}

/// What would be done to one server.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct PlannedOut {
    /// Which.
    pub(crate) server: String,
    /// The release of the app that its document names now.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) from: Option<String>,
    /// The release that it would name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) to: Option<String>,
    /// What to know before.
    pub(crate) warnings: Vec<String>,
    /// Why it can't be or may not be; absent when it can.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) refusal: Option<String>,
}

/// A plan.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct PlanOut {
    /// `deploy` or `rollback`.
    pub(crate) kind: &'static str,
    /// What would be done to each server; `POST /api/v1/pushes` takes `server`, `from` and `to` of those without refusal.
    pub(crate) changes: Vec<PlannedOut>,
}

/// Pushes that are wanted.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct PushIn {
    /// `deploy` or `rollback`.
    pub(crate) kind: Kind,
    /// Why, for the history.
    #[serde(default)]
    pub(crate) reason: String,
    /// The pushes; each server once for an app.
    pub(crate) changes: Vec<ChangeIn>,
    /// Whether servers may be made that have no document and never reported; a misspelt name would make one.
    #[serde(default)]
    pub(crate) new_servers: bool,
}

/// Forward or back.
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Kind {
    /// A release was chosen.
    Deploy,
    /// Back to what was there before.
    Rollback,
}

/// One push that is wanted.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ChangeIn {
    /// Where to.
    pub(crate) server: String,
    /// The release of the app that was seen there, absent for none: if it is another by now, nothing is written.
    #[serde(default)]
    pub(crate) from: Option<String>,
    /// The release it should have.
    pub(crate) to: String,
}

/// Pushes under way or done.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct JobOut {
    /// Its name: `GET /api/v1/pushes/{id}` tells how it goes on.
    pub(crate) id: String,
    /// Whether all is done.
    pub(crate) finished: bool,
    /// How each went.
    pub(crate) outcomes: Vec<OutcomeOut>,
}

/// How one push went.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct OutcomeOut {
    /// Where to.
    pub(crate) server: String,
    /// The release.
    pub(crate) to: String,
    /// `waiting`, `written` or `refused`; nothing was written then.
    pub(crate) result: &'static str,
    /// The generation of the document that holds it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) generation: Option<i64>,
    /// Why nothing was written.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) error: Option<String>,
    /// What went wrong after the write; the push stands.
    pub(crate) warnings: Vec<String>,
}

/// A problem, as RFC 9457 writes it.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Problem {
    /// What went wrong, in a few words.
    pub(crate) title: String,
    /// The status of the answer.
    pub(crate) status: u16,
    /// In a sentence, what went wrong on what, and what to do.
    pub(crate) detail: String,
}

fn time(time: Timestamp) -> String {
    time.to_string()
}

fn stem(name: &ReleaseName) -> String {
    name.stem().to_owned()
}

fn kind(kind: PushKind) -> &'static str {
    match kind {
        PushKind::Deploy => "deploy",
        PushKind::Rollback => "rollback",
    }
}

impl<T> Page<T> {
    pub(crate) fn new(view: &View, items: Vec<T>, page: usize, total: usize) -> Self {
        let next = (page.saturating_mul(crate::web::parts::PAGE) < total).then(|| page + 1);
        Self { items, total, next, read: view.snapshot.taken.map(time) }
    }
}

impl ServerOut {
    pub(crate) fn new(view: &View, server: &Server) -> Self {
        let status = server.status.as_ref();
        Self {
            name: server.name.to_string(),
            state: condition(server, view.now).word(),
            reason: crate::web::pages::servers::reason_of(server, view.now),
            reported: status.map(|status| time(status.written)),
            agent: status.map(|status| status.agent.version.clone()),
            generation: server.document.as_ref().map(|(generation, _)| generation.0),
            groups: view.policy.groups_of(&server.name).into_iter().map(str::to_owned).collect(),
            apps: apps(server).iter().map(AppOn::new).collect(),
        }
    }
}

impl AppOn {
    fn new(row: &AppRow) -> Self {
        let own = |app: &&AppStatus| app.state == row.state;
        let units = row.reported.map(|app| app.units.as_slice()).unwrap_or_default();
        Self {
            app: row.app.to_owned(),
            desired: row.desired.map(stem),
            installed: row.installed.map(stem),
            state: app_word(row.state),
            reason: row.reported.filter(own).and_then(|app| app.reason.clone()),
            drift: row.reported.map(|app| app.drift.clone()).unwrap_or_default(),
            units: units
                .iter()
                .map(|unit| Unit {
                    name: unit.name.clone(),
                    active: unit.active.clone(),
                    sub: unit.sub.clone(),
                    since: unit.since.map(time),
                    restarts: unit.restarts,
                })
                .collect(),
        }
    }
}

impl From<Listed<'_>> for ReleaseOut {
    fn from(listed: Listed) -> Self {
        Self {
            name: stem(&listed.name),
            built: time(listed.name.time()),
            by: format!("{}@{}", listed.name.user(), listed.name.host()),
            commit: listed.name.commit().to_string(),
            dirty: listed.dirty,
            note: listed.note.to_owned(),
            branch: listed.branch.to_owned(),
            size: listed.size,
            trouble: listed.trouble.map(str::to_owned),
        }
    }
}

impl From<&HistoryEntry> for PushOut {
    fn from(push: &HistoryEntry) -> Self {
        Self {
            time: time(push.time),
            server: push.server.to_string(),
            app: push.app.to_string(),
            from: push.from.as_ref().map(stem),
            to: stem(&push.to),
            kind: kind(push.kind),
            who: push.who.clone(),
            why: push.why.clone(),
            generation: push.generation.0,
        }
    }
}

impl PlanOut {
    pub(crate) fn new(of: PushKind, planned: Vec<Planned>) -> Self {
        let changes = planned.into_iter().map(|planned| {
            let (proposal, error) = match planned.proposal {
                Ok(proposal) => (Some(proposal), None),
                Err(error) => (None, Some(error)),
            };
            let objection = proposal.as_ref().and_then(|proposal| proposal.objection.clone());
            PlannedOut {
                server: planned.server.to_string(),
                from: proposal.as_ref().and_then(|proposal| proposal.from.as_ref()).map(stem),
                to: proposal.as_ref().map(|proposal| stem(&proposal.to)),
                warnings: objection.into_iter().chain(proposal.into_iter().flat_map(|p| p.warnings)).collect(),
                refusal: error.or(planned.refusal),
            }
        });
        Self { kind: kind(of), changes: changes.collect() }
    }
}

impl JobOut {
    pub(crate) fn new(job: &Job) -> Self {
        let progress = job.progress();
        let outcomes = job.intents.iter().zip(&progress.outcomes).map(|(intent, outcome)| {
            let generation = outcome.as_ref().and_then(|outcome| outcome.result.as_ref().ok()).map(|g| g.0);
            let error = outcome.as_ref().and_then(|outcome| outcome.result.as_ref().err()).cloned();
            OutcomeOut {
                server: intent.server.to_string(),
                to: stem(&intent.release),
                result: match (outcome, &error) {
                    (None, _) => "waiting",
                    (_, None) => "written",
                    _ => "refused",
                },
                generation,
                error,
                warnings: outcome.as_ref().map(|outcome| outcome.warnings.clone()).unwrap_or_default(),
            }
        });
        Self { id: job.id.clone(), finished: progress.finished, outcomes: outcomes.collect() }
    }
}
