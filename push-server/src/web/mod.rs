//! The web app, `push serve`: pages for people, an API for programs, and metrics.
//!
//! Every page is drawn from the [`FleetSnapshot`](crate::snapshot::FleetSnapshot) in memory, and works without JavaScript; every push
//! goes through [`fleet::operation`], which reads the bucket afresh. `routes.rs` has the table of all routes and who may
//! use each. Nothing here calls a server, and nothing of a request becomes part of an address that is fetched.

mod api;
mod assets;
pub mod auth;
mod events;
mod health;
mod jobs;
mod metrics;
mod pages;
mod params;
mod parts;
mod routes;
mod targets;
mod view;

use std::{net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use anyhow::{Context, Result};
use bucket::{Bucket, BucketUrl};
use tokio::{net::TcpListener, sync::watch};

use self::{
    auth::{AuthSettings, Authenticator},
    jobs::Jobs,
    metrics::Metrics,
};
use crate::snapshot::SnapshotRefresher;
use fleet::{
    poke::PokeSettings,
    policy::{Policy, watched::Watched},
};

/// The longest that pushes under way are waited for at the end; systemd waits a little longer.
const LAST_WRITES: Duration = Duration::from_secs(25);

/// How the web app is run.
#[derive(Debug)]
pub struct Settings {
    /// Where it listens.
    pub listen: SocketAddr,
    /// How operators sign in.
    pub auth: AuthSettings,
    /// The policy file, if there is one.
    pub policy: Option<PathBuf>,
    /// Whether and how servers are woken.
    pub poke: PokeSettings,
    /// How often the bucket is read.
    pub refresh: Duration,
}

/// What all requests share.
#[derive(Debug)]
pub(crate) struct Web {
    refresher: SnapshotRefresher,
    bucket_name: String,
    poke: PokeSettings,
    policy: Watched,
    jobs: Jobs,
    metrics: Metrics,
    /// Turns true when the process is asked to end.
    ending: watch::Sender<bool>,
}

impl Web {
    fn new(bucket: Bucket, url: &BucketUrl, poke: PokeSettings, policy: Watched) -> Self {
        Self {
            refresher: SnapshotRefresher::new(bucket),
            bucket_name: url.to_string(),
            poke,
            policy,
            jobs: Jobs::default(),
            metrics: Metrics::default(),
            ending: watch::Sender::new(false),
        }
    }

    /// The rules as they are now.
    fn policy(&self) -> Arc<Policy> {
        self.policy.get().0
    }

    /// What is wrong with the policy file, if the rules are those from before it was changed.
    fn policy_problem(&self) -> Option<String> {
        self.policy.get().1
    }
}

/// Serves until the process is asked to end (SIGTERM or SIGINT). `listening` is told the address, once it answers there.
///
/// # Errors
/// When it can't listen, or the policy file can't be used.
pub async fn serve(
    bucket: Bucket,
    url: &BucketUrl,
    settings: Settings,
    listening: impl FnOnce(SocketAddr),
) -> Result<()> {
    let web = Arc::new(Web::new(bucket, url, settings.poke, Watched::open(settings.policy)?));
    let listener = TcpListener::bind(settings.listen).await;
    let listener = listener.with_context(|| format!("could not listen on {}", settings.listen))?;
    let address = listener.local_addr().context("could not tell where it listens")?;
    let authenticator = Arc::new(Authenticator::new(settings.auth, address)?);
    let keeping = tokio::spawn({
        let web = web.clone();
        async move { web.refresher.keep(settings.refresh).await }
    });
    listening(address);
    let service =
        auth::protect(routes::router(&web), authenticator).into_make_service_with_connect_info::<SocketAddr>();
    let ended = axum::serve(listener, service).with_graceful_shutdown(ending(web.clone())).await;
    // What is being written is written to its end, with its history, before the process goes.
    let _ = tokio::time::timeout(LAST_WRITES, web.jobs.idle()).await;
    keeping.abort();
    ended.context("could not serve")
}

async fn ending(web: Arc<Web>) {
    use tokio::signal::unix::{SignalKind, signal};
    let wait = async |kind| match signal(kind) {
        Ok(mut signal) => drop(signal.recv().await),
        Err(_) => std::future::pending().await,
    };
    tokio::select! {
        () = wait(SignalKind::terminate()) => {}
        () = wait(SignalKind::interrupt()) => {}
    }
    // Open streams of events would hold the process for as long as a page is open.
    web.ending.send_replace(true);
}
