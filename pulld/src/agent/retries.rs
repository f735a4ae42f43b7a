//! Updates that failed and are retried later. Pure: the caller names the time and the random share.

use std::collections::BTreeMap;

use bucket::{AppName, ReleaseName, Timestamp};
use tokio::time::Instant;

use crate::{
    decide::{plan::Plan, report::Waiting, schedule},
    failure::Failure,
};

/// The apps that wait for their next attempt.
#[derive(Debug, Default)]
pub(super) struct Retries(BTreeMap<AppName, Retry>);

/// The next attempt at an update of one app.
#[derive(Debug)]
struct Retry {
    release: ReleaseName,
    failure: Failure,
    /// Attempts that failed before the last one.
    earlier: u32,
    not_before: Instant,
}

impl Retries {
    /// Schedules the next attempt at `release`; the delay grows with each failure of the same release. Returns whether
    /// it failed for another reason than before, as people read it.
    pub(super) fn schedule(&mut self, release: &ReleaseName, failure: &Failure, now: Instant, random: f64) -> bool {
        let before = self.0.get(release.app()).filter(|before| before.release == *release);
        let is_new = before.is_none_or(|before| before.failure.to_string() != failure.to_string());
        let earlier = before.map_or(0, |before| before.earlier.saturating_add(1));
        let not_before = now + schedule::retry(earlier, random);
        let retry = Retry { release: release.clone(), failure: failure.clone(), earlier, not_before };
        self.0.insert(release.app().clone(), retry);
        is_new
    }

    /// Whether an app may be worked on at `now`.
    pub(super) fn is_due(&self, app: &AppName, now: Instant) -> bool {
        self.0.get(app).is_none_or(|retry| retry.not_before <= now)
    }

    /// Forgets everything that the plan no longer asks for.
    pub(super) fn keep_planned(&mut self, plan: &Plan) {
        self.0.retain(|_, retry| plan.steps.iter().any(|step| *step.release() == retry.release));
    }

    /// Forgets an app whose update succeeded, or that is tried now. Gives the release that waited.
    pub(super) fn remove(&mut self, app: &AppName) -> Option<ReleaseName> {
        self.0.remove(app).map(|retry| retry.release)
    }

    /// When the next attempt is due, if any is scheduled.
    pub(super) fn next(&self) -> Option<Instant> {
        self.0.values().map(|retry| retry.not_before).min()
    }

    /// Why each app waits, and until when: `wall` is `now` by this machine's clock.
    pub(super) fn waiting(&self, now: Instant, wall: Timestamp) -> BTreeMap<AppName, Waiting> {
        let waiting = |retry: &Retry| Waiting {
            failure: retry.failure.clone(),
            failures: retry.earlier.saturating_add(1),
            next: wall.checked_add(retry.not_before.saturating_duration_since(now)).unwrap_or(wall),
        };
        self.0.iter().map(|(app, retry)| (app.clone(), waiting(retry))).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{
        decide::{plan::Step, report::Reason},
        failure::{FailureKind, Fault},
        machine::fake::release,
    };

    fn no_space() -> Failure {
        Fault::told(FailureKind::MachineAtFault, "no space").into()
    }

    #[tokio::test(start_paused = true)]
    async fn the_delay_grows_with_each_failure_of_the_same_release() {
        let now = Instant::now();
        let mut retries = Retries::default();
        let delay = |retries: &mut Retries, minute| {
            retries.schedule(&release("web", minute), &no_space(), now, 0.0);
            retries.next().unwrap() - now
        };
        let delays = [1, 1, 1].map(|minute| delay(&mut retries, minute).as_secs());
        assert_eq!(delays, [15, 30, 60]);
        assert_eq!(delay(&mut retries, 2), Duration::from_secs(15), "another release begins anew");
    }

    #[tokio::test(start_paused = true)]
    async fn an_app_is_due_when_its_time_has_come_or_the_plan_has_dropped_it() {
        let now = Instant::now();
        let (web, app) = (release("web", 1), "web".parse().unwrap());
        let mut retries = Retries::default();
        assert!(retries.is_due(&app, now));
        assert!(retries.schedule(&web, &no_space(), now, 0.0));
        assert!(!retries.schedule(&web, &no_space(), now, 0.0), "the reason is known");
        assert!(!retries.is_due(&app, now + Duration::from_secs(29)));
        assert!(retries.is_due(&app, now + Duration::from_secs(30)));
        let step = Step::Install { release: web, from: None, reason: Reason::Document };
        retries.keep_planned(&Plan { steps: vec![step] });
        let waiting = retries.waiting(now, Timestamp::UNIX_EPOCH);
        assert_eq!(
            waiting[&app],
            Waiting { failure: no_space(), failures: 2, next: "1970-01-01T00:00:30Z".parse().unwrap() }
        );
        retries.keep_planned(&Plan::default());
        assert!(retries.is_due(&app, now));
    }
}
