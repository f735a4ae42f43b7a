//! Running the web app: from its settings to its end.

use std::{net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use anyhow::{Context, Result};
use bucket::{Bucket, BucketUrl};
use connections::{Bodies, Service, most_open, plain};
use fleet::{poke::PokeSettings, policy::watched::Watched};
use tokio::net::TcpListener;

use super::{
    auth::{self, AuthSettings, Authenticator},
    driver, routes,
    shared::Web,
};

/// Time limit for requests and pushes in progress when the process ends; systemd waits a little longer.
const LAST_WRITES_TIMEOUT: Duration = Duration::from_secs(25);

/// How the web app is run.
#[derive(Debug)]
pub struct Settings {
    /// Where it listens.
    pub listen: SocketAddr,
    /// How operators sign in.
    pub auth: AuthSettings,
    /// Who a user of this machine is, `user@host`, when nobody signs in.
    pub operator: String,
    /// The policy file, if there is one.
    pub policy: Option<PathBuf>,
    /// Whether and how servers are poked.
    pub poke: PokeSettings,
    /// How often the bucket is read.
    pub refresh: Duration,
    /// Where changes are that are not merged yet, if that is said.
    pub candidates: Option<Bucket>,
}

/// Serves until the process is asked to end (SIGTERM or SIGINT). `listening` is told the address, once it answers there, and
/// the token that the operator must show, if there is one.
///
/// # Errors
/// When it can't listen, the policy file can't be used, or `listening` fails.
pub async fn serve(
    bucket: Bucket,
    url: &BucketUrl,
    settings: Settings,
    listening: impl FnOnce(SocketAddr, Option<&str>) -> Result<()>,
) -> Result<()> {
    let policy = Watched::open(settings.policy)?;
    let web = Arc::new(Web::new(bucket, url, settings.candidates, settings.poke, policy));
    let listener = TcpListener::bind(settings.listen).await;
    let listener = listener.with_context(|| format!("could not listen on {}", settings.listen))?;
    let address = listener.local_addr().context("could not read the address that it listens on")?;
    let operator = settings.operator;
    let authenticator = Arc::new(Authenticator::new(settings.auth, address, operator.clone())?);
    let keeping = tokio::spawn({
        let web = web.clone();
        async move { web.refresher.keep(settings.refresh).await }
    });
    let driving = tokio::spawn(driver::keep(web.clone(), format!("push serve of {operator}")));
    listening(address, authenticator.token())?;
    let router = auth::protect(routes::router(&web), authenticator.clone());
    let admitted = move |peer| authenticator.admits(peer);
    let service = Service { router, most: most_open(), bodies: Bodies::Short };
    let serving = tokio::spawn(connections::serve(listener, service, admitted, plain, web.ending.subscribe()));
    ending(web.clone()).await;
    // What is being written is written to its end, with its history, before the process goes.
    let done = async {
        // Fails only if there was a fault of ours: then nobody can be answered any more.
        let _ = serving.await;
        let _ = driving.await;
        web.jobs.idle().await;
    };
    let _ = tokio::time::timeout(LAST_WRITES_TIMEOUT, done).await;
    keeping.abort();
    Ok(())
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
