//! Keeps a picture of the fleet fresh.

use std::{
    collections::BTreeMap,
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use anyhow::{Context, Result};
use bucket::{AppName, Bucket, ServerName, Timestamp};
use tokio::sync::watch;

use super::{AppReleases, Picture};
use crate::fleet;

/// Holds the newest picture of a bucket.
#[derive(Debug)]
pub struct Keeper {
    bucket: Bucket,
    picture: RwLock<Arc<Picture>>,
    changes: watch::Sender<u64>,
}

impl Keeper {
    /// A keeper with an empty picture.
    pub fn new(bucket: Bucket) -> Self {
        Self { bucket, picture: RwLock::default(), changes: watch::Sender::new(0) }
    }

    /// The bucket that it is a picture of.
    pub fn bucket(&self) -> &Bucket {
        &self.bucket
    }

    /// The newest picture.
    pub fn picture(&self) -> Arc<Picture> {
        self.picture.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Tells of every picture that differs from the one before, by a growing number.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// Refreshes the picture for ever.
    pub async fn keep(&self, every: Duration) {
        loop {
            self.refresh().await;
            tokio::time::sleep(every).await;
        }
    }

    /// Reads what has changed. When that fails the picture stays, and says so.
    pub async fn refresh(&self) {
        let mut picture = (*self.picture()).clone();
        match self.read(&mut picture).await {
            Ok(()) => {
                picture.taken = Some(Timestamp::now());
                picture.trouble = None;
            }
            Err(error) => picture.trouble = Some(format!("{error:#}")),
        }
        self.put(picture);
    }

    /// Reads one server afresh, after a write of ours, so that its author sees it at once.
    pub async fn refresh_server(&self, name: &ServerName) {
        let server = fleet::server(&self.bucket, name).await;
        let pushes = self.bucket.newest_history(name, 10).await.unwrap_or_default();
        let mut picture = (*self.picture()).clone();
        picture.servers.insert(name.clone(), Arc::new(server));
        picture.pushes.retain(|push| push.server != *name || !pushes.contains(push));
        picture.pushes.extend(pushes.into_iter().map(Arc::new));
        picture.pushes.sort_by_key(|push| std::cmp::Reverse(push.time));
        self.put(picture);
    }

    /// Tells of a change that isn't in the picture, as the progress of a push.
    pub fn touch(&self) {
        self.changes.send_modify(|number| *number += 1);
    }

    async fn read(&self, picture: &mut Picture) -> Result<()> {
        let mut servers = BTreeMap::new();
        let mut pushes = Vec::new();
        for name in fleet::names(&self.bucket).await? {
            let server = fleet::server(&self.bucket, &name).await;
            pushes.extend(self.bucket.newest_history(&name, 10).await?.into_iter().map(Arc::new));
            servers.insert(name, Arc::new(server));
        }
        pushes.sort_by_key(|push| std::cmp::Reverse(push.time));
        let mut apps = BTreeMap::new();
        let page = self.bucket.apps(None).await.context("could not list the apps")?;
        for app in page.items {
            let releases = self.releases(&app).await?;
            apps.insert(app, Arc::new(releases));
        }
        (picture.servers, picture.apps, picture.pushes) = (servers, apps, pushes);
        Ok(())
    }

    async fn releases(&self, app: &AppName) -> Result<AppReleases> {
        Ok(AppReleases::new(self.bucket.newest_releases(app, usize::MAX).await?))
    }

    fn put(&self, picture: Picture) {
        *self.picture.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(picture);
        self.changes.send_modify(|number| *number += 1);
    }
}
