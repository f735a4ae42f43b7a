//! The configuration: from files to [`Settings`].
//!
//! `/etc/pulld/pulld.toml` is read first, then drop-ins, `*.toml`, in the order of their file names; a later value
//! replaces an earlier one. Drop-ins lie in `/usr/lib/pulld/pulld.d` (packages), `/run/pulld/pulld.d` (until the next
//! boot) and `/etc/pulld/pulld.d` (people). As with systemd's own, a file in a later directory of these hides those
//! of the same name in the earlier ones, and a link to `/dev/null` hides them without putting anything in their place.
//!
//! Unknown keys and ignored files are warnings. An invalid value is an error, and the agent keeps the last valid settings.

mod files;
mod show;

use std::{
    path::{Path, PathBuf},
    str::FromStr,
    time::Duration,
};

use anyhow::{Context, Result, anyhow, bail};
use bucket::{BucketOptions, BucketUrl, Credentials, NameError, ServerName};
use console::{Keys, Mismatch};
use toml::Value;

use crate::{decide::allowed_apps::AllowedApps, metadata, service::events, state::paths::Paths};

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_mins(1);
const HOUR: Duration = Duration::from_hours(1);
const DAY: Duration = Duration::from_hours(24);
const WEEK: Duration = Duration::from_hours(24 * 7);

/// The settings of the agent: every key has a value, and each is valid.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Settings {
    /// The bucket; `None` on a machine that is not configured yet, where the agent waits.
    pub(crate) bucket: Option<BucketUrl>,
    /// Endpoint, credentials and timeouts of `gs://`.
    pub(crate) bucket_options: BucketOptions,
    /// The name of this machine's server document.
    pub(crate) server: ServerName,
    /// Interval between two polls of the server document.
    pub(crate) poll: Duration,
    /// Maximum random offset of each poll, so that a fleet does not poll in lockstep.
    pub(crate) jitter: Duration,
    /// Interval between status reports when nothing has changed, plus or minus 10%.
    pub(crate) heartbeat: Duration,
    /// How long a unit must stay up before its release counts as healthy.
    pub(crate) health_window: Duration,
    /// How much longer than the health window a new pulld may take to pass its health gate.
    pub(crate) rescue_after: Duration,
    /// Time limit for one dpkg run, including the wait for the dpkg lock.
    pub(crate) transaction_timeout: Duration,
    /// Whether apps that are no longer listed in the document are removed.
    pub(crate) prune: bool,
    /// The apps that may be installed on this server.
    pub(crate) allowed_apps: AllowedApps,
    /// Number of releases of each app that stay in the cache, including the installed one.
    pub(crate) keep_releases: usize,
    /// Whether the agent watches the instance metadata server for pokes; read at the start only.
    pub(crate) metadata: metadata::Mode,
}

impl Settings {
    /// What the agent needs and this machine does not have now, but may have later, as a sentence.
    pub(crate) fn missing(&self) -> Option<String> {
        match &self.bucket {
            Some(BucketUrl::File(directory)) if !directory.is_dir() => Some(format!(
                "the agent cannot pull yet, because the directory of the bucket, `{0}`, does not exist: \
                 mount it, or create it with `mkdir -p {0}`",
                directory.display()
            )),
            _ => None,
        }
    }

    /// Time for one verb of the bucket with all its attempts.
    pub(crate) fn bucket_timeout(&self) -> Duration {
        self.bucket_options.timeout * 10
    }
}

/// Settings, and what was noticed while reading them.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Loaded {
    /// The settings.
    pub(crate) settings: Settings,
    /// Unknown keys and ignored files, each a sentence.
    pub(crate) warnings: Vec<String>,
    /// The files that were read, in order.
    pub(crate) files: Vec<PathBuf>,
}

/// Every key there is.
const KEYS: [&str; 14] = [
    "bucket",
    "server",
    "poll",
    "jitter",
    "heartbeat",
    "health_window",
    "rescue_after",
    "transaction_timeout",
    "prune",
    "allowed_apps",
    "keep_releases",
    "metadata",
    "gcs_endpoint",
    "gcs_credentials",
];

/// Reads the configuration of this machine. `file` stands in for `/etc/pulld/pulld.toml`; it must exist then.
/// `environment` is normally [`std::env::var`].
///
/// # Errors
/// A file that is not TOML, or an invalid value: with the file, the key, the value and what is expected.
pub(crate) fn load(
    paths: &Paths,
    file: Option<&Path>,
    environment: impl Fn(&str) -> Option<String>,
    host: &str,
) -> Result<Loaded> {
    let mut warnings = Vec::new();
    let main = file.map_or_else(|| paths.config_file(), Path::to_owned);
    if file.is_some() && !main.exists() {
        bail!("no configuration file `{}`", main.display());
    }
    let drop_ins = files::drop_ins(&paths.drop_ins(), &mut warnings);
    let mut read = Vec::new();
    let mut merged = Keys::default();
    for path in std::iter::once(main).chain(drop_ins) {
        let Some(keys) = files::read(&path, &KEYS, &mut warnings)? else { continue };
        merged.merge(keys);
        read.push(path);
    }
    let settings = settle(merged, environment, host)?;
    Ok(Loaded { settings, warnings, files: read })
}

/// The settings of a machine whose configuration is invalid from the start: those that it last had while it was valid,
/// as [`Settings::lines`] wrote them to `kept`. Without them the agent waits for a valid configuration.
pub(crate) fn last_valid(kept: &Path, host: &str) -> Settings {
    let read = files::read(kept, &KEYS, &mut Vec::new())
        .and_then(|keys| keys.map(|keys| settle(keys, |_| None, host)).transpose());
    read.unwrap_or_else(|error| {
        tracing::warn!(message_id = events::STATE_LOST, "could not use the last valid settings: {error:#}");
        None
    })
    .unwrap_or_else(|| unconfigured(host))
}

/// The settings of a machine that was never configured.
fn unconfigured(host: &str) -> Settings {
    let settle = |host| settle(Keys::default(), |_| None, host);
    settle(host).unwrap_or_else(|_| settle("unnamed").expect("the defaults and a valid name are valid settings"))
}

fn settle(mut keys: Keys, environment: impl Fn(&str) -> Option<String>, host: &str) -> Result<Settings> {
    let bucket = keys.take("bucket", "`gs://BUCKET` or `file:///DIRECTORY`", read_name)?;
    let poll = keys.duration("poll", SECOND..=WEEK)?.unwrap_or(match bucket {
        // Each read of a directory is free, and nothing pokes the agent.
        Some(BucketUrl::File(_)) => Duration::from_secs(10),
        Some(BucketUrl::Gcs(_)) | None => Duration::from_mins(5),
    });
    let credentials: Option<Credentials> =
        keys.take("gcs_credentials", "`default`, `anonymous`, or the path of a service account's key file", |value| {
            value.as_str().and_then(|text| text.parse().ok()).ok_or(Mismatch::Unexpected)
        })?;
    let defaults = [
        ("PUSH_GCS_ENDPOINT", keys.text("gcs_endpoint")?),
        ("PUSH_GCS_CREDENTIALS", credentials.map(|credentials| credentials.to_string())),
    ];
    // The environment wins over the files: it is how a person tries something out.
    let lookup = |key: &str| {
        let configured = defaults.iter().find(|(name, _)| *name == key).and_then(|(_, value)| value.clone());
        environment(key).filter(|value| !value.is_empty()).or(configured)
    };
    Ok(Settings {
        bucket,
        bucket_options: BucketOptions::from_env(lookup)?,
        server: match keys.take("server", "the name of a server, as in `web-1`", read_name)? {
            Some(server) => server,
            None => default_server(host)?,
        },
        poll,
        heartbeat: keys.duration("heartbeat", MINUTE..=DAY)?.unwrap_or(Duration::from_mins(15)),
        jitter: keys
            .duration("jitter", Duration::ZERO..=poll / 2)
            .map_err(|error| anyhow!("{error} (half of `poll`)"))?
            .unwrap_or(poll / 10),
        health_window: keys.duration("health_window", Duration::ZERO..=HOUR)?.unwrap_or(Duration::from_secs(10)),
        rescue_after: keys.duration("rescue_after", SECOND..=HOUR)?.unwrap_or(Duration::from_mins(2)),
        transaction_timeout: keys.duration("transaction_timeout", SECOND..=DAY)?.unwrap_or(Duration::from_mins(30)),
        prune: keys.flag("prune")?.unwrap_or(false),
        allowed_apps: keys
            .take("allowed_apps", "an array of globs, as in `[\"web-*\", \"db\"]`", read_globs)?
            .map_or_else(|| AllowedApps::new(vec!["*".to_owned()]).map_err(|error| anyhow!(error)), Ok)?,
        keep_releases: match keys.number("keep_releases", 1..=1000)? {
            Some(number) => usize::try_from(number)?,
            None => 3,
        },
        metadata: keys
            .take("metadata", "`auto`, `on` or `off`", |value| {
                value.as_str().and_then(|text| text.parse().ok()).ok_or(Mismatch::Unexpected)
            })?
            .unwrap_or_default(),
    })
}

fn default_server(host: &str) -> Result<ServerName> {
    let short = host.split('.').next().unwrap_or_default();
    short.parse().with_context(|| "the host name is not a valid server name: set `server` in the configuration")
}

fn read_name<T: FromStr<Err = NameError>>(value: &Value) -> Result<T, Mismatch> {
    let text = value.as_str().ok_or(Mismatch::Unexpected)?;
    text.parse().map_err(|error: NameError| Mismatch::Because(error.reason))
}

fn read_globs(value: &Value) -> Result<AllowedApps, Mismatch> {
    let globs = value.as_array().ok_or(Mismatch::Unexpected)?;
    let globs: Option<Vec<String>> = globs.iter().map(|glob| Some(glob.as_str()?.to_owned())).collect();
    AllowedApps::new(globs.ok_or(Mismatch::Unexpected)?).map_err(|error| Mismatch::Because(error.to_string()))
}

#[cfg(test)]
mod tests;
