//! One command of a stage: its environment, what it says, and its end.

use std::{
    collections::BTreeMap,
    io::{ErrorKind, PipeReader, PipeWriter, pipe},
    os::{fd::OwnedFd, unix::process::ExitStatusExt as _},
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
};

use anyhow::{Context as _, Result};
use console::safe;
use tokio::{
    io::Interest,
    net::unix::pipe::Receiver,
    process::{Child, Command},
};

use crate::{
    processes,
    run::{
        limits::{Limits, Unfinished},
        output::Output,
    },
};

/// How much is read at once of what a command says.
const CHUNK: usize = 64 << 10;
/// Most that a pipe of somebody without rights holds (`pipe(7)`, `pipe-max-size`).
const MAX_PIPE: usize = 1 << 20;

/// The commands of one stage, one after the other.
#[derive(Debug)]
pub(super) struct Commands {
    /// What nothing of the stage lives outside of, unless it goes elsewhere by itself.
    home: PathBuf,
    environment: BTreeMap<String, String>,
    said: Receiver,
    to: PipeWriter,
    /// Until when the stage may go on.
    pub(super) limits: Limits,
}

impl Commands {
    /// None yet. `home` is there, and no other stage has it.
    pub(super) fn new(home: PathBuf, environment: BTreeMap<String, String>, limits: Limits) -> Result<Self> {
        let (said, to): (PipeReader, PipeWriter) = pipe().context("could not make a pipe")?;
        let said = Receiver::from_owned_fd(OwnedFd::from(said)).context("could not read from a pipe")?;
        Ok(Self { home, environment, said, to, limits })
    }

    /// Runs one to its end, in a directory, with these variables beside those of the stage. What it left running goes on.
    pub(super) async fn run(
        &mut self,
        arguments: &[String],
        variables: &BTreeMap<String, String>,
        directory: &Path,
        output: &mut Output,
    ) -> Result<(), Unfinished> {
        let shown = shown(arguments);
        if *self.limits.stop.borrow() {
            return Err(Unfinished::Stopped);
        }
        output.begin_command();
        output.say(&format!("$ {shown}"));
        let mut child = self.spawn(arguments, variables, directory)?;
        // Its own group is known by its number as long as it is not waited for.
        let group = child.id().and_then(|id| i32::try_from(id).ok());
        let mut buffer = vec![0; CHUNK];
        let status = loop {
            tokio::select! {
                biased;
                reached = self.limits.reached() => {
                    self.end(&mut child, group, output, &mut buffer).await;
                    return Err(match reached {
                        Unfinished::Failed(why) => Unfinished::Failed(format!("{why}, and `{shown}` was ended")),
                        Unfinished::Stopped => Unfinished::Stopped,
                    });
                }
                status = child.wait() => break status,
                ready = self.said.ready(Interest::READABLE) => {
                    if ready.is_ok() {
                        self.hear(output, &mut buffer);
                    }
                }
            }
        };
        self.hear_out(output, &mut buffer);
        let status = status.with_context(|| format!("could not wait for `{shown}`"))?;
        if status.success() { Ok(()) } else { Err(Unfinished::Failed(format!("`{shown}` {}", ended(status)))) }
    }

    fn spawn(
        &self,
        arguments: &[String],
        variables: &BTreeMap<String, String>,
        directory: &Path,
    ) -> Result<Child, Unfinished> {
        let (program, rest) = arguments.split_first().context("there is no command to run")?;
        let to = || self.to.try_clone().map(Stdio::from).context("could not pass a pipe on");
        let mut command = Command::new(program);
        command.args(rest).current_dir(directory).env_clear().envs(&self.environment).envs(variables);
        command.stdin(Stdio::null()).stdout(to()?).stderr(to()?).process_group(0);
        command.spawn().map_err(|error| {
            let program = safe(program);
            let path = variables.get("PATH").or(self.environment.get("PATH")).map_or("", String::as_str);
            Unfinished::Failed(match error.kind() {
                ErrorKind::NotFound if !directory.is_dir() => {
                    format!("the directory that `{program}` is to run in is not there")
                }
                ErrorKind::NotFound => format!("`{program}` was not found; PATH is {}", safe(path)),
                _ => format!("could not run `{program}`: {error}"),
            })
        })
    }

    /// Ends a command, and all else that its stage has started.
    async fn end(&mut self, child: &mut Child, group: Option<i32>, output: &mut Output, buffer: &mut [u8]) {
        let home = self.home.clone();
        let ended = async {
            processes::end(|| processes::of_stage(group, &home)).await;
            // It is a zombie now, or was killed.
            let _ = child.wait().await;
        };
        tokio::pin!(ended);
        loop {
            tokio::select! {
                () = &mut ended => break,
                ready = self.said.ready(Interest::READABLE) => {
                    if ready.is_ok() {
                        self.hear(output, buffer);
                    }
                }
            }
        }
        self.hear_out(output, buffer);
    }

    /// Takes what was said before a command ended: no more than a pipe holds, as others may go on speaking.
    fn hear_out(&self, output: &mut Output, buffer: &mut [u8]) {
        for _ in 0..MAX_PIPE / CHUNK {
            if !self.hear(output, buffer) {
                break;
            }
        }
    }

    /// Takes what there is to be heard; whether there was something.
    fn hear(&self, output: &mut Output, buffer: &mut [u8]) -> bool {
        match self.said.try_read(buffer) {
            Ok(length) if length > 0 => {
                output.take(&buffer[..length]);
                true
            }
            // We hold the other end too: it is never closed.
            _ => false,
        }
    }
}

/// That a command can be given these.
pub(super) fn ensure_no_zero<'a>(texts: impl IntoIterator<Item = &'a String>) -> Result<(), Unfinished> {
    let Some(bad) = texts.into_iter().find(|text| text.contains('\0')) else { return Ok(()) };
    let shown = console::cut(bad, 80);
    Err(Unfinished::Failed(format!("`{shown}` has a zero byte in it, which no command can be given")))
}

/// A command as people read it.
pub(super) fn shown(arguments: &[String]) -> String {
    let shown: Vec<String> = arguments
        .iter()
        .map(|argument| {
            let is_plain = |c: char| c.is_ascii_alphanumeric() || "%+,-./:=@_".contains(c);
            if !argument.is_empty() && argument.chars().all(is_plain) {
                argument.clone()
            } else {
                format!("'{}'", argument.replace('\'', r"'\''"))
            }
        })
        .collect();
    console::cut(&shown.join(" "), 200)
}

/// How a command ended, as the end of a sentence about it.
fn ended(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("ended with exit status {code}"),
        (None, Some(signal)) => format!("was ended by signal {signal}"),
        (None, None) => "ended in a way that is not known".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_shown_as_a_shell_would_take_it() {
        let command = ["make", "a b", "it's", "", "$(x)", "K=V"].map(str::to_owned);
        assert_eq!(shown(&command), r"make 'a b' 'it'\''s' '' '$(x)' K=V");
        assert_eq!(shown(&["a\nb".to_owned()]), r"'a\u{a}b'");
    }
}
