//! What the agent does with each app right now, as the work announces it and reports tell it.

use std::collections::BTreeMap;

use bucket::{Activity, AppName, Timestamp};
use tokio::sync::watch;

/// The apps that are worked on, each with what is done.
pub(crate) type Activities = BTreeMap<AppName, Activity>;

/// What is announced.
#[derive(Debug, Default)]
pub(crate) struct Announced {
    activities: BTreeMap<AppName, (Activity, Timestamp)>,
    waits: Option<String>,
}

/// Where the work announces what it does. Nobody needs to listen.
#[derive(Debug, Default)]
pub(crate) struct Announcer {
    announced: watch::Sender<Announced>,
}

impl Announcer {
    /// Announces what is done from now on, in place of what was; what is still done keeps its time.
    pub(crate) fn announce(&self, activities: Activities) {
        self.announced.send_modify(|announced| {
            let before = std::mem::take(&mut announced.activities);
            let now = Timestamp::now();
            let since = |app: &AppName, activity: Activity| {
                before.get(app).filter(|before| before.0 == activity).map_or(now, |before| before.1)
            };
            announced.activities = activities
                .into_iter()
                .map(|(app, activity)| {
                    let since = since(&app, activity);
                    (app, (activity, since))
                })
                .collect();
            announced.waits = None;
        });
    }

    /// Announces, in a sentence, what the work waits for; `None` when it goes on.
    pub(crate) fn announce_wait(&self, waits: Option<String>) {
        self.announced.send_if_modified(|announced| {
            let is_new = announced.waits != waits;
            announced.waits = waits;
            is_new
        });
    }

    /// Hears what is announced from now on; of several announcements, at least the last.
    pub(crate) fn listen(&self) -> watch::Receiver<Announced> {
        self.announced.subscribe()
    }
}

impl Announced {
    /// What is done with an app, and since when.
    pub(crate) fn of(&self, app: &str) -> Option<(Activity, Timestamp)> {
        self.activities.iter().find(|(name, _)| name.as_str() == app).map(|(_, doing)| *doing)
    }

    /// What the work waits for.
    pub(crate) fn waits(&self) -> Option<&str> {
        self.waits.as_deref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_still_done_keeps_its_time_and_a_wait_ends_with_the_next_announcement() {
        let announcer = Announcer::default();
        let installing = || -> Activities {
            let apps = ["web", "db"].map(|app| (app.parse().unwrap(), Activity::Installing));
            apps.into()
        };
        announcer.announce(installing());
        let since = announcer.listen().borrow().of("web").unwrap().1;
        announcer.announce_wait(Some("the lock".to_owned()));
        assert_eq!(announcer.listen().borrow().waits(), Some("the lock"));
        announcer.announce(installing());
        assert_eq!(announcer.listen().borrow().of("web"), Some((Activity::Installing, since)));
        announcer.announce([("web".parse().unwrap(), Activity::WatchingHealth)].into());
        let listening = announcer.listen();
        let last = listening.borrow();
        assert!(last.of("web").is_some_and(|(activity, at)| activity == Activity::WatchingHealth && at >= since));
        assert_eq!((last.of("db"), last.waits()), (None, None));
    }
}
