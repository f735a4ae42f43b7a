//! The configuration as last read, and the bucket that it names.

use std::path::PathBuf;

use anyhow::{Result, bail};
use bucket::{BucketOptions, BucketUrl, ServerName};

use crate::{
    config::{Loaded, Settings},
    service::events,
    state::{paths::Paths, persist},
    store::bucket::Bucket,
};

/// Reads the configuration anew.
pub(crate) type LoadSettings = Box<dyn Fn() -> Result<Loaded>>;

/// The configuration. While the files are invalid, the last valid settings stay in use.
pub(super) struct Configured {
    load: LoadSettings,
    settings: Settings,
    /// What is on disk of the last valid settings, and where.
    kept: (Settings, PathBuf),
    invalid: Option<String>,
    bucket: Option<Bucket>,
    /// What was last logged about the configuration, so that each warning is logged once.
    logged: Vec<String>,
}

impl Configured {
    /// Reads the configuration for the first time; `fallback`, which is what `path` has, is used until it is valid. Valid
    /// settings are kept there for the next start.
    pub(super) fn new(load: LoadSettings, fallback: Settings, path: PathBuf) -> Self {
        let kept = (fallback.clone(), path);
        let mut configured = Self { load, settings: fallback, kept, invalid: None, bucket: None, logged: Vec::new() };
        configured.reload();
        configured
    }

    /// The settings in use.
    pub(super) fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Why the configuration on disk cannot be used, if it cannot.
    pub(super) fn invalid(&self) -> Option<&str> {
        self.invalid.as_deref()
    }

    /// Reads the configuration again. Returns whether the server document is now another one: it is when the bucket,
    /// the access to it or the server's name changed.
    pub(super) fn reload(&mut self) -> bool {
        let before = self.source();
        match (self.load)() {
            Ok(loaded) => {
                (self.settings, self.invalid) = (loaded.settings, None);
                self.log_once(loaded.warnings);
                self.keep();
            }
            Err(error) => {
                let instead =
                    if self.settings.bucket.is_some() { "keeping the last valid settings" } else { "waiting" };
                let invalid = format!(
                    "invalid configuration, {instead}: {error:#}; `pulld check-config` says whether it is valid"
                );
                self.log_once(vec![invalid.clone()]);
                self.invalid = Some(invalid);
            }
        }
        let is_other = self.source() != before;
        if is_other {
            self.bucket = None;
        }
        is_other
    }

    /// Keeps valid settings for an agent that starts while the configuration is invalid. Without credentials: of those
    /// only the path is a setting.
    fn keep(&mut self) {
        let (kept, path) = &mut self.kept;
        if *kept == self.settings {
            return;
        }
        match persist::write(path, (self.settings.lines().join("\n") + "\n").as_bytes()) {
            Ok(()) => kept.clone_from(&self.settings),
            Err(error) => tracing::warn!(message_id = events::STATE_LOST, "could not keep the settings: {error:#}"),
        }
    }

    /// The bucket, opened at first use.
    pub(super) async fn bucket(&mut self, paths: &Paths) -> Result<Bucket> {
        if let Some(bucket) = &self.bucket {
            return Ok(bucket.clone());
        }
        let Some(url) = &self.settings.bucket else {
            match &self.invalid {
                Some(invalid) => bail!("{invalid}"),
                None => bail!("no bucket specified: set `bucket` in `{}`", paths.config_file().display()),
            }
        };
        let bucket = Bucket::open_marked(url, &self.settings.bucket_options).await?;
        self.bucket = Some(bucket.clone());
        Ok(bucket)
    }

    /// The bucket, if it has been opened.
    pub(super) fn open_bucket(&self) -> Option<&Bucket> {
        self.bucket.as_ref()
    }

    /// What determines which document is this server's.
    fn source(&self) -> (Option<BucketUrl>, BucketOptions, ServerName) {
        let Settings { bucket, bucket_options, server, .. } = &self.settings;
        (bucket.clone(), bucket_options.clone(), server.clone())
    }

    fn log_once(&mut self, warnings: Vec<String>) {
        for warning in warnings.iter().filter(|warning| !self.logged.contains(warning)) {
            tracing::warn!(message_id = events::CONFIGURATION, "{warning}");
        }
        self.logged = warnings;
    }
}
