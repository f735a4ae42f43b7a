//! `push serve`: the web app.

use std::{net::SocketAddr, path::PathBuf};

use anyhow::Result;
use bucket::{Bucket, BucketUrl};
use clap::Args;

use super::{Misused, Span};
use crate::web::{self, auth::AuthArguments};
use fleet::poke::PokeSettings;

/// Serves the web app: what every server should run and does run, and choosing it.
///
/// Without any setting beyond the bucket it answers on this machine only.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  push serve --bucket file:///srv/push
  push serve --bucket gs://acme-push --config skiapush.conf --project acme-prod")]
pub(crate) struct Serve {
    /// Where to listen.
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:8000")]
    listen: SocketAddr,
    /// How often the bucket is read.
    #[arg(long, value_name = "TIME", default_value = "10s")]
    refresh: Span,
    /// The Google Cloud project whose instances are woken at once; without it, or with `none`, they find out by polling.
    #[arg(long, value_name = "PROJECT", env = "PUSH_GCE_PROJECT")]
    project: Option<String>,
    #[command(flatten)]
    auth: AuthArguments,
}

impl Serve {
    pub(crate) async fn run(self, bucket: Bucket, url: &BucketUrl, policy: Option<PathBuf>) -> Result<bool> {
        let lookup = |key: &str| std::env::var(key).ok();
        let poke = PokeSettings::from_env(self.project.as_deref(), lookup).map_err(|e| Misused(format!("{e:#}")))?;
        let auth = self.auth.settings(self.listen).map_err(|e| Misused(format!("{e:#}")))?;
        let settings = web::Settings { listen: self.listen, auth, policy, poke, refresh: self.refresh.0 };
        let listening = |address| {
            eprintln!("push: serving on http://{address}/");
            // To systemd, if that started it. Who else did doesn't wait for it.
            let _ = sd_notify::notify(&[sd_notify::NotifyState::Ready]);
        };
        web::serve(bucket, url, settings, listening).await?;
        Ok(true)
    }
}
