//! `pulld why`: why an app is not as the server document says, from what the agent last saw.

use std::{fmt::Write, os::unix::net::UnixStream, process::ExitCode};

use anyhow::Result;
use bucket::{Activity, AppName, ReleaseName, Status, Timestamp};
use console::{UsageError, cut_lines, nearest, print, print_json, safe};
use serde::Serialize;

use crate::decide::why::{Causes, Why};

use super::status::{read, warn_unless_running};

/// Most characters of one piece of evidence that are shown.
const MAX_EVIDENCE: usize = 3000;

/// The exit status when something keeps the app from being as the server document says.
const BLOCKED: u8 = 3;

/// Arguments of `pulld why`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "One cause is printed, the one that has to go first, with what speaks for it and what to do. It is what \
                  the agent last saw; `pulld pull` makes it look again.\n\nThe kind of a cause is a word for programs, which stays as it is: in-place, \
                  planned, drifted, unstable, not-allowed, paused, on-hold, unlisted, document-not-read, dpkg-not-read or \
                  pull-failed; of what failed not-downloaded, not-installable, dpkg-failed, machine-at-fault, unit-failed, \
                  check-failed, new-pulld-failed, interrupted, other-packages-changed or unknown.\n\nExit status: 0 the app is as the server \
                  document says, or the agent is bringing it there; 3 something keeps it from that; 1 error; 2 usage \
                  error, as for an app that is unknown here\n\nExamples:\n  pulld why web\n  pulld why web --json | jq -r \
                  .kind"
)]
pub(crate) struct Arguments {
    /// App to explain
    app: AppName,

    /// Print the answer as JSON
    #[arg(long)]
    json: bool,
}

/// The answer.
#[derive(Debug, Serialize)]
struct Answer {
    #[serde(flatten)]
    why: Why,
    /// The release that the document lists.
    desired: Option<ReleaseName>,
    /// The release that is installed.
    installed: Option<ReleaseName>,
    /// What the agent does with the app right now.
    activity: Option<Activity>,
    /// When the agent saw all that.
    reported: Timestamp,
}

pub(crate) fn run(context: &super::Context, arguments: &Arguments) -> Result<ExitCode> {
    let status: Status = read(&context.paths.status())?;
    let causes: Causes = read(&context.paths.causes())?;
    let Some(why) = causes.why(&arguments.app) else { return Err(unknown(&arguments.app, &causes)) };
    let answer = answer(why, &status);
    if arguments.json {
        print_json(&answer)?;
    } else {
        print(&show(&answer))?;
    }
    warn_unless_running(&UnixStream::connect(context.paths.socket()));
    Ok(if answer.why.blocked { ExitCode::from(BLOCKED) } else { ExitCode::SUCCESS })
}

fn unknown(app: &AppName, causes: &Causes) -> anyhow::Error {
    let error = UsageError::new(format!(
        "nothing is known of `{app}` on this server: the server document does not list it, and it is not installed from \
         a release"
    ));
    let hint = match nearest(app.as_str(), &causes.known()) {
        Some(near) => format!("did you mean `{near}`?"),
        None => format!("`push deploy {app} SERVER -m WHY` deploys it; `pulld status` shows the apps of this server"),
    };
    error.with_hint(hint).into()
}

fn answer(why: Why, status: &Status) -> Answer {
    let app = status.apps.iter().find(|app| app.app == why.app.as_str());
    Answer {
        desired: app.and_then(|app| app.desired.clone()),
        installed: app.and_then(|app| app.installed.clone()),
        activity: app.and_then(|app| app.activity),
        reported: status.written,
        why,
    }
}

fn show(answer: &Answer) -> String {
    let Answer { why, desired, installed, activity, reported } = answer;
    let mut text = String::new();
    let _ = writeln!(text, "{}: {}", why.app, safe(&why.says));
    for evidence in &why.evidence {
        for line in cut_lines(evidence, MAX_EVIDENCE) {
            let _ = writeln!(text, "  {line}");
        }
    }
    let _ = writeln!(text, "  to do: {}", safe(&why.to_do));
    let activity = activity.map(|activity| format!(", {activity}")).unwrap_or_default();
    let _ = writeln!(text, "  state     {}{activity}, at {reported:.0}", why.state);
    let _ = writeln!(text, "  installed {}", installed.as_ref().map_or("nothing", |release| release.stem()));
    let _ = writeln!(text, "  desired   {}", desired.as_ref().map_or("nothing", |release| release.stem()));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_from_elsewhere_can_begin_a_line() {
        let why = Why {
            app: "web".parse().unwrap(),
            state: bucket::AppState::Failed,
            blocked: true,
            kind: "unknown".into(),
            cause: None,
            says: "it failed\nweb: converged".into(),
            evidence: vec!["first\n\u{1b}[2Jsecond".into()],
            to_do: "wait".into(),
        };
        let reported = Timestamp::UNIX_EPOCH;
        let answer = Answer { why, desired: None, installed: None, activity: Some(Activity::Installing), reported };
        assert_eq!(
            show(&answer),
            "web: it failed\\u{a}web: converged\n  first\n  \\u{1b}[2Jsecond\n  to do: wait\n  state     failed, \
             installing, at 1970-01-01T00:00:00Z\n  installed nothing\n  desired   nothing\n"
        );
    }
}
