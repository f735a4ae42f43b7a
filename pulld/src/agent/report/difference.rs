//! What differs between two reports. Pure.

use bucket::{AppState, AppStatus, Status, Timestamp};

/// The report without its times: two reports that are equal without them say the same.
pub(super) fn without_times(status: &Status) -> Status {
    let mut status = status.clone();
    status.written = Timestamp::UNIX_EPOCH;
    status.agent.next_poll = None;
    for app in &mut status.apps {
        (app.since, app.activity_since) = (Timestamp::UNIX_EPOCH, None);
        app.units.iter_mut().for_each(|unit| unit.since = None);
    }
    status
}

/// The apps whose state, reason or drift differs from the previous report. An app that is converged in the first
/// report is not among them.
pub(super) fn changed_apps<'a>(previous: Option<&'a Status>, status: &'a Status) -> Vec<&'a AppStatus> {
    let has_changed = |app: &&AppStatus| {
        let before = previous.and_then(|previous| previous.apps.iter().find(|before| before.app == app.app));
        match before {
            None => app.state != AppState::Converged,
            // Its count grows with each restart.
            Some(before) if before.state == AppState::Unstable && app.state == before.state => {
                before.drift != app.drift
            }
            Some(before) => (before.state, &before.reason, &before.drift) != (app.state, &app.reason, &app.drift),
        }
    };
    status.apps.iter().filter(has_changed).collect()
}
