//! What the agent does with each app right now, as the work announces it and reports tell it.

use std::collections::BTreeMap;

use bucket::{Activity, AppName};
use tokio::sync::watch;

/// The apps that are worked on, each with what is done.
pub(crate) type Activities = BTreeMap<AppName, Activity>;

/// Where the work announces what it does. Nobody needs to listen.
#[derive(Debug, Default)]
pub(crate) struct Announcer {
    activities: watch::Sender<Activities>,
}

impl Announcer {
    /// Announces what is done from now on, in place of what was.
    pub(crate) fn announce(&self, activities: Activities) {
        self.activities.send_replace(activities);
    }

    /// Hears what is announced from now on; of several announcements, at least the last.
    pub(crate) fn listen(&self) -> watch::Receiver<Activities> {
        self.activities.subscribe()
    }
}
