//! `release list`: what is in the bucket.

use anyhow::{Context, Result, bail};
use bucket::{
    AppName, Architecture, Bucket, MadeBy, PackageName, Promoted, Release, ReleaseMetadata, ReleaseName, Sha256,
    Timestamp,
};
use clap::Args;
use console::{Cell, Color, Table, age, nearest, one_line, print, print_json, print_line, size};
use futures_util::TryStreamExt as _;
use serde::Serialize;

use crate::options::{Options, wait_for};

const EXAMPLES: &str = "\
Examples:
  release list                          list the apps that have releases
  release list web                      list the newest releases of `web`
  release list web --limit 1 --names    print the name of the newest, for a script";

/// Arguments of `release list`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct List {
    /// App whose releases to list [default: list the apps]
    app: Option<AppName>,
    /// Maximum number of releases
    #[arg(long, value_name = "N", default_value_t = 20)]
    limit: usize,
    /// Print only the release names, one per line
    #[arg(long)]
    names: bool,
}

/// A release, for `--json`.
#[derive(Debug, Serialize)]
struct Row<'a> {
    release: &'a ReleaseName,
    user: &'a str,
    host: &'a str,
    time: Timestamp,
    commit: &'a str,
    uploaded: Timestamp,
    /// Of the object: what the metadata says of it isn't repeated.
    size: u64,
    /// The release of the original system that it was made from.
    #[serde(skip_serializing_if = "Option::is_none")]
    adopted: Option<&'a ReleaseName>,
    /// The change that it was a candidate of.
    #[serde(skip_serializing_if = "Option::is_none")]
    promoted: Option<&'a Promoted>,
    #[serde(flatten)]
    facts: Option<Facts<'a>>,
    /// Why the metadata is missing: it is unreadable.
    #[serde(skip_serializing_if = "Option::is_none")]
    problem: Option<&'a str>,
}

/// What the metadata adds to a [`Row`]; no key is in both.
#[derive(Debug, Serialize)]
struct Facts<'a> {
    dirty: bool,
    note: &'a str,
    services: &'a [String],
    sha256: &'a Sha256,
    package: &'a PackageName,
    version: &'a str,
    architecture: &'a Architecture,
    repo: &'a str,
    branch: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    made_by: Option<&'a MadeBy>,
}

impl<'a> From<&'a ReleaseMetadata> for Facts<'a> {
    fn from(metadata: &'a ReleaseMetadata) -> Self {
        let ReleaseMetadata {
            dirty,
            note,
            services,
            sha256,
            size: _,
            package,
            version,
            architecture,
            repo,
            branch,
            made_by,
        } = metadata;
        let made_by = made_by.as_ref();
        Self { dirty: *dirty, note, services, sha256, package, version, architecture, repo, branch, made_by }
    }
}

impl List {
    pub(crate) fn run(self, options: &Options) -> Result<()> {
        wait_for(async {
            let bucket = options.find_bucket().await?;
            match &self.app {
                None => list_apps(&bucket, options.json).await,
                Some(app) => self.list_releases(&bucket, app, options.json).await,
            }
        })
    }

    async fn list_releases(&self, bucket: &Bucket, app: &AppName, json: bool) -> Result<()> {
        let newest = bucket.newest_releases(app, self.limit).await;
        let releases = newest.with_context(|| format!("could not list the releases of `{app}`"))?;
        if releases.is_empty() {
            ensure_app(bucket, app).await?;
        }
        if json {
            let rows: Vec<Row> = releases.iter().map(row).collect();
            print_json(&rows)
        } else if self.names {
            releases.iter().try_for_each(|release| print_line(&release.name))
        } else {
            print(&table(&releases, Timestamp::now()).show())
        }
    }
}

/// Fails for an app that has no releases, with the one that was probably meant.
async fn ensure_app(bucket: &Bucket, app: &AppName) -> Result<()> {
    let apps: Vec<AppName> = bucket.apps().try_collect().await.context("could not list the apps")?;
    if apps.contains(app) {
        return Ok(());
    }
    let names: Vec<&str> = apps.iter().map(AppName::as_str).collect();
    match nearest(app.as_str(), &names) {
        Some(near) => bail!("no app `{app}` in the bucket; did you mean `{near}`?"),
        None => bail!("no app `{app}` in the bucket; `release list` lists the apps"),
    }
}

async fn list_apps(bucket: &Bucket, json: bool) -> Result<()> {
    let apps: Vec<AppName> = bucket.apps().try_collect().await.context("could not list the apps")?;
    if apps.is_empty() {
        console::note("no releases in this bucket yet; `release -m \"why\"` builds and uploads the first");
    }
    if json { print_json(&apps) } else { apps.iter().try_for_each(print_line) }
}

fn row(release: &Release) -> Row<'_> {
    let Release { name, size, uploaded, adopted, promoted, metadata, .. } = release;
    Row {
        release: name,
        user: name.user(),
        host: name.host(),
        time: name.time(),
        commit: release.commit().as_str(),
        uploaded: *uploaded,
        size: *size,
        adopted: adopted.as_ref(),
        promoted: promoted.as_ref(),
        facts: metadata.as_ref().ok().map(Facts::from),
        problem: metadata.as_ref().err().map(String::as_str),
    }
}

fn table(releases: &[Release], now: Timestamp) -> Table {
    let mut table = Table::new(&["AGE", "WHO", "COMMIT", "DIRTY", "SIZE", "NOTE"]);
    for release in releases {
        let name = &release.name;
        let (dirty, note) = match &release.metadata {
            Ok(facts) => (if facts.dirty { "dirty" } else { "" }, one_line(&facts.note)),
            Err(problem) => ("?", format!("({})", one_line(problem))),
        };
        let promoted = release.promoted.as_ref().map(|promoted| format!(" ({promoted})")).unwrap_or_default();
        table.row([
            age(now.duration_since(release.uploaded)).into(),
            format!("{}@{}", name.user(), name.host()).into(),
            release.commit().short().into(),
            Cell::new(dirty, Color::Notice),
            size(release.size).into(),
            format!("{note}{promoted}").into(),
        ]);
    }
    table
}
