//! The rules of a channel: what it follows, and which servers follow it.

use std::time::Duration;

use bucket::{AppName, ChannelName, ServerName};
use globset::{Glob, GlobSet};
use registry::{Reference, Repository, Tag};

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
    /// The image that it moves, of a channel that no server follows.
    pub image: Option<ImageRules>,
    /// Where what deploys that image reads which one to take, if the channel writes it there.
    pub config: Option<ConfigRules>,
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

/// The image of a channel, and the tag that says where the channel points.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ImageRules {
    /// What it is called. Its tags that are commits are the releases.
    pub name: Repository,
    /// The tag that is moved.
    pub tag: Tag,
}

/// Files of a repository, in which the lines of a channel's image have the tag of where the channel points.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigRules {
    /// Where they are.
    pub repo: RepoUrl,
    /// The branch that is committed to.
    pub branch: Branch,
    /// Which files, by their whole path in it; `*` stays within a directory, `**` goes through them.
    pub files: Vec<Glob>,
}

impl ConfigRules {
    /// Which files, as they are written in the configuration.
    pub fn paths(&self) -> impl Iterator<Item = &str> {
        self.files.iter().map(Glob::glob)
    }

    /// What finds them by their paths.
    pub fn matcher(&self) -> GlobSet {
        GlobSet::new(&self.files).expect("each of them was compiled when it was read")
    }
}

impl ImageRules {
    /// Name and tag.
    pub fn reference(&self) -> Reference {
        Reference { repository: self.name.clone(), tag: Some(self.tag.clone()), digest: None }
    }
}

impl ChannelRules {
    /// The repositories that must be fetched before the channel is looked at.
    pub fn repos(&self) -> impl Iterator<Item = &RepoUrl> {
        std::iter::once(&self.repo).chain(self.config.as_ref().map(|config| &config.repo))
    }

    /// Whether a server may follow it: it does if its document has the app.
    pub fn matches(&self, server: &ServerName) -> bool {
        self.servers.iter().any(|pattern| pattern.matches(server.as_str()))
    }

    /// How many followers may be out at a time, if that is all that the channel says of waves: then they are one wave.
    pub fn only_max_down(&self) -> Option<Share> {
        self.max_down.filter(|_| self.asked.is_none())
    }
}
