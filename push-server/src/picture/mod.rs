//! The whole fleet as it was a moment ago, for drawing pages.
//!
//! A [`Picture`] is immutable and cheap to hold; the [`Keeper`] puts a newer one in its place. Pages are drawn from it
//! and from nothing else; writes never are: they read the bucket afresh ([`crate::push`]).

mod keeper;
mod releases;

use std::{collections::BTreeMap, sync::Arc};

use bucket::{AppName, AppStatus, HistoryEntry, ReleaseName, ServerName, Timestamp};

pub use crate::fleet::Server;
pub use keeper::Keeper;
pub use releases::{AppReleases, Listed};

/// The whole fleet at one moment.
#[derive(Debug, Clone, Default)]
pub struct Picture {
    /// Every server that has a document or has reported.
    pub servers: BTreeMap<ServerName, Arc<Server>>,
    /// Every app that has releases.
    pub apps: BTreeMap<AppName, Arc<AppReleases>>,
    /// The last pushes to any server, newest first; a bounded number.
    pub pushes: Vec<Arc<HistoryEntry>>,
    /// When the bucket was last read from end to end; `None` before the first time.
    pub taken: Option<Timestamp>,
    /// Why the bucket couldn't be read since then.
    pub trouble: Option<String>,
}

impl Picture {
    /// The servers whose document names a release of the app, or whose agent reports it.
    pub fn servers_with<'a>(&'a self, app: &'a AppName) -> impl Iterator<Item = &'a Arc<Server>> {
        self.servers.values().filter(|server| server.desired(app).is_some() || server.reported(app.as_str()).is_some())
    }
}

impl Server {
    /// The release of the app that its document names.
    pub fn desired(&self, app: &AppName) -> Option<&ReleaseName> {
        self.document.as_ref()?.1.release_of(app)
    }

    /// What its agent last said of the app.
    pub fn reported(&self, app: &str) -> Option<&AppStatus> {
        self.status.as_ref()?.apps.iter().find(|found| found.app == app)
    }

    /// The release of the app that its agent says is installed.
    pub fn installed(&self, app: &AppName) -> Option<&ReleaseName> {
        self.reported(app.as_str())?.installed.as_ref()
    }
}
