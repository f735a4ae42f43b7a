//! Whether a unit that was restarted stays up. Pure: no I/O, no clock.

use std::time::Duration;

use crate::{
    failure::Unhealthy,
    machine::{ActiveState, LoadState, ServiceType, SubState, UnitState},
};

/// How long a unit may take to start.
pub(crate) const START_TIMEOUT: Duration = Duration::from_mins(5);

/// A unit at one moment.
#[derive(Debug, Clone)]
pub(crate) struct Sample {
    /// Since the watch began.
    pub(crate) at: Duration,
    /// How the unit was.
    pub(crate) state: UnitState,
}

/// Whether a unit is healthy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Not yet.
    Wait,
    /// It stayed up for the window, or succeeded.
    Healthy,
    /// It did not, and this is what it did.
    Unhealthy(Unhealthy),
}

/// Judges a unit. `restarts` is how often systemd had restarted it when the watch began.
pub(crate) fn verdict(samples: &[Sample], restarts: u32, window: Duration) -> Verdict {
    let Some(last) = samples.last() else { return Verdict::Wait };
    let state = &last.state;
    if state.load != LoadState::Loaded {
        return Verdict::Unhealthy(Unhealthy::NotLoaded { load: state.load.as_str().to_owned() });
    }
    if state.active == ActiveState::Failed {
        return Verdict::Unhealthy(Unhealthy::Failed(state.failure()));
    }
    if state.sub == SubState::AutoRestart || state.restarts > restarts {
        return Verdict::Unhealthy(Unhealthy::DoesNotStayUp { end: state.end, restarts: state.restarts });
    }
    match &state.active {
        ActiveState::Active => {
            // A restart by a person begins the window anew.
            let same = |sample: &&Sample| {
                sample.state.active == ActiveState::Active && sample.state.invocation == state.invocation
            };
            let since = samples.iter().rev().take_while(same).last().map_or(last.at, |sample| sample.at);
            if last.at.saturating_sub(since) >= window { Verdict::Healthy } else { Verdict::Wait }
        }
        ActiveState::Inactive if state.service_type == ServiceType::Oneshot && state.result.is_success() => {
            Verdict::Healthy
        }
        ActiveState::Inactive => Verdict::Unhealthy(Unhealthy::Exited { end: state.end }),
        other if last.at >= START_TIMEOUT => Verdict::Unhealthy(Unhealthy::Stuck { active: other.as_str().to_owned() }),
        _ => Verdict::Wait,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        failure::{ProcessEnd, UnitEnd},
        machine::fake::{exited, running, unit_state},
    };

    const WINDOW: Duration = Duration::from_secs(10);

    fn judge(states: &[(u64, UnitState)]) -> Verdict {
        let sample = |(at, state): &(u64, UnitState)| Sample { at: Duration::from_secs(*at), state: state.clone() };
        verdict(&states.iter().map(sample).collect::<Vec<_>>(), 1, WINDOW)
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
    fn how_it_ended_is_told() {
        let crashed = UnitState { end: exited(3).end, restarts: 2, ..unit_state("activating", "auto-restart") };
        let ended = UnitState { end: exited(0).end, ..unit_state("inactive", "dead") };
        let late = UnitState { result: "timeout".to_owned().into(), ..exited(0) };
        for (state, expected) in [
            (exited(203), Unhealthy::Failed(UnitEnd::Process(ProcessEnd::Exited(203)))),
            (late, Unhealthy::Failed(UnitEnd::Result("timeout".to_owned()))),
            (crashed, Unhealthy::DoesNotStayUp { end: exited(3).end, restarts: 2 }),
            (ended, Unhealthy::Exited { end: exited(0).end }),
            (UnitState { load: LoadState::Masked, ..exited(0) }, Unhealthy::NotLoaded { load: "masked".to_owned() }),
        ] {
            assert_eq!(judge(&[(0, state)]), Verdict::Unhealthy(expected));
        }
        let stuck = Unhealthy::Stuck { active: "activating".to_owned() };
        assert_eq!(judge(&[(300, unit_state("activating", "start"))]), Verdict::Unhealthy(stuck));
    }

    #[test]
    fn what_does_not_stay_up_is_unhealthy_at_once() {
        let oneshot = |active: &str, result: &str| UnitState {
            service_type: ServiceType::Oneshot,
            result: result.to_owned().into(),
            ..unit_state(active, "dead")
        };
        let unhealthy = [
            unit_state("failed", "failed"),
            unit_state("activating", "auto-restart"),
            UnitState { restarts: 2, ..running("a") },
            unit_state("inactive", "dead"),
            UnitState { load: LoadState::NotFound, ..unit_state("inactive", "dead") },
            oneshot("failed", "exit-code"),
        ];
        for state in unhealthy {
            assert!(matches!(judge(&[(0, state.clone())]), Verdict::Unhealthy(_)), "{state:?}");
        }
        assert_eq!(judge(&[(0, oneshot("inactive", "success"))]), Verdict::Healthy);
        assert_eq!(judge(&[(299, unit_state("activating", "start"))]), Verdict::Wait);
    }
}
