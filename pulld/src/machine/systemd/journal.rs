//! What units wrote to the journal, by journalctl(1).
//!
//! A unit's lines are found by its name and their time. journald looks up the invocation when it reads a line: of a
//! process that has ended by then it is that of the unit's next start, or none. The name comes with the stream.

use std::{ffi::OsStr, process::Stdio, time::Duration};

use anyhow::{Context, Result, anyhow, ensure};
use bucket::Timestamp;
use serde::Deserialize;
use serde_json::Value;
use tokio::{
    io::AsyncReadExt,
    process::{Child, Command},
    time::timeout,
};

use crate::failure::ProcessEnd;

use super::super::service_manager::LastWords;

/// Time limit for writing out what is on its way to the journal; on a slow disk it is read without.
const SYNC_TIMEOUT: Duration = Duration::from_secs(5);

/// Time limit for reading.
const READ_TIMEOUT: Duration = Duration::from_secs(5);

/// Messages that are read. systemd itself writes about five at each restart.
const MESSAGES: u32 = 50;

/// Most bytes of journalctl's output that are read. It leaves out messages beyond 4 KiB, and prints up to four characters
/// for a byte.
const MAX_OUTPUT: u64 = 1 << 20;

/// The fields of a message that are read.
const FIELDS: &str = "MESSAGE,EXIT_CODE,EXIT_STATUS,_PID,_SYSTEMD_INVOCATION_ID,INVOCATION_ID";

/// A message as journalctl prints it.
#[derive(Deserialize)]
struct Message {
    #[serde(rename = "MESSAGE", default)]
    text: Value,
    /// Of systemd's own message about the end of a process: `exited`, `killed` or `dumped`.
    #[serde(rename = "EXIT_CODE", default)]
    exit_code: Value,
    /// Of the same: the status or the signal.
    #[serde(rename = "EXIT_STATUS", default)]
    exit_status: Value,
    #[serde(rename = "_PID", default)]
    process: Value,
    /// The invocation of the unit that wrote it, as far as journald knew.
    #[serde(rename = "_SYSTEMD_INVOCATION_ID", default)]
    invocation: Value,
    /// Of systemd's own messages: the invocation of the unit that they are about.
    #[serde(rename = "INVOCATION_ID", default)]
    about: Value,
}

/// What the journal has of a unit since then, except of that invocation; nothing when it can't be read.
pub(super) async fn last_words(unit: &str, since: Timestamp, except: Option<&str>) -> LastWords {
    // A service's last words are on their way while systemd knows already that it ended.
    if let Ok(Err(error)) = timeout(SYNC_TIMEOUT, sync()).await {
        tracing::debug!("could not synchronize the journal: {error:#}");
    }
    let read = timeout(READ_TIMEOUT, read(unit, since, except)).await.unwrap_or_else(|_| Err(anyhow!("timed out")));
    read.unwrap_or_else(|error| {
        tracing::debug!("could not read the journal: {error:#}");
        LastWords::default()
    })
}

async fn sync() -> Result<()> {
    let status = journalctl(["--sync"])?.wait().await?;
    ensure!(status.success(), "`journalctl --sync` failed: {status}");
    Ok(())
}

async fn read(unit: &str, since: Timestamp, except: Option<&str>) -> Result<LastWords> {
    let options = ["--quiet", "--no-pager", "--output=json"].map(str::to_owned).into_iter();
    let options = options.chain([format!("--output-fields={FIELDS}"), format!("--lines={MESSAGES}")]);
    let mut child = journalctl(options.chain(selection(unit, since)))?;
    let mut output = Vec::new();
    let stdout = child.stdout.take().context("journalctl has no output")?;
    stdout.take(MAX_OUTPUT).read_to_end(&mut output).await?;
    Ok(parse(&output, except))
}

/// What a unit's processes wrote, and what systemd wrote about them (systemd.journal-fields(7)).
fn selection(unit: &str, since: Timestamp) -> [String; 5] {
    let since = since.as_microsecond();
    let since = format!("--since=@{}.{:06}", since.div_euclid(1_000_000), since.rem_euclid(1_000_000));
    [since, format!("_SYSTEMD_UNIT={unit}"), "+".to_owned(), format!("UNIT={unit}"), "_PID=1".to_owned()]
}

/// Starts journalctl; dropping it ends it.
fn journalctl(arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Result<Child> {
    let mut command = Command::new("journalctl");
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).kill_on_drop(true);
    command.spawn().context("could not run journalctl")
}

/// Reads the messages that journalctl printed. Those of systemd itself are no lines of the unit.
fn parse(output: &[u8], except: Option<&str>) -> LastWords {
    let mut words = LastWords::default();
    for line in output.split(|byte| *byte == b'\n') {
        let Ok(message) = serde_json::from_slice::<Message>(line) else { continue };
        if except.is_some_and(|except| message.invocation == except || message.about == except) {
            continue;
        }
        if message.process == "1" {
            words.end = end(&message).or(words.end);
        } else if let Some(text) = text(&message.text) {
            words.lines.extend(text.lines().map(str::to_owned));
        }
    }
    words
}

fn end(message: &Message) -> Option<ProcessEnd> {
    let status = message.exit_status.as_str()?.parse().ok()?;
    match message.exit_code.as_str()? {
        "exited" => Some(ProcessEnd::Exited(status)),
        "killed" => Some(ProcessEnd::Killed(status)),
        "dumped" => Some(ProcessEnd::Dumped(status)),
        _ => None,
    }
}

/// A message's text: journalctl prints it as numbers when some of it is no text, and as null when it is too long.
fn text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Array(bytes) => {
            let bytes: Vec<u8> = bytes.iter().filter_map(|byte| u8::try_from(byte.as_u64()?).ok()).collect();
            Some(String::from_utf8_lossy(&bytes).into_owned())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_read_however_journalctl_prints_them() {
        let output = concat!(
            r#"{"__CURSOR":"s=1","MESSAGE":"Started web.service.","_PID":"1"}"#,
            "\n",
            r#"{"MESSAGE":"Main process exited","EXIT_CODE":"exited","EXIT_STATUS":"3","_PID":"1"}"#,
            "\n",
            r#"{"MESSAGE":"starting\n on two lines","_PID":"42"}"#,
            "\n",
            r#"{"MESSAGE":[27,91,50,74,255],"_PID":"42"}"#,
            "\n",
            r#"{"MESSAGE":null,"_PID":"42"}"#,
            "\n",
            r#"{"MESSAGE":"cut off"#
        );
        let words = parse(output.as_bytes(), None);
        assert_eq!(words.lines, ["starting", " on two lines", "\u{1b}[2J\u{fffd}"]);
        assert_eq!(words.end, Some(ProcessEnd::Exited(3)));
        assert_eq!(parse(b"", None), LastWords::default());
    }

    /// As journald has it when a process ended before its line was read: with the invocation of the next start, or none.
    #[test]
    fn the_lines_of_a_process_that_ended_at_once_are_its_units_too() {
        let at = "2026-11-20T20:00:00.000042Z".parse().unwrap();
        assert_eq!(
            selection("web.service", at),
            ["--since=@1795204800.000042", "_SYSTEMD_UNIT=web.service", "+", "UNIT=web.service", "_PID=1"]
        );
        let output = concat!(
            r#"{"MESSAGE":"bye","_PID":"41","_SYSTEMD_INVOCATION_ID":"old"}"#,
            "\n",
            r#"{"MESSAGE":"","EXIT_CODE":"killed","EXIT_STATUS":"15","_PID":"1","INVOCATION_ID":"old"}"#,
            "\n",
            r#"{"MESSAGE":"no such table","_PID":"42"}"#,
            "\n",
            r#"{"MESSAGE":"no such table","_PID":"43","_SYSTEMD_INVOCATION_ID":"third"}"#,
        );
        let words = parse(output.as_bytes(), Some("old"));
        assert_eq!(words, LastWords { lines: vec!["no such table".to_owned(); 2], end: None });
        assert_eq!(parse(output.as_bytes(), None).end, Some(ProcessEnd::Killed(15)));
    }
}
