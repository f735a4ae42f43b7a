//! `push diff`: what two servers, or two sets of servers, should run that differs.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result};
use bucket::{AppName, ReleaseName};
use clap::Args;
use console::{Color, count, cut, print_json, print_line};
use fleet::{
    compare::{Compared, Relation, compare},
    server::Server,
};
use futures_util::{StreamExt, TryStreamExt, stream};
use serde_json::{Value, json};

use super::{command::Command, targets::Targets};
use crate::{
    notes::{MAX_NOTES, notes},
    snapshot::{AppReleases, Listed},
};

/// Apps whose releases are listed at the same time.
const AT_ONCE: usize = 8;

/// Compare what two servers, or two sets of servers, should run
///
/// Says of each app which side is ahead, and the notes of the releases between. A release is newer if it was uploaded later.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  push diff web-1 web-2
  push diff group:stage group:prod")]
pub(crate) struct Diff {
    /// A server, or all that a filter matches (`group:stage`)
    #[arg(value_name = "SERVER|FILTER")]
    left: String,
    /// What it is compared with
    #[arg(value_name = "SERVER|FILTER")]
    right: String,
}

impl Diff {
    pub(crate) async fn run(self, command: &Command) -> Result<bool> {
        let (left, right) = (side(command, &self.left), side(command, &self.right));
        let (left, right) = tokio::try_join!(left, right)?;
        // Only what differs needs an order.
        let differing = compare(&left, &right, |_| 0).into_iter().filter(|app| app.left != app.right);
        let releases = releases(command, differing.map(|app| app.app).collect()).await?;
        let newer = |release: &ReleaseName| releases.get(release.app()).map_or(0, |known| known.newer_than(release));
        let compared = compare(&left, &right, newer);
        if command.json {
            let apps: Vec<Value> = compared.iter().map(|app| as_json(app, &releases)).collect();
            print_json(&json!({ "left": self.left, "right": self.right, "apps": apps }))?;
            return Ok(true);
        }
        for app in &compared {
            print_line(self.line(app))?;
            let notes: Vec<Listed> = notes(app, releases.get(&app.app)).collect();
            for listed in notes.iter().take(MAX_NOTES) {
                let commit = listed.name.commit().short();
                print_line(format_args!("  {commit}  {}", cut(listed.note, 100)))?;
            }
            if notes.len() > MAX_NOTES {
                print_line(format_args!("  and {}", count(notes.len() - MAX_NOTES, "more release")))?;
            }
        }
        Ok(true)
    }

    /// What is said of an app.
    fn line(&self, app: &Compared) -> String {
        let commits = |releases: &[(ReleaseName, usize)]| {
            let commits: Vec<&str> = releases.iter().map(|(release, _)| release.commit().short()).collect();
            commits.join(", ")
        };
        let (left, right) = (commits(&app.left), commits(&app.right));
        let says = match app.relation {
            Relation::Same => format!("the same, {left}"),
            Relation::Ahead => format!("{} is ahead: {left}, and {right} on {}", self.left, self.right),
            Relation::Behind => format!("{} is behind: {left}, and {right} on {}", self.left, self.right),
            Relation::OnlyLeft => format!("only on {}: {left}", self.left),
            Relation::OnlyRight => format!("only on {}: {right}", self.right),
            Relation::Mixed => format!("{left} on {}, and {right} on {}", self.left, self.right),
        };
        let color = if app.relation == Relation::Same { Color::Plain } else { Color::Notice };
        format!("{}  {}", app.app, color.paint(&console::safe(&says)))
    }
}

async fn side(command: &Command, text: &str) -> Result<Vec<Server>> {
    let chosen = Targets::parse(&[text.to_owned()])?.read(command).await?;
    for chosen in chosen.iter().filter(|chosen| chosen.is_named) {
        fleet::lookup::ensure_known(&command.bucket, &chosen.server).await?;
    }
    Ok(chosen.into_iter().map(|chosen| chosen.server).collect())
}

async fn releases(command: &Command, apps: Vec<AppName>) -> Result<BTreeMap<AppName, AppReleases>> {
    let listed = stream::iter(apps).map(async |app| {
        let releases = command.bucket.releases(&app).try_collect().await;
        let releases: Vec<_> = releases.with_context(|| format!("could not list the releases of `{app}`"))?;
        Ok((app, AppReleases::new(releases)))
    });
    listed.buffer_unordered(AT_ONCE).try_collect().await
}

fn as_json(app: &Compared, releases: &BTreeMap<AppName, AppReleases>) -> Value {
    let side = |side: &[(ReleaseName, usize)]| -> Vec<Value> {
        side.iter().map(|(release, servers)| json!({ "release": release, "servers": servers })).collect()
    };
    let notes: Vec<Value> =
        notes(app, releases.get(&app.app)).map(|it| json!({ "release": it.name, "note": it.note })).collect();
    json!({
        "app": app.app, "relation": app.relation.as_str(), "left": side(&app.left), "right": side(&app.right),
        "notes": notes,
    })
}
