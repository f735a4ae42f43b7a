//! The whole fleet as it was a moment ago, for drawing pages.
//!
//! A [`Picture`] is immutable and cheap to hold; the [`Keeper`] puts a newer one in its place. Pages are drawn from it
//! and from nothing else; writes never are: they read the bucket afresh ([`crate::push`]).
//!
//! What hasn't changed between two pictures is the same `Arc` in both.

mod keeper;
mod pushes;
mod releases;
mod servers;
mod sweep;

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
    /// Whether pages drawn from both are the same but for when the bucket was read.
    fn shows_same(&self, other: &Self) -> bool {
        fn same<K: PartialEq, V>(one: &BTreeMap<K, Arc<V>>, other: &BTreeMap<K, Arc<V>>) -> bool {
            let pairs = one.iter().zip(other);
            one.len() == other.len() && pairs.into_iter().all(|(a, b)| a.0 == b.0 && Arc::ptr_eq(a.1, b.1))
        }
        self.trouble == other.trouble
            && self.taken.is_some() == other.taken.is_some()
            && self.pushes == other.pushes
            && same(&self.servers, &other.servers)
            && same(&self.apps, &other.apps)
    }

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
