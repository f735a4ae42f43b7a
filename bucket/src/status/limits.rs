//! How large a report may be. Whoever writes one writes no more than whoever reads it takes, and says what is left out.

use std::cmp::Reverse;

use super::{AppStatus, DocumentStatus, Status};

/// Most bytes of a report that are read.
pub(super) const MAX_READ: u64 = Status::MAX_SIZE as u64;

/// Bytes of a report that are kept free for saying what is left out.
const RESERVE: usize = 4 << 10;

/// Most bytes of one text, in the order in which a report that is too large is shortened.
const TEXTS: [usize; 3] = [4 << 10, 1 << 10, 200];

impl Status {
    /// Most bytes of a report.
    pub const MAX_SIZE: usize = 256 << 10;

    /// Most apps of a report.
    pub const MAX_APPS: usize = 500;

    /// Most units of a report, those of all its apps together.
    pub const MAX_UNITS: usize = 200;

    /// Most warnings of a report.
    pub const MAX_WARNINGS: usize = 20;

    /// Most holds of a report; metadata has room for no more.
    pub const MAX_HOLDS: usize = 20;

    /// Most events of a report: the oldest are dropped.
    pub const MAX_EVENTS: usize = 20;

    /// Most differences that a report lists of one app.
    pub const MAX_DRIFT: usize = 20;

    /// The report with what fits into one: apps that need attention go first, long texts are cut, and a warning says
    /// how many apps and units are left out. A report that fits is left as it is.
    #[must_use]
    pub fn fit(self) -> Self {
        self.within(Some(Self::MAX_SIZE))
    }

    /// The same for whoever reads it, whoever wrote it: its bytes were counted before.
    pub(super) fn bounded(self) -> Self {
        self.within(None)
    }

    fn within(mut self, size: Option<usize>) -> Self {
        let before = (self.apps.len(), self.units());
        self.keep_apps(Self::MAX_APPS);
        self.keep_units(Self::MAX_UNITS);
        self.events.drain(..self.events.len().saturating_sub(Self::MAX_EVENTS));
        self.holds.truncate(Self::MAX_HOLDS);
        self.not_compared.truncate(Self::MAX_APPS);
        self.document.keep_bad_entries();
        self.keep_releases(AppStatus::MAX_ROLLED_BACK, AppStatus::MAX_CACHED);
        self.apps.iter_mut().for_each(|app| app.drift.truncate(Self::MAX_DRIFT));
        let [normal, short, shortest] = TEXTS;
        self.cut_texts(normal);
        if let Some(size) = size.filter(|size| self.to_json().len() > *size) {
            let is_small = |status: &Self| status.to_json().len() <= size - RESERVE;
            self.cut_texts(short);
            self.keep_releases(AppStatus::MAX_ROLLED_BACK.div_ceil(4), 0);
            if !is_small(&self) {
                self.keep_units(0);
                self.cut_texts(shortest);
            }
            while !is_small(&self) && !self.apps.is_empty() {
                self.keep_apps(self.apps.len() / 2);
                self.not_compared.truncate(self.apps.len());
            }
        }
        let left_out = [(before.0 - self.apps.len(), before.0, "apps"), (before.1 - self.units(), before.1, "units")];
        for (left_out, all, what) in left_out.into_iter().filter(|(left_out, ..)| *left_out > 0) {
            self.warnings
                .insert(0, format!("this report leaves out {left_out} of {all} {what}, because it is too large"));
        }
        if self.warnings.len() > Self::MAX_WARNINGS {
            let more = self.warnings.len() - Self::MAX_WARNINGS + 1;
            self.warnings.truncate(Self::MAX_WARNINGS - 1);
            self.warnings.push(format!("and {more} more warnings"));
        }
        self
    }

    /// The report as it is stored.
    pub(super) fn to_json(&self) -> Vec<u8> {
        serde_json::to_vec_pretty(self).expect("a status is JSON")
    }

    fn units(&self) -> usize {
        self.apps.iter().map(|app| app.units.len()).sum()
    }

    /// The apps with the places they have, those first that need attention most.
    fn worst_first(&mut self) -> Vec<(usize, &mut AppStatus)> {
        let mut apps: Vec<(usize, &mut AppStatus)> = self.apps.iter_mut().enumerate().collect();
        apps.sort_by_key(|(_, app)| Reverse(app.state.of_server()));
        apps
    }

    fn keep_apps(&mut self, most: usize) {
        if self.apps.len() <= most {
            return;
        }
        let mut kept: Vec<usize> = self.worst_first().into_iter().take(most).map(|(place, _)| place).collect();
        kept.sort_unstable();
        let mut place = 0..;
        self.apps.retain(|_| place.next().is_some_and(|place| kept.binary_search(&place).is_ok()));
    }

    fn keep_releases(&mut self, rolled_back: usize, cached: usize) {
        for app in &mut self.apps {
            app.rolled_back.truncate(rolled_back);
            app.cached.truncate(cached);
        }
    }

    fn keep_units(&mut self, most: usize) {
        let mut left = most;
        for (_, app) in self.worst_first() {
            app.units.truncate(left);
            left -= app.units.len();
        }
    }

    fn cut_texts(&mut self, most: usize) {
        let document = self.document.error.iter_mut();
        let bad = self.document.bad_entries.iter_mut().flat_map(|bad| [&mut bad.entry, &mut bad.reason]);
        let apps = self.apps.iter_mut().flat_map(|app| app.reason.iter_mut().chain(&mut app.drift));
        let events = self.events.iter_mut().map(|event| &mut event.text);
        let holds = self.holds.iter_mut().flat_map(|hold| [&mut hold.by, &mut hold.why]);
        let texts = document.chain(bad).chain(apps).chain(holds).chain(events).chain(&mut self.warnings);
        texts.chain([&mut self.summary]).for_each(|text| cut(text, most));
    }
}

impl DocumentStatus {
    /// Most elements that a report lists as unusable.
    pub const MAX_BAD_ENTRIES: usize = 20;

    /// How many elements can't be used, listed or not.
    pub fn bad_count(&self) -> usize {
        self.bad_count.unwrap_or_default().max(self.bad_entries.len())
    }

    fn keep_bad_entries(&mut self) {
        let count = self.bad_count();
        self.bad_entries.truncate(Self::MAX_BAD_ENTRIES);
        self.bad_count = (count > self.bad_entries.len()).then_some(count);
    }
}

/// Cuts a text to at most so many bytes, an ellipsis included.
fn cut(text: &mut String, most: usize) {
    const ELLIPSIS: char = '…';
    if text.len() > most {
        text.truncate(text.floor_char_boundary(most.saturating_sub(ELLIPSIS.len_utf8())));
        text.push(ELLIPSIS);
    }
}
