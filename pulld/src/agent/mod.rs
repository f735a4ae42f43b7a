//! The agent: one loop that makes the machine match its document. [`Agent::pull_cycle`] is the whole story, in ten
//! steps.
//!
//! A cycle never overlaps a cycle. Whatever fails in one is an outcome: it is reported, and the loop continues.

mod begin;
mod by_hand;
mod carry_out;
mod configured;
mod cycle;
mod desired;
mod instructed;
mod observe;
mod paused;
mod report;
mod restarts;
mod retries;

use std::{collections::BTreeSet, rc::Rc, time::Duration};

use anyhow::Result;
use bucket::{Generation, ReleaseName, ServerDocument, Timestamp};
use tokio::time::Instant;

use crate::{
    config::Settings,
    decide::{
        plan::{self, Decision, Situation, Step},
        schedule,
    },
    machine::{InstalledPackage, PackageManager, ServiceManager},
    random::{random_fraction, random_u64},
    service::{
        announcer::Announcer,
        control::{CycleReport, CycleTracker},
        events,
        instructions::Instructions,
        liveness::Liveness,
        wake::{Reason, WakeSignal},
    },
    state::{
        event_log::EventLog,
        lineage::Lineage,
        paths::Paths,
        pauses::Pauses,
        persist,
        quarantine::Quarantine,
        remembered::{self, Remembered},
        seen::Seen,
    },
    store::{
        bucket::Bucket,
        cache::Cache,
        prepare::{Inspect, Preparer},
    },
    transaction::{executor::Next, update::AppUpdate},
};

use self::{
    configured::Configured, cycle::Cycle, desired::Desired, observe::ChangedFiles, report::Reporter,
    restarts::Restarts, retries::Retries,
};

pub(crate) use self::configured::LoadSettings;

/// How often it is seen whether the directory of a bucket is marked, while it is not: that costs nothing.
const MARKER_CHECK: Duration = Duration::from_secs(1);

/// What the agent works with.
pub(crate) struct Machine<P, S> {
    /// dpkg.
    pub(crate) packages: P,
    /// systemd.
    pub(crate) services: S,
    /// Reads the control data of a `.deb`.
    pub(crate) inspect: Inspect,
}

/// The agent of one machine.
pub(crate) struct Agent<P, S> {
    paths: Paths,
    machine: Machine<P, S>,
    configured: Configured,
    desired: Desired,
    /// The generation of the document that this process has kept on the disk.
    remembered: Option<Generation>,
    quarantine: Quarantine,
    pauses: Pauses,
    lineage: Lineage,
    restarts: Restarts,
    seen: Seen,
    events: EventLog,
    retries: Retries,
    cache: Cache,
    /// Whether the cache was cleared since the start and since the last transaction.
    is_cache_clear: bool,
    files: ChangedFiles,
    reporter: Reporter,
    liveness: Rc<Liveness>,
    announcer: Announcer,
    /// What people on this machine told it since the last cycle.
    instructions: Instructions,
    /// Identifies this process among all that ever ran.
    instance: String,
    /// Cycles in a row that failed as a whole.
    failed_cycles: u32,
    /// Whether the last process crashed, or the last cycle failed as a whole: pulld's own update may be the cure.
    own_first: bool,
    /// When it pulls next if nothing wakes it before.
    pub(crate) next_pull: Instant,
}

impl<P: PackageManager, S: ServiceManager> Agent<P, S> {
    /// An agent that has read nothing but its configuration. While that is invalid from the start, it uses `fallback`:
    /// a machine whose agent does not start cannot be repaired from elsewhere.
    pub(crate) fn new(paths: Paths, machine: Machine<P, S>, load_settings: LoadSettings, fallback: Settings) -> Self {
        Self {
            cache: Cache::new(paths.cache()),
            is_cache_clear: false,
            quarantine: Quarantine::load(&paths.quarantine()),
            pauses: Pauses::load(&paths.pauses()),
            configured: Configured::new(load_settings, fallback, paths.settings()),
            lineage: Lineage::load(&paths.lineage()),
            restarts: Restarts::load(&paths),
            seen: Seen::load(&paths.seen()),
            events: EventLog::load(&paths.events()),
            paths,
            machine,
            desired: Desired::default(),
            remembered: None,
            retries: Retries::default(),
            files: ChangedFiles::default(),
            reporter: Reporter::new(),
            liveness: Rc::new(Liveness::new()),
            announcer: Announcer::default(),
            instructions: Instructions::default(),
            instance: format!("{}-{}", std::process::id(), random_u64()),
            failed_cycles: 0,
            own_first: false,
            next_pull: Instant::now(),
        }
    }

    /// The liveness, for the task that feeds the watchdog.
    pub(crate) fn liveness(&self) -> Rc<Liveness> {
        self.liveness.clone()
    }

    /// Where instructions for it are queued.
    pub(crate) fn instructions(&self) -> Instructions {
        self.instructions.clone()
    }

    /// Pulls at every wake-up and at every poll, until it exits to let a new pulld start.
    pub(crate) async fn run(&mut self, wake_signal: &WakeSignal, tracker: &CycleTracker) {
        wake_signal.notify(Reason::Start);
        loop {
            let reasons = tokio::select! {
                reasons = wake_signal.wait_until(self.next_pull) => reasons,
                () = self.bucket_appears() => [Reason::Timer].into(),
            };
            tracker.begin();
            let (report, next) = self.pull_cycle(&reasons).await;
            if next == Next::Exit {
                return;
            }
            tracker.end(report);
            self.liveness.within(self.next_pull.saturating_duration_since(Instant::now()));
        }
    }

    /// Waits for the marker of a bucket that had none: its share is mounted, or the first release is being uploaded.
    async fn bucket_appears(&self) {
        let mut was_missing = false;
        if let Some(bucket) = self.configured.open_bucket().filter(|_| self.desired.is_unreachable()) {
            // A bucket that is marked is unreachable for another reason.
            while !bucket.is_marked().await.unwrap_or(false) {
                was_missing = true;
                tokio::time::sleep(MARKER_CHECK).await;
            }
        }
        if !was_missing {
            std::future::pending::<()>().await;
        }
    }

    /// One pull cycle.
    pub(crate) async fn pull_cycle(&mut self, reasons: &BTreeSet<Reason>) -> (CycleReport, Next) {
        // 1. Why the agent woke decides whether everything is read and retried at once.
        let mut cycle = Cycle::begin(reasons);
        self.begin(reasons.contains(&Reason::Start)).await;
        let converged = self.converge(&mut cycle).await;
        if matches!(converged, Ok(Next::Exit)) {
            return (CycleReport::default(), Next::Exit);
        }
        let failure = converged.err().map(|error| format!("{error:#}"));
        self.failed_cycles = if failure.is_some() { self.failed_cycles.saturating_add(1) } else { 0 };
        self.own_first |= failure.is_some();
        // 10. Report, whatever happened, and when the next one comes.
        self.next_pull = self.schedule_pull(reasons.contains(&Reason::Start));
        (self.report(cycle, failure).await, Next::Continue)
    }

    async fn converge(&mut self, cycle: &mut Cycle) -> Result<Next> {
        self.liveness.within(Duration::ZERO);
        // 2. Complete or undo what was interrupted, before anything else is believed or begun.
        if self.resume_interrupted(cycle).await? == Next::Exit {
            return Ok(Next::Exit);
        }
        if self.carry_out_instructions(cycle).await? == Next::Exit {
            return Ok(Next::Exit);
        }
        // 3. Read the configuration.
        self.reload_configuration();
        let bucket = self.configured.bucket(&self.paths).await?;
        // 4. Read the server document, if it changed.
        let is_new = self.read_document(&bucket).await;
        // 5. and 6. Query dpkg for what is installed, and plan what is missing.
        self.read_and_plan(cycle).await?;
        let ignore_backoff = cycle.requested || is_new;
        let due = self.due_steps(ignore_backoff, cycle);
        for due in plan::batches(due, self.own_first) {
            let mut meanwhile = self.report_begun(ignore_backoff, cycle).await;
            // The work comes first, and its end is the end of reporting what it does.
            let worked = tokio::select! {
                biased;
                worked = self.work(&bucket, &due, cycle) => worked,
                never = meanwhile.report() => match never {},
            };
            self.report_ended(meanwhile);
            if worked? == Next::Exit {
                return Ok(Next::Exit);
            }
        }
        self.remember_document();
        self.own_first &= self.desired.error().is_some();
        // 9. Delete cached packages that are no longer needed.
        self.clear_cache(cycle);
        Ok(Next::Continue)
    }

    /// Makes the machine as the steps ask, as far as that is possible.
    async fn work(&mut self, bucket: &Bucket, steps: &[Step], cycle: &mut Cycle) -> Result<Next> {
        cycle.busy = true;
        // 7. Download and verify everything needed, forward and back. Nothing has changed so far.
        let updates = self.prepare(bucket, steps, cycle).await;
        // 8. Install, restart, check, and roll back where necessary: one transaction, with phases of its own.
        if !updates.is_empty() {
            if self.carry_out(updates, self.desired.generation(), cycle).await? == Next::Exit {
                return Ok(Next::Exit);
            }
            self.is_cache_clear = false;
            self.read_and_plan(cycle).await?;
            self.retries.keep_planned(&cycle.plan);
        }
        Ok(Next::Continue)
    }

    /// Reads the configuration again. Another bucket or another name means another document.
    fn reload_configuration(&mut self) {
        if self.configured.reload() {
            (self.desired, self.retries, self.remembered) = (Desired::default(), Retries::default(), None);
            self.reporter.forget_published();
        }
    }

    async fn read_document(&mut self, bucket: &Bucket) -> bool {
        let remembered =
            if self.desired.is_read() { None } else { self.recall().map(|remembered| remembered.generation) };
        let settings = self.configured.settings();
        self.liveness.within(settings.bucket_timeout());
        let was_gone = self.desired.gone().is_some();
        let is_new = self.desired.read(bucket, &settings.server, remembered).await;
        if was_gone && self.desired.gone().is_none() {
            // What is kept says that it is gone.
            self.remembered = None;
        } else if was_gone && self.remembered.is_some() && !self.paths.document().exists() {
            self.desired.accept_gone();
        }
        self.lift_quarantine_of_unnamed();
        self.carry_out_retries();
        is_new
    }

    /// Keeps the document for who plans while the bucket does not answer.
    fn remember_document(&mut self) {
        self.remembered = self.keep_document();
    }

    /// Keeps the document unless that one is kept, and gives the generation that is.
    fn keep_document(&self) -> Option<Generation> {
        let (path, settings) = (self.paths.document(), self.configured.settings());
        let (Some(bucket), None) = (&settings.bucket, self.desired.error()) else { return self.remembered };
        // A document that was not read to its end is none to plan for.
        let kept = match self.desired.document().filter(|(_, document)| document.unread() == 0) {
            Some((generation, document)) if self.remembered != Some(generation) || !path.exists() => {
                remembered::keep(&path, bucket, &settings.server, generation, document).map(|()| Some(generation))
            }
            Some((generation, _)) => {
                remembered::confirm(&path);
                Ok(Some(generation))
            }
            // That there was one is known from it alone when the next process starts.
            None if self.desired.gone().is_some() => remembered::note_gone(&path),
            None if path.exists() => persist::remove(&path).map(|()| None),
            None => Ok(None),
        };
        kept.unwrap_or_else(|error| {
            tracing::warn!(message_id = events::STATE_LOST, "could not keep the server document: {error:#}");
            None
        })
    }

    /// A release that the document named something else for in between is no longer quarantined.
    fn lift_quarantine_of_unnamed(&mut self) {
        let Some((_, document)) = self.desired.document() else { return };
        let lifted = self.quarantine.lift_unnamed(document);
        if lifted.is_empty() {
            return;
        }
        for entry in lifted {
            let release = entry.release.stem();
            tracing::info!(
                message_id = events::QUARANTINE_LIFTED,
                app = %entry.release.app(),
                release,
                "`{release}` is no longer quarantined: the server document does not name it any more"
            );
        }
        if let Err(error) = self.quarantine.save(&self.paths.quarantine()) {
            tracing::warn!(message_id = events::STATE_LOST, "could not save the quarantine: {error:#}");
        }
    }

    /// Notes in the cycle what is installed, and what that leaves to do.
    async fn read_and_plan(&mut self, cycle: &mut Cycle) -> Result<()> {
        self.end_pauses();
        let installed = observe::installed(&self.machine.packages, &self.liveness).await?;
        let document = self.desired.document().map(|(_, document)| document);
        let Decision { plan, report } = self.decide(document, &installed);
        let report = if self.desired.is_read() { report } else { report.before_reading() };
        (cycle.plan, cycle.report) = (plan, report);
        cycle.installed = Some(installed);
        self.tell_changes_by_hand(cycle);
        Ok(())
    }

    /// What a document leaves to do on a machine that has `installed`.
    fn decide(&self, document: Option<&ServerDocument>, installed: &[InstalledPackage]) -> Decision {
        let settings = self.configured.settings();
        plan::plan(&Situation {
            document,
            settled: self.desired.is_settled(),
            installed,
            quarantine: &self.quarantine,
            pauses: &self.pauses,
            allowed: &settings.allowed_apps,
            prune: settings.prune,
        })
    }

    /// The document as an earlier process last read it, while this one has read nothing: it may still be the server's.
    fn recall_unread(&self) -> Option<Remembered> {
        if self.desired.is_read() { None } else { self.recall().filter(|remembered| remembered.gone.is_none()) }
    }

    /// The document as last read, which may be gone.
    fn recall(&self) -> Option<Remembered> {
        let settings = self.configured.settings();
        remembered::recall(&self.paths.document(), settings.bucket.as_ref()?, &settings.server).ok()?
    }

    /// The steps to carry out now. An app that failed lately waits until its retry is due, unless a person asked or the
    /// document is new.
    fn due_steps(&mut self, ignore_backoff: bool, cycle: &Cycle) -> Vec<Step> {
        let now = Instant::now();
        let is_due = |step: &&Step| ignore_backoff || self.retries.is_due(step.app(), now);
        let steps = cycle.plan.steps.iter().filter(is_due).cloned().collect();
        self.retries.keep_planned(&cycle.plan);
        steps
    }

    /// Prepares what the steps need, and schedules a retry of what cannot be prepared.
    async fn prepare(&mut self, bucket: &Bucket, steps: &[Step], cycle: &Cycle) -> Vec<AppUpdate> {
        let preparer = self.preparer(Some(bucket));
        // Whoever resumes this must know what was asked for. It is written while the first bytes come.
        let preparing = preparer.prepare(steps, cycle.installed());
        let ((updates, unprepared), remembered) = tokio::join!(preparing, async { self.keep_document() });
        self.remembered = remembered;
        for failed in unprepared {
            if let Some(step) = steps.iter().find(|step| *step.app() == failed.app) {
                self.schedule_retry(step.release(), &failed.fault.into());
            }
        }
        updates
    }

    /// Prepares updates, from the cache alone without a bucket.
    fn preparer<'a>(&'a self, bucket: Option<&'a Bucket>) -> Preparer<'a, P, S> {
        Preparer {
            bucket,
            cache: &self.cache,
            packages: &self.machine.packages,
            services: &self.machine.services,
            transaction_timeout: self.configured.settings().transaction_timeout,
            quarantine: &self.quarantine,
            inspect: self.machine.inspect,
            root: self.paths.root(),
            liveness: &self.liveness,
            announcer: &self.announcer,
        }
    }

    /// Clears the cache once after each start and each transaction.
    fn clear_cache(&mut self, cycle: &Cycle) {
        if self.is_cache_clear {
            return;
        }
        let installed = cycle.installed().iter().filter_map(|package| package.release.clone());
        let desired = self.desired.document().into_iter().flat_map(|(_, document)| document.releases().cloned());
        let needed: Vec<ReleaseName> = installed.chain(desired).collect();
        if let Err(error) = self.cache.clear(self.configured.settings().keep_releases, &needed) {
            tracing::warn!(message_id = events::STATE_LOST, "could not clear the cache: {error:#}");
        }
        self.is_cache_clear = true;
    }

    /// When to pull next if nothing wakes the agent before.
    fn schedule_pull(&self, is_start: bool) -> Instant {
        let Settings { poll, jitter, .. } = *self.configured.settings();
        let failures = self.desired.failed_reads().max(self.failed_cycles);
        let now = Instant::now();
        let poll_at = now + schedule::rest(poll, jitter, is_start, failures, random_fraction());
        let pause_ends = self
            .pauses
            .next_end()
            .map(|end| now + Duration::try_from(end.duration_since(Timestamp::now())).unwrap_or_default());
        let sooner = self.retries.next().into_iter().chain(pause_ends).min();
        sooner.map_or(poll_at, |sooner| sooner.max(now + Duration::from_secs(1)).min(poll_at))
    }
}
