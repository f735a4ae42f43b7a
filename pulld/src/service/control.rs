//! How `pulld pull` talks to the agent: one line of JSON each way over a Unix socket that only root may open.

use std::{os::unix::fs::PermissionsExt, path::Path, time::Duration};

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{UnixListener, UnixStream},
    sync::watch,
    time::Instant,
};

use crate::service::wake::{Reason, WakeSignal};

/// Most bytes of a question.
const MAX_REQUEST: u64 = 4 << 10;

/// Most bytes of an answer.
const MAX_RESPONSE: u64 = 4 << 20;

/// The longest the other side may take to send its question.
const PATIENCE: Duration = Duration::from_secs(10);

/// What the agent is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum ControlRequest {
    /// Pull, and tell how it ended.
    Pull,
    /// Pull; no need to tell.
    PullWithoutWaiting,
    /// Tell how the cycle under way ends, or how the last one ended.
    Outcome,
}

/// How a pull cycle ended, for people.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct CycleReport {
    /// Whether everything is as the document wants it, as far as that is up to the agent.
    pub(crate) ok: bool,
    /// In a sentence.
    pub(crate) summary: String,
    /// What was done, and what asks for attention, each a line.
    pub(crate) lines: Vec<String>,
}

/// What the agent answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum ControlResponse {
    /// It will.
    Accepted,
    /// It did.
    Ended(CycleReport),
}

/// Where the agent posts its cycles, and those who asked read them.
#[derive(Debug)]
pub(crate) struct CycleTracker(watch::Sender<CycleProgress>);

#[derive(Debug, Clone, Default)]
struct CycleProgress {
    begun: u64,
    ended: u64,
    last: CycleReport,
}

impl CycleTracker {
    /// An empty one.
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

/// Answers everybody who connects, until the agent ends.
pub(crate) async fn serve(listener: UnixListener, wake_signal: WakeSignal, tracker: std::sync::Arc<CycleTracker>) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                let (wake_signal, progress) = (wake_signal.clone(), tracker.0.subscribe());
                tokio::spawn(async move {
                    if let Err(error) = response(stream, &wake_signal, progress).await {
                        tracing::debug!("a command was not answered: {error:#}");
                    }
                });
            }
            Err(error) => {
                // Out of file descriptors, most likely: there is time to get over it.
                tracing::warn!(%error, "could not accept a command");
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        }
    }
}

async fn response(
    mut stream: UnixStream,
    wake_signal: &WakeSignal,
    mut progress: watch::Receiver<CycleProgress>,
) -> Result<()> {
    let uid = stream.peer_cred()?.uid();
    if uid != 0 && uid != rustix::process::geteuid().as_raw() {
        bail!("user {uid} may not command the agent");
    }
    let (reading, mut writing) = stream.split();
    let mut line = String::new();
    tokio::time::timeout(PATIENCE, BufReader::new(reading.take(MAX_REQUEST)).read_line(&mut line)).await??;
    let request: ControlRequest = serde_json::from_str(&line).context("it isn't a question")?;
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
    };
    let mut line = serde_json::to_vec(&response)?;
    line.push(b'\n');
    writing.write_all(&line).await?;
    Ok(())
}

async fn ended(progress: &mut watch::Receiver<CycleProgress>, number: u64) -> Result<CycleReport> {
    Ok(progress.wait_for(|progress| progress.ended >= number).await?.last.clone())
}

/// Asks the agent to pull and waits for the end, also over a restart of the agent by its own update.
///
/// # Errors
/// When no agent answers, or it isn't done within `timeout`.
pub(crate) async fn pull(path: &Path, wait: bool, timeout: Duration) -> Result<ControlResponse> {
    let deadline = Instant::now() + timeout;
    let mut request = if wait { ControlRequest::Pull } else { ControlRequest::PullWithoutWaiting };
    let mut reached = false;
    loop {
        match tokio::time::timeout_at(deadline, query(path, request)).await {
            Err(_) => bail!("the agent isn't done yet: it goes on, see `pulld status` and `journalctl -u pulld`"),
            Ok(Ok(Some(response))) => return Ok(response),
            // The connection ended without an answer: the agent went away to come back as the new one.
            Ok(Ok(None)) => (reached, request) = (true, ControlRequest::Outcome),
            Ok(Err(_)) if reached => {}
            Ok(Err(error)) => {
                return Err(error.context("the agent can't be reached: see `systemctl status pulld`"));
            }
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// Asks once; `None` when the agent went away before it answered.
async fn query(path: &Path, request: ControlRequest) -> Result<Option<ControlResponse>> {
    let mut stream = UnixStream::connect(path)
        .await
        .with_context(|| format!("could not connect to the agent at `{}`", path.display()))?;
    let mut line = serde_json::to_vec(&request)?;
    line.push(b'\n');
    let mut response = String::new();
    let told = async {
        stream.write_all(&line).await?;
        BufReader::new((&mut stream).take(MAX_RESPONSE)).read_line(&mut response).await
    };
    if told.await.is_err() || !response.ends_with('\n') {
        return Ok(None);
    }
    Ok(Some(serde_json::from_str(&response).context("the agent's answer can't be understood")?))
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
        let server = tokio::spawn(serve(listen(&path).unwrap(), wake_signal.clone(), tracker.clone()));
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
        // The old agent reads the question and ends.
        drop(listener.accept().await.unwrap());
        drop(listener);
        let server = tokio::spawn(serve(listen(&path).unwrap(), wake_signal, tracker.clone()));
        tracker.begin();
        tracker.end(cycle("updated"));
        assert_eq!(asking.await.unwrap().unwrap(), ControlResponse::Ended(cycle("updated")));
        server.abort();
    }

    #[tokio::test]
    async fn nobody_there_is_an_error_with_advice() {
        let directory = tempfile::tempdir().unwrap();
        let error = pull(&directory.path().join("none"), true, Duration::from_mins(1)).await.unwrap_err();
        assert!(format!("{error:#}").contains("systemctl status pulld"));
    }
}
