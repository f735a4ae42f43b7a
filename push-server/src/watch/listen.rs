//! What `push watch --listen` answers: `/healthz` and `/metrics`, to whoever can connect.

use std::{net::SocketAddr, sync::Arc};

use anyhow::{Context as _, Result};
use axum::{Router, routing::get};
use connections::{Bodies, Service, most_open, plain, serve};
use tokio::{net::TcpListener, sync::watch};

use super::counts::Counts;
use crate::monitoring;

/// Answers in the background until `ending`, and gives the address.
///
/// # Errors
/// When it can't listen there.
pub(crate) async fn listen(
    address: SocketAddr,
    counts: Arc<Counts>,
    ending: watch::Receiver<bool>,
) -> Result<SocketAddr> {
    let listener = TcpListener::bind(address).await.with_context(|| format!("could not listen on {address}"))?;
    let address = listener.local_addr().context("could not read the address that it listens on")?;
    let metrics = async move || monitoring::metrics(&counts.registry());
    let router = Router::new().route("/healthz", get(monitoring::alive)).route("/metrics", get(metrics));
    let service = Service { router, most: most_open(), bodies: Bodies::Short };
    tokio::spawn(serve(listener, service, |_| true, plain, ending));
    Ok(address)
}
