//! `pulld status`: how this server is, from the agent's last report, and whether the agent is there.

use std::{fmt::Write, os::unix::net::UnixStream, process::ExitCode};

use anyhow::{Context, Result};
use bucket::{AppStatus, Status};

use crate::state::persist;

/// Most bytes of a report that are read.
const LIMIT: u64 = 4 << 20;

/// Arguments of `pulld status`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Exit codes: 0 the agent is there and has reported, 1 it isn't or hasn't.\n\nExamples:\n  pulld status\n  \
                        pulld status --json | jq .state"
)]
pub(crate) struct Arguments {
    /// Print the report as JSON, as it is in the bucket.
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(context: &super::Context, arguments: &Arguments) -> Result<ExitCode> {
    let path = context.paths.status();
    let report = persist::read(&path, LIMIT)?;
    let report = report.with_context(|| format!("there is no report yet: `{}` doesn't exist", path.display()))?;
    let status: Status =
        serde_json::from_slice(&report).with_context(|| format!("`{}` is malformed", path.display()))?;
    let alive = UnixStream::connect(context.paths.socket()).is_ok();
    if arguments.json {
        println!("{}", serde_json::to_string_pretty(&status)?);
    } else {
        print!("{}", super::safe_lines(&show(&status)));
    }
    if !alive {
        eprintln!("pulld: the agent doesn't run: see `systemctl status pulld`");
    }
    Ok(if alive { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn show(status: &Status) -> String {
    let mut text = String::new();
    let _ = writeln!(text, "{}: {} ({})", status.server, word(&status.state), status.summary);
    let _ = writeln!(text, "reported {}, by pulld {}", status.written, status.agent.version);
    for app in &status.apps {
        show_app(&mut text, app);
    }
    for bad in &status.document.bad_entries {
        let _ = writeln!(text, "bad entry `{}`: {}", bad.entry, bad.reason);
    }
    text
}

fn show_app(text: &mut String, app: &AppStatus) {
    let release = app.installed.as_ref().map_or("not installed", |release| release.stem());
    let _ = writeln!(text, "{}: {} since {}", app.app, word(&app.state), app.since);
    let _ = writeln!(text, "  installed {release}");
    if app.desired.is_some() && app.desired != app.installed {
        let _ = writeln!(text, "  desired   {}", app.desired.as_ref().map_or("", |release| release.stem()));
    }
    for line in app.reason.iter().chain(&app.drift) {
        let _ = writeln!(text, "  {line}");
    }
    for unit in &app.units {
        let _ = writeln!(text, "  {} is {} ({})", unit.name, unit.active, unit.sub);
    }
}

/// A state as it is written in the report.
fn word(state: &impl serde::Serialize) -> String {
    serde_json::to_value(state).ok().and_then(|word| Some(word.as_str()?.to_owned())).unwrap_or_default()
}
