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

use crate::wake::{Bell, Reason};

/// Most bytes of a question.
const QUESTION: u64 = 4 << 10;

/// Most bytes of an answer.
const ANSWER: u64 = 4 << 20;

/// The longest the other side may take to send its question.
const PATIENCE: Duration = Duration::from_secs(10);

/// What the agent is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Question {
    /// Pull, and tell how it ended.
    Pull,
    /// Pull; no need to tell.
    PullWithoutWaiting,
    /// Tell how the cycle under way ends, or how the last one ended.
    Outcome,
}

/// How a pull cycle ended, for people.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cycle {
    /// Whether everything is as the document wants it, as far as that is up to the agent.
    pub ok: bool,
    /// In a sentence.
    pub summary: String,
    /// What was done, and what asks for attention, each a line.
    pub lines: Vec<String>,
}

/// What the agent answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Answer {
    /// It will.
    Accepted,
    /// It did.
    Ended(Cycle),
}

/// Where the agent posts its cycles, and those who asked read them.
#[derive(Debug)]
pub struct Board(watch::Sender<Posted>);

#[derive(Debug, Clone, Default)]
struct Posted {
    begun: u64,
    ended: u64,
    last: Cycle,
}

impl Board {
    /// An empty one.
    pub fn new() -> Self {
        Self(watch::Sender::new(Posted::default()))
    }

    /// A cycle begins.
    pub fn begin(&self) {
        self.0.send_modify(|posted| posted.begun += 1);
    }

    /// The cycle ended.
    pub fn end(&self, cycle: Cycle) {
        self.0.send_modify(|posted| {
            posted.ended = posted.begun;
            posted.last = cycle;
        });
    }
}

impl Default for Board {
    fn default() -> Self {
        Self::new()
    }
}

/// Opens the socket. Nobody but root can connect, not even for a moment.
pub fn listen(path: &Path) -> Result<UnixListener> {
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
pub async fn serve(listener: UnixListener, bell: Bell, board: std::sync::Arc<Board>) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                let (bell, posted) = (bell.clone(), board.0.subscribe());
                tokio::spawn(async move {
                    if let Err(error) = answer(stream, &bell, posted).await {
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

async fn answer(mut stream: UnixStream, bell: &Bell, mut posted: watch::Receiver<Posted>) -> Result<()> {
    let uid = stream.peer_cred()?.uid();
    if uid != 0 && uid != rustix::process::geteuid().as_raw() {
        bail!("user {uid} may not command the agent");
    }
    let (reading, mut writing) = stream.split();
    let mut line = String::new();
    tokio::time::timeout(PATIENCE, BufReader::new(reading.take(QUESTION)).read_line(&mut line)).await??;
    let question: Question = serde_json::from_str(&line).context("it isn't a question")?;
    let now = posted.borrow().clone();
    let answer = match question {
        Question::PullWithoutWaiting => {
            bell.ring(Reason::Command);
            Answer::Accepted
        }
        // A cycle under way may have read its document before the push that the person has in mind: the next counts.
        Question::Pull => {
            bell.ring(Reason::Command);
            Answer::Ended(ended(&mut posted, now.begun + 1).await?)
        }
        Question::Outcome => Answer::Ended(ended(&mut posted, now.begun.max(1)).await?),
    };
    let mut line = serde_json::to_vec(&answer)?;
    line.push(b'\n');
    writing.write_all(&line).await?;
    Ok(())
}

async fn ended(posted: &mut watch::Receiver<Posted>, number: u64) -> Result<Cycle> {
    Ok(posted.wait_for(|posted| posted.ended >= number).await?.last.clone())
}

/// Asks the agent to pull and waits for the end, also over a restart of the agent by its own update.
///
/// # Errors
/// When no agent answers, or it isn't done within `timeout`.
pub async fn pull(path: &Path, wait: bool, timeout: Duration) -> Result<Answer> {
    let deadline = Instant::now() + timeout;
    let mut question = if wait { Question::Pull } else { Question::PullWithoutWaiting };
    let mut reached = false;
    loop {
        match tokio::time::timeout_at(deadline, ask(path, question)).await {
            Err(_) => bail!("the agent isn't done yet: it goes on, see `pulld status` and `journalctl -u pulld`"),
            Ok(Ok(Some(answer))) => return Ok(answer),
            // The connection ended without an answer: the agent went away to come back as the new one.
            Ok(Ok(None)) => (reached, question) = (true, Question::Outcome),
            Ok(Err(_)) if reached => {}
            Ok(Err(error)) => {
                return Err(error.context("the agent can't be reached: see `systemctl status pulld`"));
            }
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// Asks once; `None` when the agent went away before it answered.
async fn ask(path: &Path, question: Question) -> Result<Option<Answer>> {
    let mut stream = UnixStream::connect(path)
        .await
        .with_context(|| format!("could not connect to the agent at `{}`", path.display()))?;
    let mut line = serde_json::to_vec(&question)?;
    line.push(b'\n');
    let mut answer = String::new();
    let told = async {
        stream.write_all(&line).await?;
        BufReader::new((&mut stream).take(ANSWER)).read_line(&mut answer).await
    };
    if told.await.is_err() || !answer.ends_with('\n') {
        return Ok(None);
    }
    Ok(Some(serde_json::from_str(&answer).context("the agent's answer can't be understood")?))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn cycle(summary: &str) -> Cycle {
        Cycle { ok: true, summary: summary.to_owned(), lines: vec![] }
    }

    #[tokio::test]
    async fn a_pull_waits_for_a_cycle_that_began_after_it() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("pulld.sock");
        let (bell, board) = (Bell::default(), Arc::new(Board::new()));
        board.begin();
        let server = tokio::spawn(serve(listen(&path).unwrap(), bell.clone(), board.clone()));
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let asking = tokio::spawn({
            let path = path.clone();
            async move { pull(&path, true, Duration::from_mins(1)).await }
        });
        let far = Instant::now() + Duration::from_mins(1);
        assert_eq!(bell.wait_until(far).await, [Reason::Command].into());
        board.end(cycle("the one under way"));
        board.begin();
        board.end(cycle("the one asked for"));
        assert_eq!(asking.await.unwrap().unwrap(), Answer::Ended(cycle("the one asked for")));
        server.abort();
    }

    #[tokio::test]
    async fn a_pull_outlives_the_agent_that_replaces_itself() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("pulld.sock");
        let (bell, board) = (Bell::default(), Arc::new(Board::new()));
        let listener = listen(&path).unwrap();
        let asking = tokio::spawn({
            let path = path.clone();
            async move { pull(&path, true, Duration::from_mins(1)).await }
        });
        // The old agent reads the question and ends.
        drop(listener.accept().await.unwrap());
        drop(listener);
        let server = tokio::spawn(serve(listen(&path).unwrap(), bell, board.clone()));
        board.begin();
        board.end(cycle("updated"));
        assert_eq!(asking.await.unwrap().unwrap(), Answer::Ended(cycle("updated")));
        server.abort();
    }

    #[tokio::test]
    async fn nobody_there_is_an_error_with_advice() {
        let directory = tempfile::tempdir().unwrap();
        let error = pull(&directory.path().join("none"), true, Duration::from_mins(1)).await.unwrap_err();
        assert!(format!("{error:#}").contains("systemctl status pulld"));
    }
}
