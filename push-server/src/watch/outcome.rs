//! What a round did with each channel, and what became of its followers.

use std::{collections::BTreeMap, fmt};

use anyhow::Result;
use bucket::{
    AppName, ChannelName, Commit, LaterCommit, OnOlderBase, PushId, ReleaseName, Rollout, RolloutStage, ServerName,
    Soaking,
};
use fleet::{
    channel::{branch::Branch, follower::LeftAlone, repo::RepoUrl},
    follow::Follower,
    policy::ChannelRules,
};
use registry::{Digest, Reference, Repository};

/// What a round did with a channel.
#[derive(Debug)]
pub struct Outcome {
    /// The app.
    pub app: AppName,
    /// The channel.
    pub channel: ChannelName,
    /// Where it moved forward, if it did, whatever came of the rest.
    pub moved: Option<ReleaseName>,
    /// What became of it; the error has what failed.
    pub result: Result<Done>,
}

/// What a round did with a channel that could be looked at.
#[derive(Debug, Default)]
pub struct Done {
    /// What it pointed to before.
    pub from: Option<ReleaseName>,
    /// What it points to.
    pub release: Option<ReleaseName>,
    /// What it would move to if nothing kept it.
    pub would: Option<ReleaseName>,
    /// What it would move to once that has gone through the channel before.
    pub soaking: Option<Soaking>,
    /// That its release is not on its branch, if it is not and nobody pointed it there.
    pub diverged: Option<Diverged>,
    /// Where its release stands on the line, from 0.
    pub place: Option<usize>,
    /// How many commits landed after it.
    pub behind: Option<usize>,
    /// The last of them, newest first.
    pub later: Vec<LaterCommit>,
    /// Releases and images that were passed over because they can't be read.
    pub unreadable: usize,
    /// Some of the releases among those.
    pub passed_over: Vec<ReleaseName>,
    /// Which some of those are, why, and what to do, each as a sentence.
    pub why_passed_over: Vec<String>,
    /// Builds of older commits that were uploaded after it had moved to `from`.
    pub stale: usize,
    /// The push to its followers, if there was one; if it goes out in waves, its rollout is that.
    pub push: Option<PushId>,
    /// The tag that was moved to its image, of a channel of images.
    pub tagged: Option<Reference>,
    /// The commit that was pushed to its configuration.
    pub configured: Option<Commit>,
    /// What is known of its image, of a channel of images.
    pub(super) stands: Option<Stands>,
    /// Apps whose last image is built on an older one than that; `None` if that could not be seen.
    pub on_older: Option<Vec<OnOlderBase>>,
    /// The lines of its configuration that were left alone, each as a sentence.
    pub kept: Vec<String>,
    /// Its rollouts that were carried on, decided about or begun, or that keep its release; the last one may go on.
    pub rollouts: Vec<Going>,
    /// What failed after a write that succeeded, as a poke.
    pub warnings: Vec<String>,
    /// Each follower, and what became of it.
    pub followers: BTreeMap<ServerName, Fate>,
}

/// What is known of an image that a channel points to, and of the last one of its app.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stands {
    /// What it is called.
    pub(super) name: Repository,
    /// What the channel points to.
    pub(super) digest: Digest,
    /// Images of it that are recorded and newer, some of them: another channel may point there.
    pub(super) newer: Vec<Digest>,
    /// The last image that is recorded of the app.
    pub(super) last: LastBuilt,
}

/// The last image that is recorded of an app.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct LastBuilt {
    pub(super) commit: Commit,
    /// What it is built on, as far as that is known.
    pub(super) base: Option<Reference>,
}

/// Why a channel has diverged, as a sentence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Diverged {
    /// The branch was rewritten.
    Rewritten,
    /// There is no such branch.
    NoBranch {
        /// Where.
        repo: RepoUrl,
        /// What it is called.
        branch: Branch,
    },
}

impl Diverged {
    pub(super) fn no_branch(rules: &ChannelRules) -> Self {
        Self::NoBranch { repo: rules.repo.clone(), branch: rules.branch.clone() }
    }
}

impl fmt::Display for Diverged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rewritten => write!(
                f,
                "diverged: its release is not on its branch, which was rewritten; nothing moves it before `push channel set`"
            ),
            Self::NoBranch { repo, branch } => write!(
                f,
                "diverged: there is no branch `{branch}`, so nothing moves it before `push channel set`, or before `{repo}` has \
                 that branch"
            ),
        }
    }
}

/// What became of a follower.
#[derive(Debug)]
pub enum Fate {
    /// It has what the channel points to.
    There,
    /// It was pushed to.
    Pushed,
    /// It gets the release from a rollout that goes on, or after it; or one that did not end well keeps it from that. As a
    /// sentence.
    Waits(String),
    /// It was left alone.
    LeftAlone(LeftAlone),
    /// It should have been pushed to, and that failed; the text has the causes.
    Failed(String),
}

impl Done {
    /// These followers should have been pushed to, and that failed for this reason.
    pub(super) fn fail(&mut self, followers: &[Follower<'_>], why: &str) {
        let failed = followers.iter().map(|follower| (follower.server.name.clone(), Fate::Failed(why.to_owned())));
        self.followers.extend(failed);
    }
}

impl Fate {
    /// Every label that there is.
    pub const LABELS: [&str; 5] = ["there", "pushed", "waits", "left-alone", "failed"];

    /// In a word, as JSON and metrics have it.
    pub fn label(&self) -> &'static str {
        match self {
            Self::There => "there",
            Self::Pushed => "pushed",
            Self::Waits(_) => "waits",
            Self::LeftAlone(_) => "left-alone",
            Self::Failed(_) => "failed",
        }
    }
}

/// A channel's rollout, and how far it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Going {
    /// The rollout.
    pub id: PushId,
    /// The release that it brings.
    pub release: ReleaseName,
    /// Whether it goes on.
    pub stage: RolloutStage,
    /// What it waits for or why it doesn't go on, in a sentence's words; `None` when it is over.
    pub why: Option<String>,
}

impl Going {
    pub(super) fn of(rollout: &Rollout, waits: Option<&str>) -> Self {
        let Rollout { id, release, stage, stopped, .. } = rollout;
        let why = match stage {
            RolloutStage::Stopped => stopped.as_deref(),
            RolloutStage::Running | RolloutStage::Undoing => waits,
            _ => None,
        };
        Self { id: id.clone(), release: release.clone(), stage: stage.clone(), why: why.map(str::to_owned) }
    }

    /// Why followers wait for it, as a sentence that stays the same while it goes on.
    pub(super) fn keeps(&self) -> String {
        if matches!(self.stage, RolloutStage::Running | RolloutStage::Undoing) {
            Self { why: None, ..self.clone() }.to_string()
        } else {
            self.to_string()
        }
    }
}

/// As a sentence: `rollout k3v9 of web:… is running: waiting for a report of web-1`.
impl fmt::Display for Going {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "rollout {} of {} is {}", self.id, self.release.stem(), self.stage.as_str())?;
        if let Some(why) = &self.why {
            write!(f, ": {why}")?;
        }
        if self.stage == RolloutStage::Stopped {
            write!(
                f,
                "; `push rollout continue {0}` goes on, `push rollout undo {0}` restores what ran before",
                self.id
            )?;
        }
        Ok(())
    }
}

impl Outcome {
    pub(super) fn of(rules: &ChannelRules, result: Result<Done>) -> Self {
        Self { app: rules.app.clone(), channel: rules.channel.clone(), moved: None, result }
    }

    pub(super) fn is_of(&self, rules: &ChannelRules) -> bool {
        self.app == rules.app && self.channel == rules.channel
    }

    /// Whether something of it failed, so that the next round has to make up for it.
    pub fn has_failed(&self) -> bool {
        match &self.result {
            Ok(done) => done.diverged.is_some() || done.followers.values().any(|fate| matches!(fate, Fate::Failed(_))),
            Err(_) => true,
        }
    }
}
