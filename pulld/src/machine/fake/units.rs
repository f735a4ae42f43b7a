//! Units as tests need them.

use crate::failure::ProcessEnd;

use super::super::unit_state::{LoadState, UnitState};

/// A loaded service in that state.
pub(crate) fn unit_state(active: &str, sub: &str) -> UnitState {
    UnitState {
        load: LoadState::Loaded,
        active: active.to_owned().into(),
        sub: sub.to_owned().into(),
        file_state: "enabled".to_owned().into(),
        result: "success".to_owned().into(),
        end: None,
        service_type: "simple".to_owned().into(),
        restarts: 0,
        triggers: vec![],
        triggered_by: vec![],
        invocation: String::new(),
        since: None,
        started: None,
    }
}

/// A service that failed because its main process exited with that status.
pub(crate) fn exited(status: i32) -> UnitState {
    let (result, end) = ("exit-code".to_owned().into(), Some(ProcessEnd::Exited(status)));
    UnitState { result, end, ..unit_state("failed", "failed") }
}

/// A service that runs as that invocation.
pub(crate) fn running(invocation: &str) -> UnitState {
    UnitState { invocation: invocation.into(), ..unit_state("active", "running") }
}
