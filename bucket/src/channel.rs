//! Channels: a named pointer, for one app, to one release. `channels/{app}/{channel}.json`.

use std::future::ready;

use futures_util::{Stream, TryStreamExt};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::{
    AppName, Bucket, ChannelName, Error, Generation, Metadata, Object, ObjectInfo, PageToken, ReleaseName, ServerName,
    items, layout,
};

/// Most bytes of a channel.
const MAX_SIZE: u64 = 256 << 10;

/// Where a channel points, and how it came there. Unknown fields are kept by whoever writes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Channel {
    /// The version of the format: 1.
    pub schema: u32,
    /// The app of which it points to a release.
    pub app: AppName,
    /// What it is called.
    pub channel: ChannelName,
    /// The release that it points to; `None` before the first move.
    pub release: Option<ReleaseName>,
    /// When it was pointed there, by the bucket's clock as far as that was known; before the first move, when it was made.
    pub moved: Timestamp,
    /// Who did that.
    pub by: String,
    /// Their reason, in their words.
    pub why: String,
    /// That it moves only by hand, if it does.
    pub frozen: Option<Frozen>,
    /// The releases that followers rolled back by themselves, newest first; at most [`Channel::MAX_ENTRIES`].
    #[serde(default)]
    pub rolled_back: Vec<RolledBackBy>,
    /// Where it pointed, newest first, the release that it points to now among them; at most [`Channel::MAX_ENTRIES`], and more
    /// where a channel behind it waits for them.
    #[serde(default)]
    pub history: Vec<Move>,
    /// What this program doesn't know.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

/// That a channel moves only by hand. Unknown fields are kept by whoever writes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Frozen {
    /// Who wants that.
    pub by: String,
    /// Since when.
    pub at: Timestamp,
    /// Their reason, in their words.
    pub why: String,
    /// Why it froze though it moves when told, and was only pointed to another release: a sentence's words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub because: Option<String>,
    /// What this program doesn't know.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

impl Frozen {
    /// Why, in words.
    pub fn in_words(&self) -> String {
        let Some(because) = &self.because else { return self.why.clone() };
        format!("{} (it moves when told, and froze all the same, because {because})", self.why)
    }
}

/// A follower that rolled a release back by itself: it goes to no other server. Unknown fields are kept by whoever writes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RolledBackBy {
    /// The release.
    pub release: ReleaseName,
    /// The follower.
    pub server: ServerName,
    /// When that was seen, by the bucket's clock.
    pub at: Timestamp,
    /// What its agent said.
    pub why: String,
    /// What this program doesn't know.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

/// One move of a channel. Unknown fields are kept by whoever writes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Move {
    /// The release that it was pointed to.
    pub release: ReleaseName,
    /// When, by the bucket's clock as far as that was known.
    pub at: Timestamp,
    /// Who did it.
    pub by: String,
    /// The reason, in their words.
    pub why: String,
    /// Whether a person pointed it there.
    #[serde(default)]
    pub kind: MoveKind,
    /// Whether a person pointed it there though the release had not gone through the channel before.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub without_soak: bool,
    /// When all followers that could be reached ran it, by the bucket's clock; `None` until then.
    pub ran: Option<Timestamp>,
    /// What this program doesn't know.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

/// What a move of a channel was.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub enum MoveKind {
    /// The watcher, or a pipeline, moved it forward on its line.
    #[default]
    Forward,
    /// A person pointed it there.
    Set,
    /// A person went back to what it pointed to before.
    Rollback,
    /// What a newer program calls it, foreign text.
    Other(String),
}

impl MoveKind {
    /// As objects and programs spell it. Of a kind that this program doesn't know it is foreign text.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Forward => "forward",
            Self::Set => "set",
            Self::Rollback => "rollback",
            Self::Other(kind) => kind,
        }
    }
}

impl From<String> for MoveKind {
    fn from(kind: String) -> Self {
        let found = [Self::Forward, Self::Set, Self::Rollback].into_iter().find(|known| known.as_str() == kind);
        found.unwrap_or(Self::Other(kind))
    }
}

impl From<MoveKind> for String {
    fn from(kind: MoveKind) -> Self {
        kind.as_str().to_owned()
    }
}

/// An object of a channel in a list, without being read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChannelSummary {
    /// The app.
    pub app: AppName,
    /// The channel.
    pub channel: ChannelName,
    /// The generation of the object.
    pub generation: Generation,
    /// The object's size in bytes.
    pub size: u64,
}

impl ChannelSummary {
    pub(crate) fn new((app, channel): (AppName, ChannelName), generation: Generation, size: u64) -> Self {
        Self { app, channel, generation, size }
    }
}

impl Channel {
    /// Most entries of each list, unless another channel waits for them.
    pub const MAX_ENTRIES: usize = 100;

    /// Whether it points where a person pointed it.
    pub fn is_pointed(&self) -> bool {
        let last = self.history.first().filter(|last| Some(&last.release) == self.release.as_ref());
        last.is_some_and(|last| matches!(last.kind, MoveKind::Set | MoveKind::Rollback))
    }

    /// The release that it pointed to at a time, as far as its history goes back.
    pub fn release_at(&self, time: Timestamp) -> Option<&ReleaseName> {
        self.history.iter().find(|entry| entry.at <= time).map(|entry| &entry.release)
    }

    /// A channel that points nowhere yet.
    pub fn new(app: AppName, channel: ChannelName, by: &str, why: &str, at: Timestamp) -> Self {
        Self {
            schema: 1,
            app,
            channel,
            release: None,
            moved: at,
            by: by.to_owned(),
            why: why.to_owned(),
            frozen: None,
            rolled_back: Vec::new(),
            history: Vec::new(),
            other: Map::new(),
        }
    }
}

impl Bucket {
    /// The channels that were ever moved or frozen.
    pub fn channels(&self) -> impl Stream<Item = Result<ChannelSummary, Error>> {
        let page = async |after: Option<PageToken>| self.list(layout::CHANNELS, after.as_ref(), 1000).await;
        let summary =
            |info: ObjectInfo| Some(ChannelSummary::new(layout::channel_at(&info.path)?, info.generation, info.size));
        items(page).try_filter_map(move |info| ready(Ok(summary(info))))
    }

    /// A channel, with its generation; `None` when it was never moved or frozen.
    ///
    /// # Errors
    /// Also [`Error::Malformed`]: what can't be understood is never written over.
    pub async fn channel(&self, app: &AppName, channel: &ChannelName) -> Result<Option<(Generation, Channel)>, Error> {
        let path = layout::channel(app, channel);
        let Some(Object { generation, content, .. }) = self.get(&path, MAX_SIZE).await? else { return Ok(None) };
        let malformed = |reason: String| Error::Malformed { object: path.to_string(), reason };
        let read: Channel = serde_json::from_slice(&content).map_err(|error| malformed(error.to_string()))?;
        if read.app != *app || read.channel != *channel {
            return Err(malformed(format!("it says that it is the channel `{}` of `{}`", read.channel, read.app)));
        }
        if read.schema != 1 {
            return Err(malformed(format!("it has schema {}, which this program does not know", read.schema)));
        }
        let foreign = read.release.iter().chain(read.history.iter().map(|entry| &entry.release));
        if let Some(foreign) = foreign.into_iter().find(|release| release.app() != app) {
            return Err(malformed(format!("it points to `{}`, which is no release of `{app}`", foreign.stem())));
        }
        Ok(Some((generation, read)))
    }

    /// Writes a channel: over the generation that was read, or as the first. The oldest entries that nobody would read are
    /// left out.
    ///
    /// # Errors
    /// [`Error::Conflict`] or [`Error::AlreadyExists`] when somebody else wrote it meanwhile, [`Error::TooLarge`] when it is too
    /// large without them. Nothing was written then.
    pub async fn write_channel(&self, channel: &Channel, seen: Option<Generation>) -> Result<Generation, Error> {
        let to_json = |channel: &Channel| serde_json::to_vec_pretty(channel).expect("a channel is JSON");
        let (mut kept, mut content) = (channel.clone(), to_json(channel));
        while content.len() as u64 > MAX_SIZE && (kept.history.len() > 1 || !kept.rolled_back.is_empty()) {
            let longer = kept.history.len().max(kept.rolled_back.len());
            kept.history.truncate(longer.saturating_sub(1).max(1));
            kept.rolled_back.truncate(longer - 1);
            content = to_json(&kept);
        }
        let path = layout::channel(&channel.app, &channel.channel);
        self.write_within(MAX_SIZE, &path, content, &Metadata::new(), seen).await
    }
}
