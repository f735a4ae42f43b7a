//! The agent: one loop that makes the machine match its document. [`Agent::converge`] is the whole story.
//!
//! A cycle never overlaps a cycle, and whatever fails in one is an outcome: reported, and the loop goes on.

mod publish;
mod report;

use std::{
    collections::{BTreeMap, BTreeSet},
    rc::Rc,
    time::Duration,
};

use anyhow::{Context, Result};
use bucket::{
    AgentStatus, AppName, AppState, Bucket, Error, Fetched, Generation, ReleaseName, ServerDocument, ServerState,
    Status, Timestamp,
};
use tokio::time::Instant;

use crate::{
    config::{Loaded, Settings},
    decide::{
        plan::{self, Plan, Situation, Step},
        schedule,
    },
    machine::{InstalledPackage, OWN_PACKAGE, PackageManager, PackageState, ServiceManager, UnitState},
    random::{random_fraction, random_u64},
    service::{
        control::{CycleReport, CycleTracker},
        events,
        liveness::Liveness,
        notify,
        wake::{Reason, WakeSignal},
    },
    state::{paths::Paths, persist, quarantine::Quarantine},
    store::{
        cache::Cache,
        prepare::{Inspect, Preparer},
    },
    transaction::{
        self,
        executor::{Next, Start, TransactionRunner},
        progress::Outcome,
        record::Transaction,
        rescue::Rescue,
        update::{AppUpdate, Target},
    },
};

use self::{publish::Publisher, report::Observation};

/// How often files are compared with what packages brought, when nobody asks: it reads all of them.
const FILE_CHECK: Duration = Duration::from_hours(1);

/// Reads the configuration anew.
pub(crate) type LoadSettings = Box<dyn Fn() -> Result<Loaded>>;

/// What the agent works with.
pub(crate) struct Machine<P, S> {
    /// dpkg.
    pub(crate) packages: P,
    /// systemd.
    pub(crate) services: S,
    /// How a `.deb` is read.
    pub(crate) inspect: Inspect,
}

/// The agent of one machine.
pub(crate) struct Agent<P, S> {
    paths: Paths,
    machine: Machine<P, S>,
    load_settings: LoadSettings,
    settings: Settings,
    /// What is wrong with the configuration on disk.
    wrong: Option<String>,
    /// What was last said about the configuration, so that it is said once.
    said: Vec<String>,
    bucket: Option<Bucket>,
    cache: Cache,
    liveness: Rc<Liveness>,
    /// This process, as no other is called.
    instance: String,
    started: Timestamp,
    quarantine: Quarantine,
    /// The last document that could be used; `None` until one was read.
    document: Option<Known>,
    /// Why the newest document can't be used.
    document_error: Option<String>,
    /// Reads of the document that failed in a row.
    unread: u32,
    /// Whether the last one failed because the bucket can't be reached or is in trouble.
    unreachable: bool,
    /// Cycles that couldn't be carried through, in a row.
    failed: u32,
    /// The document that this machine once matched.
    settled: Option<Generation>,
    retries: BTreeMap<AppName, Retry>,
    files: BTreeMap<String, Vec<String>>,
    files_checked: Option<Instant>,
    publisher: Publisher,
    status: Option<Status>,
    cleared: bool,
}

/// What the bucket said about the document.
#[derive(Debug, Clone)]
enum Known {
    /// There is none.
    Absent,
    /// This is it.
    Document(Generation, ServerDocument),
}

/// An app that waits for another try.
#[derive(Debug)]
struct Retry {
    release: ReleaseName,
    reason: String,
    tries: u32,
    not_before: Instant,
}

/// What one cycle saw and did, for its report.
#[derive(Debug, Default)]
struct Findings {
    installed: Option<Vec<InstalledPackage>>,
    plan: Plan,
    lines: Vec<String>,
    /// Whether anything was done or tried that a person would want to read about.
    busy: bool,
}

impl<P: PackageManager, S: ServiceManager> Agent<P, S> {
    /// An agent that hasn't looked at anything but its configuration. If that is wrong, it goes by `fallback` until
    /// it is right: a machine whose agent doesn't come up can't be helped from afar.
    pub(crate) fn new(paths: Paths, machine: Machine<P, S>, load_settings: LoadSettings, fallback: Settings) -> Self {
        let mut agent = Self {
            cache: Cache::new(paths.cache()),
            quarantine: Quarantine::load(&paths.quarantine()),
            paths,
            machine,
            load_settings,
            settings: fallback,
            wrong: None,
            said: Vec::new(),
            bucket: None,
            liveness: Rc::new(Liveness::new()),
            instance: format!("{}-{}", std::process::id(), random_u64()),
            started: Timestamp::now(),
            document: None,
            document_error: None,
            unread: 0,
            unreachable: false,
            failed: 0,
            settled: None,
            retries: BTreeMap::new(),
            files: BTreeMap::new(),
            files_checked: None,
            publisher: Publisher::default(),
            status: None,
            cleared: false,
        };
        agent.read_configuration();
        agent
    }

    /// The liveness, for whoever feeds the watchdog.
    pub(crate) fn liveness(&self) -> Rc<Liveness> {
        self.liveness.clone()
    }

    /// Pulls whenever it is woken or its time has come, until it has to make way for a new pulld.
    pub(crate) async fn run(&mut self, wake_signal: &WakeSignal, tracker: &CycleTracker) {
        wake_signal.notify(Reason::Start);
        let mut next_pull = Instant::now();
        loop {
            let reasons = wake_signal.wait_until(next_pull).await;
            tracker.begin();
            let (cycle, next) = self.pull_cycle(&reasons).await;
            if next == Next::Exit {
                return;
            }
            tracker.end(cycle);
            next_pull = self.next_wake(reasons.contains(&Reason::Start));
            self.liveness.within(next_pull.saturating_duration_since(Instant::now()));
        }
    }

    /// One pull: converges, then reports how that went.
    pub(crate) async fn pull_cycle(&mut self, reasons: &BTreeSet<Reason>) -> (CycleReport, Next) {
        tracing::debug!(?reasons, "a cycle begins");
        let explicit = reasons.iter().any(|reason| reason.is_explicit());
        let mut findings = Findings::default();
        let (failure, next) = match self.converge(explicit, &mut findings).await {
            Ok(next) => (None, next),
            Err(error) => (Some(format!("{error:#}")), Next::Continue),
        };
        self.failed = if failure.is_some() { self.failed + 1 } else { 0 };
        if next == Next::Exit {
            return (CycleReport::default(), next);
        }
        (self.report(explicit, failure, findings).await, next)
    }

    /// The pull cycle, step by step.
    async fn converge(&mut self, explicit: bool, findings: &mut Findings) -> Result<Next> {
        self.liveness.within(Duration::ZERO);
        if self.resume_interrupted(findings).await? == Next::Exit {
            return Ok(Next::Exit);
        }
        self.take_configuration().await?;
        let Some(bucket) = self.bucket.clone() else { return self.wait_for_a_bucket() };
        let is_new = self.read_document(&bucket).await;
        let installed = self.read_installed().await?;
        findings.plan = self.plan(&installed);
        findings.installed = Some(installed);
        let updates = self.prepare(&bucket, explicit || is_new, findings).await;
        if updates.is_empty() {
            self.clear_cache(findings);
            return Ok(Next::Continue);
        }
        Self::log_start(&updates);
        let next = self.carry_out(updates, findings).await?;
        if next == Next::Continue {
            let installed = self.read_installed().await?;
            findings.plan = self.plan(&installed);
            findings.installed = Some(installed);
            self.cleared = false;
            self.clear_cache(findings);
        }
        Ok(next)
    }

    /// Finishes or undoes what an earlier process, or an earlier cycle, left behind.
    async fn resume_interrupted(&mut self, findings: &mut Findings) -> Result<Next> {
        let Some(mut transaction) = transaction::load(&self.paths.transaction()) else {
            return self.settle_without_record(findings).await;
        };
        findings.busy = true;
        let runner = TransactionRunner {
            packages: &self.machine.packages,
            services: &self.machine.services,
            paths: &self.paths,
            settings: &self.settings,
            instance: &self.instance,
            configuration_error: self.wrong.as_deref(),
            liveness: &self.liveness,
        };
        let next = runner
            .resume(&mut transaction, &mut self.quarantine)
            .await
            .context("could not finish the transaction that was left behind")?;
        self.close(&transaction, next, findings)?;
        Ok(next)
    }

    /// An armed rescue without a record: this process is a new pulld whose record was lost, and proves itself.
    async fn settle_without_record(&mut self, findings: &mut Findings) -> Result<Next> {
        let rescue = Rescue::new(self.paths.rescue());
        let left = rescue.left_behind()?;
        if !rescue.is_armed() && left.is_none() {
            return Ok(Next::Continue);
        }
        if let Some(words) = left {
            findings.lines.push(format!("pulld: the rescue put the one before back: {words}"));
            tracing::error!(message_id = events::SELF_UPDATE, "the rescue put the pulld before back: {words}");
        }
        self.liveness.within(self.settings.health_window);
        tokio::time::sleep(self.settings.health_window).await;
        rescue.disarm()?;
        Ok(Next::Continue)
    }

    /// Takes the configuration as it is now; a wrong one leaves the last good one in place.
    async fn take_configuration(&mut self) -> Result<()> {
        let before = (self.settings.bucket.clone(), self.settings.bucket_options.clone(), self.settings.server.clone());
        self.read_configuration();
        let now = (self.settings.bucket.clone(), self.settings.bucket_options.clone(), self.settings.server.clone());
        if before != now {
            // Another bucket or another name is another document.
            (self.bucket, self.document, self.document_error, self.settled) = (None, None, None, None);
            self.publisher = Publisher::default();
            self.retries.clear();
        }
        if let (None, Some(url)) = (&self.bucket, &self.settings.bucket) {
            self.bucket = Some(Bucket::open(url, &self.settings.bucket_options).await?);
        }
        Ok(())
    }

    fn read_configuration(&mut self) {
        match (self.load_settings)() {
            Ok(loaded) => {
                (self.settings, self.wrong) = (loaded.settings, None);
                self.say_once(loaded.warnings);
            }
            Err(error) => {
                let wrong = format!("the configuration is wrong, the last good one stays: {error:#}");
                self.say_once(vec![wrong.clone()]);
                self.wrong = Some(wrong);
            }
        }
    }

    fn say_once(&mut self, what: Vec<String>) {
        for warning in what.iter().filter(|warning| !self.said.contains(warning)) {
            tracing::warn!(message_id = events::CONFIGURATION, "{warning}");
        }
        self.said = what;
    }

    fn wait_for_a_bucket(&self) -> Result<Next> {
        if let Some(wrong) = &self.wrong {
            anyhow::bail!("{wrong}");
        }
        anyhow::bail!("no bucket is configured: set `bucket` in `{}`", self.paths.config_file().display())
    }

    /// Reads the document if its generation changed; whether it is a new one. What can't be read changes nothing.
    async fn read_document(&mut self, bucket: &Bucket) -> bool {
        let seen = match (&self.document, &self.document_error) {
            (Some(Known::Document(generation, _)), None) => Some(*generation),
            _ => None,
        };
        self.liveness.within(self.settings.bucket_options.timeout * 10);
        let read = bucket.server_document(&self.settings.server, seen).await;
        self.unreachable = matches!(read, Err(Error::Unavailable { .. }));
        let error = match read {
            Ok(Fetched::Unchanged) => None,
            Ok(Fetched::Absent) => {
                if !matches!(self.document, Some(Known::Absent)) {
                    tracing::info!(
                        message_id = events::DOCUMENT_READ,
                        server = %self.settings.server,
                        "there is no server document: nothing is asked for, nothing is removed"
                    );
                }
                self.document = Some(Known::Absent);
                None
            }
            Ok(Fetched::Found(generation, document)) => {
                let is_new = !matches!(&self.document, Some(Known::Document(known, _)) if *known == generation);
                if is_new {
                    let apps = document.releases().count();
                    tracing::info!(message_id = events::DOCUMENT_READ, %generation, apps, "a new server document, generation {generation}, with {apps} apps");
                    for (entry, reason) in document.bad_entries() {
                        tracing::warn!(
                            message_id = events::ENTRY_REFUSED,
                            entry,
                            reason,
                            "the entry {entry} is left alone: {reason}"
                        );
                    }
                }
                self.document = Some(Known::Document(generation, document));
                (self.document_error, self.unread) = (None, 0);
                return is_new;
            }
            Err(error) => Some(error),
        };
        match error {
            None => (self.document_error, self.unread) = (None, 0),
            Some(error) => {
                // A document that was read but is wrong won't get better by asking more often.
                self.unread = if matches!(error, Error::Malformed { .. }) { 0 } else { self.unread + 1 };
                let said = error.to_string();
                if self.document_error.as_ref() != Some(&said) {
                    tracing::warn!(message_id = events::DOCUMENT_UNREADABLE, "the server document: {said}");
                }
                self.document_error = Some(said);
            }
        }
        false
    }

    /// What dpkg has of releases, and of pulld however it came here.
    async fn read_installed(&self) -> Result<Vec<InstalledPackage>> {
        self.liveness.within(Duration::ZERO);
        self.machine.packages.packages(&[OWN_PACKAGE.to_owned()]).await.context("could not ask dpkg what is installed")
    }

    fn plan(&self, installed: &[InstalledPackage]) -> Plan {
        let document = self.generation_and_document();
        plan::plan(&Situation {
            document,
            settled: document.is_some_and(|(generation, _)| self.settled == Some(generation)),
            installed,
            quarantine: &self.quarantine,
            allowed: &self.settings.allowed_apps,
            prune: self.settings.prune,
        })
    }

    fn generation_and_document(&self) -> Option<(Generation, &ServerDocument)> {
        match &self.document {
            Some(Known::Document(generation, document)) => Some((*generation, document)),
            Some(Known::Absent) | None => None,
        }
    }

    /// Gets everything ready that the plan needs. Apps that failed lately wait for their time, unless `ignore_backoff`.
    async fn prepare(&mut self, bucket: &Bucket, ignore_backoff: bool, findings: &mut Findings) -> Vec<AppUpdate> {
        let due = |step: &&Step| {
            let retry = self.retries.get(step.app());
            ignore_backoff || retry.is_none_or(|retry| retry.not_before <= Instant::now())
        };
        let steps: Vec<Step> = findings.plan.steps.iter().filter(due).cloned().collect();
        self.forget_retries(&findings.plan);
        if steps.is_empty() {
            return Vec::new();
        }
        findings.busy = true;
        let preparer = Preparer {
            bucket,
            cache: &self.cache,
            packages: &self.machine.packages,
            services: &self.machine.services,
            inspect: self.machine.inspect,
            root: self.paths.root(),
            liveness: &self.liveness,
        };
        let installed = findings.installed.as_deref().unwrap_or_default();
        let (updates, unprepared) = preparer.prepare(&steps, installed).await;
        for failed in unprepared {
            let step = steps.iter().find(|step| *step.app() == failed.app);
            if let Some(Step::Install { release, .. } | Step::Remove { release, .. }) = step {
                self.schedule_retry(release, format!("{:#}", failed.error));
            }
        }
        updates
    }

    /// Notes that a release has to wait, the longer the more often it failed.
    fn schedule_retry(&mut self, release: &ReleaseName, reason: String) {
        let before = self.retries.get(release.app()).filter(|before| before.release == *release);
        let tries = before.map_or(0, |before| before.tries + 1);
        if before.is_none_or(|before| before.reason != reason) {
            tracing::warn!(
                message_id = events::PREPARATION_FAILED,
                app = %release.app(),
                release = release.stem(),
                "`{}` could not be brought in, it is tried again: {reason}",
                release.stem()
            );
        }
        let not_before = Instant::now() + schedule::retry(tries, random_fraction());
        self.retries.insert(release.app().clone(), Retry { release: release.clone(), reason, tries, not_before });
    }

    /// Forgets the retries of what is no longer to be done.
    fn forget_retries(&mut self, plan: &Plan) {
        self.retries.retain(|app, retry| {
            plan.steps.iter().any(|step| match step {
                Step::Install { release, .. } | Step::Remove { release, .. } => {
                    step.app() == app && *release == retry.release
                }
            })
        });
    }

    fn log_start(updates: &[AppUpdate]) {
        let titles: Vec<&str> = updates.iter().map(AppUpdate::title).collect();
        notify::status(&format!("installing {}", titles.join(", ")));
        for update in updates {
            tracing::info!(
                message_id = events::INSTALLING,
                app = %update.app,
                release = update.title(),
                from = update.previous.installed().map(|previous| previous.release.stem()),
                "{} `{}`",
                if update.release().is_some() { "installing" } else { "removing" },
                update.title()
            );
        }
    }

    /// Installs, restarts, watches, and goes back where it must.
    async fn carry_out(&mut self, updates: Vec<AppUpdate>, findings: &mut Findings) -> Result<Next> {
        let generation = self.generation_and_document().map(|(generation, _)| generation);
        let mut transaction = Transaction::new(Timestamp::now(), generation, updates);
        transaction.save(&self.paths.transaction())?;
        let runner = TransactionRunner {
            packages: &self.machine.packages,
            services: &self.machine.services,
            paths: &self.paths,
            settings: &self.settings,
            instance: &self.instance,
            configuration_error: self.wrong.as_deref(),
            liveness: &self.liveness,
        };
        let next = runner.carry_out(&mut transaction, &mut self.quarantine, Start::Fresh).await?;
        self.close(&transaction, next, findings)?;
        Ok(next)
    }

    /// Notes how the updates ended and lets go of the record.
    fn close(&mut self, transaction: &Transaction, next: Next, findings: &mut Findings) -> Result<()> {
        if next == Next::Exit {
            return Ok(());
        }
        for update in &transaction.updates {
            let (Target::Release { release, .. } | Target::Removed { release }) = &update.target;
            self.files.remove(&update.package);
            let line = match update.outcome() {
                Some(Outcome::Done) if update.release().is_none() => "removed".to_owned(),
                Some(Outcome::Done) => {
                    self.retries.remove(&update.app);
                    format!("installed `{}`", update.title())
                }
                Some(Outcome::RolledBack { reason }) => format!("went back from `{}`: {reason}", update.title()),
                Some(Outcome::Degraded { reason }) => {
                    if update.release().is_none() {
                        self.schedule_retry(release, reason.clone());
                    }
                    format!("degraded: {reason}")
                }
                Some(Outcome::Postponed { reason }) => {
                    self.schedule_retry(release, reason.clone());
                    format!("postponed `{}`: {reason}", update.title())
                }
                None => continue,
            };
            findings.lines.push(format!("{}: {line}", update.app));
        }
        persist::remove(&self.paths.transaction())
    }

    /// Clears the cache once after each start and each transaction.
    fn clear_cache(&mut self, findings: &Findings) {
        if self.cleared {
            return;
        }
        let installed = findings.installed.iter().flatten().filter_map(|package| package.release.clone());
        let desired = self.generation_and_document().into_iter().flat_map(|(_, document)| document.releases().cloned());
        let needed: Vec<ReleaseName> = installed.chain(desired).collect();
        if let Err(error) = self.cache.clear(self.settings.keep_releases, &needed) {
            tracing::warn!(message_id = events::STATE_LOST, "the cache could not be cleared: {error:#}");
        }
        self.cleared = true;
    }

    /// Looks at the machine once more and tells everybody how it is.
    async fn report(&mut self, explicit: bool, failure: Option<String>, mut findings: Findings) -> CycleReport {
        // A cycle that ended early knows less than the machine can tell.
        if findings.installed.is_none()
            && let Ok(installed) = self.read_installed().await
        {
            findings.plan = self.plan(&installed);
            findings.installed = Some(installed);
        }
        let carried_through = failure.is_none();
        let units = self.units(findings.installed.as_deref()).await;
        self.check_files(explicit, findings.installed.as_deref()).await;
        let status = self.compose(failure, &findings, &units);
        self.log_changes(&status);
        if carried_through && findings.plan.steps.is_empty() && status.document.error.is_none() {
            self.settled = status.document.generation;
        }
        notify::status(&status.summary);
        if let Err(error) = publish::write_local(&self.paths.status(), &status) {
            tracing::warn!(message_id = events::REPORT, "{error:#}");
        }
        // A bucket in trouble isn't helped by a report of it.
        if let Some(bucket) = self.bucket.as_ref().filter(|_| !self.unreachable) {
            self.liveness.within(self.settings.bucket_options.timeout * 10);
            if let Err(error) = self.publisher.publish(bucket, &status, self.settings.heartbeat).await {
                tracing::warn!(message_id = events::REPORT, "the report could not be written: {error:#}");
            }
        }
        let cycle = as_cycle(&status, findings.lines);
        // What is worse than drift was said as a warning already.
        if findings.busy && status.state <= ServerState::Drifted {
            tracing::info!(message_id = events::CYCLE, ok = cycle.ok, "{}", cycle.summary);
        } else {
            tracing::debug!(message_id = events::CYCLE, ok = cycle.ok, "{}", cycle.summary);
        }
        self.status = Some(status);
        cycle
    }

    fn compose(&self, failure: Option<String>, findings: &Findings, units: &BTreeMap<String, UnitState>) -> Status {
        let observation = Observation {
            server: &self.settings.server,
            machine: &publish::machine(&self.paths.machine_id()),
            agent: AgentStatus {
                version: env!("CARGO_PKG_VERSION").to_owned(),
                started: self.started,
                poll_seconds: self.settings.poll.as_secs(),
                heartbeat_seconds: self.settings.heartbeat.as_secs(),
            },
            document: self.generation_and_document(),
            document_error: self.document_error.clone(),
            failure,
            installed: findings.installed.as_deref(),
            plan: &findings.plan,
            retries: self.retries.iter().map(|(app, retry)| (app, retry.reason.as_str())).collect(),
            files: &self.files,
            units,
        };
        report::compose(&observation, self.status.as_ref(), Timestamp::now())
    }

    fn log_changes(&self, status: &Status) {
        let before = self.status.as_ref();
        for app in report::changed_apps(before, status) {
            let drift = app.drift.join("; ");
            let reason = app.reason.as_deref().unwrap_or_default();
            let state = format!("{:?}", app.state).to_lowercase();
            let why: Vec<&str> = [reason, &drift].into_iter().filter(|words| !words.is_empty()).collect();
            let why = if why.is_empty() { String::new() } else { format!(": {}", why.join("; ")) };
            tracing::info!(
                message_id = events::DRIFT,
                app = app.app,
                state,
                reason,
                drift,
                "`{}` is {state}{why}",
                app.app
            );
        }
        if before.is_none_or(|before| before.summary != status.summary) && status.state > ServerState::Drifted {
            tracing::warn!(message_id = events::CYCLE, "{}", status.summary);
        }
    }

    /// How the units of all releases are.
    async fn units(&self, installed: Option<&[InstalledPackage]>) -> BTreeMap<String, UnitState> {
        let mut units = BTreeMap::new();
        for unit in installed.unwrap_or_default().iter().flat_map(|package| &package.units) {
            match self.machine.services.unit(&unit.name).await {
                Ok(state) => drop(units.insert(unit.name.clone(), state)),
                Err(error) => tracing::debug!(unit = unit.name, "could not ask systemd: {error:#}"),
            }
        }
        units
    }

    /// Compares files with what their packages brought: at the start, when somebody asks, and now and then.
    async fn check_files(&mut self, explicit: bool, installed: Option<&[InstalledPackage]>) {
        let Some(installed) = installed else { return };
        let due = self.files_checked.is_none_or(|checked| checked.elapsed() >= FILE_CHECK);
        if !explicit && !due {
            return;
        }
        self.files.clear();
        for package in installed.iter().filter(|package| package.release.is_some()) {
            if package.state != PackageState::Installed {
                continue;
            }
            self.liveness.within(Duration::from_mins(5));
            match self.machine.packages.changed_files(&package.package).await {
                Ok(changed) => drop(self.files.insert(package.package.clone(), changed)),
                Err(error) => tracing::debug!(package = package.package, "could not compare files: {error:#}"),
            }
        }
        self.files_checked = Some(Instant::now());
    }

    /// When to look again if nobody asks before.
    fn next_wake(&self, fresh: bool) -> Instant {
        let Settings { poll, jitter, .. } = self.settings;
        let rest = schedule::rest(poll, jitter, fresh, self.unread.max(self.failed), random_fraction());
        let now = Instant::now();
        let retry = self.retries.values().map(|retry| retry.not_before).min();
        retry.map_or(now + rest, |retry| retry.max(now + Duration::from_secs(1)).min(now + rest))
    }
}

/// The report as `pulld pull` prints it.
fn as_cycle(status: &Status, mut lines: Vec<String>) -> CycleReport {
    for app in &status.apps {
        let told = lines.iter().any(|line| line.starts_with(&format!("{}: ", app.app)));
        let state = serde_json::to_value(app.state).ok().and_then(|state| Some(state.as_str()?.to_owned()));
        let state = state.unwrap_or_default();
        match (&app.reason, app.state) {
            (_, AppState::Converged) => {}
            (_, _) if told && app.drift.is_empty() => {}
            (Some(reason), _) => lines.push(format!("{}: {state}: {reason}", app.app)),
            (None, _) if app.drift.is_empty() => lines.push(format!("{}: {state}", app.app)),
            (None, _) => lines.push(format!("{}: {state}: {}", app.app, app.drift.join("; "))),
        }
    }
    lines.extend(status.document.bad_entries.iter().map(|bad| format!("bad entry `{}`: {}", bad.entry, bad.reason)));
    CycleReport { ok: status.state <= ServerState::Drifted, summary: status.summary.clone(), lines }
}
