//! Units as tests need them.

use super::super::unit_state::{LoadState, UnitState};

/// A loaded service in that state.
pub(crate) fn unit_state(active: &str, sub: &str) -> UnitState {
    UnitState {
        load: LoadState::Loaded,
        active: active.to_owned().into(),
        sub: sub.to_owned().into(),
        file_state: "enabled".to_owned().into(),
        result: "success".to_owned().into(),
        service_type: "simple".to_owned().into(),
        restarts: 0,
        invocation: String::new(),
        since: None,
    }
}

/// A service that runs as that invocation.
pub(crate) fn running(invocation: &str) -> UnitState {
    UnitState { invocation: invocation.into(), ..unit_state("active", "running") }
}
