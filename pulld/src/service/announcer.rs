//! What the agent does with each app right now, as the work announces it and reports tell it.

use std::collections::BTreeMap;

use bucket::{Activity, AppName, ReleaseName, Timestamp};
use tokio::sync::watch;

/// The apps that are worked on, each with what is done.
pub(crate) type Activities = BTreeMap<AppName, Doing>;

/// What is done with an app.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Doing {
    /// The activity.
    pub(crate) activity: Activity,
    /// What is installed of the app meanwhile.
    pub(crate) installed: Installed,
    /// Why it is done, where the activity alone does not say it; perhaps with lines below it.
    pub(crate) reason: Option<String>,
}

/// What is installed of an app while something is done with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Installed {
    /// The same as when the work began.
    AsBefore,
    /// This release.
    Release(ReleaseName),
    /// Nothing.
    Nothing,
}

impl Doing {
    /// Something that changes nothing yet, or is done with what was installed before, and needs no reason.
    pub(crate) fn new(activity: Activity) -> Self {
        Self { activity, installed: Installed::AsBefore, reason: None }
    }
}

impl Installed {
    /// That release, or nothing.
    pub(crate) fn of(release: Option<&ReleaseName>) -> Self {
        release.cloned().map_or(Self::Nothing, Self::Release)
    }
}

/// What is announced.
#[derive(Debug, Default)]
pub(crate) struct Announced {
    activities: BTreeMap<AppName, (Doing, Timestamp)>,
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
                before.get(app).filter(|before| before.0.activity == activity).map_or(now, |before| before.1)
            };
            announced.activities = activities
                .into_iter()
                .map(|(app, doing)| {
                    let since = since(&app, doing.activity);
                    (app, (doing, since))
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
    pub(crate) fn of(&self, app: &str) -> Option<(&Doing, Timestamp)> {
        self.activities.iter().find(|(name, _)| name.as_str() == app).map(|(_, (doing, since))| (doing, *since))
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
            let apps = ["web", "db"].map(|app| (app.parse().unwrap(), Doing::new(Activity::Installing)));
            apps.into()
        };
        announcer.announce(installing());
        let since = announcer.listen().borrow().of("web").unwrap().1;
        announcer.announce_wait(Some("the lock".to_owned()));
        assert_eq!(announcer.listen().borrow().waits(), Some("the lock"));
        announcer.announce(installing());
        assert_eq!(announcer.listen().borrow().of("web"), Some((&Doing::new(Activity::Installing), since)));
        announcer.announce([("web".parse().unwrap(), Doing::new(Activity::WatchingHealth))].into());
        let listening = announcer.listen();
        let last = listening.borrow();
        assert!(last.of("web").is_some_and(|(doing, at)| doing.activity == Activity::WatchingHealth && at >= since));
        assert_eq!((last.of("db"), last.waits()), (None, None));
    }
}
