//! The configuration as last read, and the bucket that it names.

use anyhow::{Result, bail};
use bucket::{Bucket, BucketOptions, BucketUrl, ServerName};

use crate::{
    config::{Loaded, Settings},
    service::events,
    state::paths::Paths,
};

/// Reads the configuration anew.
pub(crate) type LoadSettings = Box<dyn Fn() -> Result<Loaded>>;

/// The configuration. While the files are invalid, the last valid settings stay in use.
pub(super) struct Configured {
    load: LoadSettings,
    settings: Settings,
    invalid: Option<String>,
    bucket: Option<Bucket>,
    /// What was last logged about the configuration, so that each warning is logged once.
    logged: Vec<String>,
}

impl Configured {
    /// Reads the configuration for the first time; `fallback` is used until it is valid.
    pub(super) fn new(load: LoadSettings, fallback: Settings) -> Self {
        let mut configured = Self { load, settings: fallback, invalid: None, bucket: None, logged: Vec::new() };
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
            }
            Err(error) => {
                let invalid = format!("invalid configuration, keeping the last valid settings: {error:#}");
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
