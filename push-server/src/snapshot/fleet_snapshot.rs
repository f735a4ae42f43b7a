//! The whole fleet at one moment.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{Arc, OnceLock},
};

use bucket::{AppName, Halt, HistoryEntry, Hold, ReleaseName, ServerName, Timestamp};
use fleet::{hold::AllHolds, server::Server};

use super::{
    changes::Changes, channels::Channels, recent_push::RecentPush, releases::AppReleases, rollouts::Rollouts,
    runs::Runs,
};

/// The whole fleet at one moment.
#[derive(Debug, Clone, Default)]
pub struct FleetSnapshot {
    /// Every server that has a document or has reported.
    pub servers: BTreeMap<ServerName, Arc<Server>>,
    /// Every app that has releases.
    pub apps: BTreeMap<AppName, Arc<AppReleases>>,
    /// The rows that were written last, of whatever push and on whatever server, newest first; a bounded number.
    pub pushes: Vec<Arc<HistoryEntry>>,
    /// The last pushes, each whatever its number of servers, newest first; a bounded number.
    pub recent: Vec<Arc<RecentPush>>,
    /// The halt of all pushes, if one is in force.
    pub halt: Option<Halt>,
    /// The holds of the servers that have some, those that are over among them.
    pub holds: Arc<AllHolds>,
    /// The rollouts that were written last; a bounded number. Each was read before the servers.
    pub rollouts: Arc<Rollouts>,
    /// The channels, what was seen of them, and the watcher that reported last.
    pub channels: Arc<Channels>,
    /// Changes that are not merged yet, and what was built from changes, if there is a candidate bucket and it was read.
    pub changes: Option<Arc<Changes>>,
    /// The last runs of pipelines; a bounded number.
    pub runs: Arc<Runs>,
    /// The releases that nobody may push.
    pub rejected: Arc<BTreeSet<ReleaseName>>,
    /// When the bucket was last read from end to end; `None` before the first time.
    pub taken: Option<Timestamp>,
    /// Why the bucket could not be read since then.
    pub failure: Option<String>,
    /// The servers of each app, found when first asked for. It belongs to `servers` as they are.
    by_app: Arc<OnceLock<ByApp>>,
}

type ByApp = HashMap<String, Vec<Arc<Server>>>;

impl FleetSnapshot {
    /// Whether pages drawn from both are the same but for when the bucket was read.
    pub(super) fn shows_same(&self, other: &Self) -> bool {
        self.failure == other.failure
            && self.taken.is_some() == other.taken.is_some()
            && self.pushes == other.pushes
            && self.recent == other.recent
            && self.halt == other.halt
            && self.rejected == other.rejected
            && self.holds == other.holds
            && self.rollouts == other.rollouts
            && self.channels == other.channels
            && self.changes == other.changes
            && self.runs == other.runs
            && self.has_same_servers(other)
            && same(&self.apps, &other.apps)
    }

    /// The holds of a server that are in force. Those that can't be read bind everybody, and are not among them.
    pub fn holds_of(&self, server: &ServerName, now: Timestamp) -> impl Iterator<Item = &Hold> {
        let holds = self.holds.get(server).and_then(|(_, holds)| holds.known());
        holds.into_iter().flat_map(move |holds| holds.in_force(None, now))
    }

    pub(super) fn has_same_servers(&self, other: &Self) -> bool {
        same(&self.servers, &other.servers)
    }

    /// Forgets which servers have which apps: the servers are others now.
    pub(super) fn forget_apps_of_servers(&mut self) {
        self.by_app = Arc::default();
    }

    /// The servers whose document names a release of the app, or whose agent reports it.
    pub fn servers_with<'a>(&'a self, app: &'a AppName) -> impl Iterator<Item = &'a Arc<Server>> {
        self.by_app.get_or_init(|| by_app(self.servers.values())).get(app.as_str()).into_iter().flatten()
    }
}

/// Whether both have the same of everything.
fn same<K: PartialEq, V>(one: &BTreeMap<K, Arc<V>>, other: &BTreeMap<K, Arc<V>>) -> bool {
    one.len() == other.len() && one.iter().zip(other).all(|(a, b)| a.0 == b.0 && Arc::ptr_eq(a.1, b.1))
}

/// What either has that the other has not, or otherwise.
pub(super) fn unlike<'a, K: Ord, V>(one: &'a BTreeMap<K, Arc<V>>, other: &'a BTreeMap<K, Arc<V>>) -> Vec<&'a K> {
    let missing = |these: &'a BTreeMap<K, Arc<V>>, those: &'a BTreeMap<K, Arc<V>>| {
        let unlike = move |(key, value): &(&K, &Arc<V>)| !those.get(*key).is_some_and(|it| Arc::ptr_eq(it, *value));
        these.iter().filter(unlike).map(|(key, _)| key)
    };
    missing(one, other).chain(missing(other, one)).collect()
}

fn by_app<'a>(servers: impl Iterator<Item = &'a Arc<Server>>) -> ByApp {
    let mut by_app = ByApp::new();
    for server in servers {
        let desired = server.releases().map(|release| release.app().as_str());
        for app in desired.chain(server.reported_apps().iter().map(|app| app.app.as_str())) {
            if !by_app.contains_key(app) {
                by_app.insert(app.to_owned(), Vec::new());
            }
            if let Some(servers) = by_app.get_mut(app)
                && servers.last().is_none_or(|last| !Arc::ptr_eq(last, server))
            {
                servers.push(server.clone());
            }
        }
    }
    by_app
}
