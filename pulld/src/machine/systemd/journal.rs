//! What units wrote to the journal, by journalctl(1).

use std::{ffi::OsStr, process::Stdio, time::Duration};

use anyhow::{Context, Result, anyhow, ensure};
use serde::Deserialize;
use serde_json::Value;
use tokio::{
    io::AsyncReadExt,
    process::{Child, Command},
    time::timeout,
};

use super::super::{process_end::ProcessEnd, service_manager::LastWords};

/// Time limit for writing out what is on its way to the journal; on a slow disk it is read without.
const SYNC_TIMEOUT: Duration = Duration::from_secs(2);

/// Time limit for reading.
const READ_TIMEOUT: Duration = Duration::from_secs(3);

/// Messages that are read.
const MESSAGES: u32 = 20;

/// Most bytes of journalctl's output that are read. It leaves out what of a message is beyond 4 KiB.
const MAX_OUTPUT: u64 = 256 << 10;

/// The fields of a message that are read.
const FIELDS: &str = "MESSAGE,EXIT_CODE,EXIT_STATUS,_PID";

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
}

/// What the journal has of these invocations of a unit; nothing when it can't be read.
pub(super) async fn last_words(invocations: &[String]) -> LastWords {
    if invocations.is_empty() {
        return LastWords::default();
    }
    // A service's last words are on their way while systemd knows already that it ended.
    if let Ok(Err(error)) = timeout(SYNC_TIMEOUT, sync()).await {
        tracing::debug!("could not synchronize the journal: {error:#}");
    }
    let read = timeout(READ_TIMEOUT, read(invocations)).await.unwrap_or_else(|_| Err(anyhow!("timed out")));
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

async fn read(invocations: &[String]) -> Result<LastWords> {
    let options = ["--quiet", "--no-pager", "--output=json"].map(str::to_owned).into_iter();
    let options = options.chain([format!("--output-fields={FIELDS}"), format!("--lines={MESSAGES}")]);
    let mut child = journalctl(options.chain(matches(invocations)))?;
    let mut output = Vec::new();
    let stdout = child.stdout.take().context("journalctl has no output")?;
    stdout.take(MAX_OUTPUT).read_to_end(&mut output).await?;
    Ok(parse(&output))
}

/// What a unit's processes wrote, and what systemd wrote about them (systemd.journal-fields(7)).
fn matches(invocations: &[String]) -> impl Iterator<Item = String> {
    let own = invocations.iter().map(|invocation| format!("_SYSTEMD_INVOCATION_ID={invocation}"));
    let about = invocations.iter().map(|invocation| format!("INVOCATION_ID={invocation}"));
    own.chain(["+".to_owned()]).chain(about).chain(["_PID=1".to_owned()])
}

/// Starts journalctl; dropping it ends it.
fn journalctl(arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Result<Child> {
    let mut command = Command::new("journalctl");
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).kill_on_drop(true);
    command.spawn().context("could not run journalctl")
}

/// Reads the messages that journalctl printed. Those of systemd itself are no lines of the unit.
fn parse(output: &[u8]) -> LastWords {
    let mut words = LastWords::default();
    for line in output.split(|byte| *byte == b'\n') {
        let Ok(message) = serde_json::from_slice::<Message>(line) else { continue };
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
        let words = parse(output.as_bytes());
        assert_eq!(words.lines, ["starting", " on two lines", "\u{1b}[2J\u{fffd}"]);
        assert_eq!(words.end, Some(ProcessEnd::Exited(3)));
        assert_eq!(parse(b""), LastWords::default());
    }

    #[tokio::test]
    async fn what_never_ran_wrote_nothing() {
        assert_eq!(last_words(&[]).await, LastWords::default());
    }
}
