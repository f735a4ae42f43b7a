//! `push status`: what servers should run, and what they do run.

use anyhow::{Result, bail};
use bucket::{ReleaseName, ServerName, Timestamp};
use clap::Args;
use futures_util::{StreamExt, stream};
use serde_json::{Value, json};

use super::{
    Command, print, print_json,
    show::{self, Colour, Table, plain},
};
use fleet::{
    condition::{AppRow, Condition, app_look, apps, condition},
    plan::silence,
    server,
    server::Server,
};

/// Servers that are read at the same time.
const AT_ONCE: usize = 16;

/// Shows what servers should run against what their agents last reported.
#[derive(Debug, Args)]
#[command(after_help = "Exit status: 0 when it could be read, however the servers are; 1 when it couldn't.")]
pub(crate) struct StatusArguments {
    /// Which server; without one, all of them, a line each.
    server: Option<ServerName>,
}

impl StatusArguments {
    pub(crate) async fn run(self, command: &Command) -> Result<bool> {
        match &self.server {
            Some(name) => one(command, name).await,
            None => all(command).await,
        }
    }
}

async fn one(command: &Command, name: &ServerName) -> Result<bool> {
    let server = server::read(&command.bucket, name).await;
    let readable = server.document_error.is_none() && server.status_error.is_none();
    if readable && server.document.is_none() && server.status.is_none() {
        bail!("there is no server `{name}`; `push status` lists them");
    }
    if command.json {
        print_json(&as_json(&server))?;
    } else {
        print(&in_full(&server, Timestamp::now()))?;
    }
    Ok(readable)
}

async fn all(command: &Command) -> Result<bool> {
    let now = Timestamp::now();
    let mut readable = true;
    let mut table = Table::new(&["SERVER", "STATE", "REPORTED", "APPS"]);
    let mut list: Vec<Value> = Vec::new();
    let names = server::names(&command.bucket).await?;
    let mut servers = stream::iter(&names).map(|name| server::read(&command.bucket, name)).buffered(AT_ONCE);
    while let Some(server) = servers.next().await {
        readable &= server.document_error.is_none() && server.status_error.is_none();
        if command.json {
            list.push(as_json(&server));
        } else {
            table.row(line(&server, now));
        }
    }
    if command.json {
        print_json(&json!({ "servers": list }))?;
    } else {
        print(&table.show())?;
    }
    Ok(readable)
}

fn line(server: &Server, now: Timestamp) -> Vec<(String, Colour)> {
    let (state, colour) = state_of(server, now);
    let reported = server.status.as_ref().map_or("never".to_owned(), |status| show::ago(status.written, now));
    let commit = |release: Option<&ReleaseName>| release.map_or("-", |release| release.commit().short()).to_owned();
    let apps: Vec<String> = apps(server)
        .iter()
        .map(|row| {
            let (desired, installed) = (commit(row.desired), commit(row.installed));
            let app = show::cut(row.app, 40);
            if desired == installed || row.desired.is_none() {
                format!("{app} {installed}")
            } else {
                format!("{app} {installed} (wants {desired})")
            }
        })
        .collect();
    vec![plain(server.name.as_str()), (state, colour), plain(reported), plain(apps.join(", "))]
}

/// How a server is; of one that is silent, for how long.
fn state_of(server: &Server, now: Timestamp) -> (String, Colour) {
    let condition = condition(server, now);
    let (words, colour) = show::look(condition.look());
    match server.status.as_ref().and_then(|status| silence(status, now)) {
        Some(silence) if condition == Condition::Silent => (format!("{words} for {silence}"), colour),
        _ => (words, colour),
    }
}

fn in_full(server: &Server, now: Timestamp) -> String {
    let (state, colour) = state_of(server, now);
    let mut lines = vec![format!("{}  {}", server.name, colour.paint(&state))];
    match &server.status {
        Some(status) => {
            let poll = fleet::plan::age_in_words(i64::try_from(status.agent.poll_seconds).unwrap_or(i64::MAX));
            lines.push(format!(
                "  agent {}, reported {}, polls every {poll}",
                show::cut(&status.agent.version, 40),
                show::ago(status.written, now)
            ));
            lines.extend(status.document.error.iter().map(|error| format!("  document: {}", show::safe(error))));
            let bad = status.document.bad_entries.iter();
            lines.extend(bad.map(|bad| format!("  bad entry {}: {}", show::safe(&bad.entry), show::safe(&bad.reason))));
        }
        None => lines.push("  its agent has never reported".to_owned()),
    }
    lines.extend(server.document_error.iter().map(|error| format!("  {}", show::safe(error))));
    lines.extend(server.status_error.iter().map(|error| format!("  {}", show::safe(error))));
    if server.document.is_none() && server.document_error.is_none() {
        lines.push("  it has no document yet".to_owned());
    }
    for row in apps(server) {
        lines.push(String::new());
        lines.extend(app_in_full(&row, now));
    }
    lines.join("\n") + "\n"
}

fn app_in_full(row: &AppRow, now: Timestamp) -> Vec<String> {
    let stem =
        |release: Option<&ReleaseName>| release.map_or("(nothing)".to_owned(), |release| release.stem().to_owned());
    let (words, colour) = show::look(app_look(row.state));
    // What the agent said of another release says nothing of this one.
    let told = row.reported.filter(|app| app.desired.as_ref() == row.desired);
    let since = told.map(|app| format!(" since {}", show::ago(app.since, now).trim_end_matches(" ago")));
    let mut lines = vec![format!("{}  {}{}", show::cut(row.app, 100), colour.paint(&words), since.unwrap_or_default())];
    lines.push(format!("  desired    {}", stem(row.desired)));
    lines.push(format!("  installed  {}", stem(row.installed)));
    let Some(app) = row.reported else { return lines };
    lines.extend(app.reason.iter().map(|reason| format!("  why        {}", show::cut(reason, 500))));
    for unit in &app.units {
        let restarts = if unit.restarts > 0 { format!(", restarted {} times", unit.restarts) } else { String::new() };
        let since = unit
            .since
            .map(|since| format!(" since {}", show::ago(since, now).trim_end_matches(" ago")))
            .unwrap_or_default();
        let (name, active, sub) = (show::safe(&unit.name), show::safe(&unit.active), show::safe(&unit.sub));
        lines.push(format!("  unit       {name} {active} ({sub}){since}{restarts}"));
    }
    lines.extend(app.drift.iter().map(|drift| format!("  drift      {}", show::cut(drift, 500))));
    lines
}

fn as_json(server: &Server) -> Value {
    let document = server.document.as_ref().map(|(generation, document)| {
        let releases: Vec<_> = document.releases().collect();
        let bad: Vec<_> =
            document.bad_entries().map(|(entry, reason)| json!({ "entry": entry, "reason": reason })).collect();
        json!({ "generation": generation, "releases": releases, "bad_entries": bad })
    });
    let errors: Vec<_> = [&server.document_error, &server.status_error].into_iter().flatten().collect();
    json!({ "server": server.name, "document": document, "status": server.status, "errors": errors })
}
