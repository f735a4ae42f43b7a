//! A simulated agent: it polls, installs, watches the health and reports like a real one, and does with a release what it is told.

use std::{fmt, str::FromStr};

use anyhow::{Context, Result};
use bucket::{
    AgentStatus, AppName, AppState, AppStatus, Bucket, DocumentStatus, Fetched, Generation, ReleaseName,
    ServerDocument, ServerName, Status, Timestamp,
};
use jiff::SignedDuration;

use super::Chance;

/// How often it polls.
pub const POLL: SignedDuration = SignedDuration::from_mins(1);

/// For how long it watches what it restarted.
pub const HEALTH_WINDOW: SignedDuration = SignedDuration::from_secs(30);

/// How often it reports when there is nothing new.
const HEARTBEAT: SignedDuration = SignedDuration::from_mins(15);

/// How much later than after the time that was asked for it reports once more.
const LATER: SignedDuration = SignedDuration::from_secs(1);

/// How long a release runs that dies after it was converged.
const RUNS: SignedDuration = SignedDuration::from_mins(5);

/// What becomes of a release on a server, or of the server itself. What ran there before always runs again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It runs.
    Converges,
    /// It can't be installed.
    Fails,
    /// It fails its health gate, and what was there before is restored.
    RollsBack,
    /// The agent may not install it.
    Refuses,
    /// It fails its health gate, and so does what was there before.
    Degrades,
    /// The agent reads its document, and is not heard of again.
    FallsSilent,
    /// It runs, and after five minutes keeps dying.
    Crashes,
}

impl Fate {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::Converges,
        Self::Fails,
        Self::RollsBack,
        Self::Refuses,
        Self::Degrades,
        Self::FallsSilent,
        Self::Crashes,
    ];

    /// In the words of a story.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Converges => "converges",
            Self::Fails => "fails",
            Self::RollsBack => "rolls-back",
            Self::Refuses => "refuses",
            Self::Degrades => "degrades",
            Self::FallsSilent => "falls-silent",
            Self::Crashes => "crashes",
        }
    }
}

impl fmt::Display for Fate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Fate {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let known = Self::ALL.map(Self::as_str);
        let found = Self::ALL.into_iter().find(|fate| fate.as_str() == text);
        found.ok_or_else(|| format!("an agent does one of these: {}", known.join(", ")))
    }
}

/// What an agent does beside polling, and until when.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Work {
    Nothing,
    /// It installs the release and watches its health; then it must stay so for so long.
    Installing(Timestamp, SignedDuration),
    /// It reports once more.
    Settling(Timestamp),
    /// The release dies.
    Running(Timestamp),
}

impl Work {
    fn ends(self) -> Option<Timestamp> {
        match self {
            Self::Nothing => None,
            Self::Installing(at, _) | Self::Settling(at) | Self::Running(at) => Some(at),
        }
    }
}

/// One simulated agent.
#[derive(Debug, Clone)]
pub struct Agent {
    name: ServerName,
    app: AppName,
    /// What becomes of the next release there.
    pub fate: Fate,
    /// How far its machine's clock is ahead.
    pub ahead: SignedDuration,
    is_on: bool,
    next_poll: Timestamp,
    /// The document that was read last.
    read: Option<Generation>,
    /// The report that was written last, and when.
    reported: Option<(Generation, Timestamp)>,
    /// What that said of the app.
    said: Option<AppStatus>,
    desired: ReleaseName,
    installed: ReleaseName,
    /// What ran when the simulation began: it always runs.
    first: ReleaseName,
    state: AppState,
    work: Work,
    /// Since when it says that it runs what is desired, and whether it said so once more after the time that was asked for.
    converged: Option<(Timestamp, bool)>,
}

impl Agent {
    /// An agent that runs a release, and polls next at that time.
    pub fn new(name: ServerName, release: &ReleaseName, next_poll: Timestamp) -> Self {
        Self {
            name,
            app: release.app().clone(),
            fate: Fate::Converges,
            ahead: SignedDuration::ZERO,
            is_on: true,
            next_poll,
            read: None,
            reported: None,
            said: None,
            desired: release.clone(),
            installed: release.clone(),
            first: release.clone(),
            state: AppState::Converged,
            work: Work::Nothing,
            converged: None,
        }
    }

    /// When it does something next; never, if its machine is off.
    pub fn next(&self) -> Option<Timestamp> {
        let work = self.work.ends().unwrap_or(self.next_poll);
        self.is_on.then(|| work.min(self.next_poll))
    }

    /// Turns its machine on or off.
    pub fn turn(&mut self, is_on: bool, now: Timestamp) {
        (self.is_on, self.next_poll) = (is_on, now);
    }

    /// Whether its machine is on, and its agent reports.
    pub fn is_on(&self) -> bool {
        self.is_on
    }

    /// The document that its last report is about, what that asks for, and how that is.
    pub fn last_said(&self) -> (Option<Generation>, &ReleaseName, AppState) {
        (self.read.filter(|_| self.reported.is_some()), &self.desired, self.state)
    }

    /// When it reported last.
    pub fn last_reported(&self) -> Option<Timestamp> {
        self.reported.map(|(_, at)| at)
    }

    /// Whether it reported that it runs what is desired, and that once more after the time that was asked for.
    pub fn has_settled(&self) -> bool {
        self.converged.is_some_and(|(_, settled)| settled)
    }

    /// Does what there is to do now; whether it reported something new.
    ///
    /// # Errors
    /// When its bucket can't be read or written.
    pub async fn wake(&mut self, bucket: &Bucket, now: Timestamp, chance: &mut Chance) -> Result<bool> {
        if !self.is_on {
            return Ok(false);
        }
        if self.work.ends().is_some_and(|ends| ends <= now) {
            self.finish(now);
            self.report(bucket, now).await?;
            return Ok(true);
        }
        if self.next_poll > now {
            return Ok(false);
        }
        self.next_poll = now + POLL;
        let seen = self.read.unwrap_or(Generation(0));
        let read = bucket.server_document_if_changed(&self.name, seen).await;
        let Fetched::Found(generation, document) = read.context("a simulated agent could not read its document")?
        else {
            let is_due = self.last_reported().is_none_or(|at| now.duration_since(at) >= HEARTBEAT);
            if is_due {
                self.report(bucket, now).await?;
            }
            return Ok(false);
        };
        self.begin(generation, &document, now, chance);
        if self.is_on {
            self.report(bucket, now).await?;
        }
        Ok(self.is_on)
    }

    /// It has read another document.
    fn begin(&mut self, generation: Generation, document: &ServerDocument, now: Timestamp, chance: &mut Chance) {
        let Some(desired) = document.release_of(&self.app) else { return };
        if *desired != self.first && self.fate == Fate::FallsSilent {
            self.is_on = false;
            return;
        }
        self.read = Some(generation);
        let last = document.metadata().pushes().into_iter().find(|push| push.app == self.app);
        let settle = last.and_then(|push| push.settle_seconds).and_then(|seconds| i64::try_from(seconds).ok());
        let settle = SignedDuration::from_secs(settle.unwrap_or(0));
        if self.desired == *desired && self.state == AppState::Converged {
            return;
        }
        (self.desired, self.converged) = (desired.clone(), None);
        if self.installed == self.desired && self.desired == self.first {
            (self.state, self.work) = (AppState::Converged, Work::Nothing);
            return;
        }
        if self.fate_here() == Fate::Refuses {
            (self.state, self.work) = (AppState::Refused, Work::Nothing);
            return;
        }
        let install = 5 + i64::try_from(chance.below(20)).unwrap_or(0);
        let ends = now + SignedDuration::from_secs(install) + HEALTH_WINDOW;
        (self.state, self.work) = (AppState::Pending, Work::Installing(ends, settle));
    }

    fn fate_here(&self) -> Fate {
        if self.desired == self.first { Fate::Converges } else { self.fate }
    }

    /// What it worked on is done.
    fn finish(&mut self, now: Timestamp) {
        match std::mem::replace(&mut self.work, Work::Nothing) {
            Work::Installing(_, settle) => match self.fate_here() {
                Fate::Fails => self.state = AppState::Failed,
                Fate::RollsBack => self.state = AppState::Quarantined,
                Fate::Degrades => self.state = AppState::Degraded,
                Fate::Converges | Fate::Crashes | Fate::Refuses | Fate::FallsSilent => {
                    (self.state, self.installed) = (AppState::Converged, self.desired.clone());
                    self.converged = Some((now, settle.is_zero()));
                    self.work =
                        if settle.is_zero() { self.after_settling(now) } else { Work::Settling(now + settle + LATER) };
                }
            },
            Work::Settling(_) => {
                self.converged = self.converged.map(|(since, _)| (since, true));
                self.work = self.after_settling(now);
            }
            Work::Running(_) => self.state = AppState::Unstable,
            Work::Nothing => {}
        }
    }

    fn after_settling(&self, now: Timestamp) -> Work {
        if self.fate_here() == Fate::Crashes { Work::Running(now + RUNS) } else { Work::Nothing }
    }

    async fn report(&mut self, bucket: &Bucket, now: Timestamp) -> Result<()> {
        let seconds = |time: SignedDuration| time.as_secs().unsigned_abs();
        let by_its_clock = |time: Timestamp| time.saturating_add(self.ahead).unwrap_or(time);
        let app = self.app_status(by_its_clock(now));
        let status = Status {
            server: self.name.clone(),
            machine: self.name.to_string(),
            written: by_its_clock(now),
            state: self.state.of_server(),
            summary: String::new(),
            agent: AgentStatus {
                version: env!("CARGO_PKG_VERSION").to_owned(),
                started: by_its_clock(now),
                poll_seconds: seconds(POLL),
                heartbeat_seconds: seconds(HEARTBEAT),
                next_poll: Some(by_its_clock(self.next_poll)),
                health_window_seconds: Some(seconds(HEALTH_WINDOW)),
            },
            document: DocumentStatus { generation: self.read, error: None, bad_entries: Vec::new(), bad_count: None },
            apps: vec![app.clone()],
            holds: Vec::new(),
            warnings: Vec::new(),
            events: Vec::new(),
            not_compared: Vec::new(),
        };
        let seen = self.reported.map(|(generation, _)| generation);
        let written = bucket.write_status(&status, seen).await.context("a simulated agent could not report")?;
        (self.reported, self.said) = (Some((written, now)), Some(app));
        Ok(())
    }

    /// What there is to say of the app. What hasn't changed since the last report keeps its time.
    fn app_status(&self, now: Timestamp) -> AppStatus {
        let (desired, installed) = (Some(self.desired.clone()), Some(self.installed.clone()));
        let same =
            |said: &&AppStatus| (said.state, &said.desired, &said.installed) == (self.state, &desired, &installed);
        let since = self.said.as_ref().filter(same).map_or(now, |said| said.since);
        AppStatus {
            app: self.app.to_string(),
            desired,
            installed,
            package: None,
            state: self.state,
            activity: None,
            activity_since: None,
            since,
            reason: None,
            drift: Vec::new(),
            units: Vec::new(),
            rolled_back: Vec::new(),
            cached: Vec::new(),
        }
    }
}
