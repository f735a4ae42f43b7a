//! Whether a service is healthy that something else starts: its timer, its socket, a path. Pure: no I/O, no clock.

use std::time::Duration;

use bucket::{UnitAction, UnitName};

use crate::{
    failure::Unhealthy,
    machine::{ActiveState, LoadState, SubState, UnitState},
};

use super::{
    units::UnitBefore,
    verdict::{Sample, Verdict},
};

/// Whether a unit is judged as one that something else starts.
pub(crate) fn is_triggered(before: &UnitBefore, now: &UnitState) -> bool {
    let name = &before.unit.name;
    before.wanted
        && before.unit.action == UnitAction::None
        && name.kind() == "service"
        && !name.is_template()
        && now.load == LoadState::Loaded
}

/// Judges such a service: it needn't run, but where it ran since dpkg did, it must not have failed.
pub(crate) fn verdict(before: &UnitBefore, samples: &[Sample], window: Duration) -> Verdict {
    let Some(Sample { at, state }) = samples.last() else { return Verdict::Wait };
    let has_run = !state.invocation.is_empty() && state.invocation != before.invocation;
    if has_run && (state.active == ActiveState::Failed || state.sub == SubState::AutoRestart) {
        return Verdict::Unhealthy(Unhealthy::FailedWhenStarted(state.failure()));
    }
    if *at >= window { Verdict::Healthy } else { Verdict::Wait }
}

/// Whether a service is one connection's of a socket with `Accept=yes` (systemd.socket(5)): it may go on with the program
/// that it was started from, and doesn't keep the socket from being started.
pub(crate) fn is_connection(socket: &UnitName, service: &str) -> bool {
    let prefix = |stem: &str| stem.split_once('@').map_or(stem, |(prefix, _)| prefix).to_owned();
    let service = service.parse::<UnitName>();
    service.is_ok_and(|service| {
        service.template().is_some()
            && service.stem() != socket.stem()
            && prefix(service.stem()) == prefix(socket.stem())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        failure::{ProcessEnd, UnitEnd},
        machine::fake::{exited, running, unit_state},
    };

    #[test]
    fn what_a_timer_starts_must_not_fail_and_need_not_run() {
        let window = Duration::from_secs(10);
        let before = UnitBefore::new("tidy.service=none".parse().unwrap(), true, unit_state("inactive", "dead"));
        let judge = |at, state: UnitState| verdict(&before, &[Sample { at: Duration::from_secs(at), state }], window);
        let failed = |invocation: &str| UnitState { invocation: invocation.into(), ..exited(1) };
        assert_eq!(judge(0, unit_state("inactive", "dead")), Verdict::Wait);
        assert_eq!(judge(10, unit_state("inactive", "dead")), Verdict::Healthy);
        assert_eq!(judge(10, running("b")), Verdict::Healthy);
        let why = Unhealthy::FailedWhenStarted(UnitEnd::Process(ProcessEnd::Exited(1)));
        assert_eq!(judge(0, failed("b")), Verdict::Unhealthy(why));
        let again =
            UnitState { invocation: "b".into(), end: exited(3).end, ..unit_state("activating", "auto-restart") };
        assert!(matches!(judge(0, again), Verdict::Unhealthy(_)));
        let failed_before = UnitBefore::new("tidy.service=none".parse().unwrap(), true, failed("a"));
        let old = Sample { at: window, state: failed("a") };
        assert_eq!(verdict(&failed_before, &[old], window), Verdict::Healthy, "that was the release before");
    }

    #[test]
    fn the_service_of_a_connection_is_told_from_that_of_a_socket() {
        for (socket, service, expected) in [
            ("web.socket", "web.service", false),
            ("web.socket", "web@0-127.0.0.1:80-127.0.0.1:4711.service", true),
            ("web@a.socket", "web@a.service", false),
            ("web@a.socket", "web@4-1234-0.service", true),
            ("web.socket", "other@a.service", false),
        ] {
            assert_eq!(is_connection(&socket.parse().unwrap(), service), expected, "{socket} {service}");
        }
    }
}
