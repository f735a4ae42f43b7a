//! Servers that a rollout waits for: once an app has stayed as it is for as long as its push says, that is reported, though
//! nothing is new.

use std::{collections::BTreeMap, time::Duration};

use bucket::{AppState, LastPush, PushId, Status};
use tokio::time::Instant;

/// The longest that an app can be asked to stay as it is before that is reported.
const MOST: Duration = Duration::from_hours(1);

/// The pushes whose apps run, and what is still to be reported of each.
#[derive(Debug, Default)]
pub(super) struct Settling(BTreeMap<PushId, Due>);

/// When it is reported that an app stayed as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Due {
    /// So long after the report that says that it runs, which is yet to be written.
    After(Duration),
    At(Instant),
    Done,
}

impl Settling {
    /// Takes note of a report that is about to be written, made of a document with these pushes; whether it is due because an
    /// app has settled.
    pub(super) fn note(&mut self, pushes: &[LastPush], status: &Status, now: Instant) -> bool {
        let runs = |push: &LastPush| {
            let found = status.apps.iter().find(|app| app.app == push.app.as_str());
            found.is_some_and(|app| {
                matches!(app.state, AppState::Converged | AppState::Drifted) && app.desired == push.to
            })
        };
        let waited: BTreeMap<&PushId, Duration> = pushes
            .iter()
            .filter(|push| runs(push))
            .filter_map(|push| Some((&push.id, Duration::from_secs(push.settle_seconds?).min(MOST))))
            .collect();
        self.0.retain(|id, _| waited.contains_key(id));
        let mut has_settled = false;
        for (id, settle) in waited {
            let due = self.0.entry(id.clone()).or_insert(Due::After(settle));
            if matches!(due, Due::At(at) if *at <= now) {
                *due = Due::Done;
                has_settled = true;
            }
        }
        has_settled
    }

    /// Takes note that the report was written.
    pub(super) fn published(&mut self, now: Instant) {
        for due in self.0.values_mut() {
            if let Due::After(settle) = due {
                *due = Due::At(now + *settle);
            }
        }
    }

    /// When the next report is due because of an app that has settled.
    pub(super) fn next(&self) -> Option<Instant> {
        self.0.values().filter_map(|due| if let Due::At(at) = due { Some(*at) } else { None }).min()
    }
}
