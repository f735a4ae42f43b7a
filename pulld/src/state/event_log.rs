//! What happened on this machine lately and is over, for the report.
//!
//! Deleting the file does no harm: the report has it no longer, and the journal still does.

use std::path::Path;

use anyhow::Result;
use bucket::{Event, Status};
use serde::{Deserialize, Serialize};

use super::persist;

/// The last events, oldest first; at most as many as a report has.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct EventLog {
    events: Vec<Event>,
}

impl EventLog {
    /// What is on disk; nothing when that cannot be read.
    pub(crate) fn load(path: &Path) -> Self {
        persist::load(path, "could not read what happened here before, the report does not have it")
    }

    /// Writes it to disk.
    pub(crate) fn save(&self, path: &Path) -> Result<()> {
        persist::save(path, self)
    }

    /// Adds an event, in place of the oldest if there are too many. Returns whether it is not there already.
    pub(crate) fn add(&mut self, event: Event) -> bool {
        if self.events.contains(&event) {
            return false;
        }
        self.events.push(event);
        let superfluous = self.events.len().saturating_sub(Status::MAX_EVENTS);
        self.events.drain(..superfluous);
        true
    }

    /// The events, oldest first.
    pub(crate) fn events(&self) -> &[Event] {
        &self.events
    }
}

#[cfg(test)]
mod tests {
    use bucket::Timestamp;

    use super::*;

    #[test]
    fn the_oldest_are_dropped_and_none_is_there_twice() {
        let event = |n: usize| Event { at: Timestamp::UNIX_EPOCH, app: None, text: n.to_string() };
        let mut log = EventLog::default();
        for n in 0..50 {
            assert!(log.add(event(n)));
            assert!(!log.add(event(n)));
        }
        let texts: Vec<&str> = log.events().iter().map(|event| event.text.as_str()).collect();
        assert_eq!((texts.len(), texts[0], texts[19]), (Status::MAX_EVENTS, "30", "49"));
    }
}
