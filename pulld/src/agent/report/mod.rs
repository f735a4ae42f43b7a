//! The agent's report at the end of each cycle: composed, logged, kept on this machine, and published in the bucket.
//! While a cycle works, [`meanwhile`] tells what it does.

mod compose;
mod difference;
mod meanwhile;
mod publish;
mod settling;

use std::collections::{BTreeMap, BTreeSet};

use bucket::{AgentStatus, AppName, AppState, Generation, ServerDocument, ServerState, Status, Timestamp};
use console::count;
use tokio::time::Instant;

use crate::{
    decide::{plan::Decision, report::Waiting, wait::Wait, why::Causes},
    failure,
    machine::{InstalledPackage, PackageManager, ServiceManager, UnitState},
    service::{control::CycleReport, events, notify},
    state::{paths::Paths, remembered::Remembered, rescue::Rescue},
    transaction::record::Transaction,
};

use self::{
    compose::{Composed, Observation},
    meanwhile::{Destination, Meanwhile},
    publish::Publisher,
    settling::Settling,
};

use super::{Agent, cycle::Cycle, observe};

/// Most apps that are named whose files were not looked at.
const MAX_UNSEEN: usize = 10;

/// Writes the reports of one agent.
#[derive(Debug)]
pub(super) struct Reporter {
    started: Timestamp,
    publisher: Publisher,
    settling: Settling,
    previous: Option<Status>,
    /// The units as the previous report has them; `None` once work has begun since, or before there was one.
    units: Option<BTreeMap<String, UnitState>>,
}

impl Reporter {
    /// A reporter that has reported nothing, for an agent that starts now.
    pub(super) fn new() -> Self {
        Self {
            started: Timestamp::now(),
            publisher: Publisher::default(),
            settling: Settling::default(),
            previous: None,
            units: None,
        }
    }

    /// Forgets what was published: the next report goes to another bucket, or under another name.
    pub(super) fn forget_published(&mut self) {
        self.publisher = Publisher::default();
    }

    /// The units when work begins, as the previous report has them: to query systemd then would delay the work, and the
    /// report at its end says how they are.
    async fn units_before_work(
        &mut self,
        services: &impl ServiceManager,
        installed: &[InstalledPackage],
    ) -> BTreeMap<String, UnitState> {
        match self.units.take() {
            Some(units) => units,
            None => observe::units(services, installed).await,
        }
    }
}

impl<P: PackageManager, S: ServiceManager> Agent<P, S> {
    /// Reads the machine's state once more and reports it to the journal, systemd, this machine and the bucket.
    pub(super) async fn report(&mut self, mut cycle: Cycle, failure: Option<String>) -> CycleReport {
        // A cycle that ended early knows less than dpkg can say.
        if cycle.installed.is_none() {
            // An error is that of the cycle, or will be that of the next one.
            let _ = self.read_and_plan(&mut cycle).await;
        }
        let is_complete = failure.is_none() && cycle.plan.steps.is_empty();
        if let Some(installed) = &cycle.installed {
            self.files.check(&self.machine.packages, installed, cycle.requested, &self.liveness).await;
        }
        let units = observe::units(&self.machine.services, cycle.installed()).await;
        self.count_restarts(&cycle, &units).await;
        let waiting = self.retries.waiting(Instant::now(), Timestamp::now());
        let Composed { mut status, causes } = self.compose(&cycle, failure, &waiting, &units, self.desired.document());
        self.note_running(&mut status);
        log_differences(self.reporter.previous.as_ref(), &status);
        if is_complete && status.document.error.is_none() {
            self.desired.settle();
        }
        self.note_settling(&status);
        notify::status(&status.summary);
        write_local(&self.paths, &status);
        write_causes(&self.paths, &causes);
        self.publish(&status).await;
        // Another machine may have been found there.
        if let Some(rival) = self.reporter.publisher.warning(&status.server)
            && !status.warnings.contains(&rival)
        {
            status.warnings.push(rival);
            status = status.fit();
            write_local(&self.paths, &status);
        }
        let report = cycle_report(&status, &cycle, &self.unseen(&cycle));
        // What is worse than drift was logged as a warning already.
        if cycle.busy && status.state <= ServerState::Drifted {
            tracing::info!(message_id = events::CYCLE, ok = report.ok, "{}", report.summary);
        } else {
            tracing::debug!(message_id = events::CYCLE, ok = report.ok, "{}", report.summary);
        }
        self.reporter.previous = Some(status);
        self.reporter.units = Some(units);
        report
    }

    /// Has it reported that an app stayed as it is, if a rollout waits for that.
    fn note_settling(&mut self, status: &Status) {
        let pushes = self.desired.document().map(|(_, document)| document.metadata().pushes()).unwrap_or_default();
        if self.reporter.settling.note(&pushes, status, Instant::now()) {
            self.reporter.publisher.make_due();
        }
    }

    /// A release that runs is no longer one that was rolled back here.
    fn note_running(&mut self, status: &mut Status) {
        let mut is_news = false;
        for app in &mut status.apps {
            let runs = matches!(app.state, AppState::Converged | AppState::Drifted);
            if let Some(installed) =
                app.installed.as_ref().filter(|installed| runs && app.rolled_back.contains(installed))
            {
                is_news |= self.quarantine.note_running(installed);
                app.rolled_back = self.quarantine.rolled_back(installed.app());
            }
        }
        if is_news && let Err(error) = self.quarantine.save(&self.paths.quarantine()) {
            tracing::warn!(message_id = events::STATE_LOST, "could not save the quarantine: {error:#}");
        }
    }

    /// Lets this machine know that there is work, before it begins: `pulld status` must not call it converged meanwhile.
    /// What failed before is pending again when it is tried anew, with `ignore_backoff`: whoever waits for a new document
    /// must not read of an old failure; but it stays failed while the agent retries it by itself.
    pub(super) async fn report_begun(&mut self, ignore_backoff: bool, cycle: &Cycle) -> Meanwhile {
        let failed_before =
            if ignore_backoff { BTreeMap::new() } else { self.retries.waiting(Instant::now(), Timestamp::now()) };
        let units = self.reporter.units_before_work(&self.machine.services, cycle.installed()).await;
        let begun = self.compose(cycle, None, &failed_before, &units, self.desired.document());
        let bucket = self.configured.open_bucket().filter(|_| !self.desired.is_unreachable());
        self.begin_reports(begun, bucket.cloned().map_or(Destination::Nowhere, Destination::Open))
    }

    /// The same for what was interrupted, and goes on before anything is read. The document is that of the process that
    /// began it, and the bucket is opened beside the work.
    pub(super) async fn report_resumed(&mut self, transaction: &Transaction) -> Meanwhile {
        let remembered = self.recall_unread();
        let document = self.desired.document().or(remembered.as_ref().map(Remembered::numbered));
        let installed = observe::installed(&self.machine.packages, &self.liveness).await.unwrap_or_default();
        let mut under_way = self.before_reading(document, installed);
        under_way.report = std::mem::take(&mut under_way.report).with_under_way(transaction.apps_under_way());
        let units = self.reporter.units_before_work(&self.machine.services, under_way.installed()).await;
        let begun = self.compose(&under_way, None, &BTreeMap::new(), &units, document);
        let settings = self.configured.settings();
        let bucket = match (self.configured.open_bucket(), &settings.bucket) {
            _ if self.desired.is_unreachable() => Destination::Nowhere,
            (Some(bucket), _) => Destination::Open(bucket.clone()),
            (None, Some(url)) => Destination::Unopened(url.clone(), settings.bucket_options.clone()),
            (None, None) => Destination::Nowhere,
        };
        self.begin_reports(begun, bucket)
    }

    /// What is known in a cycle that has not read anything yet but what is installed.
    fn before_reading(
        &self,
        document: Option<(Generation, &ServerDocument)>,
        installed: Vec<InstalledPackage>,
    ) -> Cycle {
        let Decision { report, .. } = self.decide(document.map(|(_, document)| document), &installed);
        let report = if document.is_some() || self.desired.is_read() { report } else { report.before_reading() };
        Cycle { report, installed: Some(installed), ..Cycle::default() }
    }

    /// Lets this machine know what a cycle waits for, before it does anything.
    pub(super) fn report_waiting(&self, installed: Vec<InstalledPackage>, waits: &Wait) {
        let remembered = self.recall_unread();
        let document = self.desired.document().or(remembered.as_ref().map(Remembered::numbered));
        let waiting = self.before_reading(document, installed);
        let units = self.reporter.units.clone().unwrap_or_default();
        let Composed { mut status, causes } = self.compose(&waiting, None, &BTreeMap::new(), &units, document);
        status.warnings.push(waits.to_string());
        write_local(&self.paths, &status.fit());
        write_causes(&self.paths, &causes);
    }

    fn begin_reports(&mut self, begun: Composed, bucket: Destination) -> Meanwhile {
        let Composed { status: begun, causes } = begun;
        write_local(&self.paths, &begun);
        write_causes(&self.paths, &causes);
        Meanwhile {
            begun,
            activities: self.announcer.listen(),
            local: self.paths.status(),
            bucket,
            heartbeat: self.configured.settings().heartbeat,
            publisher: std::mem::take(&mut self.reporter.publisher),
        }
    }

    /// Takes over what is known of the report in the bucket, for the one at the end of the cycle.
    pub(super) fn report_ended(&mut self, meanwhile: Meanwhile) {
        self.reporter.publisher = meanwhile.publisher;
    }

    fn compose(
        &self,
        cycle: &Cycle,
        failure: Option<String>,
        waiting: &BTreeMap<AppName, Waiting>,
        units: &BTreeMap<String, UnitState>,
        document: Option<(Generation, &ServerDocument)>,
    ) -> Composed {
        let settings = self.configured.settings();
        let observation = Observation {
            server: &settings.server,
            machine: &publish::machine(&self.paths.machine_id()),
            agent: AgentStatus {
                version: env!("CARGO_PKG_VERSION").to_owned(),
                started: self.reporter.started,
                poll_seconds: settings.poll.as_secs(),
                heartbeat_seconds: settings.heartbeat.as_secs(),
                next_poll: Timestamp::now().checked_add(self.next_pull.saturating_duration_since(Instant::now())).ok(),
                health_window_seconds: Some(settings.health_window.as_secs()),
            },
            document,
            is_read: self.desired.is_read() || document.is_some(),
            document_error: self.desired.error().map(str::to_owned),
            warnings: self.warnings(),
            failure,
            installed: cycle.installed.as_deref(),
            report: &cycle.report,
            waiting,
            files: self.files.by_package(),
            not_compared: observe::unknown(cycle.installed(), |package| self.files.is_compared(package)),
            units,
            unstable: &self.restarts.unstable(),
            events: self.events.events(),
            quarantine: &self.quarantine,
            cached: &self.cache.releases(),
        };
        compose::compose(&observation, self.reporter.previous.as_ref(), Timestamp::now())
    }

    /// The apps of which it is not known, in a cycle that a person asked for, whether their files were touched.
    fn unseen<'a>(&self, cycle: &'a Cycle) -> BTreeSet<&'a AppName> {
        if !cycle.requested {
            return BTreeSet::new();
        }
        observe::unknown(cycle.installed(), |package| self.files.is_looked_at(package))
    }

    /// What a person should look at though no app suffers from it yet.
    fn warnings(&self) -> Vec<String> {
        let configuration = self.configured.invalid().map(str::to_owned);
        let rival = self.reporter.publisher.warning(&self.configured.settings().server);
        let unable = Rescue::new(self.paths.rescue()).unable();
        let uncompared = self.files.failures().next().map(|(package, reason)| {
            let more = self.files.failures().count() - 1;
            let more = if more == 0 { String::new() } else { format!(" and {}", count(more, "other package")) };
            format!(
                "whether files of `{package}`{more} were changed by hand is not known, because they could not be compared \
                 ({reason}): it is tried again within the hour, and `pulld pull` does so at once"
            )
        });
        [configuration, self.desired.gone(), rival, unable, uncompared].into_iter().flatten().collect()
    }

    /// Publishes the report, except to a bucket that does not answer: one more request does not help it.
    async fn publish(&mut self, status: &Status) {
        if self.desired.is_unreachable() {
            return;
        }
        self.liveness.within(self.configured.settings().bucket_timeout());
        // A cycle that ended early has not opened it; that it can't be is the cycle's own error otherwise.
        let Ok(bucket) = self.configured.bucket(&self.paths).await else { return };
        let heartbeat = self.configured.settings().heartbeat;
        if let Err(error) = self.reporter.publisher.publish(&bucket, status, heartbeat).await {
            tracing::warn!(message_id = events::REPORT, "could not publish the status report: {error:#}");
            return;
        }
        self.reporter.settling.published(Instant::now());
        self.next_pull = self.reporter.settling.next().into_iter().fold(self.next_pull, Instant::min);
    }
}

fn write_local(paths: &Paths, status: &Status) {
    if let Err(error) = publish::write_local(&paths.status(), status) {
        tracing::warn!(message_id = events::REPORT, "{error:#}");
    }
}

fn write_causes(paths: &Paths, causes: &Causes) {
    if let Err(error) = publish::write_local(&paths.causes(), causes) {
        tracing::warn!(message_id = events::REPORT, "{error:#}");
    }
}

fn log_differences(previous: Option<&Status>, status: &Status) {
    for app in difference::changed_apps(previous, status) {
        let (state, drift) = (app.state, app.drift.join("; "));
        let reason = app.reason.as_deref().unwrap_or_default();
        let causes = match (reason, drift.as_str()) {
            ("", "") => String::new(),
            (cause, "") | ("", cause) => format!(": {cause}"),
            (reason, drift) => format!(": {}", failure::join(reason, drift)),
        };
        tracing::info!(
            message_id = events::DRIFT,
            app = app.app,
            %state,
            reason,
            drift,
            "`{}` is {state}{causes}",
            app.app
        );
    }
    let is_new = previous.is_none_or(|previous| previous.summary != status.summary);
    if is_new && status.state > ServerState::Drifted {
        tracing::warn!(message_id = events::CYCLE, "{}", status.summary);
    }
}

/// The report as `pulld pull` prints it: what happened, then what still needs attention, and what was not looked at.
fn cycle_report(status: &Status, cycle: &Cycle, unseen: &BTreeSet<&AppName>) -> CycleReport {
    let happened = &cycle.events;
    let mut lines: Vec<String> = happened.iter().map(|event| format!("{}: {}", event.app, event.text)).collect();
    for app in &status.apps {
        let is_told = happened.iter().any(|event| event.app == app.app);
        if app.state == AppState::Converged || (is_told && app.drift.is_empty()) {
            continue;
        }
        let drift = (!app.drift.is_empty()).then(|| app.drift.join("; "));
        match app.reason.clone().or(drift) {
            Some(cause) => lines.push(format!("{}: {}: {cause}", app.app, app.state)),
            None => lines.push(format!("{}: {}", app.app, app.state)),
        }
    }
    let document = &status.document;
    let bad = document.bad_entries.iter();
    lines.extend(bad.map(|bad| format!("invalid document entry `{}`: {}", bad.entry, bad.reason)));
    let more = document.bad_count() - document.bad_entries.len();
    if more > 0 {
        lines.push(format!("and {}", count(more, "more invalid entry")));
    }
    lines.extend(status.warnings.iter().map(|warning| format!("warning: {warning}")));
    if !unseen.is_empty() {
        lines.push(format!(
            "not known yet is whether files of {} were changed by hand, because comparing them takes long: the next cycles \
             go on with that, and so does `pulld pull`",
            failure::some_of(unseen.iter().copied(), MAX_UNSEEN)
        ));
    }
    let ok = status.state <= ServerState::Drifted && !cycle.failed;
    CycleReport { ok, summary: status.summary.clone(), lines }
}
