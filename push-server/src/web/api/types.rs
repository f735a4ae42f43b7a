//! What the API returns and accepts. Names of releases are whole ones without directory and `.deb`; times are RFC 3339, UTC.

use bucket::{AppStatus, HistoryEntry, PushId, ReleaseName, Timestamp};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use fleet::{
    condition::{AppRow, app_label, apps, condition},
    operation::Intent,
    server::Server,
};

use super::holds::HoldOut;
use crate::{
    snapshot::{Listed, Mark},
    web::{jobs::Job, pages::servers::reason_of, parts::PAGE, view::View},
};

/// One page of a list.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Page<T> {
    /// The items of this page.
    pub(crate) items: Vec<T>,
    /// Number of items on all pages.
    pub(crate) total: usize,
    /// Number of the next page; absent on the last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) next: Option<usize>,
    /// Why there are no items, if a name in the filter is one that nothing has.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) hint: Option<String>,
    /// When the bucket was read: the items are as of then.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) read: Option<String>,
}

/// One server: what it should run, and what its agent last said.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct ServerOut {
    /// Its name.
    pub(crate) name: String,
    /// State: `converged`, `drifted`, `pending`, `unknown`, `never`, `silent`, `unreadable`, `unstable`, `failed` or `degraded`.
    pub(crate) state: &'static str,
    /// Reason for the state, if there is one.
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
    /// Holds that are in force: nobody else pushes there until they end.
    pub(crate) holds: Vec<HoldOut>,
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
    /// State: `converged`, `drifted`, `pending`, `failed`, `rolled-back`, `degraded`, `refused`, `orphan` or `unknown`.
    pub(crate) state: &'static str,
    /// Reason for the state, if there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) reason: Option<String>,
    /// Manual changes on the server.
    pub(crate) drift: Vec<String>,
    /// Its units.
    pub(crate) units: Vec<Unit>,
}

/// One systemd unit, as systemd describes it.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Unit {
    /// Its name.
    pub(crate) name: String,
    /// Its `ActiveState`.
    pub(crate) active: String,
    /// Its `SubState`.
    pub(crate) sub: String,
    /// When it entered this state.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) since: Option<String>,
    /// Number of automatic restarts by systemd.
    pub(crate) restarts: u32,
}

/// One app that has releases.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct AppOut {
    /// Its name.
    pub(crate) name: String,
    /// Newest release that is not dirty, and may be chosen for being the newest.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) latest: Option<String>,
    /// Number of releases.
    pub(crate) releases: usize,
    /// Number of servers that have it.
    pub(crate) servers: usize,
}

/// One release.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct ReleaseOut {
    /// Its name.
    pub(crate) name: String,
    /// When it was built, by the clock of the machine that built it.
    pub(crate) built: String,
    /// When it was uploaded, by the bucket's clock. The one that was uploaded last is the newest.
    pub(crate) uploaded: String,
    /// Why it is not chosen for being the newest, though it is clean and can be deployed: `wrong-time` (its name has a time
    /// after its upload) or `adopted` (from the original system).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) passed_over: Option<&'static str>,
    /// Who built it, `user@host`.
    pub(crate) by: String,
    /// The commit it was built from.
    pub(crate) commit: String,
    /// Whether it was built with uncommitted changes.
    pub(crate) dirty: bool,
    /// Release note.
    pub(crate) note: String,
    /// The branch it was built from.
    pub(crate) branch: String,
    /// Its size in bytes.
    pub(crate) size: u64,
    /// Whether it is rejected: nobody may push it, and nothing chooses it.
    pub(crate) rejected: bool,
    /// Why it cannot be deployed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) trouble: Option<String>,
}

/// One push in the history.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct PushOut {
    /// Time of the push.
    pub(crate) time: String,
    /// Server.
    pub(crate) server: String,
    /// App; `null` of a push that is about whole servers, as `retire`.
    pub(crate) app: Option<String>,
    /// Release before the push.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) from: Option<String>,
    /// Release after the push.
    pub(crate) to: Option<String>,
    /// `deploy`, `rollback`, `retry`, `undo`, `remove`, or what a newer program calls it.
    pub(crate) kind: String,
    /// Operator.
    pub(crate) who: String,
    /// Reason for the push.
    pub(crate) reason: String,
    /// The same, under the name that it has in the bucket.
    pub(crate) why: String,
    /// Whether an admin had it written all at once where the policy asks for waves.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(crate) without_waves: bool,
    /// Generation of the document that contains it.
    pub(crate) generation: i64,
}

/// Pushes to carry out.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct PushIn {
    /// `deploy`, `rollback`, `retry` or `remove`.
    pub(crate) kind: Kind,
    /// Reason, for the history.
    #[serde(default)]
    pub(crate) reason: String,
    /// Pushes; each server once per app. Also read under its earlier name, `changes`.
    #[serde(alias = "changes")]
    pub(crate) rows: Vec<TargetIn>,
    /// Whether servers may be created that have no document and have never reported; a misspelt name would create one.
    #[serde(default)]
    pub(crate) new_servers: bool,
    /// Whether the app may be put on servers that have other apps but not this one.
    #[serde(default)]
    pub(crate) install: bool,
    /// Whether servers may be pushed to that the operator has put on hold.
    #[serde(default)]
    pub(crate) held: bool,
    /// Which servers come when, of a deploy that goes out in waves: `1,10%,rest`. What follows is for such a push only, whose ID
    /// is also that of a rollout. A deploy that says none goes out in those that the policy file asks for, if it does; `all` sets
    /// them aside, which takes the role `admin` and a reason.
    #[serde(default)]
    pub(crate) waves: Option<String>,
    /// How long a server must stay converged before it counts: what the policy file asks for or `1m` unless it is said, at most
    /// `1h`.
    #[serde(default)]
    pub(crate) settle: Option<String>,
    /// Number of servers that stop it when they have failed, were rolled back or fell silent: what the policy file asks for or 1
    /// unless it is said.
    #[serde(default)]
    pub(crate) stop_at: Option<usize>,
    /// Share of a wave of more than ten servers that is enough: `95%` unless it is said. Of a smaller one it is all.
    #[serde(default)]
    pub(crate) enough: Option<String>,
    /// How long a wave may take after its last write: `30m` unless it is said.
    #[serde(default)]
    pub(crate) within: Option<String>,
    /// How many servers of a group may be out at a time, a number or a share: the group's `MaxDown` or a quarter unless it is
    /// said.
    #[serde(default)]
    pub(crate) max_down: Option<String>,
    /// Waves after which it waits for a verdict, from 1.
    #[serde(default)]
    pub(crate) pause_after: Option<Vec<usize>>,
    /// Whether it undoes what it wrote when it stops by itself: not unless it is said.
    #[serde(default)]
    pub(crate) undo_on_stop: Option<bool>,
}

/// Deploy, roll back, try again or remove.
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Kind {
    /// To a release that was chosen.
    Deploy,
    /// To the previous release.
    Rollback,
    /// The same release once more, where it failed or was rolled back.
    Retry,
    /// Take the app off the server: the document no longer names it, and its package stays installed until the agent's
    /// `prune` removes it.
    Remove,
}

/// One push to carry out.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct TargetIn {
    /// Server.
    pub(crate) server: String,
    /// Release of the app that was last seen there, absent for none: if it has changed, nothing is written. A removal has
    /// one, which says which app it is.
    #[serde(default)]
    pub(crate) from: Option<String>,
    /// Release to push; `null` or absent in a removal, and only there.
    #[serde(default)]
    pub(crate) to: Option<String>,
}

/// Pushes in progress or finished.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct JobOut {
    /// ID: `GET /api/v1/pushes/{id}` returns the progress.
    pub(crate) id: String,
    /// The push in the bucket, which outlasts this process; absent until it is recorded.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) push: Option<String>,
    /// Whether all pushes are finished.
    pub(crate) finished: bool,
    /// Result of each push.
    pub(crate) outcomes: Vec<ResultOut>,
}

/// Result of one push.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct ResultOut {
    /// Server.
    pub(crate) server: String,
    /// Release; absent if the app is taken off the server.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) to: Option<String>,
    /// `waiting`, `written` or `refused`; if refused, nothing was written.
    pub(crate) result: &'static str,
    /// Generation of the document that contains it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) generation: Option<i64>,
    /// Why nothing was written.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) error: Option<String>,
    /// What failed after the write; the push itself succeeded.
    pub(crate) warnings: Vec<String>,
}

/// A problem, as in RFC 9457.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Problem {
    /// Summary.
    pub(crate) title: String,
    /// HTTP status.
    pub(crate) status: u16,
    /// What failed, why, and what to do.
    pub(crate) detail: String,
}

pub(super) fn time(time: Timestamp) -> String {
    time.to_string()
}

pub(super) fn stem(name: &ReleaseName) -> String {
    name.stem().to_owned()
}

impl<T> Page<T> {
    pub(crate) fn new(view: &View, items: Vec<T>, page: usize, total: usize) -> Self {
        let next = (page.saturating_mul(PAGE) < total).then(|| page + 1);
        Self { items, total, next, hint: None, read: view.snapshot.taken.map(time) }
    }
}

impl ServerOut {
    pub(crate) fn new(view: &View, server: &Server) -> Self {
        let status = server.status();
        Self {
            name: server.name.to_string(),
            state: condition(server, view.now).label(),
            reason: reason_of(server, view.now),
            reported: status.map(|status| time(status.written)),
            agent: status.map(|status| status.agent.version.clone()),
            generation: server.document.known().map(|(generation, _)| generation.0),
            holds: view.snapshot.holds_of(&server.name, view.now).map(HoldOut::from).collect(),
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
            state: app_label(row.state),
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

impl ReleaseOut {
    pub(crate) fn new(view: &View, listed: &Listed) -> Self {
        Self {
            name: stem(&listed.name),
            built: time(listed.name.time()),
            uploaded: time(listed.uploaded),
            passed_over: listed.mark.map(|mark| match mark {
                Mark::FromTheFuture => "wrong-time",
                Mark::Adopted => "adopted",
            }),
            by: format!("{}@{}", listed.name.user(), listed.name.host()),
            commit: listed.commit().to_string(),
            dirty: listed.dirty,
            note: listed.note.to_owned(),
            branch: listed.branch.to_owned(),
            size: listed.size,
            rejected: view.snapshot.rejected.contains(&listed.name),
            trouble: listed.unusable.map(str::to_owned),
        }
    }
}

impl From<&HistoryEntry> for PushOut {
    fn from(push: &HistoryEntry) -> Self {
        Self {
            time: time(push.time),
            server: push.server.to_string(),
            app: push.app.as_ref().map(ToString::to_string),
            from: push.from.as_ref().map(stem),
            to: push.to.as_ref().map(stem),
            kind: push.kind.to_string(),
            who: push.who.clone(),
            reason: push.why.clone(),
            why: push.why.clone(),
            without_waves: push.without_waves,
            generation: push.generation.0,
        }
    }
}

impl JobOut {
    /// Of a push in waves, of which nothing is written yet.
    pub(crate) fn of_rollout(id: &PushId, intents: &[Intent]) -> Self {
        let outcomes = intents.iter().map(|intent| ResultOut {
            server: intent.server.to_string(),
            to: intent.to.as_ref().map(stem),
            result: "waiting",
            generation: None,
            error: None,
            warnings: Vec::new(),
        });
        Self { id: id.to_string(), push: Some(id.to_string()), finished: false, outcomes: outcomes.collect() }
    }

    pub(crate) fn new(job: &Job) -> Self {
        let progress = job.progress();
        let results = job.intents.iter().zip(&progress.results).map(|(intent, pushed)| {
            let result = pushed.as_ref().map(|pushed| pushed.result.as_ref());
            ResultOut {
                server: intent.server.to_string(),
                to: intent.to.as_ref().map(stem),
                result: match result {
                    None => "waiting",
                    Some(Ok(_)) => "written",
                    Some(Err(_)) => "refused",
                },
                generation: result.and_then(Result::ok).map(|generation| generation.0),
                error: result.and_then(Result::err).map(ToString::to_string),
                warnings: pushed.iter().flat_map(|pushed| &pushed.incomplete).map(ToString::to_string).collect(),
            }
        });
        let push = progress.results.iter().flatten().find_map(|result| result.push.as_ref());
        Self {
            id: job.id.to_string(),
            push: push.map(ToString::to_string),
            finished: progress.finished,
            outcomes: results.collect(),
        }
    }
}
