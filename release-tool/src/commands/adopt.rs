//! `release adopt`: a release of the original system, which has no SHA-256, becomes one of ours.
//!
//! Its files are the same bytes: only the control member gains the fields of Push, as with `deb =`.

use std::{path::Path, time::Duration};

use anyhow::{Context as _, Result, bail};
use bucket::{
    AppName, Bucket, Note, OriginalRelease, OwnedUnit, PackageFacts, Provenance, ReleaseFields, ReleaseName,
    ReleaseParts, Timestamp, UnitAction,
};
use clap::Args;
use console::{UsageError, print_json, print_line, size};
use serde::Serialize;

use crate::{
    builder::Builder,
    deb::prebuilt,
    find::{Extent, fetch, path_of},
    options::{Options, wait_for},
    progress::Progress,
    upload::describe,
};

const EXAMPLES: &str = "\
Examples:
  release adopt --app web               every release of `web` that was not adopted yet, oldest first
  release adopt --app web --dry-run     list them
  release adopt web:dev@build-1:2016-03-01T10:00:00Z:560316aa6e053eb75a36efb621d0fd66d1ced433

The original stays where it is. Prints the names of our releases; with --json also those of the originals.
docs/migrating.md describes how to take over a bucket of the original system.";

/// Arguments of `release adopt`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Adopt {
    /// Releases of the original system to adopt
    #[arg(value_name = "RELEASE", value_parser = parse_release, required_unless_present = "apps")]
    releases: Vec<ReleaseName>,
    /// App whose releases to adopt, all of them
    #[arg(long = "app", value_name = "APP")]
    apps: Vec<AppName>,
    /// Show what would be adopted, and change nothing
    #[arg(long)]
    dry_run: bool,
}

/// A release of the original system and ours.
#[derive(Debug, Serialize)]
struct Adopted {
    original: ReleaseName,
    /// `None` in a dry run, for what wasn't adopted before.
    release: Option<ReleaseName>,
}

/// With or without directory and `.deb`.
fn parse_release(text: &str) -> Result<ReleaseName, String> {
    let stem = text.strip_suffix(".deb").unwrap_or(text);
    text.parse().or_else(|_| ReleaseName::from_stem(stem)).map_err(|error| error.to_string())
}

impl Adopt {
    pub(crate) fn run(self, options: &Options) -> Result<()> {
        let builder = Builder::find(|key| std::env::var(key).ok())?;
        wait_for(async {
            let bucket = options.find_bucket().await?;
            let (mut adopted, mut last) = (Vec::new(), None);
            for original in self.originals(&bucket).await? {
                let release = match &original.adopted {
                    Some(ours) => {
                        console::note(format_args!("{} was adopted before, as {ours}", original.name));
                        Some(ours.clone())
                    }
                    None if self.dry_run => None,
                    None => Some(adopt(&bucket, &builder, &original, last).await?),
                };
                last = release.as_ref().map(ReleaseName::time).max(last);
                if !options.json {
                    print_line(release.as_ref().unwrap_or(&original.name))?;
                }
                adopted.push(Adopted { original: original.name, release });
            }
            if options.json { print_json(&adopted) } else { Ok(()) }
        })
    }

    /// Those that are meant, oldest first.
    async fn originals(&self, bucket: &Bucket) -> Result<Vec<OriginalRelease>> {
        let mut apps: Vec<&AppName> = self.apps.iter().chain(self.releases.iter().map(ReleaseName::app)).collect();
        apps.sort_unstable();
        apps.dedup();
        let mut originals = Vec::new();
        for app in apps {
            let found = bucket.original_releases(app).await;
            let found = found.with_context(|| format!("could not list the releases of `{app}`"))?;
            if found.is_empty() {
                bail!("no releases of the original system for `{app}` in the bucket");
            }
            originals.extend(found);
        }
        if let Some(absent) =
            self.releases.iter().find(|name| !originals.iter().any(|original| original.name == **name))
        {
            let text = format!("no release `{absent}` of the original system in the bucket");
            return Err(UsageError::new(text).with_hint("`release adopt --app APP --dry-run` lists them").into());
        }
        originals.retain(|original| self.apps.contains(original.name.app()) || self.releases.contains(&original.name));
        Ok(originals)
    }
}

async fn adopt(
    bucket: &Bucket,
    builder: &Builder,
    original: &OriginalRelease,
    after: Option<Timestamp>,
) -> Result<ReleaseName> {
    let name = &original.name;
    let failed = || format!("could not adopt `{name}`");
    let download = bucket.download_original(original).await.with_context(failed)?;
    let download = download.with_context(|| format!("`{name}` no longer exists"))?;
    let (_file, deb) = fetch(download, Extent::Whole, None).await.with_context(failed)?;
    PackageFacts::read(&deb.control).with_context(|| format!("`{name}` is not a binary package"))?;

    let release = new_name(bucket, builder, original, after).await?;
    let mut control = deb.control.clone();
    let fields = ReleaseFields { release: release.clone(), units: units(original), check: None };
    let provenance =
        Provenance { dirty: original.dirty, note: note(original)?, repo: String::new(), branch: String::new() };
    fields.write(&provenance, &mut control).with_context(failed)?;
    let adopted = prebuilt::write_unnamed(&deb, &control).with_context(failed)?;
    upload(bucket, &release, name, &path_of(&adopted)).await.with_context(failed)?;
    Ok(release)
}

async fn upload(bucket: &Bucket, release: &ReleaseName, original: &ReleaseName, deb: &Path) -> Result<()> {
    let (source, _, metadata) = describe(deb)?;
    let progress = Progress::begin(&format!("uploading {}", release.stem()), metadata.size);
    bucket.upload_adopted(release, original, &source, &metadata, &|done| progress.at(done)).await?;
    drop(progress);
    console::note(format_args!("adopted {original} ({})", size(metadata.size)));
    Ok(())
}

/// A name that no release has, of a second after `after`: adopted releases keep the order of their originals.
async fn new_name(
    bucket: &Bucket,
    builder: &Builder,
    original: &OriginalRelease,
    after: Option<Timestamp>,
) -> Result<ReleaseName> {
    loop {
        let time = Timestamp::from_second(Timestamp::now().as_second()).context("time out of range")?;
        let Builder { user, host } = builder.clone();
        let (app, commit) = (original.name.app().clone(), original.name.commit().clone());
        let name = ReleaseName::new(&ReleaseParts { app, user, host, time, commit })?;
        let is_later = after.is_none_or(|after| time > after);
        if is_later && bucket.release(&name).await.with_context(|| format!("could not read `{name}`"))?.is_none() {
            return Ok(name);
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// The units that the original says are its own, restarted on every upgrade as its scripts did.
fn units(original: &OriginalRelease) -> Vec<OwnedUnit> {
    let unit = |service: &String| match service.parse() {
        Ok(name) => Some(OwnedUnit::new(name, UnitAction::Restart)),
        Err(error) => {
            console::warning(format_args!("{}: service left out: {error}", original.name));
            None
        }
    };
    original.services.iter().filter_map(unit).collect()
}

/// Its note, or if that is none of ours, where the release comes from.
fn note(original: &OriginalRelease) -> Result<Note> {
    Ok(original.note.parse().or_else(|_| format!("adopted from {}", original.name.stem()).parse())?)
}
