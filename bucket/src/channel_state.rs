//! What the watcher last saw of a channel. `channel-state/{app}/{channel}.json`. It is derived from the rest, and may be lost.

use std::future::ready;

use futures_util::{Stream, TryStreamExt};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::{
    AppName, Bucket, ChannelName, ChannelSummary, Commit, Error, Generation, Metadata, Object, ObjectInfo, PageToken,
    PushId, ReleaseName, ServerName, items, layout,
};

/// Most bytes of the object.
const MAX_SIZE: u64 = 512 << 10;

/// What a round saw of a channel, written when it differs from what the one before saw. Unknown fields are kept by whoever
/// writes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ChannelState {
    /// The version of the format: 1.
    pub schema: u32,
    /// The app.
    pub app: AppName,
    /// The channel.
    pub channel: ChannelName,
    /// When this was seen first, by the bucket's clock.
    pub at: Timestamp,
    /// Why the last round failed, if it did: the rest is then what an earlier one saw, as far as this one did not see it.
    #[serde(default)]
    pub problem: Option<String>,
    /// What the channel pointed to at the end of the round.
    pub release: Option<ReleaseName>,
    /// Where that stands on the line, from 0; `None` if it isn't on it.
    #[serde(default)]
    pub place: Option<usize>,
    /// How many commits of the line landed after it; `None` if it isn't on it.
    #[serde(default)]
    pub behind: Option<usize>,
    /// What the channel would move to if it were not frozen or did not move only when told.
    #[serde(default)]
    pub would: Option<ReleaseName>,
    /// The release that it moves to next once that has gone through the channel before, if one is on its way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub soaking: Option<Soaking>,
    /// The last of its rollouts that goes on, or keeps its release from going out otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollout: Option<PushId>,
    /// How many releases were passed over because their metadata can't be read.
    #[serde(default)]
    pub unreadable: usize,
    /// Some of those, at most [`ChannelState::MAX_PASSED_OVER`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub passed_over: Vec<ReleaseName>,
    /// Which those are, why, and what to do, of at most [`ChannelState::MAX_PASSED_OVER`] of them, each in a sentence.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub why_passed_over: Vec<String>,
    /// How many servers follow.
    #[serde(default)]
    pub followers: usize,
    /// Those of them that did not have the release at the end of the round, at most [`ChannelState::MAX_OFF`].
    #[serde(default)]
    pub off: Vec<OffChannel>,
    /// The last commits of the line that landed after the channel's own, newest first, at most [`ChannelState::MAX_LATER`].
    #[serde(default)]
    pub later: Vec<LaterCommit>,
    /// Apps whose last image is built on an older image than the channel points to, at most [`ChannelState::MAX_ON_OLDER`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub on_older: Vec<OnOlderBase>,
    /// What this program doesn't know.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

/// An app whose last image is built on an image that its channel has moved away from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OnOlderBase {
    /// The app.
    pub app: AppName,
    /// The commit of that last image.
    pub commit: Commit,
    /// What it is built on, with its digest. Foreign text to whoever reads it.
    pub base: String,
}

/// A release that is on its way through the channel before.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Soaking {
    /// The release.
    pub release: ReleaseName,
    /// That channel.
    pub from: ChannelName,
    /// When it has run there for long enough, if nobody goes back from it; `None` while not all followers run it.
    #[serde(default)]
    pub until: Option<Timestamp>,
    /// Followers of that channel that report and do not run it yet,
    #[serde(default)]
    pub waits_for: Vec<ServerName>,
    /// and how many more there are.
    #[serde(default)]
    pub more: usize,
}

/// A follower that did not get what its channel points to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OffChannel {
    /// The follower.
    pub server: ServerName,
    /// Whether it is to be so.
    pub state: OffState,
    /// Why, in a sentence.
    pub why: String,
}

/// What became of a follower that did not get what its channel points to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OffState {
    /// It waits for a rollout of the channel.
    Waits,
    /// It was left alone.
    LeftAlone,
    /// It should have been pushed to, and that failed.
    Failed,
    /// What a newer program calls it.
    #[serde(other)]
    Unknown,
}

/// A commit that landed after that of a channel's release.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LaterCommit {
    /// The commit.
    pub commit: Commit,
    /// Its release that the channel could point to, if there is one.
    pub release: Option<ReleaseName>,
}

impl ChannelState {
    /// Most followers that are named.
    pub const MAX_OFF: usize = 500;
    /// Most bytes of why one of them is where it is.
    pub const MAX_WHY: usize = 250;
    /// Most bytes of a problem, and of why something was passed over: room for two digests and what to do.
    pub const MAX_PROBLEM: usize = 1000;
    /// Most releases that are named of those that were passed over.
    pub const MAX_PASSED_OVER: usize = 10;
    /// Most apps that are named whose image is built on an older one.
    pub const MAX_ON_OLDER: usize = 100;
    /// Most commits that are named.
    pub const MAX_LATER: usize = 100;

    /// What was passed over, as far as it is named: an earlier watcher doesn't say why.
    pub fn named_passed_over(&self) -> Vec<String> {
        if !self.why_passed_over.is_empty() {
            return self.why_passed_over.clone();
        }
        self.passed_over.iter().map(|release| format!("`{}`", release.stem())).collect()
    }

    /// Whether it says the same as another, whenever it was seen.
    pub fn says_the_same(&self, other: &Self) -> bool {
        Self { at: other.at, ..self.clone() } == *other
    }
}

impl Bucket {
    /// The channels of which something was seen.
    pub fn channel_states(&self) -> impl Stream<Item = Result<ChannelSummary, Error>> {
        let page = async |after: Option<PageToken>| self.list(layout::CHANNEL_STATES, after.as_ref(), 1000).await;
        let summary = |info: ObjectInfo| {
            Some(ChannelSummary::new(layout::channel_state_at(&info.path)?, info.generation, info.size))
        };
        items(page).try_filter_map(move |info| ready(Ok(summary(info))))
    }

    /// What was last seen of a channel, with its generation; `None` when nothing was.
    ///
    /// # Errors
    /// Also [`Error::Malformed`]: what can't be understood says nothing.
    pub async fn channel_state(
        &self,
        app: &AppName,
        channel: &ChannelName,
    ) -> Result<Option<(Generation, ChannelState)>, Error> {
        let path = layout::channel_state(app, channel);
        let Some(Object { generation, content, .. }) = self.get(&path, MAX_SIZE).await? else { return Ok(None) };
        let malformed = |reason: String| Error::Malformed { object: path.to_string(), reason };
        let read: ChannelState = serde_json::from_slice(&content).map_err(|error| malformed(error.to_string()))?;
        if read.app != *app || read.channel != *channel {
            return Err(malformed(format!("it says that it is of the channel `{}` of `{}`", read.channel, read.app)));
        }
        if read.schema != 1 {
            return Err(malformed(format!("it has schema {}, which this program does not know", read.schema)));
        }
        let later = read.later.iter().filter_map(|later| later.release.as_ref());
        let soaking = read.soaking.iter().map(|soaking| &soaking.release);
        let mut named = read.release.iter().chain(&read.would).chain(soaking).chain(later).chain(&read.passed_over);
        if let Some(foreign) = named.find(|release| release.app() != app) {
            return Err(malformed(format!("it names `{}`, which is no release of `{app}`", foreign.stem())));
        }
        Ok(Some((generation, read)))
    }

    /// Writes what was seen of a channel: over the generation that was read, or as the first.
    ///
    /// # Errors
    /// [`Error::Conflict`] or [`Error::AlreadyExists`] when another watcher wrote meanwhile. Nothing was written then.
    pub async fn write_channel_state(
        &self,
        state: &ChannelState,
        seen: Option<Generation>,
    ) -> Result<Generation, Error> {
        let content = serde_json::to_vec_pretty(state).expect("what was seen of a channel is JSON");
        let path = layout::channel_state(&state.app, &state.channel);
        self.write_within(MAX_SIZE, &path, content, &Metadata::new(), seen).await
    }
}
