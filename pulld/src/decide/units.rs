//! What happens to a unit after its release was installed or restored. Pure: no I/O, no clock.

use bucket::{OwnedUnit, Timestamp, UnitAction};
use serde::{Deserialize, Serialize};

use crate::machine::{ActiveState, LoadState, ServiceType, SubState, UnitState};

/// A unit before the transaction.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct UnitBefore {
    /// The unit. When both releases own it, as the new one wants it.
    pub(crate) unit: OwnedUnit,
    /// Whether the new release owns it; otherwise only the one before does.
    pub(crate) wanted: bool,
    /// Whether it is an instance of the release's template that the machine has, and no release brought.
    #[serde(default)]
    pub(crate) by_machine: bool,
    /// Whether only the new release owns it. The template of an instance may have been there: it is loaded then, though
    /// nobody stopped it.
    #[serde(default)]
    pub(crate) is_new: bool,
    /// How it was before anything changed.
    pub(crate) was: UnitState,
    /// Its invocation before dpkg last ran, or when this boot's agent took over from an earlier boot's.
    pub(crate) invocation: String,
    /// Its restarts by systemd at that moment.
    pub(crate) restarts: u32,
    /// When these two were noted; `None` in a record of an earlier pulld.
    #[serde(default)]
    pub(crate) noted: Option<Timestamp>,
    /// When its package was last unpacked; `None` in a record of an earlier pulld.
    #[serde(default)]
    pub(crate) unpacking: Option<Unpacking>,
    /// Its restarts by systemd right after our own restart; `None` until then, and where there was none.
    #[serde(default)]
    pub(crate) restarts_at_own: Option<u32>,
}

/// The last time that dpkg unpacked the package of a unit, as noted before and after.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Unpacking {
    /// The boot in which dpkg was about to begin.
    pub(crate) boot: String,
    /// When it was done, in microseconds on that boot's clock; `None` while that isn't known.
    pub(crate) done: Option<u64>,
}

impl UnitBefore {
    /// A unit as it `was` when nothing had changed, not noted yet for the journal.
    pub(crate) fn new(unit: OwnedUnit, wanted: bool, was: UnitState) -> Self {
        let (invocation, restarts) = (was.invocation.clone(), was.restarts);
        Self {
            unit,
            wanted,
            by_machine: false,
            is_new: false,
            invocation,
            restarts,
            noted: None,
            unpacking: None,
            restarts_at_own: None,
            was,
        }
    }

    /// Has it started like one that was not there: that it does not run is no person's doing.
    pub(crate) fn forget_that_it_was_stopped(&mut self) {
        if self.was.active == ActiveState::Inactive {
            self.was.load = LoadState::NotFound;
        }
    }
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

/// What happens to a unit, from how it was `before` and how it is `now`, in this `boot`.
///
/// `replaced` is false when dpkg left the package as it was: a unit that still runs isn't disturbed then.
pub(crate) fn act(before: &UnitBefore, now: &UnitState, boot: &str, replaced: bool) -> Act {
    if let Some(why) = ignored(before, now) {
        return Act::Ignore(why);
    }
    let running = is_running(now);
    if running && !replaced {
        return Act::Leave("its package was not changed");
    }
    let existed = before.was.load == LoadState::Loaded;
    if running && started_from_what_was_unpacked(before, now, boot) {
        return Act::Leave(if existed { "it has restarted automatically" } else { "it was just started" });
    }
    match before.unit.action {
        UnitAction::None => Act::Ignore("its release sets the action `none`"),
        UnitAction::Start if running => Act::Leave("it is running"),
        UnitAction::Reload if running && existed => Act::Reload,
        UnitAction::Start | UnitAction::Reload | UnitAction::Restart => Act::Restart,
    }
}

/// Whether a unit that runs was started from what dpkg unpacked last.
fn started_from_what_was_unpacked(before: &UnitBefore, now: &UnitState, boot: &str) -> bool {
    match &before.unpacking {
        // Packages made by debhelper restart their own units in postinst. A crash that systemd answered with a restart is no
        // such thing, and shows in the count: systemd hadn't read the new unit file then.
        Some(Unpacking { boot: this, done }) if this == boot => {
            let later = done.zip(now.started).is_some_and(|(done, started)| started > done);
            let existed = before.was.load == LoadState::Loaded;
            later && (!existed || now.restarts <= before.restarts)
        }
        // dpkg was done with it before this boot, and whatever runs started since.
        Some(Unpacking { .. }) => true,
        None => false,
    }
}

/// Why a unit is neither touched nor judged.
fn ignored(before: &UnitBefore, now: &UnitState) -> Option<&'static str> {
    let template = before.unit.name.is_template();
    let new_instance = before.is_new && before.unit.name.template().is_some();
    let stopped = !new_instance
        && before.was.load == LoadState::Loaded
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::fake::{running, unit_state};

    /// A unit whose package was unpacked at 100 in the boot `now`.
    fn before(action: UnitAction, was: UnitState) -> UnitBefore {
        let unit = OwnedUnit::new("web.service".parse().unwrap(), action);
        UnitBefore {
            unpacking: Some(Unpacking { boot: "now".into(), done: Some(100) }),
            ..UnitBefore::new(unit, true, was)
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
        let later = |invocation| UnitState { started: Some(101), ..running(invocation) };
        let crashed = || UnitState { restarts: 1, ..later("b") };
        let cases = [
            ("upgrade", Restart, running("a"), running("a"), true, Act::Restart),
            (
                "debhelper restarted it",
                Restart,
                running("a"),
                later("b"),
                true,
                Act::Leave("it has restarted automatically"),
            ),
            ("it crashed meanwhile", Restart, running("a"), crashed(), true, Act::Restart),
            ("first install", Restart, gone(), stopped(), true, Act::Restart),
            ("a person restarted it while dpkg waited", Restart, running("a"), running("b"), true, Act::Restart),
            ("postinst started it", Restart, gone(), later("a"), true, Act::Leave("it was just started")),
            ("it was there before dpkg had unpacked it", Restart, gone(), running("a"), true, Act::Restart),
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
            assert_eq!(act(&before(action, was), &now, "now", replaced), expected, "{case}");
        }
    }

    #[test]
    fn a_boot_starts_what_was_unpacked_before_it_and_not_what_is_unpacked_later() {
        let unpacked = |boot: &str, done| Some(Unpacking { boot: boot.into(), done });
        let left = Act::Leave("it has restarted automatically");
        for (case, unpacking, expected) in [
            ("unpacked in the boot before", unpacked("before", Some(900)), left),
            ("the same, and nobody saw it end", unpacked("before", None), left),
            ("unpacked in this boot before it started", unpacked("now", Some(499)), left),
            ("unpacked in this boot after it started", unpacked("now", Some(501)), Act::Restart),
            ("nobody knows when it was unpacked in this boot", unpacked("now", None), Act::Restart),
            ("noted by an earlier pulld", None, Act::Restart),
        ] {
            let before = UnitBefore { unpacking, ..before(UnitAction::Restart, running("a")) };
            let now = UnitState { started: Some(500), ..running("b") };
            assert_eq!(act(&before, &now, "now", true), expected, "{case}");
        }
    }

    #[test]
    fn a_new_instance_is_started_though_its_template_was_there() {
        let stopped = unit_state("inactive", "dead");
        let instance = |is_new| {
            let unit = "web@a.service=restart".parse().unwrap();
            UnitBefore { is_new, ..UnitBefore::new(unit, true, stopped.clone()) }
        };
        assert_eq!(act(&instance(true), &stopped, "now", true), Act::Restart);
        assert_eq!(act(&instance(false), &stopped, "now", true), Act::Ignore("it was stopped before"));
        let foreign = UnitBefore { is_new: true, ..before(UnitAction::Restart, stopped.clone()) };
        assert_eq!(act(&foreign, &stopped, "now", true), Act::Ignore("it was stopped before"), "by an administrator");
    }
}
