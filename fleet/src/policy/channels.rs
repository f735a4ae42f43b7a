//! The rules of a channel: what it follows, and which servers follow it.

use std::time::Duration;

use bucket::{AppName, ChannelName, ServerName};

use super::pattern::Pattern;
use crate::{
    channel::{branch::Branch, change::Moves, repo::RepoUrl},
    wish::{Asked, Share},
};

/// One channel, as the policy file has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChannelRules {
    /// The app of which it points to a release.
    pub app: AppName,
    /// What it is called.
    pub channel: ChannelName,
    /// Where the commits of its releases lie.
    pub repo: RepoUrl,
    /// The branch on which it moves forward.
    pub branch: Branch,
    /// Which servers may follow it.
    pub servers: Vec<Pattern>,
    /// What moves it.
    pub moves: Moves,
    /// The waves in which its followers get a release, if it says.
    pub asked: Option<Asked>,
    /// How many followers of a group may be out at a time, if it says.
    pub max_down: Option<Share>,
    /// The channel of the same app that a release must have gone through.
    pub from: Option<ChannelName>,
    /// How long the followers of that must have run it.
    pub soak: Duration,
}

impl ChannelRules {
    /// Whether a server may follow it: it does if its document has the app.
    pub fn matches(&self, server: &ServerName) -> bool {
        self.servers.iter().any(|pattern| pattern.matches(server.as_str()))
    }

    /// How many followers may be out at a time, if that is all that the channel says of waves: then they are one wave.
    pub fn only_max_down(&self) -> Option<Share> {
        self.max_down.filter(|_| self.asked.is_none())
    }
}
