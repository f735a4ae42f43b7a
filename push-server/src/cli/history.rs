//! `push history`: who pushed what, where and why.

use anyhow::{Context as _, Result};
use bucket::{HistoryEntry, PushKind, ServerName, Timestamp};
use clap::Args;
use serde_json::json;

use super::{Command, print, print_json, show};
use fleet::{push, server};

/// Shows who pushed what, where, from what to what, why and when; newest first.
#[derive(Debug, Args)]
pub(crate) struct History {
    /// Which server; without one, all of them.
    server: Option<ServerName>,
    /// How many pushes.
    #[arg(long, default_value_t = 20)]
    limit: usize,
}

impl History {
    pub(crate) async fn run(self, command: &Command) -> Result<bool> {
        let servers = match &self.server {
            Some(server) => vec![server.clone()],
            None => server::names(&command.bucket).await?,
        };
        let mut pushes: Vec<HistoryEntry> = Vec::new();
        for server in &servers {
            let newest = command.bucket.newest_history(server, self.limit).await;
            pushes.extend(newest.with_context(|| format!("could not read the history of `{server}`"))?);
            pushes.sort_by_key(|push| std::cmp::Reverse(push.time));
            pushes.truncate(self.limit);
        }
        let unrecorded = match &self.server {
            Some(server) => unrecorded(command, server, &pushes).await?,
            None => None,
        };
        if command.json {
            print_json(&json!({ "pushes": pushes, "unrecorded": unrecorded }))?;
            return Ok(true);
        }
        if let Some(note) = unrecorded {
            eprintln!("note: {note}");
        }
        print(&table(&pushes).show())?;
        Ok(true)
    }
}

/// Says so when the document's last change isn't in the history: `push` died between the two writes, or a person
/// wrote it by hand.
async fn unrecorded(command: &Command, server: &ServerName, pushes: &[HistoryEntry]) -> Result<Option<String>> {
    let Some(generation) = push::read(&command.bucket, server).await?.generation else { return Ok(None) };
    let recorded = pushes.iter().any(|push| push.generation == generation);
    Ok((!recorded).then(|| {
        format!("the document's last change (generation {generation}) is not recorded: it was changed by hand, or a push was cut off")
    }))
}

fn table(pushes: &[HistoryEntry]) -> show::Table {
    let now = Timestamp::now();
    let mut table = show::Table::new(&["AGE", "SERVER", "WHO", "", "FROM → TO", "WHY"]);
    for push in pushes {
        let commit = |release: &bucket::ReleaseName| release.commit().short().to_owned();
        let from = push.from.as_ref().map_or("(nothing)".to_owned(), commit);
        let kind = match push.kind {
            PushKind::Deploy => "deployed",
            PushKind::Rollback => "rolled back",
        };
        table.row(vec![
            show::plain(show::ago(push.time, now)),
            show::plain(push.server.as_str()),
            show::plain(show::cut(&push.who, 24)),
            show::plain(kind),
            show::plain(format!("{} {from} → {}", push.app, commit(&push.to))),
            show::plain(show::cut(&push.why, 60)),
        ]);
    }
    table
}
