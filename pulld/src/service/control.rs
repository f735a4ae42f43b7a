//! The control socket, by which `pulld pull`, `retry`, `rollback` and `resume` command the agent: one line of JSON each way over a Unix
//! socket that only root may open.

use std::{os::unix::fs::PermissionsExt, path::Path, time::Duration};

use anyhow::{Context, Result, bail};
use console::count;
use serde::{Deserialize, Serialize};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{UnixListener, UnixStream},
    sync::watch,
    time::Instant,
};

use crate::service::{
    instructions::{Answer, Instruction, Instructions},
    wake::{Reason, WakeSignal},
};

/// Maximum bytes of a request.
const MAX_REQUEST: u64 = 4 << 10;

/// Maximum bytes of a response.
const MAX_RESPONSE: u64 = 4 << 20;

/// Maximum lines of a cycle's outcome, and bytes of each.
const MAX_LINES: (usize, usize) = (600, 4 << 10);

/// Time for the client to send its request.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// A request to the agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum ControlRequest {
    /// Pull, and report the outcome.
    Pull,
    /// Pull; no outcome needed.
    PullWithoutWaiting,
    /// Report the outcome of the current cycle, or of the last one.
    Outcome,
    /// Do something with one app, in the next cycle.
    Instruct(Box<Instruction>),
}

/// The outcome of a pull cycle, for people.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct CycleReport {
    /// Whether the server matches its document, as far as that is up to the agent.
    pub(crate) ok: bool,
    /// The state in a sentence.
    pub(crate) summary: String,
    /// What was done, and what needs attention, a line each.
    pub(crate) lines: Vec<String>,
}

impl CycleReport {
    /// The outcome as far as a client reads it. What is left out is counted.
    fn fit(mut self) -> Self {
        let (most, bytes) = MAX_LINES;
        let all = self.lines.len();
        self.lines.truncate(most);
        self.lines
            .iter_mut()
            .chain([&mut self.summary])
            .for_each(|line| line.truncate(line.floor_char_boundary(bytes)));
        // In JSON a character may take six bytes.
        while self.lines.iter().map(String::len).sum::<usize>() as u64 > MAX_RESPONSE / 8 {
            self.lines.truncate(self.lines.len() / 2);
        }
        if self.lines.len() < all {
            self.lines.push(format!("and {}", count(all - self.lines.len(), "more line")));
        }
        self
    }
}

/// The agent's response.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum ControlResponse {
    /// The request was accepted.
    Accepted,
    /// The pull ended.
    Ended(CycleReport),
    /// What the agent does about an instruction.
    Answered(Answer),
}

/// The progress of the agent's cycles, which those who wait for one follow.
#[derive(Debug)]
pub(crate) struct CycleTracker(watch::Sender<CycleProgress>);

#[derive(Debug, Clone, Default)]
struct CycleProgress {
    begun: u64,
    ended: u64,
    last: CycleReport,
}

impl CycleTracker {
    /// No cycle has begun.
    pub(crate) fn new() -> Self {
        Self(watch::Sender::new(CycleProgress::default()))
    }

    /// A cycle begins.
    pub(crate) fn begin(&self) {
        self.0.send_modify(|progress| progress.begun += 1);
    }

    /// The cycle ended.
    pub(crate) fn end(&self, cycle: CycleReport) {
        self.0.send_modify(|progress| {
            progress.ended = progress.begun;
            progress.last = cycle;
        });
    }
}

impl Default for CycleTracker {
    fn default() -> Self {
        Self::new()
    }
}

/// Opens the socket. Nobody but root can connect, not even for a moment.
pub(crate) fn listen(path: &Path) -> Result<UnixListener> {
    let failed = || format!("could not listen on `{}`", path.display());
    let directory = path.parent().unwrap_or(Path::new("/"));
    std::fs::create_dir_all(directory).with_context(failed)?;
    let hidden = directory.join(".new-pulld.sock");
    let _ = std::fs::remove_file(&hidden);
    let listener = UnixListener::bind(&hidden).with_context(failed)?;
    std::fs::set_permissions(&hidden, std::fs::Permissions::from_mode(0o600)).with_context(failed)?;
    std::fs::rename(&hidden, path).with_context(failed)?;
    Ok(listener)
}

/// Responds to everybody who connects, until the agent exits.
pub(crate) async fn serve(
    listener: UnixListener,
    wake_signal: WakeSignal,
    instructions: Instructions,
    tracker: std::sync::Arc<CycleTracker>,
) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                let (wake_signal, instructions) = (wake_signal.clone(), instructions.clone());
                let progress = tracker.0.subscribe();
                tokio::spawn(async move {
                    if let Err(error) = response(stream, &wake_signal, &instructions, progress).await {
                        tracing::debug!("could not respond to a command: {error:#}");
                    }
                });
            }
            Err(error) => {
                // Most likely the process is out of file descriptors; pause before the next attempt.
                tracing::warn!(%error, "could not accept a connection on the control socket");
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        }
    }
}

async fn response(
    mut stream: UnixStream,
    wake_signal: &WakeSignal,
    instructions: &Instructions,
    mut progress: watch::Receiver<CycleProgress>,
) -> Result<()> {
    let uid = stream.peer_cred()?.uid();
    if uid != 0 && uid != rustix::process::geteuid().as_raw() {
        bail!("user {uid} is not allowed to command the agent");
    }
    let (reading, mut writing) = stream.split();
    let mut line = String::new();
    tokio::time::timeout(REQUEST_TIMEOUT, BufReader::new(reading.take(MAX_REQUEST)).read_line(&mut line)).await??;
    let request: ControlRequest = serde_json::from_str(&line).context("could not parse the request")?;
    let now = progress.borrow().clone();
    let response = match request {
        ControlRequest::PullWithoutWaiting => {
            wake_signal.notify(Reason::Command);
            ControlResponse::Accepted
        }
        // A cycle under way may have read its document before the push that the person has in mind: the next counts.
        ControlRequest::Pull => {
            wake_signal.notify(Reason::Command);
            ControlResponse::Ended(ended(&mut progress, now.begun + 1).await?)
        }
        ControlRequest::Outcome => ControlResponse::Ended(ended(&mut progress, now.begun.max(1)).await?),
        ControlRequest::Instruct(instruction) => {
            let answered = instructions.give(*instruction);
            wake_signal.notify(Reason::Command);
            ControlResponse::Answered(answered.await?)
        }
    };
    let mut line = serde_json::to_vec(&response)?;
    line.push(b'\n');
    writing.write_all(&line).await?;
    Ok(())
}

async fn ended(progress: &mut watch::Receiver<CycleProgress>, number: u64) -> Result<CycleReport> {
    Ok(progress.wait_for(|progress| progress.ended >= number).await?.last.clone().fit())
}

/// Triggers a pull and waits for its end, even if the agent restarts for its own update.
///
/// # Errors
/// When no agent responds, or the pull does not end within `timeout`.
pub(crate) async fn pull(path: &Path, wait: bool, timeout: Duration) -> Result<ControlResponse> {
    let request = if wait { ControlRequest::Pull } else { ControlRequest::PullWithoutWaiting };
    follow(path, request, false, Instant::now() + timeout).await
}

/// Has the agent carry out an instruction, and waits for the end of the cycle in which it does. Gives what the agent
/// says that it does, and how the cycle ended.
///
/// # Errors
/// When no agent responds, the agent refuses, or the cycle does not end within `timeout`.
pub(crate) async fn instruct(
    path: &Path,
    instruction: Instruction,
    timeout: Duration,
) -> Result<(String, CycleReport)> {
    let deadline = Instant::now() + timeout;
    let request = ControlRequest::Instruct(Box::new(instruction));
    let Ok(answered) = tokio::time::timeout_at(deadline, query(path, &request)).await else {
        bail!("timed out waiting for the agent to end what it is doing: see `pulld status`, and try again")
    };
    let sentence = match answered.context(UNREACHABLE)? {
        Some(ControlResponse::Answered(Answer::Accepted(sentence))) => sentence,
        Some(ControlResponse::Answered(Answer::Refused(reason))) => bail!("{reason}"),
        Some(ControlResponse::Accepted | ControlResponse::Ended(_)) | None => {
            bail!("the agent closed the connection without an answer: see `pulld status`, and try again")
        }
    };
    match follow(path, ControlRequest::Outcome, true, deadline).await? {
        ControlResponse::Ended(cycle) => Ok((sentence, cycle)),
        ControlResponse::Accepted | ControlResponse::Answered(_) => {
            bail!("the agent gave another answer than was asked")
        }
    }
}

/// What is said when no agent responds.
const UNREACHABLE: &str = "could not reach the agent: see `systemctl status pulld`";

/// Sends a request until it is answered; once the agent was reached, another one that follows it is asked how it went.
async fn follow(
    path: &Path,
    mut request: ControlRequest,
    mut reached: bool,
    deadline: Instant,
) -> Result<ControlResponse> {
    loop {
        match tokio::time::timeout_at(deadline, query(path, &request)).await {
            Err(_) => {
                bail!("timed out waiting for the pull, which continues: see `pulld status` and `journalctl -u pulld`")
            }
            Ok(Ok(Some(response))) => return Ok(response),
            // The connection ended without a response: the agent exited to let a new pulld start.
            Ok(Ok(None)) => (reached, request) = (true, ControlRequest::Outcome),
            // No agent is there until the new one has started.
            Ok(Err(error)) if reached && error.downcast_ref::<std::io::Error>().is_some() => {}
            Ok(Err(error)) => {
                return Err(error.context(UNREACHABLE));
            }
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// Sends one request; `None` when the agent exited before it responded.
async fn query(path: &Path, request: &ControlRequest) -> Result<Option<ControlResponse>> {
    let mut stream = UnixStream::connect(path)
        .await
        .with_context(|| format!("could not connect to the agent at `{}`", path.display()))?;
    let mut line = serde_json::to_vec(request)?;
    line.push(b'\n');
    let mut response = String::new();
    let exchange = async {
        stream.write_all(&line).await?;
        BufReader::new((&mut stream).take(MAX_RESPONSE)).read_line(&mut response).await
    };
    let exchanged = exchange.await;
    if response.len() as u64 >= MAX_RESPONSE {
        bail!("the agent's response has more than {MAX_RESPONSE} bytes: see `pulld status`");
    }
    if exchanged.is_err() || !response.ends_with('\n') {
        return Ok(None);
    }
    Ok(Some(serde_json::from_str(&response).context("could not parse the agent's response")?))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn cycle(summary: &str) -> CycleReport {
        CycleReport { ok: true, summary: summary.to_owned(), lines: vec![] }
    }

    #[tokio::test]
    async fn a_pull_waits_for_a_cycle_that_began_after_it() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("pulld.sock");
        let (wake_signal, tracker) = (WakeSignal::default(), Arc::new(CycleTracker::new()));
        tracker.begin();
        let server =
            tokio::spawn(serve(listen(&path).unwrap(), wake_signal.clone(), Instructions::default(), tracker.clone()));
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let asking = tokio::spawn({
            let path = path.clone();
            async move { pull(&path, true, Duration::from_mins(1)).await }
        });
        let far = Instant::now() + Duration::from_mins(1);
        assert_eq!(wake_signal.wait_until(far).await, [Reason::Command].into());
        tracker.end(cycle("the one under way"));
        tracker.begin();
        tracker.end(cycle("the one asked for"));
        assert_eq!(asking.await.unwrap().unwrap(), ControlResponse::Ended(cycle("the one asked for")));
        server.abort();
    }

    #[tokio::test]
    async fn a_pull_outlives_the_agent_that_replaces_itself() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("pulld.sock");
        let (wake_signal, tracker) = (WakeSignal::default(), Arc::new(CycleTracker::new()));
        let listener = listen(&path).unwrap();
        let asking = tokio::spawn({
            let path = path.clone();
            async move { pull(&path, true, Duration::from_mins(1)).await }
        });
        // The old agent reads the request and exits.
        drop(listener.accept().await.unwrap());
        drop(listener);
        let server = tokio::spawn(serve(listen(&path).unwrap(), wake_signal, Instructions::default(), tracker.clone()));
        tracker.begin();
        tracker.end(cycle("updated"));
        assert_eq!(asking.await.unwrap().unwrap(), ControlResponse::Ended(cycle("updated")));
        server.abort();
    }

    #[tokio::test]
    async fn an_outcome_without_end_is_cut_to_what_a_client_reads() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("pulld.sock");
        let tracker = Arc::new(CycleTracker::new());
        let (wake_signal, instructions) = (WakeSignal::default(), Instructions::default());
        tracker.begin();
        let lines = vec!["\u{1b}".repeat(5000); 10_000];
        tracker.end(CycleReport { ok: false, summary: "x".repeat(10_000_000), lines });
        let server = tokio::spawn(serve(listen(&path).unwrap(), wake_signal, instructions, tracker));
        let Some(ControlResponse::Ended(outcome)) = query(&path, &ControlRequest::Outcome).await.unwrap() else {
            panic!("no outcome")
        };
        assert!(outcome.lines.len() > 50 && outcome.summary.len() == 4096, "{} lines", outcome.lines.len());
        assert!(outcome.lines.last().unwrap().ends_with("more lines"), "{:?}", outcome.lines.last());
        server.abort();
    }

    #[tokio::test]
    async fn a_response_that_is_too_large_is_an_error_and_not_waited_for() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("pulld.sock");
        let listener = listen(&path).unwrap();
        let earlier_agent = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let _ = stream.write_all(&vec![b'x'; 5 << 20]).await;
        });
        let error = pull(&path, true, Duration::from_mins(1)).await.unwrap_err();
        assert!(format!("{error:#}").contains("more than 4194304 bytes"), "{error:#}");
        earlier_agent.abort();
    }

    #[tokio::test]
    async fn a_missing_agent_is_an_error_with_advice() {
        let directory = tempfile::tempdir().unwrap();
        let error = pull(&directory.path().join("none"), true, Duration::from_mins(1)).await.unwrap_err();
        assert!(format!("{error:#}").contains("systemctl status pulld"));
    }
}
