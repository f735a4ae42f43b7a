//! Holds: somebody works on a server, and nobody else's push touches it until then. `holds/{server}.json`.

use std::collections::BTreeMap;

use futures_util::{StreamExt, TryStreamExt};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::{
    AppName, Bucket, Error, Generation, Metadata, Object, PageToken, PushId, ReleaseName, ServerName, items, layout,
};

/// Most bytes of the holds of a server.
const MAX_SIZE: u64 = 64 << 10;
/// Servers with holds that are listed.
const MAX_LISTED: usize = 20_000;

/// The holds of a server. Unknown fields are kept by whoever writes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holds {
    /// The version of the format: 1.
    pub schema: u32,
    /// Each of them, also those that are over.
    pub holds: Vec<Hold>,
    /// What this program doesn't know.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

/// One hold. Unknown fields are kept by whoever writes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hold {
    /// The app that is on hold; `None` for all of the server.
    #[serde(default)]
    pub app: Option<AppName>,
    /// Who set it.
    pub by: String,
    /// The reason, in their words.
    pub why: String,
    /// When it was set, by the bucket's clock as far as that was known.
    pub at: Timestamp,
    /// When it ends.
    pub until: Timestamp,
    /// What is tried under it, if it is that of a trial: kept when it is over, until what was there before is put back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trial: Option<HeldTrial>,
    /// What this program doesn't know.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

/// What is needed to put back what a trial replaced.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeldTrial {
    /// What the trial is called: by this a run knows its own.
    pub id: PushId,
    /// Its push, or what that will be called once it is written.
    pub push: PushId,
    /// The release that is tried.
    pub release: ReleaseName,
    /// The release of that app that the document named before; `None` if it named none.
    pub before: Option<ReleaseName>,
}

impl Default for Holds {
    fn default() -> Self {
        Self { schema: 1, holds: Vec::new(), other: Map::new() }
    }
}

impl Holds {
    /// Those that are in force and bind a push of an app; `None` asks for those of all apps.
    pub fn in_force<'a>(&'a self, app: Option<&'a AppName>, now: Timestamp) -> impl Iterator<Item = &'a Hold> {
        self.holds.iter().filter(move |hold| hold.until > now && (app.is_none() || hold.binds(app)))
    }

    /// Those of trials that are over, and of which nobody has seen yet that what was there before is put back.
    pub fn left_over(&self, now: Timestamp) -> impl Iterator<Item = (&Hold, &HeldTrial)> {
        self.holds.iter().filter(move |hold| hold.until <= now).filter_map(|hold| Some((hold, hold.trial.as_ref()?)))
    }
}

impl Hold {
    /// Whether it is about an app: about that one, or about all.
    fn binds(&self, app: Option<&AppName>) -> bool {
        self.app.is_none() || self.app.as_ref() == app
    }
}

impl Bucket {
    /// The holds of a server, with their generation; `None` when nobody set one.
    ///
    /// # Errors
    /// Also [`Error::Malformed`]: what can't be understood binds everybody.
    pub async fn holds(&self, server: &ServerName) -> Result<Option<(Generation, Holds)>, Error> {
        let path = layout::holds(server);
        let Some(Object { generation, content, .. }) = self.get(&path, MAX_SIZE).await? else { return Ok(None) };
        let malformed =
            |error: serde_json::Error| Error::Malformed { object: path.to_string(), reason: error.to_string() };
        Ok(Some((generation, serde_json::from_slice(&content).map_err(malformed)?)))
    }

    /// Writes the holds of a server over the generation that was read, or as the first.
    ///
    /// # Errors
    /// [`Error::Conflict`] or [`Error::AlreadyExists`] when somebody wrote in between; [`Error::TooLarge`] when nobody would
    /// read all of them. Nothing was written then.
    pub async fn write_holds(
        &self,
        server: &ServerName,
        holds: &Holds,
        seen: Option<Generation>,
    ) -> Result<Generation, Error> {
        let content = serde_json::to_vec_pretty(holds).expect("holds are JSON");
        self.write_within(MAX_SIZE, &layout::holds(server), content, &Metadata::new(), seen).await
    }

    /// The servers that somebody has set a hold on, and which generation of their holds that is; at most 20,000.
    pub async fn held_servers(&self) -> Result<BTreeMap<ServerName, Generation>, Error> {
        let page = async |after: Option<PageToken>| self.list(layout::HOLDS, after.as_ref(), 1000).await;
        let held = items(page).try_filter_map(|info| async move {
            Ok(layout::holds_at(&info.path).map(|server| (server, info.generation)))
        });
        held.take(MAX_LISTED).try_collect().await
    }
}
