//! One round of reading the releases, for a bounded number of requests however many there are.
//!
//! A listing gives 1,000 objects for each request and can't be asked what is new. So all of `debs/` is scanned again
//! and again, [`PAGES`] pages a round: up to that many thousand releases every round sees everything, a million takes
//! fifty rounds. In between, the builders who released last are asked for what they have added, one small page each:
//! whoever is at work shows at once in a big bucket too. An app that wasn't there before is read whole, at once.

use std::{
    collections::{BTreeMap, BTreeSet},
    pin::pin,
    sync::Arc,
};

use anyhow::{Context, Result};
use bucket::{AppName, Bucket, PageToken, Release, ReleaseName};
use futures_util::{StreamExt, TryStreamExt as _, stream};

use super::releases::{AppReleases, Gathered};

/// Pages that a round scans, new apps not counted.
const PAGES: usize = 20;
/// Builders that are asked for what they have added when a scan takes more than a round.
const BUILDERS: usize = 20;
/// Requests at the same time.
const AT_ONCE: usize = 8;
/// How much of a builder's answer is looked at first, in releases.
const FIRST: u32 = 50;

/// All releases, by app.
#[derive(Debug, Default)]
pub(super) struct Releases {
    /// Apps of which everything in the bucket is malformed are among them, empty.
    apps: BTreeMap<AppName, Arc<AppReleases>>,
    scan: FullScan,
}

/// How far a scan has got.
#[derive(Debug, Default)]
struct FullScan {
    /// `None` at its beginning.
    after: Option<PageToken>,
    /// What was found so far of the app that it is in.
    gathering: Option<(AppName, Gathered)>,
    /// The apps that were met.
    met: BTreeSet<AppName>,
}

impl Releases {
    /// The apps that have releases.
    pub(super) fn apps(&self) -> BTreeMap<AppName, Arc<AppReleases>> {
        let some = self.apps.iter().filter(|(_, releases)| !releases.is_empty());
        some.map(|(app, releases)| (app.clone(), releases.clone())).collect()
    }

    /// Reads for a round. What was read before it failed, or was broken off, stays.
    pub(super) async fn read(&mut self, bucket: &Bucket) -> Result<()> {
        let names = names(bucket).await.context("could not list the apps")?;
        self.apps.retain(|app, _| names.contains(app));
        let new: Vec<AppName> = names.into_iter().filter(|app| !self.apps.contains_key(app)).collect();
        let is_start = self.apps.is_empty();
        // An app that can't be listed keeps the others from nothing.
        let of_new = self.read_whole(bucket, new).await.context("could not list the releases");
        if is_start {
            return of_new;
        }
        let is_whole = match self.scan(bucket).await {
            Ok(is_whole) => is_whole,
            Err(error) => {
                // A place to go on from may be what is wrong.
                self.scan = FullScan::default();
                return Err(error).context("could not list the releases");
            }
        };
        if !is_whole {
            self.ask_builders(bucket).await.context("could not list the newest releases")?;
        }
        of_new
    }

    async fn read_whole(&mut self, bucket: &Bucket, apps: Vec<AppName>) -> Result<()> {
        let mut reads = stream::iter(apps)
            .map(async |app| {
                let releases = whole(bucket, &app).await;
                (app, releases)
            })
            .buffer_unordered(AT_ONCE);
        let mut first_error = None;
        while let Some((app, releases)) = reads.next().await {
            match releases {
                Ok(releases) => {
                    self.scan.met.insert(app.clone());
                    self.apps.insert(app, Arc::new(releases));
                }
                Err(error) => drop(first_error.get_or_insert(error)),
            }
        }
        first_error.map_or(Ok(()), Err)
    }

    /// Sweeps on; `true` if it went from end to end in this round.
    async fn scan(&mut self, bucket: &Bucket) -> Result<bool> {
        let from_the_beginning = self.scan.after.is_none();
        for _ in 0..PAGES {
            let page = bucket.all_releases(self.scan.after.as_ref()).await?;
            for release in page.items {
                self.meet(release);
            }
            self.scan.after = page.next;
            if self.scan.after.is_none() {
                self.settle();
                let FullScan { met, .. } = std::mem::take(&mut self.scan);
                self.apps.retain(|app, releases| releases.is_empty() || met.contains(app));
                return Ok(from_the_beginning);
            }
        }
        Ok(false)
    }

    fn meet(&mut self, release: Release) {
        if self.scan.gathering.as_ref().is_none_or(|(app, _)| app != release.name.app()) {
            self.settle();
        }
        let begin = || (release.name.app().clone(), Gathered::default());
        self.scan.gathering.get_or_insert_with(begin).1.extend([release]);
    }

    /// Takes over what was gathered of an app: it is all there is.
    fn settle(&mut self) {
        let Some((app, gathered)) = self.scan.gathering.take() else { return };
        let releases = gathered.done();
        if self.apps.get(&app).is_none_or(|known| !known.shows_same(&releases)) {
            self.apps.insert(app.clone(), Arc::new(releases));
        }
        self.scan.met.insert(app);
    }

    async fn ask_builders(&mut self, bucket: &Bucket) -> Result<()> {
        let mut tips: Vec<_> = self.apps.values().flat_map(|releases| releases.tips().take(BUILDERS)).collect();
        tips.sort_by(|a, b| b.cmp(a));
        tips.truncate(BUILDERS);
        let known = &self.apps;
        let asked: Vec<Result<Vec<Release>>> = stream::iter(tips)
            .map(async |(_, tip)| {
                let releases = &known[tip.app()];
                added(bucket, &tip, |name| releases.contains(name)).await
            })
            .buffer_unordered(AT_ONCE)
            .collect()
            .await;
        for new in asked {
            let new = new?;
            let Some(app) = new.first().map(|release| release.name.app().clone()) else { continue };
            // The scan may have passed the place already.
            if let Some((_, gathered)) = self.scan.gathering.as_mut().filter(|(gathering, _)| *gathering == app) {
                gathered.extend(new.clone());
            }
            let releases = self.apps.entry(app).or_default();
            *releases = Arc::new(releases.with(new));
        }
        Ok(())
    }
}

async fn names(bucket: &Bucket) -> Result<BTreeSet<AppName>> {
    Ok(bucket.apps().try_collect().await?)
}

async fn whole(bucket: &Bucket, app: &AppName) -> Result<AppReleases> {
    let mut gathered = Gathered::default();
    let mut releases = pin!(bucket.releases(app));
    while let Some(release) = releases.try_next().await? {
        gathered.extend([release]);
    }
    Ok(gathered.done())
}

/// What sorts right after a builder's newest release and isn't known: what they have added, and what builders have
/// who sort between them and the next one known.
async fn added(bucket: &Bucket, tip: &ReleaseName, is_known: impl Fn(&ReleaseName) -> bool) -> Result<Vec<Release>> {
    let mut added = Vec::new();
    let mut last = tip.clone();
    let mut limit = FIRST;
    for _ in 0..PAGES {
        let page = bucket.releases_after(&last, limit).await?;
        let new = page.items.iter().take_while(|release| !is_known(&release.name)).count();
        let is_more = new == page.items.len() && page.next.is_some();
        added.extend(page.items.into_iter().take(new));
        match added.last() {
            Some(release) if is_more => last = release.name.clone(),
            _ => break,
        }
        limit = 1000;
    }
    Ok(added)
}
