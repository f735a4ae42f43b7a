//! Releases that did not stay up on this server, and are not retried until the app's own entry in the document changes
//! or a person asks for it (`pulld retry`, `push retry`).
//!
//! Deleting the file does no harm: such a release is installed once more, and rolled back once more.

use std::path::Path;

use anyhow::Result;
use bucket::{AppName, AppStatus, Generation, PushId, ReleaseName, ServerDocument, Timestamp};
use serde::{Deserialize, Serialize};

use crate::failure::Failure;

use super::{named::Named, persist};

/// The quarantined releases of this machine.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Quarantine {
    entries: Vec<Quarantined>,
    /// The releases that ever were in it and have not run since, newest first; of each app the last ones.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    rolled_back: Vec<ReleaseName>,
    /// The retries that were asked for in the document and carried out, oldest first: each counts once.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    retried: Vec<PushId>,
}

/// Retries that are remembered: many times those that a document has room for.
const MAX_RETRIED: usize = 50;

/// A release that is not retried.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Quarantined {
    /// The release.
    pub(crate) release: ReleaseName,
    /// Why it could not stay.
    #[serde(flatten)]
    pub(crate) failure: Failure,
    /// The document that asked for it. For people, and for earlier agents, which retried it for any other document.
    pub(crate) generation: Generation,
    /// Whether the rollback failed as well, or was not possible, so that manual intervention is required.
    pub(crate) degraded: bool,
    /// When it was quarantined, by this machine's clock.
    pub(crate) since: Timestamp,
    /// The release that it was to replace here, which repairs what it left broken; `None` as earlier agents wrote it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) previous: Option<ReleaseName>,
}

impl Quarantine {
    /// What is on disk; an empty one when that cannot be read.
    pub(crate) fn load(path: &Path) -> Self {
        persist::load(path, "could not read the quarantine, its releases may be retried")
    }

    /// Writes it to disk.
    pub(crate) fn save(&self, path: &Path) -> Result<()> {
        persist::save(path, self)
    }

    /// Everything that is in it.
    pub(crate) fn entries(&self) -> &[Quarantined] {
        &self.entries
    }

    /// Why `release` is not retried.
    pub(crate) fn holds(&self, release: &ReleaseName) -> Option<&Quarantined> {
        self.entries.iter().find(|entry| entry.release == *release)
    }

    /// Adds a release, in place of what was known of its app.
    pub(crate) fn add(&mut self, mut entry: Quarantined) {
        let before = self.lift(entry.release.app()).filter(|before| before.release == entry.release);
        entry.previous = entry.previous.or(before.and_then(|before| before.previous));
        self.rolled_back.retain(|release| *release != entry.release);
        self.rolled_back.insert(0, entry.release.clone());
        let mut left = AppStatus::MAX_ROLLED_BACK;
        self.rolled_back.retain(|release| {
            let is_ours = release.app() == entry.release.app();
            let fits = !is_ours || left > 0;
            left -= usize::from(is_ours && fits);
            fits
        });
        self.entries.push(entry);
    }

    /// The releases of an app that were rolled back here and have not run since, newest first.
    pub(crate) fn rolled_back(&self, app: &AppName) -> Vec<ReleaseName> {
        self.rolled_back.iter().filter(|release| release.app() == app).cloned().collect()
    }

    /// Notes that a release runs. Gives whether that is news.
    pub(crate) fn note_running(&mut self, release: &ReleaseName) -> bool {
        let before = self.rolled_back.len();
        self.rolled_back.retain(|known| known != release);
        self.rolled_back.len() != before
    }

    /// Whether a retry that a document asks for was carried out.
    pub(crate) fn has_retried(&self, id: &PushId) -> bool {
        self.retried.contains(id)
    }

    /// Notes that a retry is carried out, and forgets what is known of the release, and gives it.
    pub(crate) fn retry(&mut self, id: &PushId, release: &ReleaseName) -> Option<Quarantined> {
        self.retried.push(id.clone());
        self.retried.drain(..self.retried.len().saturating_sub(MAX_RETRIED));
        self.holds(release)?;
        self.lift(release.app())
    }

    /// What repairs an app whose desired release is `release`: that one, or the one before it if it is quarantined.
    pub(crate) fn repair<'a>(&'a self, release: &'a ReleaseName) -> &'a ReleaseName {
        self.holds(release).and_then(|held| held.previous.as_ref()).unwrap_or(release)
    }

    /// The entry that says of another release of the app that `release` repairs it.
    pub(crate) fn repaired_by(&mut self, release: &ReleaseName) -> Option<&mut Quarantined> {
        self.entries.iter_mut().find(|entry| entry.previous.as_ref() == Some(release) && entry.release != *release)
    }

    /// Notes that what a quarantined release has left could not be repaired by this one. Gives whether that is news.
    pub(crate) fn degrade(&mut self, repair: &ReleaseName) -> bool {
        let entry = self.repaired_by(repair).filter(|entry| !entry.degraded);
        entry.map(|entry| entry.degraded = true).is_some()
    }

    /// Forgets what is known of an app, and gives it.
    pub(crate) fn lift(&mut self, app: &AppName) -> Option<Quarantined> {
        let at = self.entries.iter().position(|entry| entry.release.app() == app)?;
        Some(self.entries.remove(at))
    }

    /// Forgets every release that `document` no longer names: named again later, it is tried again. Gives what that was.
    pub(crate) fn lift_unnamed(&mut self, document: &ServerDocument) -> Vec<Quarantined> {
        let is_unnamed = |entry: &mut Quarantined| {
            let before = Named::Release(entry.release.clone());
            Named::of(entry.release.app(), Some(document)).differs_from(&before)
        };
        self.entries.extract_if(.., is_unnamed).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        failure::{Aftermath, Fault},
        machine::fake::release,
    };

    fn document(json: &str) -> ServerDocument {
        ServerDocument::parse(json.as_bytes()).unwrap()
    }

    /// As every agent so far has written it.
    fn quarantine() -> Quarantine {
        serde_json::from_value(serde_json::json!({ "entries": [{
            "release": release("web", 2), "reason": "it crashed", "generation": 7, "degraded": false,
            "since": "2026-11-20T19:05:02Z"
        }] }))
        .unwrap()
    }

    #[test]
    fn what_was_rolled_back_is_remembered_until_it_runs() {
        let mut known = quarantine();
        let entry = known.entries[0].clone();
        for minute in 0..15 {
            known.add(Quarantined { release: release("web", minute), ..entry.clone() });
            known.add(Quarantined { release: release("db", 1), ..entry.clone() });
        }
        let web: Vec<ReleaseName> = (5..15).rev().map(|minute| release("web", minute)).collect();
        assert_eq!(known.rolled_back(web[0].app()), web);
        assert_eq!(known.rolled_back(release("db", 1).app()), [release("db", 1)]);
        assert!(known.note_running(&web[3]) && !known.note_running(&web[3]));
        assert_eq!(known.rolled_back(web[0].app()).len(), 9);
        let again: Quarantine = serde_json::from_str(&serde_json::to_string(&known).unwrap()).unwrap();
        assert_eq!(again, known);
    }

    /// What earlier agents read of an entry.
    #[derive(Deserialize)]
    struct Earlier {
        release: ReleaseName,
        reason: String,
        degraded: bool,
    }

    #[test]
    fn a_failure_is_written_so_that_earlier_agents_know_why() {
        let mut known = quarantine();
        let failure = Failure::from(Fault::Interrupted { times: 6 }).and(Aftermath::RestoredLater);
        known.add(Quarantined { failure: failure.clone(), ..known.entries[0].clone() });
        let written = serde_json::to_value(&known).unwrap();
        let Earlier { release: quarantined, reason, degraded } =
            serde_json::from_value(written["entries"][0].clone()).unwrap();
        assert_eq!((quarantined, reason, degraded), (release("web", 2), failure.to_string(), false));
        assert_eq!(serde_json::from_value::<Quarantine>(written).unwrap(), known);
    }

    #[test]
    fn only_the_apps_own_entry_lifts_a_quarantine() {
        let (bad, good, other) = (release("web", 2), release("web", 1), release("db", 1));
        for (json, held) in [
            (format!("[\"{bad}\"]"), true),
            (format!("[\"{other}\", \"{bad}\"]"), true),
            (format!("[\"{bad}\", \"{good}\"]"), true),
            (format!("[\"{good}\"]"), false),
            (format!("[\"{other}\"]"), false),
            ("[\"web\"]".to_owned(), false),
            ("[]".to_owned(), false),
            // It may be the very app's.
            (format!("[\"{other}\", \"web/web;oops\"]"), true),
        ] {
            let mut quarantine = quarantine();
            let lifted = quarantine.lift_unnamed(&document(&json));
            assert_eq!((quarantine.holds(&bad).is_some(), lifted.is_empty()), (held, held), "{json}");
        }
    }
}
