//! What lies in the metadata of a server document: the last push of each app, retries, and holds as the agent is told of them.
//! Written in the same request as the document, so that neither is ever without the other.
//!
//! Each kind has a budget, because the storage allows 8 KiB of metadata in all: the oldest goes first. What isn't
//! understood is kept by whoever writes.

use jiff::Timestamp;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::Value;

use crate::{
    AppName, ChannelName, Generation, HistoryEntry, Hold, Metadata, PushId, PushKind, ReleaseName, ServerName,
    ascii::{cut, to_ascii_json},
};

/// The key of the pushes.
const PUSHES: &str = "pushes";
/// The key of the retries.
const RETRIES: &str = "retries";
/// The key of the holds that the agent is told of.
const HOLDS: &str = "holds";
/// The key of the generation that first said what the document says, if it was written again to tell of holds.
const SAID_SINCE: &str = "said-since";

/// Most bytes of the pushes, of the retries and of the holds, as they are stored.
const MAX_PUSHES: usize = 4 << 10;
const MAX_RETRIES: usize = 1 << 10;
const MAX_HOLDS: usize = 1 << 10;
/// Most bytes of all metadata, keys too (Google Cloud Storage, "Quotas and limits"), less what the mark of a write takes.
pub(crate) const MAX_ALL: usize = (8 << 10) - 64;

/// What lies in a server document's metadata. What this program doesn't know is kept as it is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DocumentMetadata(Metadata);

/// The last push that changed an app's entry, as the document's metadata says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastPush {
    /// The push.
    pub id: PushId,
    /// When it was written, by the bucket's clock as far as that was known.
    pub time: Timestamp,
    /// The app that was pushed.
    pub app: AppName,
    /// The release that the document named before.
    pub from: Option<ReleaseName>,
    /// The release that it named then; `None` when the app was taken off the server.
    pub to: Option<ReleaseName>,
    /// What it was for.
    pub kind: PushKind,
    /// Who pushed.
    pub who: String,
    /// The reason, cut to [`LastPush::MAX_WHY`].
    pub why: String,
    /// The generation of the document that it wrote; `None` in that document itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub generation: Option<Generation>,
    /// For how many seconds the agent watches the app before it reports once more that it runs; only of a push in waves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub settle_seconds: Option<u64>,
    /// Whether an admin had it written all at once where the policy asks for waves.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub without_waves: bool,
    /// The channel that the watcher, or who pushed what it points to, pushed for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub channel: Option<ChannelName>,
    /// Whether a later writer has made sure that the history has an entry of it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub recorded: bool,
}

/// That an operator wants the agent to try a release again which it has given up. It counts once for each ID, and only as
/// long as the document names that release.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Retry {
    /// The push that asks for it.
    pub id: PushId,
    /// When it was written, by the bucket's clock as far as that was known.
    pub time: Timestamp,
    /// The release to try again.
    pub release: ReleaseName,
    /// The generation of the document that first had it; `None` in that document itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub generation: Option<Generation>,
}

/// What an agent is told of a hold, for the people on its machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ToldHold {
    /// The app that is on hold; `None` for all of the server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub app: Option<AppName>,
    /// Who set it, cut to [`LastPush::MAX_WHY`].
    pub by: String,
    /// The reason, cut to the same.
    pub why: String,
    /// When it ends.
    pub until: Timestamp,
}

impl From<&Hold> for ToldHold {
    fn from(hold: &Hold) -> Self {
        let Hold { app, by, why, until, .. } = hold;
        Self { app: app.clone(), by: cut(by, LastPush::MAX_WHY), why: cut(why, LastPush::MAX_WHY), until: *until }
    }
}

impl LastPush {
    /// Most bytes of a reason that lie in metadata.
    pub const MAX_WHY: usize = 200;

    /// The entry that the history should have of it. Whoever writes it, it lies at the same place.
    pub fn entry(&self, server: &ServerName, generation: Generation) -> HistoryEntry {
        HistoryEntry {
            time: self.time,
            id: self.id.to_string(),
            server: server.clone(),
            app: Some(self.app.clone()),
            from: self.from.clone(),
            to: self.to.clone(),
            kind: self.kind.clone(),
            who: self.who.clone(),
            why: self.why.clone(),
            generation,
            push: Some(self.id.clone()),
            without_waves: self.without_waves,
            channel: self.channel.clone(),
        }
    }
}

impl DocumentMetadata {
    /// The pushes that it tells of, newest first: the last one of each app, and earlier ones that the history may lack.
    pub fn pushes(&self) -> Vec<LastPush> {
        let mut pushes: Vec<LastPush> = known(&self.elements(PUSHES));
        for push in &mut pushes {
            push.who = cut(&push.who, LastPush::MAX_WHY);
            push.why = cut(&push.why, LastPush::MAX_WHY);
        }
        pushes
    }

    /// The retries that it asks for, newest first.
    pub fn retries(&self) -> Vec<Retry> {
        known(&self.elements(RETRIES))
    }

    /// The holds that it tells the agent of, newest first, also those that are over. What binds whoever writes is in
    /// [`crate::Holds`].
    pub fn holds(&self) -> Vec<ToldHold> {
        known(&self.elements(HOLDS))
    }

    /// Since which generation a document says what it says, which has this metadata and is itself of generation `written`: it
    /// may have been written again only to tell of holds.
    pub fn said_since(&self, written: Generation) -> Generation {
        let since = self.0.get(SAID_SINCE).and_then(|value| value.parse().ok()).map(Generation);
        since.filter(|since| (1..written.0).contains(&since.0)).unwrap_or(written)
    }

    /// Of a document that is about to be written over the generation `seen`, as it is: it tells of these holds, newest first, as
    /// far as there is room.
    #[must_use]
    pub fn telling(self, holds: &[ToldHold], seen: Generation) -> Self {
        let since = self.said_since(seen);
        let mut telling = self.carried(seen, &[]);
        telling.0.insert(SAID_SINCE.to_owned(), since.to_string());
        let most = MAX_HOLDS.min(MAX_ALL.saturating_sub(telling.size_without(HOLDS)));
        let fits = |count: &usize| HOLDS.len() + to_ascii_json(&holds[..*count]).len() <= most;
        let count = (0..=holds.len()).take_while(fits).last().unwrap_or_default();
        let told = holds[..count].iter().map(|hold| serde_json::to_value(hold).expect("a hold is JSON"));
        telling.put(HOLDS, &told.collect::<Vec<_>>());
        telling
    }

    /// Of a document that is about to be written over the generation `seen`: each push and retry that came with that
    /// generation says so from now on, and of the pushes in `recorded` that the history has them.
    #[must_use]
    pub fn carried(mut self, seen: Generation, recorded: &[PushId]) -> Self {
        for key in [PUSHES, RETRIES] {
            let mut elements = self.elements(key);
            for element in elements.iter_mut().filter_map(Value::as_object_mut) {
                element.entry("generation").or_insert_with(|| seen.0.into());
                let id = element.get("id").and_then(Value::as_str);
                if key == PUSHES && id.is_some_and(|id| recorded.iter().any(|recorded| recorded.as_str() == id)) {
                    element.insert("recorded".to_owned(), true.into());
                }
            }
            self.put(key, &elements);
        }
        self
    }

    /// With one more push, in the place of those of that app that the history has. The oldest that don't fit are left out.
    #[must_use]
    pub fn with_push(mut self, push: &LastPush) -> Self {
        let push = LastPush { why: cut(&push.why, LastPush::MAX_WHY), ..push.clone() };
        let mut elements = self.elements(PUSHES);
        elements.retain(|element| match LastPush::deserialize(element) {
            Ok(known) => known.app != push.app || !known.recorded,
            Err(_) => true,
        });
        elements.insert(0, serde_json::to_value(push).expect("a push is JSON"));
        self.put(PUSHES, &elements);
        self.0.remove(SAID_SINCE);
        self.fit();
        self
    }

    /// With one more retry, in the place of those of that app, and those that no longer fit.
    #[must_use]
    pub fn with_retry(self, retry: &Retry) -> (Self, Vec<Retry>) {
        let mut with = self.without_retries(retry.release.app());
        let mut elements = with.elements(RETRIES);
        elements.insert(0, serde_json::to_value(retry).expect("a retry is JSON"));
        with.put(RETRIES, &elements);
        let dropped = with.shorten(RETRIES, MAX_RETRIES);
        with.fit();
        (with, known(&dropped))
    }

    /// Without the retries of an app, whose release is another from now on.
    #[must_use]
    pub fn without_retries(mut self, app: &AppName) -> Self {
        let mut elements = self.elements(RETRIES);
        elements.retain(|element| !Retry::deserialize(element).is_ok_and(|known| known.release.app() == app));
        self.put(RETRIES, &elements);
        self
    }

    /// Shortens the pushes to what the storage has room for beside everything else.
    fn fit(&mut self) {
        self.shorten(PUSHES, MAX_PUSHES.min(MAX_ALL.saturating_sub(self.size_without(PUSHES))));
    }

    /// How many bytes all but the value of a key have.
    fn size_without(&self, but: &str) -> usize {
        self.0.iter().filter(|(key, _)| *key != but).map(|(key, value)| key.len() + value.len()).sum()
    }

    /// Leaves out the last elements until a key and its value have at most so many bytes.
    fn shorten(&mut self, key: &str, most: usize) -> Vec<Value> {
        let (mut elements, mut dropped) = (self.elements(key), Vec::new());
        while self.0.get(key).is_some_and(|value| key.len() + value.len() > most) {
            dropped.extend(elements.pop());
            self.put(key, &elements);
        }
        dropped
    }

    /// The elements of an array that lies as a value; none if it is none, or longer than anybody writes it.
    fn elements(&self, key: &str) -> Vec<Value> {
        let value = self.0.get(key).filter(|value| value.len() <= MAX_ALL);
        value.and_then(|value| serde_json::from_str(value).ok()).unwrap_or_default()
    }

    fn put(&mut self, key: &str, elements: &[Value]) {
        if elements.is_empty() {
            self.0.remove(key);
        } else {
            self.0.insert(key.to_owned(), to_ascii_json(elements));
        }
    }
}

impl From<Metadata> for DocumentMetadata {
    fn from(metadata: Metadata) -> Self {
        Self(metadata)
    }
}

impl AsRef<Metadata> for DocumentMetadata {
    fn as_ref(&self) -> &Metadata {
        &self.0
    }
}

/// The elements that this program understands.
fn known<T: DeserializeOwned>(elements: &[Value]) -> Vec<T> {
    elements.iter().filter_map(|element| T::deserialize(element).ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn release(app: &str, n: u8) -> ReleaseName {
        format!("{app}/{app}:dev@build-1:2026-11-20T19:05:{n:02}Z:7e0ff6059e653eb75a36efb621d0fd66d1ced433.deb")
            .parse()
            .unwrap()
    }

    fn push(app: &str, n: u8) -> LastPush {
        LastPush {
            id: format!("push{app}{n}").parse().unwrap(),
            time: "2026-11-20T20:00:00Z".parse().unwrap(),
            app: app.parse().unwrap(),
            from: None,
            to: Some(release(app, n)),
            kind: PushKind::Deploy,
            who: "dev@build-1".into(),
            why: "für alle".into(),
            generation: None,
            settle_seconds: None,
            without_waves: false,
            channel: None,
            recorded: false,
        }
    }

    fn retry(app: &str, n: u8) -> Retry {
        let LastPush { id, time, .. } = push(app, n);
        Retry { id, time, release: release(app, n), generation: None }
    }

    fn ids(metadata: &DocumentMetadata) -> Vec<String> {
        metadata.pushes().iter().map(|push| push.id.to_string()).collect()
    }

    #[test]
    fn a_push_takes_the_place_of_one_of_its_app_that_the_history_has() {
        let metadata = DocumentMetadata::default().with_push(&push("web", 1)).carried(Generation(7), &[]);
        let metadata = metadata.with_push(&push("api", 1)).carried(Generation(8), &["pushweb1".parse().unwrap()]);
        assert_eq!(ids(&metadata), ["pushapi1", "pushweb1"]);
        let [api, web] = &metadata.pushes()[..] else { panic!("{metadata:?}") };
        assert_eq!((api.generation, api.recorded), (Some(Generation(8)), false));
        assert_eq!((web.generation, web.recorded), (Some(Generation(7)), true));
        assert_eq!(ids(&metadata.clone().with_push(&push("web", 2))), ["pushweb2", "pushapi1"]);
        // What the history may lack stays.
        assert_eq!(ids(&metadata.with_push(&push("api", 2))), ["pushapi2", "pushapi1", "pushweb1"]);
    }

    #[test]
    fn what_is_not_understood_is_kept() {
        let mut metadata = Metadata::from([("invented".to_owned(), "later".to_owned())]);
        metadata.insert("pushes".to_owned(), r#"[{"id":"a","later":1},7]"#.to_owned());
        let written = DocumentMetadata::from(metadata).carried(Generation(7), &[]).with_push(&push("web", 1));
        assert_eq!(ids(&written), ["pushweb1"]);
        assert_eq!(written.as_ref()["invented"], "later");
        assert!(written.as_ref()["pushes"].ends_with(r#",{"generation":7,"id":"a","later":1},7]"#), "{written:?}");
        for nonsense in ["", "{}", "7", "[", &format!("[{}1]", "1,".repeat(1 << 20))] {
            let metadata = DocumentMetadata::from(Metadata::from([("pushes".to_owned(), nonsense.to_owned())]));
            assert_eq!((ids(&metadata), metadata.retries()), (Vec::new(), Vec::new()));
            assert_eq!(ids(&metadata.with_push(&push("web", 1))), ["pushweb1"]);
        }
    }

    #[test]
    fn each_kind_stays_within_its_budget_and_the_oldest_goes_first() {
        let mut metadata = DocumentMetadata::from(Metadata::from([("invented".to_owned(), "x".repeat(2000))]));
        let mut dropped = Vec::new();
        for n in 0..40 {
            let app = format!("app{n}");
            let long = LastPush { why: "ü".repeat(2000), ..push(&app, n) };
            let more;
            (metadata, more) = metadata.with_push(&long).with_retry(&retry(&app, n));
            dropped.extend(more);
            let size = |key: &str| key.len() + metadata.as_ref()[key].len();
            assert!(size("pushes") <= 4096 && size("retries") <= 1024, "{metadata:?}");
            assert_eq!(metadata.pushes()[0].app.as_str(), app);
            assert_eq!(metadata.retries()[0].release.app().as_str(), app);
        }
        assert!(metadata.pushes().len() >= 4 && metadata.retries().len() >= 4, "{metadata:?}");
        assert!(metadata.as_ref().values().all(|value| value.bytes().all(|byte| (b' '..=b'~').contains(&byte))));
        assert_eq!(metadata.pushes()[0].why, "ü".repeat(100));
        let dropped: Vec<String> = dropped.iter().map(|retry| retry.release.app().to_string()).collect();
        assert_eq!(dropped[..3], ["app0", "app1", "app2"]);
        // Others may take what the pushes would have: the whole is never more than the storage allows.
        let crowded = DocumentMetadata::from(Metadata::from([("invented".to_owned(), "x".repeat(8000))]));
        assert_eq!((ids(&crowded.clone().with_push(&push("web", 1))), crowded.pushes()), (Vec::new(), Vec::new()));
    }

    #[test]
    fn a_document_that_tells_of_holds_says_what_it_said_before() {
        let hold = |n: u8| ToldHold {
            app: None,
            by: "dev@laptop".into(),
            why: "ü".repeat(usize::from(n)),
            until: "2026-11-20T22:00:00Z".parse().unwrap(),
        };
        let pushed = DocumentMetadata::default().with_push(&push("web", 1)).with_retry(&retry("web", 1)).0;
        assert_eq!((pushed.holds(), pushed.said_since(Generation(7))), (vec![], Generation(7)));
        let told = pushed.telling(&[hold(1)], Generation(7));
        assert_eq!((told.holds(), told.said_since(Generation(8))), (vec![hold(1)], Generation(7)));
        assert_eq!(told.pushes()[0].generation, Some(Generation(7)));
        assert_eq!(told.retries()[0].generation, Some(Generation(7)));
        // A hold that goes is told of too, and as little says something new.
        let ended = told.clone().telling(&[], Generation(8));
        assert_eq!((ended.holds(), ended.said_since(Generation(9))), (vec![], Generation(7)));
        // A push does, and the agent still knows of the hold.
        let pushed = told.carried(Generation(8), &[]).with_push(&push("web", 2));
        assert_eq!((pushed.holds(), pushed.said_since(Generation(9))), (vec![hold(1)], Generation(9)));
        // The newest are told of as far as there is room, and no push has to go for them.
        let many: Vec<ToldHold> = (0..100).map(hold).collect();
        let told = pushed.clone().telling(&many, Generation(9));
        assert!(told.holds().len() > 5 && told.as_ref()["holds"].len() < 1024, "{told:?}");
        assert_eq!(told.holds()[..], many[..told.holds().len()]);
        let foreign = Metadata::from([("invented".to_owned(), "x".repeat(7500))]);
        let crowded = DocumentMetadata::from(foreign).with_push(&push("web", 1)).telling(&many, Generation(9));
        assert_eq!((crowded.pushes().len(), crowded.holds().is_empty()), (1, false), "{crowded:?}");
        assert!(crowded.size_without("") <= MAX_ALL);
        // What nobody has written counts for nothing.
        let odd = |value: &str| DocumentMetadata::from(Metadata::from([("said-since".to_owned(), value.to_owned())]));
        for value in ["", "x", "-1", "0", "9", "10", "99999999999999999999"] {
            assert_eq!(odd(value).said_since(Generation(9)), Generation(9), "{value}");
        }
    }

    #[test]
    fn a_retry_replaces_one_of_its_app_and_goes_with_its_release() {
        let (metadata, _) = DocumentMetadata::default().with_retry(&retry("web", 1));
        let (metadata, _) = metadata.with_retry(&retry("api", 1));
        let (metadata, dropped) = metadata.with_retry(&retry("web", 2));
        assert_eq!(metadata.retries(), [retry("web", 2), retry("api", 1)]);
        assert_eq!(dropped, []);
        assert_eq!(metadata.without_retries(&"web".parse().unwrap()).retries(), [retry("api", 1)]);
    }
}
