//! `push serve`: the web app.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use anyhow::Result;
use bucket::{Bucket, BucketUrl};
use clap::Args;
use console::UsageError;
use fleet::poke::PokeSettings;
use tracing::{Level, info};

use super::command::operator_name;
use crate::web::{self, auth::AuthArguments};

/// Serve the web app: desired and installed releases of every server, and pushing
///
/// With no setting other than the bucket it answers on this machine only.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  push serve --bucket file:///srv/push
  push serve --bucket gs://acme-push --config skiapush.conf --project acme-prod")]
pub(crate) struct Serve {
    /// Address to listen on
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:8000")]
    listen: SocketAddr,
    /// Interval between reads of the bucket
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = console::duration::parse)]
    refresh: Duration,
    /// Google Cloud project of the instances to poke; without it, or with `none`, servers pick up the change at their
    /// next poll
    #[arg(long, value_name = "PROJECT", env = "PUSH_GCE_PROJECT")]
    project: Option<String>,
    #[command(flatten)]
    auth: AuthArguments,
}

/// Sends what happens to the journal under systemd, else to stderr.
pub(crate) fn start_logging() {
    console::logging::start(Level::INFO, &["push_server", "fleet", "bucket"]);
}

impl Serve {
    pub(crate) async fn run(self, bucket: Bucket, url: &BucketUrl, policy: Option<PathBuf>) -> Result<bool> {
        let usage = |error: anyhow::Error| UsageError::new(format!("{error:#}"));
        let lookup = |key: &str| std::env::var(key).ok();
        let poke = PokeSettings::from_env(self.project.as_deref(), lookup).map_err(usage)?;
        let auth = self.auth.settings(self.listen).map_err(usage)?;
        let operator = operator_name();
        let settings = web::Settings { listen: self.listen, auth, operator, policy, poke, refresh: self.refresh };
        let listening = |address| {
            info!(%address, "serving on http://{address}/");
            // To systemd, if that started it. Who else did doesn't wait for it.
            let _ = sd_notify::notify(&[sd_notify::NotifyState::Ready]);
        };
        web::serve(bucket, url, settings, listening).await?;
        Ok(true)
    }
}
