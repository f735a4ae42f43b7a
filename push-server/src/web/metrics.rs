//! `GET /metrics`, in `OpenMetrics` text: the fleet as the snapshot has it, and this process.

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

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct State {
    state: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct App {
    app: String,
}

/// `GET /metrics`.
pub(crate) async fn get(view: View) -> Response {
    let registry = registry(&view);
    let mut text = String::new();
    if encode(&mut text, &registry).is_err() {
        return (StatusCode::INTERNAL_SERVER_ERROR, "could not write the metrics\n").into_response();
    }
    ([(header::CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")], text).into_response()
}

fn registry(view: &View) -> Registry {
    let mut registry = Registry::with_prefix("push");
    let servers = Family::<State, Gauge>::default();
    for state in Condition::ALL {
        servers.get_or_create(&State { state: state.label() }).set(0);
    }
    for server in view.snapshot.servers.values() {
        servers.get_or_create(&State { state: condition(server, view.now).label() }).inc();
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
    let counted = [
        ("pushes_written", "Pushes that were written, one for each server", view.web.counters.written()),
        ("pushes_refused", "Pushes that were not written", view.web.counters.refused()),
    ];
    for (name, help, count) in counted {
        registry.register(name, help, ConstCounter::new(count));
    }
    registry
}

/// Dirty releases that servers should run. Servers whose name ends in `-stage` are for trying such.
fn dirty_packages(view: &View) -> usize {
    let dirty = |app: &AppName, name| view.snapshot.apps.get(app)?.is_dirty(name);
    let servers = view.snapshot.servers.values().filter(|server| !server.name.as_str().ends_with("-stage"));
    let desired = servers.flat_map(|server| server.releases());
    desired.filter(|name| dirty(name.app(), name).unwrap_or(false)).count()
}
