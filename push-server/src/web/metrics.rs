//! `GET /metrics`, in `OpenMetrics` text: the fleet as the snapshot has it, and this process.

use std::sync::atomic::{AtomicU64, Ordering};

use axum::{
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use bucket::AppName;
use prometheus_client::{
    encoding::{EncodeLabelSet, text::encode},
    metrics::{counter::ConstCounter, family::Family, gauge::Gauge},
    registry::{Registry, Unit},
};

use super::view::View;
use fleet::condition::{Condition, condition};

/// What is counted from one request to the next.
#[derive(Debug, Default)]
pub(crate) struct Metrics {
    written: AtomicU64,
    refused: AtomicU64,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct State {
    state: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct App {
    app: String,
}

impl Metrics {
    /// Counts one push to one server.
    pub(crate) fn count_push(&self, written: bool) {
        let counter = if written { &self.written } else { &self.refused };
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

/// `GET /metrics`.
pub(crate) async fn get(view: View) -> Response {
    let registry = registry(&view);
    let mut text = String::new();
    if encode(&mut text, &registry).is_err() {
        return (StatusCode::INTERNAL_SERVER_ERROR, "the metrics can't be written\n").into_response();
    }
    ([(header::CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")], text).into_response()
}

fn registry(view: &View) -> Registry {
    let mut registry = Registry::with_prefix("push");
    let servers = Family::<State, Gauge>::default();
    for state in Condition::ALL {
        servers.get_or_create(&State { state: state.word() }).set(0);
    }
    for server in view.snapshot.servers.values() {
        servers.get_or_create(&State { state: condition(server, view.now).word() }).inc();
    }
    registry.register("servers", "Servers by how they are", servers);
    let releases = Family::<App, Gauge>::default();
    for (app, of_app) in &view.snapshot.apps {
        releases.get_or_create(&App { app: app.to_string() }).set(i64::try_from(of_app.len()).unwrap_or(i64::MAX));
    }
    registry.register("releases", "Releases in the bucket", releases);
    let dirty = Gauge::<i64>::default();
    dirty.set(i64::try_from(dirty_packages(view)).unwrap_or(i64::MAX));
    registry.register("dirty_packages", "Dirty releases that servers should run, staging servers aside", dirty);
    if let Some(taken) = view.snapshot.taken {
        let age = Gauge::<i64>::default();
        age.set(view.now.duration_since(taken).as_secs());
        registry.register_with_unit("snapshot_age", "Time since the bucket was read", Unit::Seconds, age);
    }
    let counted = [
        ("pushes_written", "Pushes that were written, one for each server", &view.web.metrics.written),
        ("pushes_refused", "Pushes that were not written", &view.web.metrics.refused),
    ];
    for (name, help, counter) in counted {
        registry.register(name, help, ConstCounter::new(counter.load(Ordering::Relaxed)));
    }
    registry
}

/// Dirty releases that servers should run. Servers whose name ends in `-stage` are for trying such.
fn dirty_packages(view: &View) -> usize {
    let dirty = |app: &AppName, name| view.snapshot.apps.get(app)?.is_dirty(name);
    let servers = view.snapshot.servers.values().filter(|server| !server.name.as_str().ends_with("-stage"));
    let desired = servers.filter_map(|server| Some(server.document.as_ref()?.1.releases()));
    desired.flatten().filter(|name| dirty(name.app(), name).unwrap_or(false)).count()
}
