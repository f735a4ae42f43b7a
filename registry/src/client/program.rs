//! The programs that know credentials, `docker-credential-NAME`: each is asked once for a registry.

use std::{collections::BTreeMap, fmt, process::Stdio, time::Duration};

use rustix::process::{Pid, Signal, kill_process_group};
use serde::Deserialize;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    process::Command,
    sync::Mutex,
    time::Instant,
};

use super::failure::{Longer, shown};
use crate::Host;

/// Most bytes that a program answers with.
const MAX: u64 = 1 << 20;

/// The longest that a program may take: it may ask a person for a key.
const PATIENCE: Duration = Duration::from_secs(30);

/// How old an answer must be to be asked for again once a registry refuses it: some programs give tokens that expire.
const OLD: Duration = Duration::from_mins(1);

/// What is called a token in place of a user.
const TOKEN_USER: &str = "<token>";

/// A user and their password. It is never shown.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Login {
    pub(super) user: String,
    pub(super) password: String,
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Login(…)")
    }
}

/// As a program answers it.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Answered {
    username: String,
    secret: String,
}

/// What programs said of one registry, by their names, and when.
#[derive(Default)]
pub(super) struct Answers(Mutex<BTreeMap<String, (Instant, Answer)>>);

/// What one said: a login, none, or why it failed.
type Answer = Result<Option<Login>, String>;

impl Answers {
    /// What a program says of a registry. Whoever wants it while it is asked waits for the same answer.
    pub(super) async fn of(&self, name: &str, host: &Host) -> Answer {
        // Its limit is its own, not that of the request that needs it.
        let longer = Longer::by(PATIENCE);
        let begun = Instant::now();
        let mut answers = self.0.lock().await;
        // Who failed is asked again after a while.
        let holds = |(at, answer): &&(Instant, Answer)| answer.is_ok() || at.elapsed() < OLD;
        let answer = if let Some((_, answer)) = answers.get(name).filter(holds) {
            answer.clone()
        } else {
            let answer = ask(name, host).await;
            answers.insert(name.to_owned(), (Instant::now(), answer.clone()));
            answer
        };
        longer.taken(begun.elapsed());
        answer
    }

    /// Forgets what is old, because the registry refuses it.
    pub(super) async fn refused(&self) {
        self.0.lock().await.retain(|_, (asked, _)| asked.elapsed() < OLD);
    }
}

/// Ends all that a program started, when it is dropped.
struct Group(Option<Pid>);

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(group) = self.0 {
            // All of it may have ended.
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}

/// Asks `docker-credential-NAME`, as Docker does: the registry's name in, JSON out. No shell, and nothing in an argument.
async fn ask(name: &str, host: &Host) -> Answer {
    if name.is_empty() || !name.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c)) {
        return Err(format!("`{}` is no name of a program", shown(name)));
    }
    answered(&format!("docker-credential-{name}"), host, PATIENCE).await
}

/// What a program says of a registry, if it does within so long; else nothing of what it started goes on.
async fn answered(program: &str, host: &Host, patience: Duration) -> Answer {
    let server = if host.as_str() == "docker.io" { "https://index.docker.io/v1/" } else { host.as_str() };
    let talk = async {
        let mut command = Command::new(program);
        command.arg("get").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        command.process_group(0).kill_on_drop(true);
        let mut child = command.spawn().map_err(|error| format!("could not run `{program}`: {error}"))?;
        // It is dropped before the child is waited for, so that the group is still this one.
        let mut group = Group(child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw));
        if let Some(mut stdin) = child.stdin.take() {
            // One that doesn't read is free not to.
            let _ = stdin.write_all(format!("{server}\n").as_bytes()).await;
        }
        let mut answer = Vec::new();
        if let Some(stdout) = child.stdout.take() {
            let read = stdout.take(MAX + 1).read_to_end(&mut answer).await;
            read.map_err(|error| format!("could not read from `{program}`: {error}"))?;
        }
        if answer.len() as u64 > MAX {
            return Err(format!("`{program}` answered with more than {MAX} bytes"));
        }
        let status = child.wait().await.map_err(|error| format!("could not wait for `{program}`: {error}"))?;
        // What it leaves on purpose, as an agent that keeps keys, is its own.
        group.0 = None;
        Ok((status, answer))
    };
    let timed_out = |_| Err(format!("`{program}` did not answer within {patience:?}"));
    let (status, answer) = tokio::time::timeout(patience, talk).await.unwrap_or_else(timed_out)?;
    if !status.success() {
        // How Docker's own programs say that they have none.
        if String::from_utf8_lossy(&answer).contains("credentials not found") {
            return Ok(None);
        }
        return Err(format!("`{program}` ended with {status}"));
    }
    match serde_json::from_slice(&answer) {
        Ok(Answered { username, .. }) if username == TOKEN_USER => Err(identity_token(host)),
        Ok(Answered { username, secret }) => Ok(Some(Login { user: username, password: secret })),
        Err(_) => Err(format!("`{program}` did not answer with `Username` and `Secret`")),
    }
}

/// That a registry gave what can't be used here.
pub(super) fn identity_token(host: &Host) -> String {
    format!("`{host}` has an identity token, which is not supported: log in with a password or an access token")
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt as _};

    use super::*;

    #[tokio::test]
    async fn a_program_that_does_not_answer_is_ended_in_time_with_what_it_started() {
        let directory = tempfile::tempdir().unwrap();
        let [program, child] = ["program", "child"].map(|name| directory.path().join(name));
        let script = format!("#!/bin/sh\nsleep 1000 &\necho $! >{0}.new\nmv {0}.new {0}\nwait\n", child.display());
        fs::write(&program, script).unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        let (program, host) = (program.display().to_string(), "images.example".parse().unwrap());
        let mut patience = Duration::from_millis(100);
        let child = loop {
            let said = answered(&program, &host, patience).await.err().unwrap();
            assert_eq!(said, format!("`{program}` did not answer within {patience:?}"));
            if let Ok(child) = fs::read_to_string(&child) {
                break child;
            }
            // It has not even begun, on a machine that is busy.
            patience *= 2;
        };
        let begun = Instant::now();
        loop {
            let state = fs::read_to_string(format!("/proc/{}/stat", child.trim())).unwrap_or_default();
            if state.is_empty() || state.contains(") Z ") {
                break;
            }
            assert!(begun.elapsed() < Duration::from_secs(30), "what the program started still runs: {state}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}
