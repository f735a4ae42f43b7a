//! How often systemd restarted each unit by itself lately: whether a unit keeps dying. Pure: the caller names the time.
//!
//! Deleting the file does no harm: then restarts are counted from now on.

use std::{collections::BTreeMap, path::Path, time::Duration};

use anyhow::Result;
use bucket::{ReleaseName, Timestamp};
use serde::{Deserialize, Serialize};

use super::persist;

/// A unit is unstable until it was up for so long.
pub(crate) const WINDOW: Duration = Duration::from_hours(1);

/// From so many restarts in [`WINDOW`] on a unit is unstable.
const LIMIT: u32 = 3;

/// Restarts that are seen within so long of each other are kept as one, so that a unit has at most sixty of them.
const GRAIN: Duration = Duration::from_mins(1);

/// What is known of the units' restarts.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Stability {
    /// The boot whose counts these are: systemd's begin anew with each.
    boot: String,
    units: BTreeMap<String, History>,
}

/// The restarts of one unit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct History {
    /// The release whose unit it is: what another one did says nothing about it.
    release: ReleaseName,
    /// systemd's count when it was last read; `None` after work of the agent's own.
    count: Option<u32>,
    /// The restarts of the last hour, oldest first.
    restarts: Vec<Restarts>,
    unstable: bool,
}

/// Restarts that were seen together.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Restarts {
    at: Timestamp,
    count: u32,
}

/// A unit as it is now.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Counted<'a> {
    /// Its name.
    pub(crate) unit: &'a str,
    /// The release whose unit it is.
    pub(crate) release: &'a ReleaseName,
    /// systemd's count of restarts since somebody last started it.
    pub(crate) restarts: u32,
}

impl Stability {
    /// What is on disk; nothing when that cannot be read.
    pub(crate) fn load(path: &Path) -> Self {
        persist::load(path, "could not read how often units were restarted, that is counted from now on")
    }

    /// Writes to disk what was restarted. Of other units nothing has to be known.
    pub(crate) fn save(&self, path: &Path) -> Result<()> {
        persist::save(path, &Self { boot: self.boot.clone(), units: self.restarted().collect() })
    }

    /// Takes over what systemd counts now. Returns whether anything has to be saved.
    pub(crate) fn count<'a>(
        &mut self,
        units: impl IntoIterator<Item = Counted<'a>>,
        boot: &str,
        now: Timestamp,
    ) -> bool {
        let before: BTreeMap<String, History> = self.restarted().collect();
        let is_same_boot = self.boot == boot;
        boot.clone_into(&mut self.boot);
        for history in self.units.values_mut() {
            if !is_same_boot {
                history.count = history.count.map(|_| 0);
            }
            history.forget_before(now);
        }
        for Counted { unit, release, restarts } in units {
            match self.units.get_mut(unit).filter(|history| history.release == *release) {
                Some(history) => history.count(restarts, now),
                None => drop(self.units.insert(unit.to_owned(), History::new(release, restarts))),
            }
        }
        self.restarted().collect::<BTreeMap<_, _>>() != before
    }

    /// Forgets how far systemd had counted for a unit that the agent itself restarts: what the release under test did, or
    /// the one that was rolled back, is judged by the health gate. Returns whether that has to be saved.
    pub(crate) fn forget_count(&mut self, unit: &str) -> bool {
        let Some(history) = self.units.get_mut(unit) else { return false };
        history.count.take().is_some() && !history.restarts.is_empty()
    }

    /// The units that do not stay up, each with its restarts in the last hour.
    pub(crate) fn unstable(&self) -> impl Iterator<Item = (&str, u32)> {
        let unstable = self.units.iter().filter(|(_, history)| history.unstable);
        unstable.map(|(unit, history)| (unit.as_str(), history.total()))
    }

    fn restarted(&self) -> impl Iterator<Item = (String, History)> {
        let restarted = self.units.iter().filter(|(_, history)| !history.restarts.is_empty());
        restarted.map(|(unit, history)| (unit.clone(), history.clone()))
    }
}

impl History {
    fn new(release: &ReleaseName, count: u32) -> Self {
        Self { release: release.clone(), count: Some(count), restarts: Vec::new(), unstable: false }
    }

    fn total(&self) -> u32 {
        self.restarts.iter().fold(0, |total, restarts| total.saturating_add(restarts.count))
    }

    /// Forgets what is older than an hour. Should the clock have been set back, what is to come is of now.
    fn forget_before(&mut self, now: Timestamp) {
        self.restarts.iter_mut().for_each(|restarts| restarts.at = restarts.at.min(now));
        self.restarts.retain(|restarts| now.duration_since(restarts.at).unsigned_abs() < WINDOW);
        self.unstable &= !self.restarts.is_empty();
    }

    /// Adds what systemd has counted since.
    fn count(&mut self, count: u32, now: Timestamp) {
        let new = match self.count.replace(count) {
            None => 0,
            // Somebody has started it since: systemd began anew.
            Some(before) if count < before => count,
            Some(before) => count - before,
        };
        if new == 0 {
            return;
        }
        match self.restarts.last_mut() {
            Some(last) if now.duration_since(last.at).unsigned_abs() < GRAIN => {
                last.count = last.count.saturating_add(new);
            }
            _ => self.restarts.push(Restarts { at: now, count: new }),
        }
        self.unstable |= self.total() >= LIMIT;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::fake::release;

    /// What is said of `web.service` after each reading: the minute, the boot, the minute of its release, and the count.
    fn unstable_after(readings: &[(i64, &str, u8, u32)]) -> Vec<Option<u32>> {
        let mut stability = Stability::default();
        let read = |(minute, boot, of, restarts): &(i64, &str, u8, u32)| {
            let now = Timestamp::from_second(minute * 60).unwrap();
            stability.count([counted(&release("web", *of), *restarts)], boot, now);
            // As another agent finds it.
            stability = serde_json::from_slice(&serde_json::to_vec(&stability).unwrap()).unwrap();
            stability.unstable().next().map(|(_, restarts)| restarts)
        };
        readings.iter().map(read).collect()
    }

    fn counted(release: &ReleaseName, restarts: u32) -> Counted<'_> {
        Counted { unit: "web.service", release, restarts }
    }

    #[test]
    fn from_the_third_restart_on_a_unit_is_unstable_until_an_hour_has_passed_without_one() {
        let readings = [
            (0, "a", 1, 7),
            (1, "a", 1, 8),
            (20, "a", 1, 9),
            (50, "a", 1, 10),
            (55, "a", 1, 10),
            (70, "a", 1, 10),
            (109, "a", 1, 10),
            (110, "a", 1, 10),
            (111, "a", 1, 11),
        ];
        assert_eq!(unstable_after(&readings), [None, None, None, Some(3), Some(3), Some(2), Some(1), None, None]);
    }

    #[test]
    fn only_restarts_by_systemd_count_and_each_once() {
        let none = [None; 4];
        assert_eq!(
            unstable_after(&[(0, "a", 1, 0), (1, "a", 1, 2), (2, "a", 1, 0), (3, "a", 1, 0)]),
            none,
            "started anew"
        );
        assert_eq!(unstable_after(&[(0, "a", 1, 0), (1, "a", 1, 2), (2, "a", 1, 1)]), [None, None, Some(3)]);
        assert_eq!(
            unstable_after(&[(0, "a", 1, 0), (1, "a", 1, 2), (2, "b", 1, 1)]),
            [None, None, Some(3)],
            "another boot"
        );
        assert_eq!(unstable_after(&[(0, "a", 1, 0), (1, "a", 1, 2), (2, "a", 2, 3)]), [None; 3], "another release");
        assert_eq!(
            unstable_after(&[(0, "a", 1, 0), (200, "a", 1, 4), (10, "a", 1, 4)]),
            [None, Some(4), Some(4)],
            "set back"
        );
        assert_eq!(unstable_after(&[(0, "a", 1, 0), (200, "a", 1, 4), (10, "a", 1, 4), (70, "a", 1, 4)])[3], None);
    }

    #[test]
    fn what_happens_while_the_agent_works_is_not_counted() {
        let (one, now) = (release("web", 1), Timestamp::UNIX_EPOCH);
        let mut stability = Stability::default();
        assert!(!stability.count([counted(&one, 0)], "a", now));
        assert!(stability.count([counted(&one, 2)], "a", now));
        assert!(stability.forget_count("web.service"));
        stability.count([counted(&one, 6)], "a", now);
        assert_eq!(stability.unstable().count(), 0);
        assert!(stability.count([counted(&one, 7)], "a", now));
        assert_eq!(stability.unstable().collect::<Vec<_>>(), [("web.service", 3)]);
    }

    #[test]
    fn it_is_bounded_however_often_a_unit_dies() {
        let (one, mut stability) = (release("web", 1), Stability::default());
        for second in 0..10_000 {
            let now = Timestamp::from_second(second).unwrap();
            stability.count([counted(&one, u32::try_from(second).unwrap())], "a", now);
        }
        let history = &stability.units["web.service"];
        assert!(history.restarts.len() <= 61, "{}", history.restarts.len());
        assert!((3540..=3660).contains(&history.total()), "{}", history.total());
    }
}
