//! Apps that a person rolled back on this server (`pulld rollback`), and that are left alone for now.
//!
//! Deleting the file does no harm: the next cycle installs what the document says.

use std::{fmt, path::Path};

use anyhow::Result;
use bucket::{AppName, ReleaseName, ServerDocument, Timestamp};
use serde::{Deserialize, Serialize};

use super::{named::Named, persist};

/// The apps that are left alone.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Pauses {
    entries: Vec<Pause>,
}

/// An app that is left alone, and until when.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Pause {
    /// The release that the person went back to.
    pub(crate) release: ReleaseName,
    /// The app's entry in the document at that time; another one ends the pause.
    pub(crate) named: Named,
    /// Who did it, as in `anna` or `uid 1000`.
    pub(crate) who: String,
    /// Why, in their words.
    pub(crate) why: String,
    /// When, by this machine's clock.
    pub(crate) since: Timestamp,
    /// When it ends by itself; `None` for never.
    pub(crate) until: Option<Timestamp>,
}

/// Why a pause is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PauseEnd {
    /// Its time has passed.
    TimePassed,
    /// The document names something else for the app.
    EntryChanged,
}

impl Pauses {
    /// What is on disk; none when that cannot be read.
    pub(crate) fn load(path: &Path) -> Self {
        persist::load(path, "could not read which apps are paused, they are as the document says again")
    }

    /// Writes it to disk.
    pub(crate) fn save(&self, path: &Path) -> Result<()> {
        persist::save(path, self)
    }

    /// Why an app is left alone, if it is.
    pub(crate) fn of(&self, app: &AppName) -> Option<&Pause> {
        self.entries.iter().find(|pause| pause.release.app() == app)
    }

    /// Leaves an app alone, in place of what was said of it before.
    pub(crate) fn add(&mut self, pause: Pause) {
        self.end(pause.release.app());
        self.entries.push(pause);
    }

    /// Ends the pause of an app, and gives it.
    pub(crate) fn end(&mut self, app: &AppName) -> Option<Pause> {
        let at = self.entries.iter().position(|pause| pause.release.app() == app)?;
        Some(self.entries.remove(at))
    }

    /// Ends what is over at `now`, with the document as last read. What no document was known for is left alone until
    /// the entry that is read first changes.
    pub(crate) fn end_those_over(
        &mut self,
        document: Option<&ServerDocument>,
        now: Timestamp,
    ) -> Vec<(Pause, PauseEnd)> {
        let mut over = Vec::new();
        self.entries.retain_mut(|pause| {
            let named = Named::of(pause.release.app(), document);
            let end = if named.differs_from(&pause.named) {
                Some(PauseEnd::EntryChanged)
            } else {
                pause.until.filter(|until| *until <= now).map(|_| PauseEnd::TimePassed)
            };
            if pause.named == Named::Unknown {
                pause.named = named;
            }
            over.extend(end.map(|end| (pause.clone(), end)));
            end.is_none()
        });
        over
    }

    /// When the next of them ends by itself.
    pub(crate) fn next_end(&self) -> Option<Timestamp> {
        self.entries.iter().filter_map(|pause| pause.until).min()
    }
}

/// What ended it, as the second half of a sentence.
impl fmt::Display for PauseEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TimePassed => "its time has passed",
            Self::EntryChanged => "the server document names something else for it",
        })
    }
}

/// What happened and until when it counts, in a sentence.
impl fmt::Display for Pause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { release, who, why, since, until, .. } = self;
        write!(f, "rolled back to `{}` by {who} at {since:.0} ({why}); left alone until ", release.stem())?;
        if let Some(until) = until {
            write!(f, "{until:.0}, or until ")?;
        }
        write!(f, "the app's entry in the server document changes; `pulld resume {}` ends that", release.app())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::fake::release;

    fn pauses(named: Named, until: Option<i64>) -> Pauses {
        let pause = Pause {
            release: release("web", 1),
            named,
            who: "anna".into(),
            why: "the site is down".into(),
            since: Timestamp::UNIX_EPOCH,
            until: until.map(|second| Timestamp::from_second(second).unwrap()),
        };
        Pauses { entries: vec![pause] }
    }

    #[test]
    fn a_pause_ends_with_its_time_or_with_another_entry() {
        let (two, three) = (release("web", 2), release("web", 3));
        let document = |json: String| ServerDocument::parse(json.as_bytes()).unwrap();
        let end = |named: &Named, until, json: Option<String>| {
            let document = json.map(document);
            let over =
                pauses(named.clone(), until).end_those_over(document.as_ref(), Timestamp::from_second(100).unwrap());
            over.first().map(|(_, end)| *end)
        };
        let (named, unknown) = (Named::Release(two.clone()), Named::Unknown);
        let same = Some(format!("[\"{two}\", \"{}\"]", release("db", 1)));
        assert_eq!(end(&named, None, same.clone()), None);
        assert_eq!(end(&named, Some(101), same.clone()), None);
        assert_eq!(end(&named, Some(100), same), Some(PauseEnd::TimePassed));
        assert_eq!(end(&named, Some(100), None), Some(PauseEnd::TimePassed), "the bucket is gone");
        assert_eq!(end(&named, None, Some(format!("[\"{three}\"]"))), Some(PauseEnd::EntryChanged));
        assert_eq!(end(&named, None, Some("[]".into())), Some(PauseEnd::EntryChanged));
        assert_eq!(end(&unknown, None, Some(format!("[\"{three}\"]"))), None, "nothing to compare it with");
    }

    #[test]
    fn the_entry_that_is_read_first_counts_when_none_was_known() {
        let mut pauses = pauses(Named::Unknown, None);
        for (minute, over) in [(2, 0), (2, 0), (3, 1)] {
            let json = format!("[\"{}\"]", release("web", minute));
            let document = ServerDocument::parse(json.as_bytes()).unwrap();
            assert_eq!(pauses.end_those_over(Some(&document), Timestamp::UNIX_EPOCH).len(), over, "minute {minute}");
        }
    }
}
