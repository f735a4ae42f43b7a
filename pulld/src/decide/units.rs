//! What happens to a unit after its release was installed or restored. Pure: no I/O, no clock.

use bucket::{OwnedUnit, Timestamp, UnitAction};
use serde::{Deserialize, Serialize};

use crate::machine::{ActiveState, LoadState, ServiceType, SubState, UnitFileState, UnitState};

/// A unit before the transaction.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct UnitBefore {
    /// The unit. When both releases own it, as the new one wants it.
    pub(crate) unit: OwnedUnit,
    /// Whether the new release owns it; otherwise only the one before does.
    pub(crate) wanted: bool,
    /// How it was before anything changed.
    pub(crate) was: UnitState,
    /// Its invocation right before dpkg last ran: a unit that has another one then has been restarted by its package.
    pub(crate) invocation: String,
    /// Its restarts by systemd at that moment.
    pub(crate) restarts: u32,
    /// When these two were noted; `None` in a record of an earlier pulld.
    #[serde(default)]
    pub(crate) noted: Option<Timestamp>,
    /// Its restarts by systemd right after our own restart; `None` until then, and where there was none.
    #[serde(default)]
    pub(crate) restarts_at_own: Option<u32>,
}

/// What is done to a unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Act {
    /// Restart it, or start it if it isn't running.
    Restart,
    /// Reload it.
    Reload,
    /// Nothing, and it is judged all the same.
    Leave(&'static str),
    /// Nothing, and it isn't judged either.
    Ignore(&'static str),
}

/// What happens to a unit, from how it was `before` and how it is `now`.
///
/// `replaced` is false when dpkg left the package as it was: a unit that still runs isn't disturbed then.
pub(crate) fn act(before: &UnitBefore, now: &UnitState, replaced: bool) -> Act {
    if let Some(why) = ignored(before, now) {
        return Act::Ignore(why);
    }
    let running = is_running(now);
    if running && !replaced {
        return Act::Leave("its package was not changed");
    }
    // Packages made by debhelper restart their own units in postinst; a crash that systemd answered with a restart
    // is no such thing, and shows in the count.
    let restarted = !now.invocation.is_empty() && now.invocation != before.invocation;
    let existed = before.was.load == LoadState::Loaded;
    if running && existed && restarted && now.restarts <= before.restarts {
        return Act::Leave("it has restarted automatically");
    }
    match before.unit.action {
        UnitAction::None => Act::Ignore("its release sets the action `none`"),
        UnitAction::Start if running => Act::Leave("it is running"),
        UnitAction::Reload if running && existed => Act::Reload,
        // Started by its package's postinst: a second start would only cut connections.
        UnitAction::Restart | UnitAction::Reload if running && !existed => Act::Leave("it was just started"),
        UnitAction::Start | UnitAction::Reload | UnitAction::Restart => Act::Restart,
    }
}

/// Why a unit is neither touched nor judged.
fn ignored(before: &UnitBefore, now: &UnitState) -> Option<&'static str> {
    let template = before.unit.name.is_template();
    let stopped = before.was.load == LoadState::Loaded
        && before.was.active == ActiveState::Inactive
        && before.was.service_type != ServiceType::Oneshot;
    if before.unit.action == UnitAction::None {
        Some("its release sets the action `none`")
    } else if template {
        Some("it is a template")
    } else if now.load == LoadState::Masked {
        Some("it is masked")
    } else if stopped {
        Some("it was stopped before")
    } else {
        None
    }
}

fn is_running(state: &UnitState) -> bool {
    matches!(state.active, ActiveState::Active | ActiveState::Activating | ActiveState::Reloading)
        && state.sub != SubState::AutoRestart
}

/// How a unit differs from what its release wants, in a sentence.
pub(crate) fn drift(unit: &OwnedUnit, state: &UnitState) -> Option<String> {
    let name = &unit.name;
    if unit.action == UnitAction::None || name.is_template() {
        return None;
    }
    match &state.load {
        LoadState::Loaded => {}
        LoadState::Masked => return Some(format!("`{name}` is masked")),
        LoadState::NotFound => return Some(format!("`{name}` does not exist")),
        other @ LoadState::Other(_) => return Some(format!("`{name}` cannot be loaded ({other})")),
    }
    if state.active == ActiveState::Failed {
        Some(format!("`{name}` failed{}", state.failure()))
    } else if state.sub == SubState::AutoRestart {
        Some(format!("`{name}` keeps restarting"))
    } else if state.active == ActiveState::Inactive && state.service_type != ServiceType::Oneshot {
        Some(format!("`{name}` is stopped"))
    } else if state.file_state == UnitFileState::Disabled && !unit.disabled {
        Some(format!("`{name}` is disabled: it won't start at the next boot"))
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::fake::{running, unit_state};

    fn before(action: UnitAction, was: UnitState) -> UnitBefore {
        let unit = OwnedUnit::new("web.service".parse().unwrap(), action);
        UnitBefore {
            unit,
            wanted: true,
            invocation: was.invocation.clone(),
            restarts: was.restarts,
            noted: None,
            restarts_at_own: None,
            was,
        }
    }

    #[test]
    fn what_happens_to_a_unit() {
        use UnitAction::{None, Reload, Restart, Start};
        let gone = || UnitState { load: LoadState::NotFound, ..unit_state("inactive", "dead") };
        let stopped = || unit_state("inactive", "dead");
        let failed = || unit_state("failed", "failed");
        let oneshot = || UnitState { service_type: ServiceType::Oneshot, ..stopped() };
        let masked = || UnitState { load: LoadState::Masked, ..stopped() };
        let crashed = || UnitState { restarts: 1, ..running("b") };
        let cases = [
            ("upgrade", Restart, running("a"), running("a"), true, Act::Restart),
            (
                "debhelper restarted it",
                Restart,
                running("a"),
                running("b"),
                true,
                Act::Leave("it has restarted automatically"),
            ),
            ("it crashed meanwhile", Restart, running("a"), crashed(), true, Act::Restart),
            ("first install", Restart, gone(), stopped(), true, Act::Restart),
            ("postinst started it", Restart, gone(), running("a"), true, Act::Leave("it was just started")),
            ("stopped by hand", Restart, stopped(), stopped(), true, Act::Ignore("it was stopped before")),
            ("the old release failed", Restart, failed(), failed(), true, Act::Restart),
            ("oneshots run again", Restart, oneshot(), oneshot(), true, Act::Restart),
            ("masked", Restart, running("a"), masked(), true, Act::Ignore("it is masked")),
            ("reload", Reload, running("a"), running("a"), true, Act::Reload),
            ("reload at first install", Reload, gone(), stopped(), true, Act::Restart),
            ("start when running", Start, running("a"), running("a"), true, Act::Leave("it is running")),
            ("start when failed", Start, failed(), failed(), true, Act::Restart),
            ("none", None, running("a"), running("a"), true, Act::Ignore("its release sets the action `none`")),
            (
                "dpkg refused the package",
                Restart,
                running("a"),
                running("a"),
                false,
                Act::Leave("its package was not changed"),
            ),
            ("prerm stopped it, then dpkg failed", Restart, running("a"), stopped(), false, Act::Restart),
        ];
        for (case, action, was, now, replaced, expected) in cases {
            assert_eq!(act(&before(action, was), &now, replaced), expected, "{case}");
        }
    }

    #[test]
    fn drift_is_told_in_a_sentence() {
        let unit = OwnedUnit::new("web.service".parse().unwrap(), UnitAction::Restart);
        assert_eq!(drift(&unit, &running("a")), None);
        let stopped = drift(&unit, &unit_state("inactive", "dead"));
        assert_eq!(stopped.as_deref(), Some("`web.service` is stopped"));
        let disabled = UnitState { file_state: UnitFileState::Disabled, ..running("a") };
        assert!(drift(&unit, &disabled).unwrap().contains("disabled"));
        let as_wished = OwnedUnit { disabled: true, ..unit };
        assert_eq!(drift(&as_wished, &disabled), None, "its release leaves it so");
    }
}
