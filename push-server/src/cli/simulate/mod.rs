//! `push simulate`: a rollout on a simulated fleet, as a story tells it.

mod play;
mod story;

use std::{io::Read, path::PathBuf};

use anyhow::{Context as _, Result, ensure};
use clap::Args;
use console::{print_line, safe};

use self::{play::play, story::Story};

/// Most bytes of a story.
const MAX_STORY: u64 = 1 << 20;

/// Play a rollout on a simulated fleet, as a file tells it, and print what happens
///
/// What is decided and written is what a real rollout would do, in a temporary directory; agents and the clock are simulated,
/// so that hours take seconds. The same story always has the same outcome.
#[derive(Debug, Args)]
#[command(after_help = "Example of a story (docs/stories.md explains each command):
  # The second server's release fails its health gate: the third never gets it.
  servers 3
  agent web-2 rolls-back
  rollout --waves 1,1,rest --settle 2m --max-down 3
  run
  undo
  run

Examples:
  push simulate story.txt

Exit status:
  0  the story was played, whatever became of its rollout
  1  the story is invalid or could not be played
  2  usage error")]
pub(crate) struct Simulate {
    /// File with the story
    file: PathBuf,
}

impl Simulate {
    pub(crate) async fn run(&self) -> Result<bool> {
        let name = safe(&self.file.display().to_string());
        let story = Story::parse(&self.read()?).map_err(|error| error.context(format!("`{name}` is no story")))?;
        let directory = tempfile::tempdir().context("could not create a temporary directory for the simulation")?;
        let tell = |line: &str| print_line(safe(line));
        play(&story, directory.path(), tell).await.with_context(|| format!("could not play `{name}`"))?;
        Ok(true)
    }

    fn read(&self) -> Result<String> {
        let name = self.file.display();
        let file = std::fs::File::open(&self.file).with_context(|| format!("could not open `{name}`"))?;
        let mut text = String::new();
        let read = file.take(MAX_STORY + 1).read_to_string(&mut text);
        read.with_context(|| format!("could not read `{name}`"))?;
        ensure!(text.len() as u64 <= MAX_STORY, "`{name}` is too large for a story: at most 1 MiB");
        Ok(text)
    }
}
