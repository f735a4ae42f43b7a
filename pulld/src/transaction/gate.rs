//! The health gate: whether a release stays up after its units were restarted.
//!
//! [`verdict`] is pure and judges one unit from samples of it; [`watch`] takes the samples, of all releases in the
//! same window, and judges each release for itself. A newer server document doesn't cut the wait short: it is read
//! by the next cycle, and what is installed has a verdict by then.

use std::{collections::BTreeMap, time::Duration};

use bucket::AppName;
use tokio::time::Instant;

use crate::machine::{ServiceManager, UnitState};

/// How often units are looked at.
const INTERVAL: Duration = Duration::from_millis(500);

/// How long a unit may take to come up, and a check command to succeed.
pub(crate) const START_LIMIT: Duration = Duration::from_mins(5);

/// One look at a unit.
#[derive(Debug, Clone)]
pub(crate) struct Sample {
    /// Since the watch began.
    pub(crate) at: Duration,
    /// How the unit was.
    pub(crate) state: UnitState,
}

/// What is to be said of a unit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Not yet.
    Wait,
    /// It stayed up for the window, or did its work.
    Healthy,
    /// It didn't, for this reason.
    Unhealthy(String),
}

/// Judges a unit. `restarts` is how often systemd had restarted it when the watch began.
pub(crate) fn verdict(name: &str, samples: &[Sample], restarts: u32, window: Duration) -> Verdict {
    let Some(last) = samples.last() else { return Verdict::Wait };
    let state = &last.state;
    let unhealthy = |why: String| Verdict::Unhealthy(format!("`{name}` {why}"));
    if state.load != "loaded" {
        return unhealthy(format!("can't be run: its load state is `{}`", state.load.escape_debug()));
    }
    if state.active == "failed" {
        return unhealthy(format!("failed ({})", state.result.escape_debug()));
    }
    if state.sub == "auto-restart" || state.restarts > restarts {
        return unhealthy(match state.restarts {
            0 | 1 => "doesn't stay up: systemd had to restart it".to_owned(),
            times => format!("doesn't stay up: systemd restarted it {times} times"),
        });
    }
    match state.active.as_str() {
        "active" => {
            // A restart by a person begins the window anew.
            let same =
                |sample: &&Sample| sample.state.active == "active" && sample.state.invocation == state.invocation;
            let since = samples.iter().rev().take_while(same).last().map_or(last.at, |sample| sample.at);
            if last.at.saturating_sub(since) >= window { Verdict::Healthy } else { Verdict::Wait }
        }
        "inactive" if state.service_type == "oneshot" && matches!(state.result.as_str(), "success" | "") => {
            Verdict::Healthy
        }
        "inactive" => unhealthy("isn't running: it ended by itself".to_owned()),
        other if last.at >= START_LIMIT => unhealthy(format!("is still `{}`", other.escape_debug())),
        _ => Verdict::Wait,
    }
}

/// One release at the gate.
#[derive(Debug, Clone)]
pub(crate) struct HealthTarget {
    /// The app.
    pub(crate) app: AppName,
    /// The units to judge, each with its restarts by systemd so far.
    pub(crate) units: Vec<(String, u32)>,
    /// Its own check command.
    pub(crate) check: Option<Vec<String>>,
}

/// Why a release can't stay.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Unhealthy {
    /// In a sentence.
    pub(crate) reason: String,
    /// False when systemd couldn't be asked, which is no fault of the release.
    pub(crate) release_at_fault: bool,
}

/// Watches releases until each is judged; gives those that can't stay.
pub(crate) async fn watch(
    services: &impl ServiceManager,
    targets: &[HealthTarget],
    window: Duration,
) -> BTreeMap<AppName, Unhealthy> {
    let began = Instant::now();
    let watching = targets.iter().map(|target| async move {
        let unhealthy = watch_one(services, target, window, began).await.err()?;
        Some((target.app.clone(), unhealthy))
    });
    futures_util::future::join_all(watching).await.into_iter().flatten().collect()
}

async fn watch_one(
    services: &impl ServiceManager,
    target: &HealthTarget,
    window: Duration,
    began: Instant,
) -> Result<(), Unhealthy> {
    let mut open: Vec<(&str, u32, Vec<Sample>)> =
        target.units.iter().map(|(name, restarts)| (name.as_str(), *restarts, Vec::new())).collect();
    while !open.is_empty() {
        let mut left = Vec::new();
        for (name, restarts, mut samples) in open {
            let at = began.elapsed();
            match services.unit(name).await {
                Ok(state) => samples.push(Sample { at, state }),
                Err(error) if at >= START_LIMIT => {
                    return Err(Unhealthy {
                        reason: format!("could not ask systemd about `{name}`: {error:#}"),
                        release_at_fault: false,
                    });
                }
                Err(_) => {}
            }
            match verdict(name, &samples, restarts, window) {
                Verdict::Wait => left.push((name, restarts, samples)),
                Verdict::Healthy => {}
                Verdict::Unhealthy(reason) => return Err(Unhealthy { reason, release_at_fault: true }),
            }
        }
        open = left;
        if !open.is_empty() {
            tokio::time::sleep(INTERVAL.min(window.max(Duration::from_millis(50)))).await;
        }
    }
    match &target.check {
        Some(command) => pass_check(services, command, window).await,
        None => Ok(()),
    }
}

/// Runs a release's own check until it passes, at least once and for at most another window.
async fn pass_check(services: &impl ServiceManager, command: &[String], window: Duration) -> Result<(), Unhealthy> {
    let began = Instant::now();
    loop {
        let (reason, release_at_fault) = match services.check(command, window.max(Duration::from_secs(10))).await {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(reason)) => (format!("its check failed: {reason}"), true),
            Err(error) => (format!("its check could not be run: {error:#}"), false),
        };
        if began.elapsed() >= window {
            return Err(Unhealthy { reason, release_at_fault });
        }
        tokio::time::sleep(INTERVAL * 2).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::fake::{running, unit_state};

    const WINDOW: Duration = Duration::from_secs(10);

    fn judge(states: &[(u64, UnitState)]) -> Verdict {
        let sample = |(at, state): &(u64, UnitState)| Sample { at: Duration::from_secs(*at), state: state.clone() };
        verdict("web.service", &states.iter().map(sample).collect::<Vec<_>>(), 1, WINDOW)
    }

    #[test]
    fn a_service_must_be_up_for_the_whole_window() {
        let up = |invocation| UnitState { restarts: 1, ..running(invocation) };
        assert_eq!(judge(&[(0, up("a")), (9, up("a"))]), Verdict::Wait);
        assert_eq!(judge(&[(0, up("a")), (10, up("a"))]), Verdict::Healthy);
        assert_eq!(judge(&[(0, up("a")), (5, up("b")), (14, up("b"))]), Verdict::Wait);
        assert_eq!(judge(&[(0, up("a")), (5, up("b")), (15, up("b"))]), Verdict::Healthy);
        assert_eq!(judge(&[(0, unit_state("activating", "start")), (5, up("a")), (10, up("a"))]), Verdict::Wait);
        assert_eq!(judge(&[]), Verdict::Wait);
    }

    #[test]
    fn what_does_not_stay_up_is_unhealthy_at_once() {
        let oneshot = |active: &str, result: &str| UnitState {
            service_type: "oneshot".into(),
            result: result.into(),
            ..unit_state(active, "dead")
        };
        let unhealthy = [
            unit_state("failed", "failed"),
            unit_state("activating", "auto-restart"),
            UnitState { restarts: 2, ..running("a") },
            unit_state("inactive", "dead"),
            UnitState { load: "not-found".into(), ..unit_state("inactive", "dead") },
            oneshot("failed", "exit-code"),
        ];
        for state in unhealthy {
            assert!(matches!(judge(&[(0, state.clone())]), Verdict::Unhealthy(_)), "{state:?}");
        }
        assert_eq!(judge(&[(0, oneshot("inactive", "success"))]), Verdict::Healthy);
        assert_eq!(judge(&[(299, unit_state("activating", "start"))]), Verdict::Wait);
        assert!(matches!(judge(&[(300, unit_state("activating", "start"))]), Verdict::Unhealthy(_)));
    }
}
