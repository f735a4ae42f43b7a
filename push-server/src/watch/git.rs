//! The `git` command, bounded in time and in what it prints, and kept from asking at a terminal and from running
//! what a repository names.
//!
//! What the person's own configuration says (global or of the system) holds: credential helpers, proxies, other names of
//! hosts. All that git starts is one process group, which ends with it when the time is up, when nobody waits for it any
//! more, and, by timeout(1), also after this process was killed.

use std::{
    ffi::{OsStr, OsString},
    fs::File,
    io,
    path::Path,
    process::{ExitStatus, Stdio},
    time::Duration,
};

use console::{cut, one_line};
use fleet::channel::repo::{OF_ANOTHER_REPOSITORY, RepoUrl};
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _},
    process::{Child, Command},
    time::{Instant, timeout, timeout_at},
};

/// Most bytes of what git prints.
const MAX_PRINTED: u64 = 64 << 20;

/// Last bytes of its messages that are kept, and characters of them that are shown.
const MAX_MESSAGES: usize = 4 << 10;
const MAX_SHOWN: usize = 600;

/// How much later timeout(1) ends git than this process does.
const LATER: Duration = Duration::from_secs(5);

/// How long after git's end its last messages may take to arrive, and processes that were killed to be gone.
const REST: Duration = Duration::from_secs(5);

/// Settings that win over all configuration: what runs programs, or goes on when git has ended.
const SETTINGS: [&str; 4] =
    ["core.fsmonitor=false", "core.hooksPath=/dev/null", "core.logAllRefUpdates=false", "gc.autoDetach=false"];

/// What changes what git makes in the directory it is given and who made it, besides what leads it elsewhere.
const REMOVED: [&str; 10] = [
    "GIT_CONFIG",
    "GIT_DEFAULT_HASH",
    "GIT_DEFAULT_REF_FORMAT",
    "GIT_TEMPLATE_DIR",
    "GIT_AUTHOR_NAME",
    "GIT_AUTHOR_EMAIL",
    "GIT_AUTHOR_DATE",
    "GIT_COMMITTER_NAME",
    "GIT_COMMITTER_EMAIL",
    "GIT_COMMITTER_DATE",
];

/// How git may be run.
pub(super) struct Git<'a> {
    /// The repository it works in, if there is one yet.
    pub(super) directory: Option<&'a Path>,
    /// The one other repository that it may speak to.
    pub(super) reaches: Option<&'a RepoUrl>,
    /// When it is ended.
    pub(super) deadline: Instant,
    /// Its standard input: an empty file, of which a lock stays as long as git runs, even if this process is killed; or what a
    /// command reads.
    pub(super) input: Option<&'a File>,
    /// The index that it works on, if it needs one.
    pub(super) index: Option<OsString>,
}

/// Why git gave no answer.
#[derive(Debug)]
pub(super) enum GitError {
    /// A program isn't there.
    NotInstalled {
        /// Its name.
        program: &'static str,
        /// The package that has it.
        package: &'static str,
    },
    /// It was ended at the deadline.
    TimedOut,
    /// It printed more than is read.
    TooMuch,
    /// It ended with an error: its messages, safe to show.
    Failed(String),
    /// It could not be run.
    Io(io::Error),
}

impl From<io::Error> for GitError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl Git<'_> {
    /// What git printed, byte for byte.
    pub(super) async fn run<A: AsRef<OsStr>>(&self, arguments: &[A]) -> Result<Vec<u8>, GitError> {
        let mut child = self.command(arguments)?.spawn().map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => GitError::NotInstalled { program: "timeout", package: "coreutils" },
            _ => error.into(),
        })?;
        let mut group = Group::of(&child);
        let (Some(printed), Some(messages)) = (child.stdout.take(), child.stderr.take()) else {
            return Err(io::Error::other("no pipes").into());
        };
        let messages = tokio::spawn(last_of(messages));
        let work = async {
            let mut read = Vec::new();
            printed.take(MAX_PRINTED + 1).read_to_end(&mut read).await?;
            if read.len() as u64 > MAX_PRINTED {
                return Err(GitError::TooMuch);
            }
            Ok((read, child.wait().await?))
        };
        let ended = timeout_at(self.deadline, work).await.unwrap_or(Err(GitError::TimedOut));
        if ended.is_err() {
            group.kill();
            child.wait().await?;
        } else {
            group.0 = None;
        }
        // They end when all have ended that git started; a helper that stays, as that of ssh, isn't waited for.
        let succeeded = ended.as_ref().is_ok_and(|(_, status)| status.success());
        let messages = timeout(if succeeded { Duration::ZERO } else { REST }, messages).await;
        let (printed, status) = ended?;
        let messages = messages.ok().and_then(Result::ok).unwrap_or_default();
        if status.success() { Ok(printed) } else { Err(failed(status, &messages)) }
    }

    /// As `GIT_ALLOW_PROTOCOL` names them (git(1)): no others are used, whatever is configured or a server says. The
    /// person's configuration may have another address for a repository (`url.<base>.insteadOf`).
    fn transports(&self) -> &'static str {
        match self.reaches {
            None => "none",
            Some(repo) if repo.is_plain_http() => "https:ssh:file:http",
            Some(_) => "https:ssh:file",
        }
    }

    fn command<A: AsRef<OsStr>>(&self, arguments: &[A]) -> io::Result<Command> {
        let left = self.deadline.saturating_duration_since(Instant::now()) + LATER;
        let mut git = Command::new("timeout");
        git.arg("--signal=KILL").arg(left.as_secs_f64().to_string()).args(["git", "--no-pager"]);
        git.args(SETTINGS.iter().flat_map(|setting| ["-c", setting]));
        // A server on this machine may not send git to another one, unprotected as it is.
        let is_plain = self.reaches.is_some_and(RepoUrl::is_plain_http);
        git.args(["-c", if is_plain { "http.followRedirects=false" } else { "http.followRedirects=initial" }]);
        if let Some(directory) = self.directory {
            git.arg("--git-dir").arg(directory);
        }
        git.args(arguments);
        for name in OF_ANOTHER_REPOSITORY.iter().chain(&REMOVED) {
            git.env_remove(name);
        }
        if let Some(index) = &self.index {
            git.env("GIT_INDEX_FILE", index);
        }
        git.env("GIT_ALLOW_PROTOCOL", self.transports())
            .env("GIT_NO_REPLACE_OBJECTS", "1")
            .env("GIT_TERMINAL_PROMPT", "0")
            // Whatever ssh would ask, the answer is no, also by a command of the person's own (ssh(1)). git asks it too.
            .env("SSH_ASKPASS", "/bin/false")
            .env("SSH_ASKPASS_REQUIRE", "force")
            .env("LC_ALL", "C")
            .stdin(match self.input {
                Some(input) => input.try_clone()?.into(),
                None => Stdio::null(),
            })
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true);
        Ok(git)
    }
}

/// The processes that a git started, itself too; killed when this is dropped.
struct Group(Option<Pid>);

impl Group {
    fn of(child: &Child) -> Self {
        Self(child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw))
    }

    fn kill(&mut self) {
        if let Some(group) = self.0.take() {
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The last bytes of a stream, read to its end.
async fn last_of(mut stream: impl AsyncRead + Unpin) -> Vec<u8> {
    let mut last = Vec::new();
    let mut buffer = [0; MAX_MESSAGES];
    while let Ok(length @ 1..) = stream.read(&mut buffer).await {
        last.extend_from_slice(&buffer[..length]);
        last.drain(..last.len().saturating_sub(MAX_MESSAGES));
    }
    last
}

/// What timeout(1) exits with if it finds no program.
const NO_PROGRAM: i32 = 127;

fn failed(status: ExitStatus, messages: &[u8]) -> GitError {
    if status.code() == Some(NO_PROGRAM) {
        return GitError::NotInstalled { program: "git", package: "git" };
    }
    let messages = without_credentials(&String::from_utf8_lossy(messages));
    let messages = messages.trim();
    GitError::Failed(if messages.is_empty() {
        format!("git ended with {status}")
    } else {
        cut(&one_line(messages), MAX_SHOWN)
    })
}

/// The text without what stands before the host of an address: the person's configuration may put a token there.
fn without_credentials(text: &str) -> String {
    let mut parts = text.split("://");
    let mut shown = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let authority = part.find(|c: char| c == '/' || c == '\'' || c == '"' || c.is_whitespace());
        let host = part[..authority.unwrap_or(part.len())].rfind('@').map_or(0, |at| at + 1);
        shown.push_str("://");
        shown.push_str(&part[host..]);
    }
    shown
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt as _;

    use super::*;

    #[test]
    fn no_credentials_are_shown() {
        for (text, shown) in [
            ("fatal: unable to access 'https://u:t@ken@h/x/': no", "fatal: unable to access 'https://h/x/': no"),
            ("https://h/a@b ssh://git@h:22 mail@h", "https://h/a@b ssh://h:22 mail@h"),
            ("nothing", "nothing"),
            ("://", "://"),
        ] {
            assert_eq!(without_credentials(text), shown);
        }
    }

    #[test]
    fn a_failure_says_what_git_said() {
        let exited = |code: i32| ExitStatus::from_raw(code << 8);
        let words = |code: i32, messages: &str| match failed(exited(code), messages.as_bytes()) {
            GitError::Failed(words) => words,
            error => format!("{error:?}"),
        };
        assert_eq!(words(128, "remote: \u{202e}no\nfatal: not found\n"), "remote: \\u{202e}no ⏎ fatal: not found");
        assert_eq!(words(1, " \n"), "git ended with exit status: 1");
        assert!(words(127, "timeout: failed to run command").starts_with("NotInstalled { program: \"git\""));
    }

    #[tokio::test]
    async fn of_many_messages_the_last_are_kept() {
        let text = "x".repeat(100_000) + "end";
        let last = last_of(text.as_bytes()).await;
        assert_eq!(last.len(), MAX_MESSAGES);
        assert!(last.ends_with(b"xend"));
    }
}
