//! `pulld run`: the daemon.

use std::{path::Path, process::ExitCode, sync::Arc, time::Duration};

use anyhow::Result;
use console::{Threads, block_on, logging};
use tokio::signal::unix::{SignalKind, signal};
use tracing::Level;

use crate::{
    agent::Agent,
    metadata::{self, Client, Detected, Timing},
    service::{
        control::{self, CycleTracker},
        events, notify,
        wake::{Reason, WakeSignal},
    },
    state::lock,
};

/// Arguments of `pulld run`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Signals:\n  SIGHUP   reload the configuration and pull now\n  SIGTERM  exit immediately; the next \
                        start resumes an unfinished transaction"
)]
pub(crate) struct Arguments {
    /// Log level: error, warn, info, debug or trace
    #[arg(long, env = "PULLD_LOG", default_value = "info", value_name = "LEVEL")]
    log: Level,
}

pub(crate) fn run(context: &super::Context, arguments: &Arguments) -> Result<ExitCode> {
    logging::start(arguments.log, &["pulld", "bucket"]);
    let ended = block_on(Threads::One, daemon(context));
    if let Err(error) = &ended {
        tracing::error!(message_id = events::STOPPING, "could not run pulld: {error:#}");
    }
    notify::stopping();
    ended.map(|()| ExitCode::SUCCESS)
}

async fn daemon(context: &super::Context) -> Result<()> {
    let _lock = lock::take(&context.paths.lock())?;
    let machine = context.machine();
    // The agent reports an invalid configuration, which may become valid while this waits for pokes.
    let fallback = context.fallback();
    let mode = context.load().map_or(fallback.metadata, |loaded| loaded.settings.metadata);
    let load = Box::new({
        let context = context.clone();
        move || context.load()
    });
    let mut agent = Agent::new(context.paths.clone(), machine, load, fallback);
    let liveness = agent.liveness();
    let (wake_signal, tracker) = (WakeSignal::default(), Arc::new(CycleTracker::new()));
    let (mut term, mut int) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    tokio::spawn(wake_on_hangup(wake_signal.clone()));
    tokio::spawn(wake_on_poke(wake_signal.clone(), mode));
    let listener = control::listen(&context.paths.socket())?;
    tokio::spawn(control::serve(listener, wake_signal.clone(), agent.instructions(), tracker.clone()));
    notify::ready();
    fail_point!("agent.ready");
    tracing::info!(message_id = events::STARTED, version = env!("CARGO_PKG_VERSION"), "pulld has started");
    // Nothing waits for a running transaction: dpkg runs in a service of its own, and the record is on disk.
    tokio::select! {
        () = agent.run(&wake_signal, &tracker) => tracing::info!(message_id = events::STOPPING, "exiting to let the new pulld start"),
        _ = term.recv() => tracing::info!(message_id = events::STOPPING, "received SIGTERM, exiting"),
        _ = int.recv() => tracing::info!(message_id = events::STOPPING, "received SIGINT, exiting"),
        () = feed_watchdog(&liveness) => {}
    }
    Ok(())
}

async fn wake_on_hangup(wake_signal: WakeSignal) {
    let Ok(mut hangup) = signal(SignalKind::hangup()) else { return };
    while hangup.recv().await.is_some() {
        wake_signal.notify(Reason::Signal);
    }
}

/// Wakes the agent when the machine is poked. Where it cannot be poked, that is logged once.
async fn wake_on_poke(wake_signal: WakeSignal, mode: metadata::Mode) {
    let host = std::env::var("GCE_METADATA_HOST").ok();
    let host = match metadata::detect(mode, host.as_deref(), Path::new(metadata::PRODUCT_NAME)) {
        Detected::Server(host) => host,
        Detected::None(reason) => {
            tracing::info!(message_id = events::METADATA, %reason, "pokes are not available on this machine; polling only");
            return;
        }
    };
    let timing = Timing::default();
    let client = match Client::new(&host, &timing) {
        Ok(client) => client,
        Err(error) => {
            tracing::warn!(message_id = events::METADATA, "cannot watch for pokes, polling only: {error:#}");
            return;
        }
    };
    tracing::info!(message_id = events::METADATA, host, "watching for pokes");
    metadata::watch(|etag| client.ask(etag), &timing, || wake_signal.notify(Reason::Poke)).await;
}

/// Feeds systemd's watchdog as long as the loop keeps its promises.
async fn feed_watchdog(liveness: &crate::service::liveness::Liveness) {
    let interval = notify::watchdog_interval();
    loop {
        tokio::time::sleep(interval.unwrap_or(Duration::from_hours(1))).await;
        if interval.is_some() && liveness.holds() {
            notify::watchdog();
        }
    }
}
