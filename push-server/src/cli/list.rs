//! `push list`: the releases there are.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result};
use bucket::{AppName, PassedOver, Release, ReleaseName};
use clap::Args;
use console::{Cell, Color, Table, cut, print, print_json, size};
use fleet::lookup::ensure_app;
use futures_util::TryStreamExt as _;
use serde_json::{Value, json};

use super::command::{Command, ago};

/// List the releases of an app, newest first, or all apps
#[derive(Debug, Args)]
pub(crate) struct List {
    /// App; without it, the apps are listed
    app: Option<AppName>,
    /// Maximum number of releases
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
        let releases = command.bucket.newest_releases(app, self.limit);
        let (releases, rejected) = tokio::join!(releases, command.bucket.rejected(app));
        let rejected = rejected.with_context(|| format!("could not read which releases of `{app}` are rejected"))?;
        let releases = releases.with_context(|| format!("could not list the releases of `{app}`"))?;
        if releases.is_empty() {
            ensure_app(&command.bucket, app).await?;
        }
        if command.json {
            print_json(
                &json!({ "app": app, "releases": releases.iter().map(|it| as_json(it, &rejected)).collect::<Vec<_>>() }),
            )?;
            return Ok(true);
        }
        let now = command.now();
        let mut table = Table::new(&["AGE", "BY", "COMMIT", "", "SIZE", "NOTE"]);
        for release in &releases {
            let name = &release.name;
            let note = match &release.metadata {
                Ok(metadata) => cut(&metadata.note, 60),
                Err(reason) => format!("(unusable: {reason})"),
            };
            let promoted = release.promoted.as_ref().map(|promoted| format!(" ({promoted})")).unwrap_or_default();
            let mark = match release.passed_over() {
                _ if rejected.contains(name) => "rejected",
                Some(PassedOver::Dirty) => "dirty",
                Some(PassedOver::FromTheFuture) => "wrong time",
                Some(PassedOver::Adopted) => "adopted",
                Some(PassedOver::Unusable(_)) | None => "",
            };
            table.row([
                ago(release.uploaded, now).into(),
                format!("{}@{}", name.user(), name.host()).into(),
                release.commit().short().into(),
                Cell::new(mark, Color::Notice),
                size(release.size).into(),
                format!("{note}{promoted}").into(),
            ]);
        }
        print(&table.show())?;
        Ok(true)
    }
}

async fn apps(command: &Command) -> Result<bool> {
    let apps: Vec<AppName> = command.bucket.apps().try_collect().await.context("could not list the apps")?;
    if command.json {
        print_json(&json!({ "apps": apps }))?;
    } else {
        let lines: Vec<&str> = apps.iter().map(AppName::as_str).collect();
        print(&(lines.join("\n") + if lines.is_empty() { "" } else { "\n" }))?;
    }
    Ok(true)
}

fn as_json(release: &Release, rejected: &BTreeSet<ReleaseName>) -> Value {
    let mut value = json!({ "release": release.name, "time": release.name.time(), "size": release.size, "uploaded": release.uploaded });
    if rejected.contains(&release.name) {
        value["rejected"] = true.into();
    }
    if let Some(reason) = release.passed_over() {
        value["passed_over"] = reason.to_string().into();
    }
    if let Some(promoted) = &release.promoted {
        value["promoted"] = json!(promoted);
    }
    match &release.metadata {
        Ok(metadata) => value["metadata"] = json!(metadata),
        Err(reason) => value["error"] = json!(reason),
    }
    value
}
