//! The configuration: from files to [`Settings`].
//!
//! `/etc/pulld/pulld.toml` is read first, then drop-ins, `*.toml`, in the order of their file names; a later value
//! replaces an earlier one. Drop-ins lie in `/usr/lib/pulld/pulld.d` (packages), `/run/pulld/pulld.d` (until the next
//! boot) and `/etc/pulld/pulld.d` (people). As with systemd's own, a file in a later directory of these hides those
//! of the same name in the earlier ones, and a link to `/dev/null` hides them without putting anything in their place.
//!
//! Whatever isn't used is said aloud; a wrong value is an error, and the agent keeps the last good settings then.

pub(crate) mod duration;

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result, anyhow, bail};
use bucket::{BucketOptions, BucketUrl, ServerName};
use toml::Value;

use crate::{
    decide::allowed_apps::AllowedApps,
    metadata,
    state::{paths::Paths, persist},
};

/// Most bytes of a configuration file that are read.
const LIMIT: u64 = 1 << 20;

/// What the agent goes by, every key decided and checked.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Settings {
    /// Where the releases are; `None` on a machine nobody has configured yet: the agent waits then.
    pub(crate) bucket: Option<BucketUrl>,
    /// How `gs://` is reached.
    pub(crate) bucket_options: BucketOptions,
    /// The name of this machine's server document.
    pub(crate) server: ServerName,
    /// How often the document is looked at when nothing pokes the agent.
    pub(crate) poll: Duration,
    /// The most by which a poll comes earlier or later, so that a fleet doesn't poll in step.
    pub(crate) jitter: Duration,
    /// How often the report is written when it says nothing new, give or take a tenth.
    pub(crate) heartbeat: Duration,
    /// How long a unit must stay up before its release counts as healthy.
    pub(crate) health_window: Duration,
    /// The longest dpkg may take with one order.
    pub(crate) transaction_timeout: Duration,
    /// Whether apps that vanish from the document are removed.
    pub(crate) prune: bool,
    /// The apps that the document may bring here.
    pub(crate) allowed_apps: AllowedApps,
    /// How many releases of each app stay in the cache, the installed one included.
    pub(crate) keep_releases: usize,
    /// Whether pokes are watched for on the instance metadata server; taken at the start.
    pub(crate) metadata: metadata::Mode,
}

impl Settings {
    /// Time for one verb of the bucket with all its attempts.
    pub(crate) fn bucket_timeout(&self) -> Duration {
        self.bucket_options.timeout * 10
    }
}

/// Settings, and what was found on the way that somebody should know.
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
const KEYS: [&str; 13] = [
    "bucket",
    "server",
    "poll",
    "jitter",
    "heartbeat",
    "health_window",
    "transaction_timeout",
    "prune",
    "allowed_apps",
    "keep_releases",
    "metadata",
    "gcs_endpoint",
    "gcs_credentials",
];

/// What one file says, or several merged.
#[derive(Debug, Default)]
struct Fragment {
    values: BTreeMap<&'static str, (PathBuf, Value)>,
}

/// Reads the configuration of this machine. `file` stands in for `/etc/pulld/pulld.toml`; it must exist then.
/// `environment` is normally [`std::env::var`].
///
/// # Errors
/// A file that isn't TOML, or a value that can't be: with the file, the key, the value and what is expected.
pub(crate) fn load(
    paths: &Paths,
    file: Option<&Path>,
    environment: impl Fn(&str) -> Option<String>,
    host: &str,
) -> Result<Loaded> {
    let mut warnings = Vec::new();
    let main = file.map_or_else(|| paths.config_file(), Path::to_owned);
    if file.is_some() && !main.exists() {
        bail!("there is no `{}`", main.display());
    }
    let drop_ins = drop_ins(&paths.drop_ins(), &mut warnings);
    let mut files = Vec::new();
    let mut merged = Fragment::default();
    for path in std::iter::once(main).chain(drop_ins) {
        let Some(fragment) = read_fragment(&path, &mut warnings)? else { continue };
        merged.values.extend(fragment.values);
        files.push(path);
    }
    let settings = settle(&merged, environment, host)?;
    Ok(Loaded { settings, warnings, files })
}

/// The settings of a machine whose configuration can't be used at all: it waits for a better one.
pub(crate) fn unconfigured(host: &str) -> Settings {
    let nothing = Fragment::default();
    settle(&nothing, |_| None, host)
        .unwrap_or_else(|_| settle(&nothing, |_| None, "unnamed").expect("defaults and a good name are settings"))
}

/// The drop-ins that count, in the order they are read.
fn drop_ins(directories: &[PathBuf], warnings: &mut Vec<String>) -> Vec<PathBuf> {
    let mut chosen: BTreeMap<String, PathBuf> = BTreeMap::new();
    for directory in directories {
        let entries = match fs::read_dir(directory) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            Err(error) => {
                warnings.push(format!("`{}` is ignored: {error}", directory.display()));
                continue;
            }
        };
        for path in entries.filter_map(|entry| entry.ok().map(|entry| entry.path())) {
            let Some(name) = path.file_name().and_then(|name| name.to_str()) else { continue };
            if path.extension().is_none_or(|extension| extension != "toml") || name.starts_with('.') {
                warnings.push(format!("`{}` is ignored: its name doesn't end in `.toml`", path.display()));
                continue;
            }
            chosen.insert(name.to_owned(), path.clone());
        }
    }
    chosen.into_values().filter(|path| !is_mask(path)).collect()
}

/// Whether a file is there only to hide others of its name.
fn is_mask(path: &Path) -> bool {
    fs::canonicalize(path).is_ok_and(|target| target == Path::new("/dev/null"))
}

fn read_fragment(path: &Path, warnings: &mut Vec<String>) -> Result<Option<Fragment>> {
    let Some(content) = persist::read(path, LIMIT)? else { return Ok(None) };
    let text = String::from_utf8(content).map_err(|_| anyhow!("`{}` isn't UTF-8", path.display()))?;
    let table: toml::Table = text.parse().with_context(|| format!("`{}` isn't TOML", path.display()))?;
    let mut fragment = Fragment::default();
    for (key, value) in table {
        match KEYS.iter().find(|known| **known == key) {
            Some(known) => {
                fragment.values.insert(known, (path.to_owned(), value));
            }
            None => warnings.push(format!(
                "`{}`: unknown key `{}` is ignored; did you mean `{}`?",
                path.display(),
                key.escape_debug(),
                nearest_key(&key)
            )),
        }
    }
    Ok(Some(fragment))
}

fn settle(merged: &Fragment, environment: impl Fn(&str) -> Option<String>, host: &str) -> Result<Settings> {
    let poll = merged.duration("poll", "5m", Duration::from_secs(1), Duration::from_hours(24 * 7))?;
    let tenth = duration::show(Duration::from_millis(u64::try_from(poll.as_millis() / 10)?));
    let defaults = [
        ("PUSH_GCS_ENDPOINT", merged.text("gcs_endpoint")?),
        ("PUSH_GCS_CREDENTIALS", merged.text("gcs_credentials")?),
    ];
    // The environment wins over the files: it is how a person tries something out.
    let lookup = |key: &str| {
        let configured = defaults.iter().find(|(name, _)| *name == key).and_then(|(_, value)| value.clone());
        environment(key).filter(|value| !value.is_empty()).or(configured)
    };
    Ok(Settings {
        bucket: merged.parsed("bucket", "`gs://BUCKET` or `file:///DIRECTORY`")?,
        bucket_options: BucketOptions::from_env(lookup)?,
        server: match merged.parsed("server", "a server's name, as `web-1`")? {
            Some(server) => server,
            None => default_server(host)?,
        },
        poll,
        heartbeat: merged.duration("heartbeat", "15m", Duration::from_mins(1), Duration::from_hours(24))?,
        jitter: merged.duration("jitter", &tenth, Duration::ZERO, poll / 2)?,
        health_window: merged.duration("health_window", "10s", Duration::ZERO, Duration::from_hours(1))?,
        transaction_timeout: merged.duration(
            "transaction_timeout",
            "30m",
            Duration::from_secs(1),
            Duration::from_hours(24),
        )?,
        prune: merged.get("prune", "true or false", |value| value.as_bool().ok_or_else(String::new))?.unwrap_or(false),
        allowed_apps: merged
            .get("allowed_apps", "an array of globs, as `[\"web-*\", \"db\"]`", read_globs)?
            .map_or_else(|| AllowedApps::new(vec!["*".to_owned()]).map_err(|error| anyhow!(error)), Ok)?,
        keep_releases: merged
            .get("keep_releases", "a whole number from 1 to 1000", |value| {
                let number = value.as_integer().and_then(|number| usize::try_from(number).ok());
                number.filter(|number| (1..=1000).contains(number)).ok_or_else(String::new)
            })?
            .unwrap_or(3),
        metadata: merged
            .get("metadata", "`auto`, `on` or `off`", |value| {
                value.as_str().and_then(|text| text.parse().ok()).ok_or_else(String::new)
            })?
            .unwrap_or_default(),
    })
}

fn default_server(host: &str) -> Result<ServerName> {
    let short = host.split('.').next().unwrap_or_default();
    short.parse().with_context(|| "the host name can't be the server's name: set `server` in the configuration")
}

fn read_globs(value: &Value) -> Result<AllowedApps, String> {
    let globs = value.as_array().ok_or_else(String::new)?;
    let globs: Option<Vec<String>> = globs.iter().map(|glob| Some(glob.as_str()?.to_owned())).collect();
    AllowedApps::new(globs.ok_or_else(String::new)?)
}

impl Fragment {
    /// A key's value through `read`, whose error adds to what was `expected`.
    fn get<T>(
        &self,
        key: &'static str,
        expected: &str,
        read: impl Fn(&Value) -> Result<T, String>,
    ) -> Result<Option<T>> {
        let Some((path, value)) = self.values.get(key) else { return Ok(None) };
        read(value).map(Some).map_err(|reason| {
            let colon = if reason.is_empty() { "" } else { ": " };
            let value = value.to_string();
            anyhow!(
                "`{}`: `{key}` is `{}`, but must be {expected}{colon}{reason}",
                path.display(),
                value.trim_matches('"').escape_debug()
            )
        })
    }

    fn text(&self, key: &'static str) -> Result<Option<String>> {
        self.get(key, "a string", |value| value.as_str().map(str::to_owned).ok_or_else(String::new))
    }

    fn parsed<T: std::str::FromStr<Err = bucket::NameError>>(
        &self,
        key: &'static str,
        expected: &str,
    ) -> Result<Option<T>> {
        self.get(key, expected, |value| {
            value.as_str().ok_or_else(String::new)?.parse().map_err(|error: bucket::NameError| error.reason)
        })
    }

    fn duration(&self, key: &'static str, default: &str, least: Duration, most: Duration) -> Result<Duration> {
        let expected = format!("a duration from `{}` to `{}`, as `5m`", duration::show(least), duration::show(most));
        let value = self.get(key, &expected, |value| {
            let duration = value.as_str().and_then(duration::parse);
            duration.filter(|duration| (least..=most).contains(duration)).ok_or_else(String::new)
        })?;
        Ok(value.or_else(|| duration::parse(default)).unwrap_or(least))
    }
}

/// The key that a misspelt one most likely stands for.
fn nearest_key(key: &str) -> &'static str {
    KEYS.into_iter().min_by_key(|known| distance(known, key)).unwrap_or(KEYS[0])
}

/// How many letters must be changed, added or left out to turn one word into the other (Levenshtein).
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().take(64).collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, ca) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, cb) in b.iter().enumerate() {
            let changed = diagonal + usize::from(ca != *cb);
            diagonal = row[j + 1];
            row[j + 1] = changed.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load_in(root: &Path) -> Result<Loaded> {
        load(&Paths::new(root), None, |_| None, "web-1.example.com")
    }

    fn put(root: &Path, path: &str, content: &str) {
        let path = root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    #[test]
    fn a_fresh_machine_has_defaults_and_no_bucket() {
        let root = tempfile::tempdir().unwrap();
        let settings = load_in(root.path()).unwrap().settings;
        assert_eq!(settings.bucket, None);
        assert_eq!(settings.server.as_str(), "web-1");
        assert_eq!(settings.poll, Duration::from_mins(5));
        assert_eq!(settings.jitter, Duration::from_secs(30));
        assert!(settings.allowed_apps.allows("anything"));
        assert!(!settings.prune);
    }

    #[test]
    fn a_drop_in_of_etc_hides_its_namesake_of_run_and_usr() {
        let root = tempfile::tempdir().unwrap();
        put(root.path(), "etc/pulld/pulld.toml", "bucket = \"gs://main\"\npoll = \"1m\"");
        put(root.path(), "usr/lib/pulld/pulld.d/50-poll.toml", "poll = \"2m\"\nprune = true");
        put(root.path(), "run/pulld/pulld.d/50-poll.toml", "poll = \"3m\"");
        let settings = load_in(root.path()).unwrap().settings;
        assert_eq!((settings.poll, settings.prune), (Duration::from_mins(3), false));
        put(root.path(), "etc/pulld/pulld.d/50-poll.toml", "poll = \"4m\"");
        put(root.path(), "usr/lib/pulld/pulld.d/60-later.toml", "keep_releases = 7");
        let settings = load_in(root.path()).unwrap().settings;
        assert_eq!((settings.poll, settings.keep_releases), (Duration::from_mins(4), 7));
        std::os::unix::fs::symlink("/dev/null", root.path().join("etc/pulld/pulld.d/60-later.toml")).unwrap();
        assert_eq!(load_in(root.path()).unwrap().settings.keep_releases, 3);
    }

    #[test]
    fn what_is_not_used_is_said_aloud() {
        let root = tempfile::tempdir().unwrap();
        put(root.path(), "etc/pulld/pulld.toml", "pol = \"1m\"");
        put(root.path(), "etc/pulld/pulld.d/extra.conf", "poll = \"1m\"");
        let warnings = load_in(root.path()).unwrap().warnings;
        assert_eq!(warnings.len(), 2, "{warnings:?}");
        assert!(warnings.iter().any(|warning| warning.contains("unknown key `pol`") && warning.contains("`poll`")));
        assert!(warnings.iter().any(|warning| warning.contains("extra.conf")));
    }

    #[test]
    fn a_wrong_value_names_file_key_value_and_what_is_expected() {
        for (content, part) in [
            ("poll = 5", "`poll` is `5`, but must be a duration from `1s` to `7d`"),
            ("poll = \"0s\"", "`poll` is `0s`"),
            ("poll = \"10s\"\njitter = \"6s\"", "`jitter` is `6s`, but must be a duration from `0s` to `5s`"),
            ("bucket = \"s3://x\"", "`bucket` is `s3://x`"),
            ("server = \"a/b\"", "`server` is `a/b`"),
            ("prune = \"yes\"", "`prune` is `yes`, but must be true or false"),
            ("keep_releases = 0", "a whole number from 1 to 1000"),
            ("allowed_apps = [\"a[\"]", "`allowed_apps`"),
            ("metadata = \"yes\"", "`metadata` is `yes`, but must be `auto`, `on` or `off`"),
            ("metadata = true", "`metadata` is `true`"),
            ("allowed_apps = \"web\"", "an array of globs"),
            ("poll = ", "isn't TOML"),
        ] {
            let root = tempfile::tempdir().unwrap();
            put(root.path(), "etc/pulld/pulld.toml", content);
            let error = format!("{:#}", load_in(root.path()).unwrap_err());
            assert!(error.contains(part) && error.contains("pulld.toml"), "{content}: {error}");
        }
    }

    #[test]
    fn the_documented_default_file_has_every_key_and_the_real_defaults() {
        let documented = include_str!("../../../packaging/pulld/pulld.toml");
        let root = tempfile::tempdir().unwrap();
        put(root.path(), "etc/pulld/pulld.toml", documented);
        let defaults = load_in(root.path()).unwrap();
        assert_eq!(defaults.warnings, Vec::<String>::new());
        assert_eq!(defaults.settings, unconfigured("web-1"));
        let named = |line: &&str| KEYS.iter().any(|key| line.starts_with(&format!("#{key} = ")));
        let keys: Vec<&str> = documented.lines().filter(named).map(|line| &line[1..]).collect();
        assert_eq!(keys.len(), KEYS.len(), "{keys:?}");
        let not_default = ["bucket", "gcs_endpoint"];
        let stated: Vec<&str> =
            keys.into_iter().filter(|key| !not_default.iter().any(|no| key.starts_with(no))).collect();
        put(root.path(), "etc/pulld/pulld.toml", &stated.join("\n"));
        assert_eq!(load_in(root.path()).unwrap().settings, unconfigured("web-1"));
    }

    #[test]
    fn the_environment_reaches_the_bucket() {
        let root = tempfile::tempdir().unwrap();
        put(root.path(), "etc/pulld/pulld.toml", "gcs_endpoint = \"http://127.0.0.1:1\"");
        let configured = load_in(root.path()).unwrap().settings.bucket_options;
        assert_eq!(configured.endpoint.unwrap().as_str(), "http://127.0.0.1:1/");
        let environment = |key: &str| (key == "PUSH_GCS_ENDPOINT").then(|| "http://127.0.0.1:2".to_owned());
        let loaded = load(&Paths::new(root.path()), None, environment, "h").unwrap();
        assert_eq!(loaded.settings.bucket_options.endpoint.unwrap().as_str(), "http://127.0.0.1:2/");
    }
}
