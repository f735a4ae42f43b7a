//! `GET /metrics`, in `OpenMetrics` text: the fleet as the snapshot has it, and this process.
//!
//! A fleet has ten thousand servers, and whoever watches it asks often: servers are counted before a metric is touched,
//! and of releases each is looked up once, however many servers should run it.

use std::collections::{BTreeMap, HashMap};

use axum::response::Response;
use bucket::{ReleaseName, Timestamp};
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::ConstCounter, family::Family, gauge::Gauge},
    registry::{Registry, Unit},
};

use super::view::View;
use crate::{
    monitoring,
    snapshot::{Became, Built},
};
use fleet::condition::{Condition, condition};

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct State {
    state: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Candidate {
    state: &'static str,
    gated: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct App {
    app: String,
}

/// `GET /metrics`.
pub(crate) async fn get(view: View) -> Response {
    monitoring::metrics(&registry(&view))
}

fn registry(view: &View) -> Registry {
    let mut registry = Registry::with_prefix("push");
    let servers = Family::<State, Gauge>::default();
    let mut counts: BTreeMap<Condition, i64> = Condition::ALL.map(|state| (state, 0)).into();
    for server in view.snapshot.servers.values() {
        *counts.entry(condition(server, view.now)).or_default() += 1;
    }
    for (state, count) in counts {
        servers.get_or_create(&State { state: state.label() }).set(count);
    }
    registry.register("servers", "Servers by state", servers);
    let releases = Family::<App, Gauge>::default();
    for (app, of_app) in &view.snapshot.apps {
        releases.get_or_create(&App { app: app.to_string() }).set(i64::try_from(of_app.len()).unwrap_or(i64::MAX));
    }
    registry.register("releases", "Releases in the bucket", releases);
    let dirty = Gauge::<i64>::default();
    dirty.set(i64::try_from(dirty_packages(view)).unwrap_or(i64::MAX));
    registry.register("dirty_packages", "Dirty releases desired by servers, not counting staging servers", dirty);
    if let Some(taken) = view.snapshot.taken {
        let age = Gauge::<i64>::default();
        age.set(view.now.duration_since(taken).as_secs());
        registry.register_with_unit("snapshot_age", "Time since the bucket was read", Unit::Seconds, age);
    }
    if let Some(changes) = &view.snapshot.changes {
        register_candidates(&mut registry, &changes.built, view.bucket_now());
    }
    let counted = [
        ("pushes_written", "Pushes that were written, one for each server", view.web.counters.written()),
        ("pushes_refused", "Pushes that were not written", view.web.counters.refused()),
    ];
    for (name, help, count) in counted {
        registry.register(name, help, ConstCounter::new(count));
    }
    registry
}

/// What was built from changes and is neither promoted nor swept yet.
fn register_candidates(registry: &mut Registry, built: &Built, now: Timestamp) {
    let candidates = Family::<Candidate, Gauge>::default();
    for became in Became::ALL {
        for (gated, label) in [(false, "false"), (true, "true")] {
            let count = built.count.get(&(became, gated)).copied().unwrap_or_default();
            let labels = Candidate { state: became.as_str(), gated: label };
            candidates.get_or_create(&labels).set(i64::try_from(count).unwrap_or(i64::MAX));
        }
    }
    registry.register("candidates", "Packages and images built from changes, by what became of the change", candidates);
    let bytes = Gauge::<i64>::default();
    bytes.set(i64::try_from(built.bytes).unwrap_or(i64::MAX));
    registry.register_with_unit("candidates", "Size of the packages built from changes", Unit::Bytes, bytes);
    let age = Gauge::<i64>::default();
    age.set(built.oldest.map_or(0, |oldest| now.duration_since(oldest).as_secs().max(0)));
    registry.register_with_unit(
        "candidates_oldest",
        "Age of the oldest package or image built from a change",
        Unit::Seconds,
        age,
    );
}

/// Dirty releases that servers should run. Servers whose name ends in `-stage` are for trying such.
fn dirty_packages(view: &View) -> usize {
    let servers = view.snapshot.servers.values().filter(|server| !server.name.as_str().ends_with("-stage"));
    // Equal names are mostly one in memory: told apart by where that is, their text isn't read. Two that are equal and
    // apart are looked up twice.
    let mut desired: HashMap<*const u8, (&ReleaseName, usize)> = HashMap::new();
    for name in servers.flat_map(|server| server.releases()) {
        desired.entry(name.as_str().as_ptr()).or_insert((name, 0)).1 += 1;
    }
    let is_dirty = |name: &ReleaseName| view.snapshot.apps.get(name.app())?.is_dirty(name);
    desired.into_values().filter(|(name, _)| is_dirty(name).unwrap_or(false)).map(|(_, servers)| servers).sum()
}
