//! `push status`: what servers should run, and what they do run.

use anyhow::{Result, bail};
use bucket::{AppState, AppStatus, ReleaseName, ServerName, ServerState, Status, Timestamp};
use clap::Args;
use serde_json::{Value, json};

use super::{
    Command, print, print_json,
    show::{self, Colour, Table, plain},
};
use crate::{fleet, fleet::Server, plan::silence};

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
    let server = fleet::server(&command.bucket, name).await;
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
    for name in fleet::names(&command.bucket).await? {
        let server = fleet::server(&command.bucket, &name).await;
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
    let apps: Vec<String> = releases(server)
        .iter()
        .map(|row| {
            let commit =
                |release: Option<&ReleaseName>| release.map_or("-", |release| release.commit().short()).to_owned();
            let (desired, installed) = (commit(row.desired.as_ref()), commit(row.installed.as_ref()));
            let app = show::cut(&row.app, 40);
            if desired == installed || row.desired.is_none() {
                format!("{app} {installed}")
            } else {
                format!("{app} {installed} (wants {desired})")
            }
        })
        .collect();
    vec![plain(server.name.as_str()), (state, colour), plain(reported), plain(apps.join(", "))]
}

/// How a server is, from its document and what its agent said of it.
fn state_of(server: &Server, now: Timestamp) -> (String, Colour) {
    if server.document_error.is_some() || server.status_error.is_some() {
        return ("! unreadable".to_owned(), Colour::Bad);
    }
    let Some(status) = &server.status else { return ("? never seen".to_owned(), Colour::Notice) };
    if let Some(silence) = silence(status, now) {
        return (format!("? silent for {silence}"), Colour::Bad);
    }
    if is_behind(server, status) && matches!(status.state, ServerState::Converged | ServerState::Drifted) {
        return ("… not seen yet".to_owned(), Colour::Notice);
    }
    let (word, colour) = show::server_state(status.state);
    (word.to_owned(), colour)
}

/// Whether the agent's report is about an older document than the one there is.
fn is_behind(server: &Server, status: &Status) -> bool {
    server.document.as_ref().is_some_and(|(generation, _)| status.document.generation < Some(*generation))
}

struct Row {
    app: String,
    desired: Option<ReleaseName>,
    installed: Option<ReleaseName>,
    reported: Option<AppStatus>,
}

/// Every app that the document names (the document as it is now) or that the agent reports.
fn releases(server: &Server) -> Vec<Row> {
    let reported =
        |app: &str| server.status.iter().flat_map(|status| &status.apps).find(|found| found.app == app).cloned();
    let desired = server.document.iter().flat_map(|(_, document)| document.releases());
    let mut rows: Vec<Row> = desired
        .map(|release| {
            let reported = reported(release.app().as_str());
            let installed = reported.as_ref().and_then(|app| app.installed.clone());
            Row { app: release.app().to_string(), desired: Some(release.clone()), installed, reported }
        })
        .collect();
    for app in server.status.iter().flat_map(|status| &status.apps) {
        if !rows.iter().any(|row| row.app == app.app) {
            rows.push(Row {
                app: app.app.clone(),
                desired: None,
                installed: app.installed.clone(),
                reported: Some(app.clone()),
            });
        }
    }
    rows
}

fn in_full(server: &Server, now: Timestamp) -> String {
    let (state, colour) = state_of(server, now);
    let mut lines = vec![format!("{}  {}", server.name, colour.paint(&state))];
    match &server.status {
        Some(status) => {
            let poll = crate::plan::age_in_words(i64::try_from(status.agent.poll_seconds).unwrap_or(i64::MAX));
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
    for row in releases(server) {
        lines.push(String::new());
        lines.extend(app_in_full(&row, now));
    }
    lines.join("\n") + "\n"
}

fn app_in_full(row: &Row, now: Timestamp) -> Vec<String> {
    let stem =
        |release: Option<&ReleaseName>| release.map_or("(nothing)".to_owned(), |release| release.stem().to_owned());
    let state = row.reported.as_ref().map_or(AppState::Pending, |app| app.state);
    let outdated = row.reported.as_ref().is_some_and(|app| app.desired != row.desired);
    let (word, colour) = if outdated { ("… not seen yet", Colour::Notice) } else { show::app_state(state) };
    let since =
        row.reported.as_ref().map(|app| format!(" since {}", show::ago(app.since, now).trim_end_matches(" ago")));
    let mut lines = vec![format!(
        "{}  {}{}",
        show::cut(&row.app, 100),
        colour.paint(word),
        since.filter(|_| !outdated).unwrap_or_default()
    )];
    lines.push(format!("  desired    {}", stem(row.desired.as_ref())));
    lines.push(format!("  installed  {}", stem(row.installed.as_ref())));
    let Some(app) = &row.reported else { return lines };
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
