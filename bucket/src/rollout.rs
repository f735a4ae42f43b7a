//! Rollouts: pushes that are written in waves. Each is one object, replaced only with the generation that was read.
//!
//! A rollout's ID is that of its push. What a driver knows about each server lies in it, so that any other can go on.

use futures_util::{Stream, TryStreamExt};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::{
    AppName, Bucket, ChannelName, Error, Generation, Metadata, Object, ObjectInfo, PageToken, PushId, ReleaseName,
    ServerName, items, layout,
};

/// Most bytes of the object of a rollout.
const MAX_SIZE: u64 = 4 << 20;
/// What the row of a server grows by, in bytes: two generations and two times, or a sentence on why the server left.
const ROW_GROWTH: u64 = 240;
/// What decisions, and why it stopped, take at most, in bytes.
const DECISIONS: u64 = 128 << 10;

/// The metadata that has the [`RolloutHead`].
const HEAD: &str = "rollout";

/// A push in waves, `rollouts/{id}.json`. Unknown fields are kept by whoever writes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Rollout {
    /// The version of the format: 1.
    pub schema: u32,
    /// The push that it carries out.
    pub id: PushId,
    /// When that began; the push lies under it.
    pub began: Timestamp,
    /// The app that is rolled out.
    pub app: AppName,
    /// The release that its servers get.
    pub release: ReleaseName,
    /// Who began it: each write is judged by what they may do at that time.
    pub who: String,
    /// Whether a proxy signed them in; otherwise they were on the machine itself.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub signed_in: bool,
    /// Whether it also goes to servers that they have put on hold themselves.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub held: bool,
    /// The channel that it was begun for, if it brings what that pointed to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub channel: Option<ChannelName>,
    /// The reason, in their words.
    pub why: String,
    /// What its waves wait for and what stops it.
    pub rules: RolloutRules,
    /// The groups that its servers are in, with how many of each may be out.
    pub budgets: Vec<Budget>,
    /// Its waves, in order.
    pub waves: Vec<Wave>,
    /// Whether it goes on.
    pub stage: RolloutStage,
    /// Why it stopped, in a sentence; while it is [`RolloutStage::Stopped`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stopped: Option<String>,
    /// The push that undoes it, once somebody wants that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub undo: Option<Undo>,
    /// What persons decided about it, oldest first; at most [`Rollout::MAX_VERDICTS`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub verdicts: Vec<Verdict>,
    /// Who drove it last, and when, by the bucket's clock.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub driven: Option<Driven>,
    /// What newer programs wrote.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

/// What the waves of a rollout wait for, and what stops it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RolloutRules {
    /// For how many seconds a server must stay converged.
    pub settle_seconds: u64,
    /// How long a wave may take after its last write until enough servers have settled, in seconds.
    pub within_seconds: u64,
    /// How many of a hundred servers are enough, in a wave of more than ten; of a smaller one it is all.
    pub enough_percent: u8,
    /// How many failing servers stop it.
    pub stop_at: usize,
    /// The waves after which it waits for a verdict, from 1.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pause_after: Vec<usize>,
    /// Whether it undoes what it wrote when it stops.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub undo_on_stop: bool,
}

/// How many servers of a group may be out at a time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Budget {
    /// The group; `None`: the servers of the rollout that are in none.
    pub group: Option<String>,
    /// Its servers, those of the rollout and the others that have the app.
    pub servers: Vec<ServerName>,
    /// How many of them may be out.
    pub allowed: usize,
}

/// Servers that are written before those of the next wave.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Wave {
    /// Which servers it was meant to have, as it was asked for: `1`, `10%`, `group:prod`, `rest`.
    pub what: String,
    /// Its servers, in the order in which they are written.
    pub rows: Vec<WaveRow>,
}

/// One server of a rollout, and what is known of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct WaveRow {
    /// The server.
    pub server: ServerName,
    /// The release that its document named when the rollout was planned.
    pub from: Option<ReleaseName>,
    /// Why it counts for nothing, if it does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uncounted: Option<Uncounted>,
    /// The generation of the document that is to be replaced, noted before that is done; 0 when there was none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub noted: Option<Generation>,
    /// The generation of the document that was written, and when that was seen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub written: Option<Written>,
    /// Since when its agent says that it runs the release, by the bucket's clock.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub converged: Option<Timestamp>,
    /// Whether it stayed so for long enough.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub settled: bool,
    /// Whether it was written back by the undo.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub undone: bool,
    /// Why it is no longer of the rollout, in a sentence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub left: Option<String>,
    /// What newer programs wrote.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

/// Why a server counts neither for what is enough nor for what stops a rollout.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Uncounted {
    /// Its agent did not report when the rollout was planned.
    Silent,
    /// It had failed when a person had the rollout go on.
    Excused,
    /// A reason of a newer program.
    #[serde(other)]
    Unknown,
}

/// A document as a rollout wrote it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Written {
    /// Its generation.
    pub generation: Generation,
    /// When it was written, by the bucket's clock.
    pub at: Timestamp,
}

/// Whether a rollout goes on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub enum RolloutStage {
    /// Its waves are written one after the other.
    Running,
    /// It stopped, by itself or because a person said so: a person decides how it goes on.
    Stopped,
    /// What it wrote is being written back.
    Undoing,
    /// Every wave has enough.
    Done,
    /// What it wrote was written back.
    Undone,
    /// A person gave it up: what it wrote stays.
    Abandoned,
    /// A stage of a newer program: nobody else drives it.
    Other(String),
}

/// What a person, or a judge from outside, decided about a rollout.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdict {
    /// What was decided: `pass`, `fail`, `unsure`, `continue`, `stop`, `undo`, `abandon`.
    pub what: String,
    /// The last wave that had been written then, from 1.
    pub wave: usize,
    /// Who did.
    pub by: String,
    /// When, by the bucket's clock.
    pub at: Timestamp,
    /// The reason, in their words.
    pub why: String,
}

/// The push that undoes a rollout.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Undo {
    /// The push.
    pub id: PushId,
    /// When it began; it lies under it.
    pub began: Timestamp,
    /// Who wanted it: each write is judged by what they may do at that time.
    pub who: String,
    /// Whether a proxy signed them in; otherwise they were on the machine itself.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub signed_in: bool,
    /// The reason, in their words.
    pub why: String,
}

/// Who drove a rollout, and when.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Driven {
    /// The program and its machine.
    pub by: String,
    /// When, by the bucket's clock.
    pub at: Timestamp,
}

/// A rollout in a list, without being read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RolloutSummary {
    /// Its ID.
    pub id: PushId,
    /// The generation of its object.
    pub generation: Generation,
    /// The object's size in bytes.
    pub size: u64,
    /// When it was written last, by the bucket's clock.
    pub updated: Timestamp,
    /// What its metadata says of it; `None` of one that no program of ours wrote.
    pub head: Option<RolloutHead>,
}

/// What a list says of a rollout: written together with it, so that those that are over need not be read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RolloutHead {
    /// When it began.
    pub began: Timestamp,
    /// The app.
    pub app: AppName,
    /// The channel that it was begun for, if it is of one.
    pub channel: Option<ChannelName>,
    /// Whether it goes on.
    pub stage: RolloutStage,
}

impl RolloutHead {
    fn of(rollout: &Rollout) -> Metadata {
        let Rollout { began, app, channel, stage, .. } = rollout.clone();
        let head =
            serde_json::to_string(&Self { began, app, channel, stage }).expect("what is told of a rollout is JSON");
        Metadata::from([(HEAD.to_owned(), head)])
    }

    fn from_metadata(metadata: &Metadata) -> Option<Self> {
        serde_json::from_str(metadata.get(HEAD)?).ok()
    }
}

impl Rollout {
    /// Most verdicts that are kept.
    pub const MAX_VERDICTS: usize = 100;

    /// Every row, those of earlier waves first.
    pub fn rows(&self) -> impl Iterator<Item = &WaveRow> {
        self.waves.iter().flat_map(|wave| &wave.rows)
    }

    /// Every row, to be changed.
    pub fn rows_mut(&mut self) -> impl Iterator<Item = &mut WaveRow> {
        self.waves.iter_mut().flat_map(|wave| &mut wave.rows)
    }

    /// How many waves have begun: up to the last one of which something was about to be written.
    pub fn begun_waves(&self) -> usize {
        let begun = self.waves.iter().rposition(|wave| wave.rows.iter().any(|row| row.noted.is_some()));
        begun.map_or(0, |at| at + 1)
    }

    /// The row of a server.
    pub fn row(&self, server: &ServerName) -> Option<&WaveRow> {
        self.rows().find(|row| row.server == *server)
    }

    /// The rows that count: their agents reported when it was planned, and nobody excused them.
    pub fn counted(&self) -> impl Iterator<Item = &WaveRow> {
        self.rows().filter(|row| row.counts())
    }

    /// Whether there is room in its object for what drivers are going to note of each of its servers.
    pub fn has_room(&self) -> bool {
        let rows = u64::try_from(self.rows().count()).unwrap_or(u64::MAX);
        let grown = (self.to_json().len() as u64).saturating_add(rows.saturating_mul(ROW_GROWTH));
        grown.saturating_add(DECISIONS) <= MAX_SIZE
    }

    fn to_json(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("a rollout is JSON")
    }
}

impl WaveRow {
    /// Whether it counts for what is enough, and for what stops the rollout.
    pub fn counts(&self) -> bool {
        self.uncounted.is_none()
    }

    /// A server that nothing was done to yet.
    pub fn new(server: ServerName, from: Option<ReleaseName>) -> Self {
        Self {
            server,
            from,
            uncounted: None,
            noted: None,
            written: None,
            converged: None,
            settled: false,
            undone: false,
            left: None,
            other: Map::new(),
        }
    }
}

impl RolloutStage {
    /// As objects and programs spell it. Of a stage that this program doesn't know it is foreign text.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Running => "running",
            Self::Stopped => "stopped",
            Self::Undoing => "undoing",
            Self::Done => "done",
            Self::Undone => "undone",
            Self::Abandoned => "abandoned",
            Self::Other(stage) => stage,
        }
    }

    /// Whether there is nothing left to do.
    pub fn is_over(&self) -> bool {
        matches!(self, Self::Done | Self::Undone | Self::Abandoned)
    }
}

impl From<String> for RolloutStage {
    fn from(stage: String) -> Self {
        let known = [Self::Running, Self::Stopped, Self::Undoing, Self::Done, Self::Undone, Self::Abandoned];
        known.into_iter().find(|known| known.as_str() == stage).unwrap_or(Self::Other(stage))
    }
}

impl From<RolloutStage> for String {
    fn from(stage: RolloutStage) -> Self {
        stage.as_str().to_owned()
    }
}

impl Bucket {
    /// All rollouts, in no order that says anything.
    pub fn rollouts(&self) -> impl Stream<Item = Result<RolloutSummary, Error>> {
        let page = async |after: Option<PageToken>| self.list(layout::ROLLOUTS, after.as_ref(), 1000).await;
        items(page).try_filter_map(|info| async move {
            let ObjectInfo { generation, size, updated, metadata, .. } = info;
            let head = RolloutHead::from_metadata(&metadata);
            Ok(layout::rollout_at(&info.path).map(|id| RolloutSummary { id, generation, size, updated, head }))
        })
    }

    /// A rollout, with its generation; `None` when there is none.
    ///
    /// # Errors
    /// Also [`Error::Malformed`]: what can't be understood is never written over.
    pub async fn rollout(&self, id: &PushId) -> Result<Option<(Generation, Rollout)>, Error> {
        let path = layout::rollout(id);
        let Some(Object { generation, content, .. }) = self.get(&path, MAX_SIZE).await? else { return Ok(None) };
        let malformed = |reason: String| Error::Malformed { object: path.to_string(), reason };
        let rollout: Rollout = serde_json::from_slice(&content).map_err(|error| malformed(error.to_string()))?;
        if rollout.id != *id {
            return Err(malformed(format!("it says that it is `{}`", rollout.id)));
        }
        Ok(Some((generation, rollout)))
    }

    /// Writes a rollout: over the generation that was read, or as a new one.
    ///
    /// # Errors
    /// [`Error::Conflict`] or [`Error::AlreadyExists`] when somebody else wrote it meanwhile, [`Error::TooLarge`] when it has
    /// too many servers. Nothing was written then.
    pub async fn write_rollout(&self, rollout: &Rollout, seen: Option<Generation>) -> Result<Generation, Error> {
        let (path, head) = (layout::rollout(&rollout.id), RolloutHead::of(rollout));
        self.write_within(MAX_SIZE, &path, rollout.to_json(), &head, seen).await
    }
}
