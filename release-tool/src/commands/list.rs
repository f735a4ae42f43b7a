//! `release list`: what is in the bucket.

use anyhow::{Context, Result};
use bucket::{AppName, Bucket, Release, ReleaseMetadata, ReleaseName, Timestamp};
use clap::Args;
use serde::Serialize;

use crate::{
    cli::{Options, wait_for},
    talk::{age, plain, size},
};

const EXAMPLES: &str = "\
Examples:
  release list                          the apps that have releases
  release list web                      the newest releases of `web`
  release list web --limit 1 --names    the name of the newest, for a script";

/// Arguments of `release list`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct List {
    /// The app; without it, the apps are listed
    app: Option<AppName>,
    /// At most so many releases
    #[arg(long, value_name = "N", default_value_t = 20)]
    limit: usize,
    /// Only the release names, one per line
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
    #[serde(flatten)]
    facts: Option<Facts<'a>>,
    /// Why there is no more to tell.
    #[serde(skip_serializing_if = "Option::is_none")]
    problem: Option<&'a str>,
}

/// What the metadata adds to a [`Row`]; no key is in both.
#[derive(Debug, Serialize)]
struct Facts<'a> {
    dirty: bool,
    note: &'a str,
    services: &'a [String],
    sha256: &'a str,
    package: &'a str,
    version: &'a str,
    architecture: &'a str,
    repo: &'a str,
    branch: &'a str,
}

impl<'a> From<&'a ReleaseMetadata> for Facts<'a> {
    fn from(metadata: &'a ReleaseMetadata) -> Self {
        let ReleaseMetadata { dirty, note, services, sha256, size: _, package, version, architecture, repo, branch } =
            metadata;
        Self { dirty: *dirty, note, services, sha256, package, version, architecture, repo, branch }
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
        if json {
            let rows: Vec<Row> = releases.iter().map(row).collect();
            println!("{}", serde_json::to_string_pretty(&rows)?);
        } else if self.names {
            for release in &releases {
                println!("{}", release.name);
            }
        } else if releases.is_empty() {
            eprintln!("`{app}` has no releases here; `release list` shows which apps have");
        } else {
            print_table(&releases, Timestamp::now());
        }
        Ok(())
    }
}

async fn list_apps(bucket: &Bucket, json: bool) -> Result<()> {
    let mut apps = Vec::new();
    let mut after = None;
    loop {
        let page = bucket.apps(after.as_ref()).await.context("could not list the apps")?;
        apps.extend(page.items);
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    if json {
        println!("{}", serde_json::to_string_pretty(&apps)?);
    } else {
        for app in &apps {
            println!("{app}");
        }
    }
    if apps.is_empty() {
        eprintln!("no app has a release here yet; `release -m \"why\"` makes the first");
    }
    Ok(())
}

fn row(release: &Release) -> Row<'_> {
    let Release { name, size, uploaded, metadata, .. } = release;
    Row {
        release: name,
        user: name.user(),
        host: name.host(),
        time: name.time(),
        commit: name.commit().as_str(),
        uploaded: *uploaded,
        size: *size,
        facts: metadata.as_ref().ok().map(Facts::from),
        problem: metadata.as_ref().err().map(String::as_str),
    }
}

fn print_table(releases: &[Release], now: Timestamp) {
    let heading = ["AGE", "WHO", "COMMIT", "DIRTY", "SIZE", "NOTE"].map(str::to_owned);
    let rows = releases.iter().map(|release| {
        let name = &release.name;
        let (dirty, note) = match &release.metadata {
            Ok(facts) => (if facts.dirty { "dirty" } else { "" }, plain(&facts.note)),
            Err(problem) => ("?", format!("({})", plain(problem))),
        };
        let who = format!("{}@{}", name.user(), name.host());
        let commit = name.commit().short().to_owned();
        [age(name.time(), now), who, commit, dirty.to_owned(), size(release.size), note]
    });
    let table: Vec<[String; 6]> = std::iter::once(heading).chain(rows).collect();
    let widths: Vec<usize> =
        (0..5).map(|i| table.iter().map(|row| row[i].chars().count()).max().unwrap_or_default()).collect();
    for row in &table {
        for (cell, width) in row.iter().zip(&widths) {
            print!("{cell:<width$}  ");
        }
        println!("{}", row[5]);
    }
}
