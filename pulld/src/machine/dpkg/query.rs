//! Queries dpkg and dpkg-query, as child processes.

use std::{process::Stdio, time::Duration};

use anyhow::{Context, Result, bail};
use tokio::{io::AsyncReadExt, process::Command, time::timeout};

/// Time limit for one query; `dpkg --verify` reads every file of a package.
const QUERY_TIMEOUT: Duration = Duration::from_mins(5);

/// Most bytes of an answer: some hundred thousand packages.
const MAX_ANSWER: u64 = 64 << 20;

/// Most bytes of error messages.
const MAX_ERRORS: u64 = 64 << 10;

/// What a program that ended printed.
pub(super) struct Output {
    /// Its standard output.
    pub(super) answer: String,
    /// Its standard error.
    errors: String,
    /// With what it exited; `None` when it was killed.
    status: Option<i32>,
}

/// The standard output of a program.
///
/// # Errors
/// When it exits with another status than 0, with its error messages.
pub(super) async fn query(program: &str, arguments: &[&str]) -> Result<String> {
    run(program, arguments).await?.of_status(program, &[0])
}

impl Output {
    /// The answer of a program that may exit so.
    ///
    /// # Errors
    /// When it exited with something else, with its error messages.
    pub(super) fn of_status(self, program: &str, good: &[i32]) -> Result<String> {
        if self.status.is_none_or(|status| !good.contains(&status)) {
            bail!("`{program}` failed: {}", self.errors.trim().escape_debug());
        }
        Ok(self.answer)
    }
}

/// Runs a program to its end, whatever its exit status.
pub(super) async fn run(program: &str, arguments: &[&str]) -> Result<Output> {
    let exchange = async {
        let mut child = Command::new(program)
            .args(arguments)
            .env("LC_ALL", "C.UTF-8")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("could not run `{program}`"))?;
        let (mut answer, mut errors) = (Vec::new(), Vec::new());
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        let (stdout, stderr) = (stdout.context("no pipe")?, stderr.context("no pipe")?);
        let (mut stdout, mut stderr) = (stdout.take(MAX_ANSWER), stderr.take(MAX_ERRORS));
        let (from_stdout, from_stderr) = tokio::join!(stdout.read_to_end(&mut answer), stderr.read_to_end(&mut errors));
        from_stdout.and(from_stderr).with_context(|| format!("could not read the output of `{program}`"))?;
        let status = child.wait().await?;
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        Ok(Output { answer: text(answer), errors: text(errors), status: status.code() })
    };
    let timed_out = || format!("timed out waiting for `{program}` after {QUERY_TIMEOUT:?}");
    timeout(QUERY_TIMEOUT, exchange).await.with_context(timed_out)?
}
