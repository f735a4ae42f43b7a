//! `push list`: the releases there are.

use anyhow::{Context as _, Result};
use bucket::{AppName, Release, Timestamp};
use clap::Args;
use serde_json::{Value, json};

use super::{Command, print, print_json, show};

/// Lists the releases of an app, newest first, or the apps.
#[derive(Debug, Args)]
pub(crate) struct List {
    /// Which app; without one, the apps are listed.
    app: Option<AppName>,
    /// How many releases.
    #[arg(long, default_value_t = 20)]
    limit: usize,
}

impl List {
    pub(crate) async fn run(self, command: &Command) -> Result<bool> {
        match &self.app {
            Some(app) => self.releases(command, app).await,
            None => apps(command).await,
        }
    }

    async fn releases(&self, command: &Command, app: &AppName) -> Result<bool> {
        let releases = command.bucket.newest_releases(app, self.limit).await;
        let releases = releases.with_context(|| format!("could not list the releases of `{app}`"))?;
        if command.json {
            print_json(&json!({ "app": app, "releases": releases.iter().map(as_json).collect::<Vec<_>>() }))?;
            return Ok(true);
        }
        if releases.is_empty() {
            eprintln!("`{app}` has no releases; `push list` lists the apps");
        }
        let now = Timestamp::now();
        let mut table = show::Table::new(&["AGE", "WHO", "COMMIT", "", "SIZE", "NOTE"]);
        for release in &releases {
            let name = &release.name;
            let (dirty, note) = match &release.metadata {
                Ok(metadata) => (metadata.dirty, show::cut(&metadata.note, 60)),
                Err(reason) => (false, format!("(unusable: {reason})")),
            };
            table.row(vec![
                show::plain(show::ago(name.time(), now)),
                show::plain(format!("{}@{}", name.user(), name.host())),
                show::plain(name.commit().short()),
                (if dirty { "dirty" } else { "" }.to_owned(), show::Colour::Notice),
                show::plain(size(release.size)),
                show::plain(note),
            ]);
        }
        print(&table.show())?;
        Ok(true)
    }
}

async fn apps(command: &Command) -> Result<bool> {
    let mut apps: Vec<AppName> = Vec::new();
    let mut after = None;
    loop {
        let page = command.bucket.apps(after.as_ref()).await.context("could not list the apps")?;
        apps.extend(page.items);
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    if command.json {
        print_json(&json!({ "apps": apps }))?;
    } else {
        let lines: Vec<&str> = apps.iter().map(AppName::as_str).collect();
        print(&(lines.join("\n") + if lines.is_empty() { "" } else { "\n" }))?;
    }
    Ok(true)
}

fn as_json(release: &Release) -> Value {
    let mut value = json!({ "release": release.name, "time": release.name.time(), "size": release.size, "uploaded": release.uploaded });
    match &release.metadata {
        Ok(metadata) => value["metadata"] = json!(metadata),
        Err(reason) => value["error"] = json!(reason),
    }
    value
}

/// Bytes as a person reads them.
fn size(bytes: u64) -> String {
    match bytes {
        0..1_000_000 => format!("{} kB", bytes.div_ceil(1000)),
        _ => format!("{} MB", bytes.div_ceil(1_000_000)),
    }
}
