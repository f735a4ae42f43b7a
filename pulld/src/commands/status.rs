//! `pulld status`: the state of this server from the agent's last report, and whether the agent is running.

use std::{fmt::Write, io::ErrorKind, os::unix::net::UnixStream, path::Path, process::ExitCode};

use anyhow::{Context, Result};
use bucket::{AppStatus, Status, Timestamp, ToldHold};
use console::{count, cut_lines, print, print_json, safe, safe_lines, warning};
use serde::de::DeserializeOwned;

use crate::state::{persist, rescue::Rescue};

/// Maximum bytes of a report that are read.
const LIMIT: u64 = 16 << 20;

/// Most characters of a reason that are shown.
const MAX_REASON: usize = 3000;

/// Arguments of `pulld status`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Exit status: 0 the agent is running and has reported; 1 otherwise\n\nExamples:\n  pulld status\n  \
                        pulld status --json | jq .state"
)]
pub(crate) struct Arguments {
    /// Print the report as JSON, as in the bucket
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(context: &super::Context, arguments: &Arguments) -> Result<ExitCode> {
    let mut status: Status = read(&context.paths.status())?;
    // A new pulld that hangs reports nothing.
    let unable = Rescue::new(context.paths.rescue()).unable();
    status.warnings.extend(unable.filter(|unable| !status.warnings.contains(unable)));
    let connected = UnixStream::connect(context.paths.socket());
    if arguments.json {
        print_json(&status)?;
    } else {
        print(&safe_lines(&show(&status, Timestamp::now())))?;
    }
    let is_running = warn_unless_running(&connected);
    Ok(if is_running { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Whether the agent takes connections; says so if it does not.
pub(super) fn warn_unless_running(connected: &std::io::Result<UnixStream>) -> bool {
    match connected {
        Ok(_) => return true,
        Err(error) if error.kind() == ErrorKind::PermissionDenied => {
            warning("whether the agent is running is unknown, because only root may ask it: use `sudo pulld status`");
        }
        Err(_) => warning("the agent is not running: see `systemctl status pulld`"),
    }
    false
}

/// What the agent has written for people on this machine.
pub(super) fn read<T: DeserializeOwned>(path: &Path) -> Result<T> {
    let report = persist::read(path, LIMIT)?;
    let report = report.with_context(|| format!("no status report yet: `{}` does not exist", path.display()))?;
    serde_json::from_slice(&report).with_context(|| format!("could not parse `{}`", path.display()))
}

/// The report for people. Each value from elsewhere is made safe here already, so that none can begin a line.
fn show(status: &Status, now: Timestamp) -> String {
    let mut text = String::new();
    let _ = writeln!(text, "{}: {} ({})", status.server, status.state, safe(&status.summary));
    let _ = writeln!(text, "reported {:.0}, by pulld {}", status.written, safe(&status.agent.version));
    for hold in status.holds.iter().filter(|hold| hold.until > now) {
        show_hold(&mut text, hold);
    }
    for app in &status.apps {
        show_app(&mut text, app);
    }
    for bad in &status.document.bad_entries {
        let _ = writeln!(text, "invalid document entry `{}`: {}", safe(&bad.entry), safe(&bad.reason));
    }
    let more = status.document.bad_count() - status.document.bad_entries.len();
    if more > 0 {
        let _ = writeln!(text, "and {}", count(more, "more invalid entry"));
    }
    if !status.not_compared.is_empty() {
        let (apps, started) = (count(status.not_compared.len(), "app"), status.agent.started);
        let _ = writeln!(text, "the files of {apps} have not been compared yet since pulld started at {started:.0}");
    }
    for event in &status.events {
        let _ = writeln!(text, "event at {:.0}: {}", event.at, safe(&event.text));
    }
    for warning in &status.warnings {
        let _ = writeln!(text, "warning: {}", safe(warning));
    }
    text
}

/// What a hold means for who is on this machine: the agent goes on.
fn show_hold(text: &mut String, hold: &ToldHold) {
    let what = hold.app.as_ref().map_or("to this server".to_owned(), |app| format!("`{app}`"));
    let why = if hold.why.is_empty() { String::new() } else { format!(": {}", safe(&hold.why)) };
    let (by, until) = (safe(&hold.by), hold.until);
    let _ = writeln!(text, "on hold: only {by} pushes {what} until {until:.0}{why}");
}

fn show_app(text: &mut String, app: &AppStatus) {
    let release = app.installed.as_ref().map_or("not installed", |release| release.stem());
    let lasting = app.activity_since.map(|since| format!(" since {since:.0}")).unwrap_or_default();
    let activity = app.activity.map(|activity| format!(" ({activity}{lasting})")).unwrap_or_default();
    let _ = writeln!(text, "{}: {}{activity} since {:.0}", safe(&app.app), app.state, app.since);
    let _ = writeln!(text, "  installed {release}");
    if app.desired.is_some() && app.desired != app.installed {
        let _ = writeln!(text, "  desired   {}", app.desired.as_ref().map_or("", |release| release.stem()));
    }
    let reason = app.reason.as_deref().map(|reason| cut_lines(reason, MAX_REASON).join("\n    "));
    for line in reason.into_iter().chain(app.drift.iter().map(|line| safe(line))) {
        let _ = writeln!(text, "  {line}");
    }
    for unit in &app.units {
        let _ = writeln!(text, "  {} is {} ({})", safe(&unit.name), safe(&unit.active), safe(&unit.sub));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_agent_does_stands_beside_the_state() {
        let app: AppStatus = serde_json::from_value(serde_json::json!({
            "app": "web", "desired": null, "installed": null, "package": null, "state": "pending",
            "activity": "installing", "activity_since": "2026-11-20T19:07:09Z",
            "since": "2026-11-20T19:05:02.715402421Z", "reason": null
        }))
        .unwrap();
        let mut text = String::new();
        show_app(&mut text, &app);
        let expected = "web: pending (installing since 2026-11-20T19:07:09Z) since 2026-11-20T19:05:02Z\n";
        assert!(text.starts_with(expected), "{text}");
        // An earlier agent says what it does, and not since when.
        text.clear();
        show_app(&mut text, &AppStatus { activity_since: None, ..app });
        assert!(text.starts_with("web: pending (installing) since 2026-11-20T19:05:02Z\n"), "{text}");
    }

    #[test]
    fn a_hold_is_shown_until_it_ends() {
        let status: Status = serde_json::from_value(serde_json::json!({
            "server": "web-1", "machine": "m", "written": "2026-11-20T19:05:02Z", "state": "converged", "summary": "",
            "agent": {"version": "1", "started": "2026-11-20T19:05:02Z", "poll_seconds": 300, "heartbeat_seconds": 900},
            "document": {"generation": 1, "error": null},
            "apps": [],
            "holds": [
                {"app": "web", "by": "dev@laptop", "why": "debugging\nweb: converged", "until": "2026-11-20T21:05:02.7Z"},
                {"by": "ops", "why": "", "until": "2026-11-20T20:05:02Z"}
            ]
        }))
        .unwrap();
        let shown = show(&status, status.written);
        let web = "on hold: only dev@laptop pushes `web` until 2026-11-20T21:05:02Z: debugging\\u{a}web: converged\n";
        assert!(shown.contains(web), "{shown}");
        assert!(shown.contains("on hold: only ops pushes to this server until 2026-11-20T20:05:02Z\n"), "{shown}");
        let later = show(&status, "2026-11-20T20:05:02Z".parse().unwrap());
        assert!(later.contains("dev@laptop") && !later.contains("ops"), "{later}");
        assert!(!show(&status, "2026-11-20T21:05:03Z".parse().unwrap()).contains("on hold"));
    }

    #[test]
    fn how_many_apps_were_not_compared_yet_is_said_in_a_line() {
        let mut status: Status = serde_json::from_value(serde_json::json!({
            "server": "web-1", "machine": "m", "written": "2026-11-20T19:05:02Z", "state": "converged", "summary": "",
            "agent": {"version": "1", "started": "2026-11-20T19:05:01Z", "poll_seconds": 300, "heartbeat_seconds": 900},
            "document": {"generation": 1, "error": null}, "apps": [], "not_compared": ["db", "web"]
        }))
        .unwrap();
        let said = "the files of 2 apps have not been compared yet since pulld started at 2026-11-20T19:05:01Z\n";
        assert!(show(&status, status.written).ends_with(said));
        status.not_compared.clear();
        assert!(!show(&status, status.written).contains("compared"));
    }

    #[test]
    fn foreign_text_neither_drives_the_terminal_nor_hides_nor_begins_a_line() {
        let status: Status = serde_json::from_value(serde_json::json!({
            "server": "web-1", "machine": "m", "written": "2026-11-20T19:05:02Z", "state": "failed",
            "summary": "a\u{202e}b\u{200b}\u{1b}[2J",
            "agent": {"version": "1", "started": "2026-11-20T19:05:02Z", "poll_seconds": 300, "heartbeat_seconds": 900},
            "document": {"generation": 1, "error": null, "bad_entries": [{"entry": "x\ny: converged", "reason": "r"}]},
            "apps": []
        }))
        .unwrap();
        let shown = safe_lines(&show(&status, status.written));
        assert!(shown.contains(r"a\u{202e}b\u{200b}\u{1b}[2J"), "{shown}");
        assert_eq!(shown.lines().count(), 3, "{shown}");
    }
}
