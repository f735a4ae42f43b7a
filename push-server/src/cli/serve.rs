//! `push serve`: the web app.

use std::{
    fs::{self, OpenOptions},
    io::{self, Write},
    net::SocketAddr,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result};
use bucket::{Bucket, BucketOptions, BucketUrl};
use clap::Args;
use console::UsageError;
use fleet::poke::PokeSettings;
use tracing::{Level, info, warn};

use super::command::operator_name;
use crate::web::{self, auth::AuthArguments};

/// Serve the web app: desired and installed releases of every server, and pushing
///
/// With no setting other than the bucket it answers on this machine only. Everybody there may look; to push, open the
/// address that it prints.
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
    /// Candidate bucket, as in `[candidates]` of release.toml: adds a page of the changes that are not merged yet
    #[arg(long, value_name = "URL", env = "PUSH_CANDIDATES")]
    candidates: Option<BucketUrl>,
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
        let candidates = match &self.candidates {
            None => None,
            Some(candidates) if candidates == url => {
                let same = "--candidates names the bucket of the releases: what is not merged has a bucket of its own";
                return Err(UsageError::new(same).into());
            }
            Some(candidates) => {
                let options = BucketOptions::from_env(|key| std::env::var(key).ok())?;
                let opened = Bucket::open(candidates, &options).await;
                Some(opened.with_context(|| format!("could not open the candidate bucket `{candidates}`"))?)
            }
        };
        let (listen, refresh, operator) = (self.listen, self.refresh, operator_name());
        let settings = web::Settings { listen, auth, operator, policy, poke, refresh, candidates };
        let listening = |address, token: Option<&str>| {
            info!(%address, "serving on http://{address}/");
            if let Some(token) = token {
                hand_over(address, token)?;
            }
            // To systemd, if that started it. Who else did doesn't wait for it.
            let _ = sd_notify::notify(&[sd_notify::NotifyState::Ready]);
            Ok(())
        };
        web::serve(bucket, url, settings, listening).await?;
        Ok(true)
    }
}

/// Gives the token to whoever started the web app, and to nobody who reads a log.
fn hand_over(address: SocketAddr, token: &str) -> Result<()> {
    let directory = std::env::var_os("RUNTIME_DIRECTORY").filter(|directory| !directory.is_empty());
    if let Some(directory) = directory {
        // systemd separates several by colons.
        let directory = directory.to_string_lossy();
        let file = Path::new(directory.split(':').next().unwrap_or_default()).join("token");
        write_secret(&file, token).with_context(|| format!("could not write `{}`", file.display()))?;
        info!(file = %file.display(), "the token for pushing from this machine is in `{}`", file.display());
    } else if is_journal() {
        warn!(
            "nobody can push from this web app, because a token does not belong into the journal: set RuntimeDirectory=push-server in its unit"
        );
    } else {
        let line =
            format!("to push, open http://{address}/?token={token} once; without it everybody here can only look");
        if console::print_line(line).is_err() {
            warn!("nobody can push from this web app, because the address with its token could not be printed");
        }
    }
    Ok(())
}

/// Writes a file that only its owner can read, in the place of one that is there.
fn write_secret(file: &Path, secret: &str) -> io::Result<()> {
    match fs::remove_file(file) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    writeln!(OpenOptions::new().write(true).create_new(true).mode(0o600).open(file)?, "{secret}")
}

/// Whether what is printed goes to systemd's journal, which tells that by `JOURNAL_STREAM`.
fn is_journal() -> bool {
    let stream = std::env::var("JOURNAL_STREAM").unwrap_or_default();
    let numbers = stream.split_once(':').and_then(|(device, inode)| Some((device.parse().ok()?, inode.parse().ok()?)));
    let printed = rustix::fs::fstat(io::stdout()).map(|stat| (stat.st_dev, stat.st_ino));
    numbers.is_some_and(|numbers: (u64, u64)| printed == Ok(numbers))
}
