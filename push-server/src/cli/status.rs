//! `push status`: what servers should run, and what they do run.

use std::pin::pin;

use anyhow::Result;
use bucket::{ReleaseName, Timestamp};
use clap::Args;
use console::{Cell, Color, Table, count, print, print_json, safe};
use fleet::{
    condition::{AppRow, Condition, apps, condition},
    hold::{self, AllHolds},
    lookup::ensure_known,
    plan::overdue,
    server::{self, Reading, Server},
};
use futures_util::{Stream, StreamExt, stream};
use jiff::SignedDuration;
use serde_json::{Value, json};

use super::{
    command::{Command, age, ago, painted},
    targets::{Chosen, Targets},
};
use crate::badge;

/// Servers that are read at the same time.
const AT_ONCE: usize = 16;

/// Most characters of a reason that are shown.
const MAX_REASON: usize = 3000;

/// Show desired and reported releases for each server
#[derive(Debug, Args)]
#[command(after_help = "Exit status:
  0  the state was read, whatever it is
  1  the state could not be read
  2  usage error")]
pub(crate) struct StatusArguments {
    /// Servers: by name, or all that a filter matches (`group:prod`, `app:web state:failed`); `-` reads them from stdin.
    /// One that is named alone is shown in full; default: all servers, one line each
    #[arg(value_name = "SERVER|FILTER")]
    servers: Vec<String>,
}

impl StatusArguments {
    pub(crate) async fn run(self, command: &Command) -> Result<bool> {
        if self.servers.is_empty() {
            return all(command).await;
        }
        let chosen = Targets::parse(&self.servers)?.read(command).await?;
        if let [Chosen { server, is_named: true }] = chosen.as_slice() {
            return one(command, server).await;
        }
        for chosen in chosen.iter().filter(|chosen| chosen.is_named) {
            ensure_known(&command.bucket, &chosen.server).await?;
        }
        show(command, stream::iter(chosen).map(|chosen| chosen.server)).await
    }
}

async fn one(command: &Command, server: &Server) -> Result<bool> {
    ensure_known(&command.bucket, server).await?;
    let holds = hold::all(&command.bucket, &AllHolds::new()).await?;
    if command.json {
        print_json(&as_json(server, &holds, command.now()))?;
    } else {
        print(&in_full(server, &holds, command.now()))?;
    }
    Ok(server.errors().next().is_none())
}

async fn all(command: &Command) -> Result<bool> {
    let listed = server::listed(&command.bucket).await?;
    let read = |(name, written)| async move { server::read_listed(&command.bucket, &name, written).await };
    let servers = stream::iter(listed).map(read).buffered(AT_ONCE);
    show(command, servers).await
}

/// A line for each server.
async fn show(command: &Command, servers: impl Stream<Item = Server>) -> Result<bool> {
    let now = command.now();
    let holds = hold::all(&command.bucket, &AllHolds::new()).await?;
    let mut readable = true;
    let mut table = Table::new(&["SERVER", "STATE", "REPORTED", "APPS"]);
    let mut list: Vec<Value> = Vec::new();
    let mut servers = pin!(servers);
    while let Some(server) = servers.next().await {
        readable &= server.errors().next().is_none();
        if command.json {
            list.push(as_json(&server, &holds, now));
        } else {
            table.row(line(&server, &holds, now));
        }
    }
    if command.json {
        print_json(&json!({ "servers": list }))?;
    } else {
        print(&table.show())?;
    }
    Ok(readable)
}

fn line(server: &Server, holds: &AllHolds, now: Timestamp) -> [Cell; 4] {
    let (mut state, color) = state_of(server, now);
    if let Some(held) = holds.get(&server.name).and_then(|(_, holds)| hold::in_short(holds, now)) {
        state = format!("{state}, {held}");
    }
    let reported = server.status().map_or("never".to_owned(), |status| ago(status.written, now));
    let commit = |release: Option<&ReleaseName>| release.map_or("-", |release| release.commit().short()).to_owned();
    let apps: Vec<String> = apps(server)
        .iter()
        .map(|row| {
            let (desired, installed) = (commit(row.desired), commit(row.installed));
            let app = console::cut(row.app, 40);
            if desired == installed || row.desired.is_none() {
                format!("{app} {installed}")
            } else {
                format!("{app} {installed} (desired {desired})")
            }
        })
        .collect();
    [server.name.as_str().into(), Cell::new(state, color), reported.into(), apps.join(", ").into()]
}

/// How a server is; of one that is not reporting, for how long.
fn state_of(server: &Server, now: Timestamp) -> (String, Color) {
    let condition = condition(server, now);
    let (text, color) = painted(badge::of_server(condition));
    match server.status().and_then(|status| overdue(status, now)) {
        Some(elapsed) if condition == Condition::Silent => (format!("{text} for {}", console::age(elapsed)), color),
        _ => (text, color),
    }
}

/// The holds that are in force on a server, in words, and what a trial left over there; that they can't be read is one.
fn holds_in_words(server: &Server, holds: &AllHolds, now: Timestamp) -> impl Iterator<Item = String> {
    let found = holds.get(&server.name).map(|(_, holds)| holds);
    let error = found
        .and_then(|holds| holds.error())
        .map(|error| format!("on hold, as far as that can be read: {}", safe(error)));
    let known = found.and_then(|holds| holds.known());
    known
        .into_iter()
        .flat_map(move |holds| holds.in_force(None, now))
        .map(move |hold| hold::in_words(hold, now))
        .chain(left_over(server, holds, now))
        .chain(error)
}

/// What trials left over on a server, in words.
fn left_over(server: &Server, holds: &AllHolds, now: Timestamp) -> Vec<String> {
    holds.get(&server.name).map(|(_, holds)| hold::left_over(holds, server, now)).unwrap_or_default()
}

fn in_full(server: &Server, holds: &AllHolds, now: Timestamp) -> String {
    let (state, color) = state_of(server, now);
    let mut lines = vec![format!("{}  {}", server.name, color.paint(&state))];
    lines.extend(holds_in_words(server, holds, now).map(|hold| format!("  {hold}")));
    match &server.status {
        Reading::Known(status) => {
            let poll = i64::try_from(status.agent.poll_seconds).unwrap_or(i64::MAX);
            lines.push(format!(
                "  agent {}, reported {}, polls every {}",
                console::cut(&status.agent.version, 40),
                ago(status.written, now),
                console::age(SignedDuration::from_secs(poll))
            ));
            lines.extend(status.document.error.iter().map(|error| format!("  document: {}", safe(error))));
            let bad = status.document.bad_entries.iter();
            lines.extend(bad.map(|bad| format!("  bad entry {}: {}", safe(&bad.entry), safe(&bad.reason))));
            let more = status.document.bad_count() - status.document.bad_entries.len();
            lines.extend((more > 0).then(|| format!("  and {}", count(more, "more bad entry"))));
            lines.extend(status.warnings.iter().map(|warning| format!("  warning: {}", safe(warning))));
            let events = status.events.iter();
            lines.extend(events.map(|event| format!("  event {}: {}", ago(event.at, now), safe(&event.text))));
        }
        Reading::Absent => lines.push("  the agent has never reported".to_owned()),
        Reading::Unreadable(_) => {}
    }
    lines.extend(server.errors().map(|error| format!("  {}", safe(error))));
    if server.document == Reading::Absent {
        lines.push("  the server has no document yet".to_owned());
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
    let (state, color) = painted(badge::of_app(row.state));
    // What the agent reported about another release says nothing about this one.
    let ours = row.reported.filter(|app| app.desired.as_ref() == row.desired);
    let lasting = ours.map(|app| format!(" for {}", age(app.since, now))).unwrap_or_default();
    let doing = ours.and_then(|app| Some((app.activity?, app.activity_since)));
    let activity = doing
        .map(|(activity, since)| match since {
            Some(since) => format!(", {activity} for {}", age(since, now)),
            None => format!(", {activity}"),
        })
        .unwrap_or_default();
    let mut lines = vec![format!("{}  {}{lasting}{activity}", console::cut(row.app, 100), color.paint(&state))];
    lines.push(format!("  desired    {}", stem(row.desired)));
    lines.push(format!("  installed  {}", stem(row.installed)));
    let Some(app) = row.reported else { return lines };
    for (n, line) in app.reason.iter().flat_map(|reason| console::cut_lines(reason, MAX_REASON)).enumerate() {
        lines.push(format!("  {:<9}  {line}", if n == 0 { "reason" } else { "" }));
    }
    for unit in &app.units {
        let restarts = usize::try_from(unit.restarts).unwrap_or(usize::MAX);
        let restarts = if restarts > 0 { format!(", restarted {}", count(restarts, "time")) } else { String::new() };
        let lasting = unit.since.map(|since| format!(" for {}", age(since, now))).unwrap_or_default();
        let (name, active, sub) = (safe(&unit.name), safe(&unit.active), safe(&unit.sub));
        lines.push(format!("  unit       {name} {active} ({sub}){lasting}{restarts}"));
    }
    lines.extend(app.drift.iter().map(|drift| format!("  drift      {}", console::cut(drift, 500))));
    lines
}

fn as_json(server: &Server, holds: &AllHolds, now: Timestamp) -> Value {
    let document = server.document.known().map(|(generation, document)| {
        let releases: Vec<_> = document.releases().collect();
        let bad: Vec<_> =
            document.bad_entries().map(|(entry, reason)| json!({ "entry": entry, "reason": reason })).collect();
        json!({ "generation": generation, "releases": releases, "bad_entries": bad })
    });
    let errors: Vec<_> = server.errors().collect();
    let found = holds.get(&server.name).and_then(|(_, holds)| holds.known());
    let held: Vec<_> = found.into_iter().flat_map(|holds| holds.in_force(None, now)).collect();
    json!({
        "server": server.name, "document": document, "status": server.status(), "errors": errors, "holds": held,
        "left_over": left_over(server, holds, now),
    })
}
