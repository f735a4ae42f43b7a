//! What a round did with each channel, and what became of its followers.

use std::collections::BTreeMap;

use anyhow::Result;
use bucket::{AppName, ChannelName, LaterCommit, PushId, ReleaseName, ServerName};
use fleet::channel::follower::LeftAlone;

/// What a round did with a channel.
#[derive(Debug)]
pub struct Outcome {
    /// The app.
    pub app: AppName,
    /// The channel.
    pub channel: ChannelName,
    /// What became of it; the error has what failed.
    pub result: Result<Done>,
}

/// What a round did with a channel that could be looked at.
#[derive(Debug)]
pub struct Done {
    /// What it pointed to before.
    pub from: Option<ReleaseName>,
    /// What it points to.
    pub release: Option<ReleaseName>,
    /// What it would move to if nothing kept it.
    pub would: Option<ReleaseName>,
    /// Whether its release is not on its branch.
    pub diverged: bool,
    /// Where its release stands on the line, from 0.
    pub place: Option<usize>,
    /// How many commits landed after it.
    pub behind: Option<usize>,
    /// The last of them, newest first.
    pub later: Vec<LaterCommit>,
    /// Releases that were passed over because their metadata can't be read.
    pub unreadable: usize,
    /// Builds of older commits that were uploaded after it had moved to `from`.
    pub stale: usize,
    /// The push to its followers, if there was one.
    pub push: Option<PushId>,
    /// What failed after a write that succeeded, as a poke.
    pub warnings: Vec<String>,
    /// Each follower, and what became of it.
    pub followers: BTreeMap<ServerName, Fate>,
}

/// What became of a follower.
#[derive(Debug)]
pub enum Fate {
    /// It has what the channel points to.
    There,
    /// It was pushed to.
    Pushed,
    /// It was left alone.
    LeftAlone(LeftAlone),
    /// It should have been pushed to, and that failed; the text has the causes.
    Failed(String),
}

impl Done {
    /// What is said of a channel that has diverged.
    pub const DIVERGED: &str = "diverged: its release is not on its branch, which was rewritten; nothing moves it before \
        `push channel set`";
}

impl Fate {
    /// Every label that there is.
    pub const LABELS: [&str; 4] = ["there", "pushed", "left-alone", "failed"];

    /// In a word, as JSON and metrics have it.
    pub fn label(&self) -> &'static str {
        match self {
            Self::There => "there",
            Self::Pushed => "pushed",
            Self::LeftAlone(_) => "left-alone",
            Self::Failed(_) => "failed",
        }
    }
}

impl Outcome {
    /// Whether something of it failed, so that the next round has to make up for it.
    pub fn has_failed(&self) -> bool {
        match &self.result {
            Ok(done) => done.diverged || done.followers.values().any(|fate| matches!(fate, Fate::Failed(_))),
            Err(_) => true,
        }
    }
}
