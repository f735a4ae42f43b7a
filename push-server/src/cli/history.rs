//! `push history`: who pushed what, where and for what reason.

use anyhow::{Context as _, Result};
use bucket::{HistoryEntry, ServerName, Timestamp};
use clap::Args;
use console::{Table, note, print, print_json, safe};
use fleet::{
    history,
    lookup::ensure_server,
    push::{self, Seen},
    rollback::with_told,
    server,
};
use futures_util::{StreamExt, stream};
use serde_json::json;

use super::command::{AT_ONCE, Command, ago, cut};

/// Show pushes: who, where, from which release to which, and the reason; newest first
#[derive(Debug, Args)]
pub(crate) struct History {
    /// Server; default: all servers
    server: Option<ServerName>,
    /// Maximum number of pushes
    #[arg(long, default_value_t = 20)]
    limit: usize,
}

impl History {
    pub(crate) async fn run(self, command: &Command) -> Result<bool> {
        let servers = match &self.server {
            Some(server) => vec![server.clone()],
            None => server::names(&command.bucket).await?,
        };
        let bucket = &command.bucket;
        let read = stream::iter(&servers).map(async |server| {
            let (newest, seen) = tokio::join!(bucket.newest_history(server, self.limit), push::read(bucket, server));
            let newest = newest.with_context(|| format!("could not read the history of `{server}`"))?;
            // A document that can't be read hides no history.
            anyhow::Ok(match seen {
                Ok(Seen { generation: Some(generation), document }) => with_told(newest, server, generation, &document),
                _ => newest,
            })
        });
        let mut read = read.buffered(AT_ONCE);
        let mut pushes: Vec<HistoryEntry> = Vec::new();
        while let Some(some) = read.next().await {
            pushes.extend(some?);
            pushes.sort_by_key(|push| std::cmp::Reverse(push.time));
            pushes.truncate(self.limit);
        }
        drop(read);
        let unrecorded = match &self.server {
            Some(server) if pushes.is_empty() => {
                ensure_server(&command.bucket, server).await?;
                unrecorded(command, server, &pushes).await?
            }
            Some(server) => unrecorded(command, server, &pushes).await?,
            None => None,
        };
        if command.json {
            print_json(&json!({ "pushes": pushes, "unrecorded": unrecorded }))?;
            return Ok(true);
        }
        if let Some(unrecorded) = unrecorded {
            note(format_args!("note: {unrecorded}"));
        }
        print(&table(&pushes, command.now()).show())?;
        Ok(true)
    }
}

/// Says so when what the document says isn't in the history: `push` was interrupted between the two writes, or
/// somebody edited the document.
async fn unrecorded(command: &Command, server: &ServerName, pushes: &[HistoryEntry]) -> Result<Option<String>> {
    let seen = push::read(&command.bucket, server).await?;
    let Some(generation) = seen.generation.map(|seen_as| seen.document.metadata().said_since(seen_as)) else {
        return Ok(None);
    };
    let recorded = pushes.iter().any(|push| push.generation == generation);
    Ok((!recorded).then(|| {
        format!(
            "generation {generation} of the document has no history entry: it was edited by hand, or a push was \
             interrupted"
        )
    }))
}

fn table(pushes: &[HistoryEntry], now: Timestamp) -> Table {
    let mut table = Table::new(&["AGE", "SERVER", "BY", "", "FROM → TO", "REASON"]);
    for push in pushes {
        let commit = |release: &bucket::ReleaseName| release.commit().short().to_owned();
        let from = push.from.as_ref().map_or("(nothing)".to_owned(), commit);
        let to = push.to.as_ref().map_or("(nothing)".to_owned(), commit);
        table.row([
            ago(push.time, now).into(),
            push.server.as_str().into(),
            cut(&push.who, 24),
            safe(history::word(&push.kind, push.without_waves)).into(),
            format!("{} {from} → {to}", history::about(push.app.as_ref())).into(),
            cut(&push.why, 60),
        ]);
    }
    table
}
