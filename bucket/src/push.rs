//! Pushes: each is one object, written before anything changes, and one more when it has ended.

use std::collections::BTreeMap;

use futures_util::{StreamExt, TryStreamExt, stream};
use jiff::Timestamp;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::{
    AppName, Bucket, ChannelName, Error, LastPush, Metadata, ObjectInfo, ObjectPath, PushId, PushKind, ReleaseName,
    ServerName,
    ascii::{cut, to_ascii_json},
    layout,
    newest::newest,
};

/// Most bytes of the object of a push.
const MAX_SIZE: u64 = 4 << 20;
/// Most bytes of the object that ends one.
const MAX_END: u64 = 4 << 20;
/// The metadata key with what a list shows of a push.
const HEAD: &str = "push";
/// The metadata key with the number of rows that were not written.
const UNWRITTEN: &str = "unwritten";
/// Most bytes of a head: the storage allows 8 KiB with everything.
const MAX_HEAD: usize = 7500;
/// Beginnings of the listings of the last pushes, in days before now.
const DAYS: [i64; 3] = [1, 7, 30];
/// Pushes that are read at the same time, when their metadata doesn't tell of them.
const AT_ONCE: usize = 16;

/// One decision for any number of servers, `pushes/{time}-{id}.json`. Never changed; unknown fields are ignored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Push {
    /// What it is called.
    pub id: PushId,
    /// When it began, by the bucket's clock as far as that was known.
    pub time: Timestamp,
    /// The app that was pushed; `None` of a push that is about whole servers, as a retirement.
    pub app: Option<AppName>,
    /// What it was for.
    pub kind: PushKind,
    /// The push that it undoes or tries again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub of: Option<PushId>,
    /// Who pushed: `user@host` of the command, or who was signed in.
    pub who: String,
    /// The reason, in their words; empty when they gave none.
    pub why: String,
    /// Whether it is written in waves, by whoever drives its rollout: it is never cut off.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub rollout: bool,
    /// Whether an admin had it written all at once where the policy asks for waves.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub without_waves: bool,
    /// The channel that the watcher, or who pushed what it points to, pushed for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub channel: Option<ChannelName>,
    /// What it does to each server.
    pub rows: Vec<PushRow>,
}

/// What a push does to one server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PushRow {
    /// The server.
    pub server: ServerName,
    /// The release that the operator saw in its document.
    pub from: Option<ReleaseName>,
    /// The release that its document should name; `None` when the app is taken off, or the push names no app.
    pub to: Option<ReleaseName>,
}

/// What a list shows of a push, from a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PushHead {
    /// What it is called.
    pub id: PushId,
    /// When it began.
    pub time: Timestamp,
    /// The app that was pushed; `None` of a push that is about whole servers, as a retirement.
    pub app: Option<AppName>,
    /// What it was for.
    pub kind: PushKind,
    /// The push that it undoes or tries again.
    pub of: Option<PushId>,
    /// Who pushed.
    pub who: String,
    /// The reason; of a very long one the beginning.
    pub why: String,
    /// The number of servers.
    pub rows: usize,
    /// The first of them.
    pub server: Option<ServerName>,
    /// The release, if it is the same for all of them.
    pub to: Option<ReleaseName>,
    /// Whether it is written in waves.
    pub rollout: bool,
    /// Whether an admin had it written all at once where the policy asks for waves.
    pub without_waves: bool,
    /// How many rows were not written, once it has ended; `None` while nobody has ended it.
    pub unwritten: Option<usize>,
}

/// That a push is over, `pushes/{time}-{id}.end.json`: created once, by whoever ends it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PushEnd {
    /// When it ended, by the bucket's clock as far as that was known.
    pub time: Timestamp,
    /// Who ended it.
    pub who: String,
    /// The rows that were not written.
    pub rows: Vec<UnwrittenRow>,
}

/// A row that was not written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnwrittenRow {
    /// The server.
    pub server: ServerName,
    /// Why nothing was written.
    pub cause: UnwrittenCause,
}

/// Why a row was not written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub enum UnwrittenCause {
    /// The policy forbids it.
    Policy,
    /// The app is on hold there.
    Hold,
    /// Somebody pushed in between.
    Conflict,
    /// An operator stopped the push.
    Stopped,
    /// All pushes were halted.
    Halted,
    /// The release was rejected.
    Rejected,
    /// Something failed, as the network.
    Failed,
    /// What a newer program calls it; foreign text.
    Other(String),
}

/// The head as it lies in metadata.
#[derive(Debug, Serialize, Deserialize)]
struct StoredHead {
    app: Option<AppName>,
    kind: PushKind,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    of: Option<PushId>,
    who: String,
    why: String,
    rows: usize,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    server: Option<ServerName>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    to: Option<ReleaseName>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    rollout: bool,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    without_waves: bool,
}

impl Push {
    /// How many of its rows fit into one push: all of them, of one that can be written.
    pub fn rows_that_fit(&self) -> usize {
        // A row takes its JSON, a comma and a new line.
        let head = json(&Self { rows: Vec::new(), ..self.clone() }).len() as u64;
        let mut room = MAX_SIZE.saturating_sub(head + 2);
        let fits = |row: &&PushRow| {
            let taken = json(*row).len() as u64 + 2;
            let fits = taken <= room;
            room = room.saturating_sub(taken);
            fits
        };
        self.rows.iter().take_while(fits).count()
    }

    /// What a list shows of it.
    pub fn head(&self) -> PushHead {
        let to = self.rows.first().and_then(|row| row.to.as_ref());
        PushHead {
            id: self.id.clone(),
            time: self.time,
            app: self.app.clone(),
            kind: self.kind.clone(),
            of: self.of.clone(),
            who: self.who.clone(),
            why: self.why.clone(),
            rows: self.rows.len(),
            server: self.rows.first().map(|row| row.server.clone()),
            to: to.filter(|to| self.rows.iter().all(|row| row.to.as_ref() == Some(to))).cloned(),
            rollout: self.rollout,
            without_waves: self.without_waves,
            unwritten: None,
        }
    }

    /// As it is stored: one row a line.
    fn to_json(&self) -> String {
        let head = json(&Self { rows: Vec::new(), ..self.clone() });
        let rows: Vec<String> = self.rows.iter().map(json).collect();
        let head = head.strip_suffix("]}").expect("its rows come last");
        format!("{head}\n{}\n]}}", rows.join(",\n"))
    }

    fn to_metadata(&self) -> Metadata {
        let PushHead { app, kind, of, who, why, rows, server, to, rollout, without_waves, .. } = self.head();
        let mut head = StoredHead { app, kind, of, who, why, rows, server, to, rollout, without_waves };
        let mut text = to_ascii_json(&head);
        if text.len() > MAX_HEAD {
            head.why = cut(&head.why, LastPush::MAX_WHY);
            head.who = cut(&head.who, LastPush::MAX_WHY);
            text = to_ascii_json(&head);
        }
        Metadata::from([(HEAD.to_owned(), text)])
    }
}

impl UnwrittenCause {
    /// As objects and programs spell it. Of a cause that this program doesn't know it is foreign text.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Policy => "policy",
            Self::Hold => "hold",
            Self::Conflict => "conflict",
            Self::Stopped => "stopped",
            Self::Halted => "halted",
            Self::Rejected => "rejected",
            Self::Failed => "failed",
            Self::Other(cause) => cause,
        }
    }
}

impl From<String> for UnwrittenCause {
    fn from(cause: String) -> Self {
        let known =
            [Self::Policy, Self::Hold, Self::Conflict, Self::Stopped, Self::Halted, Self::Rejected, Self::Failed];
        let found = known.into_iter().find(|known| known.as_str() == cause);
        found.unwrap_or_else(|| Self::Other(cut(&cause, 40)))
    }
}

impl From<UnwrittenCause> for String {
    fn from(cause: UnwrittenCause) -> Self {
        cause.as_str().to_owned()
    }
}

impl Bucket {
    /// Records a push that is about to be carried out.
    ///
    /// # Errors
    /// [`Error::TooLarge`] when it has more rows than fit ([`Push::rows_that_fit`]). Nothing was written then.
    pub async fn create_push(&self, push: &Push) -> Result<(), Error> {
        let (path, content) = (layout::push(push.time, &push.id), push.to_json());
        let size = content.len() as u64;
        if size > MAX_SIZE {
            return Err(Error::TooLarge { object: path.to_string(), size, limit: MAX_SIZE });
        }
        self.create(&path, content.into(), &push.to_metadata()).await.map(drop)
    }

    /// A push with all its rows.
    pub async fn push(&self, time: Timestamp, id: &PushId) -> Result<Option<Push>, Error> {
        self.read_json(&layout::push(time, id), MAX_SIZE).await
    }

    /// Ends a push; whether nobody had before.
    pub async fn end_push(&self, time: Timestamp, id: &PushId, end: &PushEnd) -> Result<bool, Error> {
        let metadata = Metadata::from([(UNWRITTEN.to_owned(), end.rows.len().to_string())]);
        match self.create(&layout::push_end(time, id), json(end).into(), &metadata).await {
            Ok(_) => Ok(true),
            Err(Error::AlreadyExists { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// How a push ended, if somebody ended it.
    pub async fn push_end(&self, time: Timestamp, id: &PushId) -> Result<Option<PushEnd>, Error> {
        self.read_json(&layout::push_end(time, id), MAX_END).await
    }

    /// Whether somebody ended a push.
    pub async fn is_push_ended(&self, time: Timestamp, id: &PushId) -> Result<bool, Error> {
        Ok(self.head(&layout::push_end(time, id)).await?.is_some())
    }

    /// The last pushes, newest first, at most `limit`; those that can't be understood are passed over.
    pub async fn newest_pushes(&self, limit: usize) -> Result<Vec<PushHead>, Error> {
        // With each comes the object that ends it.
        let objects = newest(self, layout::PUSHES, None, &DAYS, limit.saturating_mul(2)).await?;
        self.heads(objects, limit).await
    }

    /// The pushes since a time, newest first, at most `limit`. Older ones aren't even listed.
    pub async fn pushes_since(&self, since: Timestamp, limit: usize) -> Result<Vec<PushHead>, Error> {
        let objects = newest(self, layout::PUSHES, Some(since), &DAYS, limit).await?;
        self.heads(objects, limit).await
    }

    /// The push of this ID, if there is one.
    pub async fn find_push(&self, id: &PushId) -> Result<Option<PushHead>, Error> {
        let is_it = |info: &ObjectInfo| layout::push_at(&info.path).is_some_and(|(_, found, _)| found == *id);
        // What is looked for is mostly new.
        for days in [&DAYS[..1], &DAYS[1..], &[]] {
            let enough = if days.is_empty() { usize::MAX } else { 0 };
            let objects = newest(self, layout::PUSHES, None, days, enough).await?;
            let found: Vec<ObjectInfo> = objects.into_iter().filter(is_it).collect();
            if !found.is_empty() {
                return Ok(self.heads(found, 1).await?.pop());
            }
        }
        Ok(None)
    }

    async fn heads(&self, objects: Vec<ObjectInfo>, limit: usize) -> Result<Vec<PushHead>, Error> {
        let (mut ends, mut heads) = (BTreeMap::new(), Vec::new());
        // Newest first: and then each end comes right after its push.
        for info in objects.into_iter().rev() {
            match layout::push_at(&info.path) {
                Some((_, id, true)) => {
                    let unwritten = info.metadata.get(UNWRITTEN).and_then(|text| text.parse().ok());
                    ends.insert(id, unwritten.unwrap_or_default());
                }
                Some((time, id, false)) if heads.len() < limit => heads.push((time, id, info)),
                _ => {}
            }
        }
        let heads = stream::iter(heads).map(async |(time, id, info)| {
            let stored = info.metadata.get(HEAD).and_then(|text| serde_json::from_str::<StoredHead>(text).ok());
            let head = match stored {
                Some(StoredHead { app, kind, of, who, why, rows, server, to, rollout, without_waves }) => {
                    Some(PushHead {
                        id: id.clone(),
                        time,
                        app,
                        kind,
                        of,
                        who,
                        why,
                        rows,
                        server,
                        to,
                        rollout,
                        without_waves,
                        unwritten: None,
                    })
                }
                None => self.read_json::<Push>(&info.path, MAX_SIZE).await?.map(|push| push.head()),
            };
            Ok(head.map(|head| PushHead { unwritten: ends.get(&id).copied(), time, id, ..head }))
        });
        let heads: Vec<Option<PushHead>> = heads.buffered(AT_ONCE).try_collect().await?;
        Ok(heads.into_iter().flatten().collect())
    }

    /// An object that is JSON; one that can't be understood is passed over.
    async fn read_json<T: DeserializeOwned>(&self, path: &ObjectPath, limit: u64) -> Result<Option<T>, Error> {
        let Some(object) = self.get(path, limit).await? else { return Ok(None) };
        Ok(serde_json::from_slice(&object.content)
            .inspect_err(|error| tracing::warn!(%path, %error, "object of a push passed over"))
            .ok())
    }
}

fn json<T: Serialize>(value: &T) -> String {
    serde_json::to_string(value).expect("a push is JSON")
}
