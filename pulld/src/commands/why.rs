//! `pulld why`: why an app is not as the server document says, from what the agent last saw.

use std::{fmt::Write, os::unix::net::UnixStream, process::ExitCode};

use anyhow::Result;
use bucket::{Activity, AppName, AppState, ReleaseName, Status, Timestamp};
use console::{UsageError, cut_lines, nearest, print, print_json, safe};
use serde::Serialize;

use crate::decide::{
    remedy::Remedy,
    report::Cause,
    why::{Causes, Why},
};

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
                  check-failed, new-pulld-failed, interrupted, other-packages-changed or unknown. `cause` has as data what the \
                  sentences say: of what failed `reason` is the sentence, `fault` what went wrong first, and `then` what \
                  did after it, as in its rollback; each is absent where the sentence is all that is known. \
                  `remedy` is what to do, with the names that the commands need.\n\nExit status: 0 the app is as the server \
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
    /// The app.
    app: AppName,
    /// Its state in the report.
    state: AppState,
    /// Whether something keeps it from being as the newest document says.
    blocked: bool,
    /// What kind of cause it is.
    kind: &'static str,
    /// The cause, as data; `null` when it is nothing of the app's own.
    cause: Option<Cause>,
    /// The cause in a sentence.
    says: String,
    /// What speaks for it, each perhaps with lines below it.
    evidence: Vec<String>,
    /// What a person can do about it, in a sentence.
    to_do: String,
    /// The same, as data.
    remedy: Remedy,
    /// The release that the document lists.
    desired: Option<ReleaseName>,
    /// The release that is installed.
    installed: Option<ReleaseName>,
    /// What the agent does with the app right now.
    activity: Option<Activity>,
    /// When the agent saw all that.
    reported: Timestamp,
    /// Whether the agent has yet to compare the app's files, since it started, with what its release brought.
    not_compared: bool,
    /// When it started.
    started: Timestamp,
}

pub(crate) fn run(context: &super::Context, arguments: &Arguments) -> Result<ExitCode> {
    let status: Status = read(&context.paths.status())?;
    let causes: Causes = read(&context.paths.causes())?;
    let Some(why) = causes.why(&arguments.app) else { return Err(unknown(&arguments.app, &causes)) };
    let answer = answer(&why, &status);
    if arguments.json {
        print_json(&answer)?;
    } else {
        print(&show(&answer))?;
    }
    warn_unless_running(&UnixStream::connect(context.paths.socket()));
    Ok(if answer.blocked { ExitCode::from(BLOCKED) } else { ExitCode::SUCCESS })
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

fn answer(why: &Why, status: &Status) -> Answer {
    let app = status.apps.iter().find(|app| app.app == why.app.as_str());
    Answer {
        app: why.app.clone(),
        state: why.state(),
        blocked: why.is_blocked(),
        kind: why.kind(),
        cause: why.cause().cloned(),
        says: why.to_string(),
        evidence: why.evidence().iter().map(ToString::to_string).collect(),
        to_do: why.remedy().to_string(),
        remedy: why.remedy(),
        desired: app.and_then(|app| app.desired.clone()),
        installed: app.and_then(|app| app.installed.clone()),
        activity: app.and_then(|app| app.activity),
        reported: status.written,
        not_compared: status.not_compared.iter().any(|app| *app == why.app.as_str()),
        started: status.agent.started,
    }
}

fn show(answer: &Answer) -> String {
    let Answer { app, state, says, evidence, to_do, desired, installed, activity, reported, .. } = answer;
    let (not_compared, started) = (answer.not_compared, answer.started);
    let mut text = String::new();
    let _ = writeln!(text, "{app}: {}", safe(says));
    for evidence in evidence {
        for line in cut_lines(evidence, MAX_EVIDENCE) {
            let _ = writeln!(text, "  {line}");
        }
    }
    let _ = writeln!(text, "  to do: {}", safe(to_do));
    let activity = activity.map(|activity| format!(", {activity}")).unwrap_or_default();
    let _ = writeln!(text, "  state     {state}{activity}, at {reported:.0}");
    let _ = writeln!(text, "  installed {}", installed.as_ref().map_or("nothing", |release| release.stem()));
    let _ = writeln!(text, "  desired   {}", desired.as_ref().map_or("nothing", |release| release.stem()));
    if not_compared {
        let _ = writeln!(text, "  files     not compared yet since pulld started at {started:.0}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_from_elsewhere_can_begin_a_line() {
        let answer = Answer {
            app: "web".parse().unwrap(),
            state: AppState::Failed,
            blocked: true,
            kind: "unknown",
            cause: None,
            says: "it failed\nweb: converged".into(),
            evidence: vec!["first\n\u{1b}[2Jsecond".into()],
            to_do: "wait".into(),
            remedy: Remedy::Wait,
            desired: None,
            installed: None,
            activity: Some(Activity::Installing),
            reported: Timestamp::UNIX_EPOCH,
            not_compared: true,
            started: Timestamp::UNIX_EPOCH,
        };
        assert_eq!(
            show(&answer),
            "web: it failed\\u{a}web: converged\n  first\n  \\u{1b}[2Jsecond\n  to do: wait\n  state     failed, \
             installing, at 1970-01-01T00:00:00Z\n  installed nothing\n  desired   nothing\n  files     not compared \
             yet since pulld started at 1970-01-01T00:00:00Z\n"
        );
    }
}
