//! Reports while a cycle works: what it does with each app right now, to whoever waits for it.
//!
//! They are a courtesy. They neither delay the work nor fail it, they are given up when it ends, and the report at the
//! end of the cycle replaces them.

use std::{convert::Infallible, path::PathBuf, time::Duration};

use bucket::{Activity, AppState, AppStatus, BucketOptions, BucketUrl, ReleaseName, Status, Timestamp};
use tokio::{sync::watch, time::Instant};

use crate::{
    service::announcer::{Announced, Doing, Installed},
    store::bucket::Bucket,
};

use super::publish::{self, Publisher};

/// The least time between two such reports in the bucket; of what is announced in between, the last is told.
const PACE: Duration = Duration::from_secs(1);

/// What the reports of one cycle's work are made from, and where they go.
#[derive(Debug)]
pub(in crate::agent) struct Meanwhile {
    /// The report when the work began.
    pub(super) begun: Status,
    /// What is announced.
    pub(super) activities: watch::Receiver<Announced>,
    /// This machine's own copy.
    pub(super) local: PathBuf,
    /// The bucket.
    pub(super) bucket: Destination,
    /// When it is written though nothing has changed.
    pub(super) heartbeat: Duration,
    /// What is known of the report there.
    pub(super) publisher: Publisher,
}

/// The bucket that the reports go to.
#[derive(Debug)]
pub(super) enum Destination {
    /// None: it does not answer, or no document was read of it.
    Nowhere,
    /// This one.
    Open(Bucket),
    /// The one of this process's configuration, which nobody has opened yet.
    Unopened(BucketUrl, BucketOptions),
}

impl Destination {
    /// Opens it, if it answers.
    async fn open(&self) -> Option<Bucket> {
        match self {
            Self::Nowhere => None,
            Self::Open(bucket) => Some(bucket.clone()),
            Self::Unopened(url, options) => match Bucket::open_marked(url, options).await {
                Ok(bucket) => Some(bucket),
                Err(error) => {
                    tracing::debug!("could not publish what is done right now: {error:#}");
                    None
                }
            },
        }
    }
}

impl Meanwhile {
    /// Reports whatever is announced, until it is dropped.
    pub(in crate::agent) async fn report(&mut self) -> Infallible {
        let Self { begun, activities, local, bucket, heartbeat, publisher } = self;
        let mut on_machine = activities.clone();
        let on_machine = async {
            let mut warned = false;
            loop {
                if let Some(status) = next(&mut on_machine, begun, Reader::Machine, &mut warned).await
                    && let Err(error) = publish::write_local(local, &status)
                {
                    tracing::debug!("{error:#}");
                }
            }
        };
        let in_bucket = async {
            let Some(bucket) = bucket.open().await else { return std::future::pending().await };
            let mut warned = false;
            loop {
                let Some(status) = next(activities, begun, Reader::Bucket, &mut warned).await else { continue };
                let written = Instant::now();
                if let Err(error) = publisher.publish(&bucket, &status, *heartbeat).await {
                    tracing::debug!("could not publish what is done right now: {error:#}");
                }
                tokio::time::sleep_until(written + PACE).await;
            }
        };
        let both = async {
            tokio::select! {
                never = on_machine => never,
                never = in_bucket => never,
            }
        };
        fail_points_of!("meanwhile.", both).await
    }
}

/// Who reads a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reader {
    /// People on this machine.
    Machine,
    /// Whoever reads the bucket.
    Bucket,
}

impl Reader {
    /// Whether that is told what is done with an app. In the bucket, what is prepared once more in vain is no news each time.
    fn hears(self, app: &AppStatus, doing: &Doing) -> bool {
        self == Self::Machine || app.state == AppState::Pending || doing.activity != Activity::Downloading
    }
}

/// Waits for the next announcement; the report that tells it, if its reader hears of it. One that `warned` of what is over by
/// now is replaced by what was reported when the work began.
async fn next(
    activities: &mut watch::Receiver<Announced>,
    begun: &Status,
    reader: Reader,
    warned: &mut bool,
) -> Option<Status> {
    if activities.changed().await.is_err() {
        return std::future::pending().await;
    }
    let told = with_activities(begun, &activities.borrow_and_update(), reader);
    let warns = told.as_ref().is_some_and(|told| told.warnings != begun.warnings);
    let is_over = std::mem::replace(warned, warns) && told.is_none();
    if is_over { Some(Status { written: Timestamp::now(), ..begun.clone() }) } else { told }
}

/// The report with what is done with its apps, whatever their state was; `None` when nothing is.
fn with_activities(begun: &Status, announced: &Announced, reader: Reader) -> Option<Status> {
    let mut status = Status { written: Timestamp::now(), ..begun.clone() };
    for app in &mut status.apps {
        let Some((doing, since)) = announced.of(&app.app).filter(|(doing, _)| reader.hears(app, doing)) else {
            continue;
        };
        (app.activity, app.activity_since) = (Some(doing.activity), Some(since));
        let news = announced.waits().map(str::to_owned).or_else(|| doing.reason.clone());
        // What failed before is not forgotten because it is tried again.
        if news.is_some() || app.state == AppState::Pending {
            app.reason = news;
        }
        match &doing.installed {
            Installed::AsBefore => {}
            Installed::Release(release) => note_installed(app, Some(release)),
            Installed::Nothing => note_installed(app, None),
        }
    }
    let is_told = status.apps.iter().any(|app| app.activity.is_some());
    // Nobody waits for a removal, but for its end everything else does.
    if let Some(waits) = announced.waits().filter(|_| !is_told) {
        status.warnings.push(waits.to_owned());
        return Some(status.fit());
    }
    is_told.then_some(status)
}

/// Tells of an app what is installed now; what was known of units and files when the work began was another release's.
fn note_installed(app: &mut AppStatus, release: Option<&ReleaseName>) {
    if app.installed.as_ref() != release {
        app.installed = release.cloned();
        app.units.clear();
        app.drift.clear();
    }
}

#[cfg(test)]
mod tests {
    use bucket::Credentials;
    use tokio::net::TcpListener;

    use super::*;
    use crate::service::announcer::Announcer;

    /// A report that says that `web` is pending.
    fn begun() -> Status {
        serde_json::from_value(serde_json::json!({
            "server": "web-1", "machine": "m", "written": "2026-11-20T19:05:02Z", "state": "pending", "summary": "",
            "agent": {"version": "1", "started": "2026-11-20T19:05:02Z", "poll_seconds": 300},
            "document": {"generation": 7, "error": null},
            "apps": [{"app": "web", "desired": null, "installed": null, "package": null, "state": "pending",
                      "since": "2026-11-20T19:05:02Z", "reason": null}]
        }))
        .unwrap()
    }

    #[tokio::test]
    async fn a_warning_of_what_a_removal_waited_for_ends_with_the_wait() {
        let (announcer, begun) = (Announcer::default(), begun());
        let (mut activities, mut warned) = (announcer.listen(), false);
        let mut next = async || next(&mut activities, &begun, Reader::Bucket, &mut warned).await;
        announcer.announce_wait(Some("waiting for the dpkg lock".to_owned()));
        assert_eq!(next().await.unwrap().warnings, ["waiting for the dpkg lock"]);
        announcer.announce_wait(None);
        assert_eq!(next().await.unwrap().warnings, [""; 0]);
        announcer.announce([("web".parse().unwrap(), Doing::new(Activity::Installing))].into());
        assert!(next().await.is_some());
        announcer.announce([].into());
        assert!(next().await.is_none(), "the report at the end says what came of it");
    }

    #[tokio::test(start_paused = true)]
    async fn a_bucket_that_never_answers_delays_neither_the_work_nor_what_the_machine_is_told() {
        let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", silent.local_addr().unwrap()).parse().ok();
        let credentials = Credentials::Anonymous;
        let options =
            BucketOptions { endpoint, credentials, timeout: Duration::from_hours(1), ..BucketOptions::default() };
        let bucket = Bucket::open_marked(&"gs://bucket".parse().unwrap(), &options).await.unwrap();
        let directory = tempfile::tempdir().unwrap();
        let announcer = Announcer::default();
        let mut meanwhile = Meanwhile {
            begun: begun(),
            activities: announcer.listen(),
            local: directory.path().join("status.json"),
            bucket: Destination::Open(bucket),
            heartbeat: Duration::from_mins(15),
            publisher: Publisher::default(),
        };
        let told = || -> Option<Activity> {
            let local = std::fs::read(directory.path().join("status.json")).unwrap();
            serde_json::from_slice::<Status>(&local).unwrap().apps[0].activity
        };
        let started = Instant::now();
        let work = async {
            for activity in [Activity::Downloading, Activity::Installing] {
                announcer.announce([("web".parse().unwrap(), Doing::new(activity))].into());
                tokio::time::sleep(Duration::from_secs(10)).await;
                assert_eq!(told(), Some(activity));
            }
        };
        tokio::select! {
            biased;
            () = work => {}
            never = meanwhile.report() => match never {},
        }
        assert_eq!(started.elapsed(), Duration::from_secs(20), "by the paused clock");
    }
}
