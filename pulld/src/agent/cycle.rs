//! What one pull cycle saw and did, collected for its report.

use std::collections::BTreeSet;

use bucket::AppName;

use crate::{
    decide::{plan::Plan, report::PlanReport},
    machine::{InstalledPackage, OWN_PACKAGE},
    service::wake::Reason,
};

/// A pull cycle under way.
#[derive(Debug, Default)]
pub(super) struct Cycle {
    /// Whether a person asked for it: then files are compared now, and retries do not wait for their time.
    pub(super) requested: bool,
    /// What dpkg had when it was last queried in this cycle; `None` until it answered.
    pub(super) installed: Option<Vec<InstalledPackage>>,
    /// What that leaves to do.
    pub(super) plan: Plan,
    /// Why that, and nothing else.
    pub(super) report: PlanReport,
    /// What was done, app by app.
    pub(super) events: Vec<Event>,
    /// Whether an update did not end as it should.
    pub(super) failed: bool,
    /// Whether anything was done or tried that a person would want to read about.
    pub(super) busy: bool,
}

/// Something that happened to an app in a cycle.
#[derive(Debug)]
pub(super) struct Event {
    /// The app.
    pub(super) app: String,
    /// What happened, in a sentence.
    pub(super) text: String,
}

impl Cycle {
    /// A cycle that begins for `reasons`.
    pub(super) fn begin(reasons: &BTreeSet<Reason>) -> Self {
        tracing::debug!(?reasons, "starting a pull cycle");
        Self { requested: reasons.iter().any(|reason| reason.is_explicit()), ..Self::default() }
    }

    /// The packages that dpkg had; none while that is unknown.
    pub(super) fn installed(&self) -> &[InstalledPackage] {
        self.installed.as_deref().unwrap_or_default()
    }

    /// Notes what happened to pulld itself.
    pub(super) fn note_own(&mut self, text: String) {
        self.events.push(Event { app: OWN_PACKAGE.to_owned(), text });
    }

    /// Notes what happened to an app.
    pub(super) fn note(&mut self, app: &AppName, text: String) {
        self.events.push(Event { app: app.to_string(), text });
    }
}
