//! `release diff`: what changes from one release to another.

use anyhow::{Context as _, Result};
use bucket::{Bucket, Release, ReleaseName};
use clap::Args;
use console::{one_line, print, print_json};
use futures_util::TryStreamExt as _;
use serde::Serialize;

use crate::{
    find::{Extent, Found, Wanted},
    inventory::{Difference, show_difference},
    options::{Options, wait_for},
};

const EXAMPLES: &str = "\
Examples:
  release diff web:dev@build-1:2026-11-19T10:00:00Z:560316aa6e053eb75a36efb621d0fd66d1ced433 web
  release diff --files web dist/web:*.deb       the newest release and a built package, with every file
  release diff --json OLD NEW | jq '.files[].name'

Without --files only the beginning of each package is read: changed content of files is
found by their MD5 sums, but not changes of owners, modes, directories, links and conffiles.";

/// Arguments of `release diff`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Diff {
    /// Release, app (its newest release), or .deb file
    #[arg(value_name = "FROM")]
    from: String,
    /// Release, app (its newest release), or .deb file
    #[arg(value_name = "TO")]
    to: String,
    /// Read both packages whole, and compare every file
    #[arg(long)]
    files: bool,
}

/// A release between two others, and why it was built.
#[derive(Debug, Serialize)]
struct Between {
    release: ReleaseName,
    note: String,
}

/// What is shown, for `--json`.
#[derive(Debug, Serialize)]
struct Shown<'a> {
    from: String,
    to: String,
    #[serde(flatten)]
    difference: &'a Difference,
    notes: Vec<Between>,
}

impl Diff {
    pub(crate) fn run(self, options: &Options) -> Result<()> {
        let directory = options.directory()?;
        let (from, to) = (Wanted::parse(&self.from, &directory)?, Wanted::parse(&self.to, &directory)?);
        let extent = if self.files { Extent::Whole } else { Extent::Head };
        let (from, to, notes) = wait_for(async {
            let needed = from.is_in_bucket() || to.is_in_bucket();
            let bucket = if needed { Some(options.find_bucket().await?) } else { None };
            let (from, to) = (from.find(bucket.as_ref(), extent).await?, to.find(bucket.as_ref(), extent).await?);
            let notes = match &bucket {
                Some(bucket) => notes_between(bucket, &from, &to).await?,
                None => Vec::new(),
            };
            Ok((from, to, notes))
        })?;
        let difference = Difference::between(&from.inventory()?, &to.inventory()?);
        let (from, to) = (from.shown(), to.shown());
        if options.json {
            return print_json(&Shown { from, to, difference: &difference, notes });
        }
        let lines: String = notes.iter().map(note_line).collect();
        let notes = if lines.is_empty() { lines } else { format!("notes\n{lines}") };
        print(&format!("from {}\n  to {}\n\n{}{notes}", one_line(&from), one_line(&to), show_difference(&difference)))
    }
}

fn note_line(between: &Between) -> String {
    format!("  {}  {}\n", between.release.time(), one_line(&between.note))
}

/// The releases of an app that came after one and no later than the other, oldest first; none for different apps.
async fn notes_between(bucket: &Bucket, from: &Found, to: &Found) -> Result<Vec<Between>> {
    let app = match (&from.name, &to.name) {
        (Some(from), Some(to)) if from.app() == to.app() => from.app(),
        _ => return Ok(Vec::new()),
    };
    let listed: Result<Vec<Release>, _> = bucket.releases(app).try_collect().await;
    let mut releases = listed.with_context(|| format!("could not list the releases of `{app}`"))?;
    let (Some(from), Some(to)) = (from.place(&releases), to.place(&releases)) else { return Ok(Vec::new()) };
    let (first, last) = if from <= to { (from, to) } else { (to, from) };
    let place = |release: &Release| (release.uploaded, release.name.clone());
    releases.retain(|release| place(release) > first && place(release) <= last);
    releases.sort_by_key(place);
    let between = |release: Release| {
        let note = release.metadata.map(|facts| facts.note).unwrap_or_default();
        Between { release: release.name, note }
    };
    Ok(releases.into_iter().map(between).collect())
}
