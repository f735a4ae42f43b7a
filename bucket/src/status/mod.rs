//! What an agent last reported of its server.

mod limits;

use std::fmt;

use futures_util::{Stream, TryStreamExt};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{
    Bucket, Error, Fetched, Generation, Metadata, Object, ObjectInfo, ObjectPath, PageToken, ReleaseName, ServerName,
    ToldHold, items, layout,
};

/// The last report of a server's agent, `status/{name}.json`. Unknown fields are ignored by readers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// The server it is about.
    pub server: ServerName,
    /// Identifies the machine (systemd's machine id, hashed): two machines that go by one name show by it.
    pub machine: String,
    /// When the agent wrote it, by the server's clock.
    pub written: Timestamp,
    /// The worst of its apps, or of its document.
    pub state: ServerState,
    /// In a sentence, what the agent says about itself; the text of `systemctl status pulld` too.
    pub summary: String,
    /// The agent.
    pub agent: AgentStatus,
    /// The server document as the agent saw it.
    pub document: DocumentStatus,
    /// Every app that the document names or that is installed here.
    pub apps: Vec<AppStatus>,
    /// The holds that the document's metadata told the agent of and that were in force; at most [`Status::MAX_HOLDS`]. What binds
    /// whoever writes is in [`crate::Holds`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub holds: Vec<ToldHold>,
    /// What somebody should look at though no app suffers from it yet, each a sentence; at most [`Status::MAX_WARNINGS`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
    /// What happened here lately, oldest first; at most [`Status::MAX_EVENTS`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub events: Vec<Event>,
    /// The apps whose files the agent has not compared yet since it started with what their releases brought, by name: what
    /// was changed of them by hand is not known. At most [`Status::MAX_APPS`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub not_compared: Vec<String>,
}

/// Something that happened on a server and is over, as a change by hand that was put right.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// When, by the server's clock.
    pub at: Timestamp,
    /// The app it is about, if it is about one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub app: Option<String>,
    /// What happened, in a sentence.
    pub text: String,
}

/// How a server is, at a glance. In order of how much it asks for attention.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ServerState {
    /// It runs what its document says.
    Converged,
    /// It runs what its document says, but the machine was changed by hand or has apps the document doesn't name.
    Drifted,
    /// Work is under way, or waits for a retry.
    Pending,
    /// It runs what its document says, and that keeps dying and being started again.
    Unstable,
    /// A release could not be installed or failed its health gate: what ran before runs again, or nothing was changed.
    Failed,
    /// A release failed its health gate, and the rollback failed too or was not possible: manual intervention required.
    Degraded,
    /// A state of a newer agent than this reader.
    #[serde(other)]
    Unknown,
}

/// The agent, as part of its report.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentStatus {
    /// Version of the program.
    pub version: String,
    /// When this process started.
    pub started: Timestamp,
    /// How often it polls, in seconds: a report much older than that means that it isn't reporting.
    pub poll_seconds: u64,
    /// How often it reports when there is nothing new to say, in seconds.
    #[serde(default = "AgentStatus::usual_heartbeat")]
    pub heartbeat_seconds: u64,
    /// When it polls next if nothing wakes it, as it was planned at this report. Reports come rarer than polls: a time
    /// that is past is followed by others, `poll_seconds` apart.
    #[serde(default)]
    pub next_poll: Option<Timestamp>,
    /// For how long it watches what it restarted, in seconds; `None` of agents that don't say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health_window_seconds: Option<u64>,
}

impl AgentStatus {
    /// Of agents that don't say.
    fn usual_heartbeat() -> u64 {
        15 * 60
    }
}

/// The server document, as part of a report.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DocumentStatus {
    /// The generation this report is about; `None` when there is no document.
    pub generation: Option<Generation>,
    /// Why the newest document couldn't be read or used; the report is then about the last good one.
    pub error: Option<String>,
    /// Its elements that can't be used; at most [`DocumentStatus::MAX_BAD_ENTRIES`].
    #[serde(default)]
    pub bad_entries: Vec<BadEntry>,
    /// How many there are, when they are more than are listed. Those count that aren't looked at because the document has
    /// more than [`crate::ServerDocument::MAX_ENTRIES`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bad_count: Option<usize>,
}

/// An element of a server document that can't be used.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BadEntry {
    /// The element, as text, cut to a readable length.
    pub entry: String,
    /// Why it can't be used.
    pub reason: String,
}

/// One app, as part of a report.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AppStatus {
    /// Its name. An app name, but read from a package that others may have made: a plain string.
    pub app: String,
    /// The release that the document asks for.
    pub desired: Option<ReleaseName>,
    /// The release that dpkg says is installed.
    pub installed: Option<ReleaseName>,
    /// The package it is in.
    pub package: Option<String>,
    /// How the two compare.
    pub state: AppState,
    /// What the agent does with it right now; `None` when it does nothing, as in the report at the end of a cycle.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub activity: Option<Activity>,
    /// Since when it does that, by the server's clock; `None` without an activity, and of an agent that doesn't say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub activity_since: Option<Timestamp>,
    /// Since when the app is in that state, by the server's clock.
    pub since: Timestamp,
    /// In a sentence, why it is in that state, when there is something to say.
    pub reason: Option<String>,
    /// What differs on the machine from what the release brought, each a sentence; at most a few.
    #[serde(default)]
    pub drift: Vec<String>,
    /// The units the installed release owns.
    #[serde(default)]
    pub units: Vec<UnitStatus>,
    /// The releases that were rolled back here and have not run here since, newest first; at most
    /// [`AppStatus::MAX_ROLLED_BACK`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rolled_back: Vec<ReleaseName>,
    /// The releases in the server's cache, newest first: they can be installed though they are gone from the bucket. At
    /// most [`AppStatus::MAX_CACHED`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub cached: Vec<ReleaseName>,
}

impl AppStatus {
    /// Most releases of an app that a report says were rolled back.
    pub const MAX_ROLLED_BACK: usize = 10;

    /// Most releases of an app that a report says are cached.
    pub const MAX_CACHED: usize = 5;
}

/// How an app on a server compares with what the document asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AppState {
    /// The desired release is installed.
    Converged,
    /// It is installed but changed by hand.
    Drifted,
    /// It is installed, and its units died and were started again by systemd several times within an hour.
    Unstable,
    /// A person set its package on hold (`apt-mark hold`): it stays as it is.
    AptHeld,
    /// A person went back to the release before on this server (`pulld rollback`): it stays as it is for now.
    Paused,
    /// The desired release is being installed, or waits for a retry.
    Pending,
    /// The desired release can't be downloaded, verified or installed; the machine has what it had.
    Failed,
    /// The desired release failed its health gate and was rolled back. It isn't retried until the app's own entry in the
    /// document changes, or a person asks for it on the server.
    Quarantined,
    /// Neither the desired release nor the rollback worked: manual intervention required.
    Degraded,
    /// The configuration doesn't allow this app here.
    Refused,
    /// Installed, but not listed in the document.
    Orphan,
    /// A state of a newer agent than this reader.
    #[serde(other)]
    Unknown,
}

impl AppState {
    /// What it makes of its server: the worst of these is the server's own state.
    pub fn of_server(self) -> ServerState {
        match self {
            Self::Converged | Self::Unknown => ServerState::Converged,
            Self::Drifted | Self::Orphan | Self::AptHeld | Self::Paused => ServerState::Drifted,
            Self::Pending => ServerState::Pending,
            Self::Unstable => ServerState::Unstable,
            Self::Failed | Self::Quarantined | Self::Refused => ServerState::Failed,
            Self::Degraded => ServerState::Degraded,
        }
    }
}

/// What an agent does with an app while its desired release is being installed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Activity {
    /// The release, and what a rollback would need, are downloaded and verified.
    Downloading,
    /// dpkg installs the release.
    Installing,
    /// Its units are restarted and pass, or fail, the health gate.
    WatchingHealth,
    /// The previous release is restored, restarted and watched.
    RollingBack,
    /// An activity of a newer agent than this reader.
    #[serde(other)]
    Unknown,
}

/// The state as reports spell it.
impl fmt::Display for ServerState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Converged => "converged",
            Self::Drifted => "drifted",
            Self::Pending => "pending",
            Self::Unstable => "unstable",
            Self::Failed => "failed",
            Self::Degraded => "degraded",
            Self::Unknown => "unknown",
        })
    }
}

/// The state as reports spell it.
impl fmt::Display for AppState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Converged => "converged",
            Self::Drifted => "drifted",
            Self::Unstable => "unstable",
            Self::AptHeld => "apt-held",
            Self::Paused => "paused",
            Self::Pending => "pending",
            Self::Failed => "failed",
            Self::Quarantined => "quarantined",
            Self::Degraded => "degraded",
            Self::Refused => "refused",
            Self::Orphan => "orphan",
            Self::Unknown => "unknown",
        })
    }
}

/// The activity in a person's words.
impl fmt::Display for Activity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Downloading => "downloading",
            Self::Installing => "installing",
            Self::WatchingHealth => "watching health",
            Self::RollingBack => "rolling back",
            Self::Unknown => "working",
        })
    }
}

/// One systemd unit, as part of a report. The states are systemd's own words (`systemctl(1)`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnitStatus {
    /// Its name, as in `web.service`.
    pub name: String,
    /// `ActiveState`: `active`, `inactive`, `failed`, …
    pub active: String,
    /// `SubState`: `running`, `exited`, `auto-restart`, …
    pub sub: String,
    /// When it entered that active state.
    pub since: Option<Timestamp>,
    /// How often systemd restarted it by itself since it was last started.
    pub restarts: u32,
}

/// What a listing of `status/` tells without reading any.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StatusSummary {
    /// The server.
    pub server: ServerName,
    /// The generation of the report.
    pub generation: Generation,
    /// Its size in bytes.
    pub size: u64,
    /// When it was written, by the bucket's clock.
    pub updated: Timestamp,
    /// The worst of its apps; `None` when the report's metadata doesn't say.
    pub state: Option<ServerState>,
    /// The generation of the server document that it is about.
    pub document: Option<Generation>,
}

impl Status {
    /// Dates the report by the bucket's clock: it was written there at that time. Every time in it is moved by as much, and none
    /// since when something is so is later than the report: the clocks of servers may say anything.
    pub fn date(&mut self, written: Timestamp) {
        let ahead = written.duration_since(self.written);
        let moved = |time: Timestamp| time.saturating_add(ahead).unwrap_or(time);
        let since = |time: Timestamp| moved(time).min(written);
        self.written = written;
        self.agent.started = since(self.agent.started);
        self.agent.next_poll = self.agent.next_poll.map(moved);
        for app in &mut self.apps {
            app.since = since(app.since);
            app.activity_since = app.activity_since.map(since);
            for unit in &mut app.units {
                unit.since = unit.since.map(since);
            }
        }
        for event in &mut self.events {
            event.at = since(event.at);
        }
    }

    /// Whether the server has the file of a release in its cache.
    pub fn has_cached(&self, release: &ReleaseName) -> bool {
        self.apps.iter().any(|app| app.cached.contains(release))
    }

    /// As an object's metadata: `state` and `document`.
    fn to_metadata(&self) -> Metadata {
        let state = serde_json::to_value(self.state).expect("an enum of plain names is JSON");
        let document = self.document.generation.map(|generation| ("document".to_owned(), generation.to_string()));
        let state = ("state".to_owned(), state.as_str().unwrap_or_default().to_owned());
        [Some(state), document].into_iter().flatten().collect()
    }
}

impl StatusSummary {
    fn at(info: &ObjectInfo) -> Option<Self> {
        let state = info.metadata.get("state").map(|state| serde_json::from_value(state.as_str().into()));
        Some(Self {
            server: layout::status_at(&info.path)?,
            generation: info.generation,
            size: info.size,
            updated: info.updated,
            state: state.and_then(Result::ok),
            document: info.metadata.get("document").and_then(|text| text.parse().ok()).map(Generation),
        })
    }
}

impl Bucket {
    /// The last report of a server, with its generation.
    ///
    /// # Errors
    /// [`Error::Malformed`] when there is one that can't be understood or is about another server, [`Error::TooLarge`] when
    /// it has more than [`Status::MAX_SIZE`] bytes. Of too many apps, units and texts only so many are read.
    pub async fn status(&self, server: &ServerName) -> Result<Option<(Generation, Status)>, Error> {
        let path = layout::status(server);
        let Some(Object { generation, content, .. }) = self.get(&path, limits::MAX_READ).await? else {
            return Ok(None);
        };
        Ok(Some((generation, parse(server, &path, &content)?)))
    }

    /// The last report of a server, unless it is still the generation `seen`.
    ///
    /// # Errors
    /// As of [`Bucket::status`].
    pub async fn status_if_changed(&self, server: &ServerName, seen: Generation) -> Result<Fetched<Status>, Error> {
        let path = layout::status(server);
        Ok(match self.get_if_changed(&path, seen, limits::MAX_READ).await? {
            Fetched::Unchanged => Fetched::Unchanged,
            Fetched::Absent => Fetched::Absent,
            Fetched::Found(generation, object) => Fetched::Found(generation, parse(server, &path, &object.content)?),
        })
    }

    /// The generation of a server's last report, whatever is in it.
    pub async fn status_generation(&self, server: &ServerName) -> Result<Option<Generation>, Error> {
        Ok(self.head(&layout::status(server)).await?.map(|info| info.generation))
    }

    /// When a server's last report was written, by the bucket's clock.
    pub async fn status_written(&self, server: &ServerName) -> Result<Option<Timestamp>, Error> {
        Ok(self.head(&layout::status(server)).await?.map(|info| info.updated))
    }

    /// Writes a server's report over the generation `seen`, or as the first; of one that is too large, what fits.
    ///
    /// # Errors
    /// [`Error::Conflict`] or [`Error::AlreadyExists`] when somebody else wrote it in between.
    pub async fn write_status(&self, status: &Status, seen: Option<Generation>) -> Result<Generation, Error> {
        let path = layout::status(&status.server);
        let content = status.clone().fit().to_json().into();
        match seen {
            Some(seen) => self.replace(&path, content, &status.to_metadata(), seen).await,
            None => self.create(&path, content, &status.to_metadata()).await,
        }
    }

    /// The servers that have reported, without reading the reports.
    pub fn statuses(&self) -> impl Stream<Item = Result<StatusSummary, Error>> {
        let page = async |after: Option<PageToken>| self.list(layout::STATUS, after.as_ref(), 1000).await;
        items(page).try_filter_map(|info| async move { Ok(StatusSummary::at(&info)) })
    }
}

fn parse(server: &ServerName, path: &ObjectPath, content: &[u8]) -> Result<Status, Error> {
    let malformed = |reason: String| Error::Malformed { object: path.to_string(), reason };
    let status: Status = serde_json::from_slice(content).map_err(|error| malformed(error.to_string()))?;
    if status.server != *server {
        return Err(malformed(format!("the report is about another server, `{}`", status.server)));
    }
    Ok(status.bounded())
}
