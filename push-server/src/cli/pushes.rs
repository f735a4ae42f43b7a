//! `push pushes` and `push show`: pushes as a whole, whatever their number of servers.

use anyhow::{Context as _, Result};
use bucket::{PushHead, PushId};
use clap::Args;
use console::{Table, cut_lines, print, print_json, print_line, safe};
use fleet::{
    account::{self, Account, Stage, mentions},
    history::{about, word},
};
use serde_json::{Value, json};

use super::command::{Command, ago, cut};

/// List the last pushes, newest first
#[derive(Debug, Args)]
pub(crate) struct Pushes {
    /// Part of an ID, an app, a release, an operator or a reason; default: all pushes
    filter: Option<String>,
    /// Maximum number of pushes
    #[arg(long, default_value_t = 20)]
    limit: usize,
}

/// Pushes that are looked through for those that a filter finds.
const LOOKED_THROUGH: usize = 5000;

impl Pushes {
    pub(crate) async fn run(self, command: &Command) -> Result<bool> {
        let filter = self.filter.as_deref().unwrap_or_default();
        let most = if filter.is_empty() { self.limit } else { LOOKED_THROUGH.max(self.limit) };
        let heads = command.bucket.newest_pushes(most).await.context("could not list the pushes")?;
        let heads: Vec<PushHead> = heads.into_iter().filter(|head| mentions(head, filter)).take(self.limit).collect();
        if command.json {
            print_json(&json!({ "pushes": heads.iter().map(head_as_json).collect::<Vec<_>>() }))?;
            return Ok(true);
        }
        let now = command.now();
        let mut table = Table::new(&["AGE", "PUSH", "BY", "", "TO", "SERVERS", "REASON"]);
        for head in &heads {
            let to = head.to.as_ref().map(|to| to.commit().short().to_owned()).unwrap_or_default();
            let servers = match (head.rows, &head.server) {
                (1, Some(server)) => server.to_string(),
                (rows, _) => rows.to_string(),
            };
            let unwritten = head.unwritten.filter(|unwritten| *unwritten > 0);
            let servers = unwritten.map_or(servers.clone(), |unwritten| format!("{servers}, {unwritten} not written"));
            table.row([
                ago(head.time, now).into(),
                head.id.as_str().into(),
                cut(&head.who, 24),
                cut(word(&head.kind, head.without_waves), 24),
                format!("{} {to}", about(head.app.as_ref())).trim_end().into(),
                servers.into(),
                cut(&head.why, 60),
            ]);
        }
        print(&table.show())?;
        Ok(true)
    }
}

fn head_as_json(head: &PushHead) -> Value {
    json!({
        "id": head.id, "time": head.time, "app": head.app, "kind": head.kind, "of": head.of, "who": head.who,
        "why": head.why, "servers": head.rows, "server": head.server, "to": head.to, "ended": head.unwritten.is_some(),
        "without_waves": head.without_waves,
        "unwritten": head.unwritten,
    })
}

/// Show a push: every server, and what became of it there
#[derive(Debug, Args)]
pub(crate) struct Show {
    /// ID of the push
    id: PushId,
}

impl Show {
    pub(crate) async fn run(self, command: &Command) -> Result<bool> {
        let account = account::read(&command.bucket, &self.id).await?;
        if command.json {
            print_json(&as_json(&account))?;
            return Ok(true);
        }
        let push = &account.push;
        let kind = safe(word(&push.kind, push.without_waves));
        let of = push.of.as_ref().map(|of| format!(" (of push {of})")).unwrap_or_default();
        print_line(format_args!("push {}: {} {kind}{of} by {}", push.id, about(push.app.as_ref()), safe(&push.who)))?;
        for line in cut_lines(&push.why, 3000) {
            print_line(format_args!("  {line}"))?;
        }
        print_line(format_args!("{}: {}", account.stage, account.summary()))?;
        if account.stage == Stage::CutOff {
            let id = &push.id;
            print_line(format_args!(
                "its process is gone: `push continue {id}` writes the rest, `push stop {id}` leaves it"
            ))?;
        }
        let mut table = Table::new(&["SERVER", "FROM → TO", "OUTCOME"]);
        for row in &account.rows {
            let name = |release: &Option<bucket::ReleaseName>| {
                release.as_ref().map_or("(nothing)".to_owned(), |release| release.commit().short().to_owned())
            };
            table.row([
                row.row.server.as_str().into(),
                format!("{} → {}", name(&row.row.from), name(&row.row.to)).into(),
                cut(&row.state.to_string(), 60),
            ]);
        }
        print(&table.show())?;
        Ok(true)
    }
}

fn as_json(account: &Account) -> Value {
    let push = &account.push;
    let rows = account.rows.iter().map(|row| {
        json!({
            "server": row.row.server, "from": row.row.from, "to": row.row.to, "outcome": row.state.to_string(),
            "written": row.written.as_ref().map(|written| written.time),
            "generation": row.written.as_ref().map(|written| written.generation),
        })
    });
    json!({
        "id": push.id, "time": push.time, "app": push.app, "kind": push.kind, "of": push.of, "who": push.who,
        "why": push.why, "without_waves": push.without_waves, "stage": account.stage.to_string(), "summary": account.summary(),
        "rows": rows.collect::<Vec<_>>(),
    })
}
