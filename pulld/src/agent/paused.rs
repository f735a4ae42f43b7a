//! Apps that a person rolled back on this server, and that the agent leaves alone for now.

use bucket::{AppName, Timestamp};

use crate::{
    machine::{PackageManager, ServiceManager},
    service::{events, instructions::Answer},
};

use super::Agent;

impl<P: PackageManager, S: ServiceManager> Agent<P, S> {
    /// Takes care again of the apps whose time has passed or whose entry has changed.
    pub(super) fn end_pauses(&mut self) {
        let before = self.pauses.clone();
        let document = self.desired.document().map(|(_, document)| document);
        for (pause, end) in self.pauses.end_those_over(document, Timestamp::now()) {
            let app = pause.release.app();
            tracing::info!(message_id = events::PAUSED, %app, "`{app}` is no longer paused: {end}");
        }
        if self.pauses != before {
            self.save_pauses();
        }
    }

    /// Takes care of an app again because a person says so.
    pub(super) fn resume(&mut self, app: &AppName) -> Answer {
        if self.pauses.end(app).is_none() {
            return Answer::Refused(format!("`{app}` is not paused: there is nothing to resume (see `pulld status`)"));
        }
        self.save_pauses();
        let text = format!("`{app}` is no longer paused: a person resumed it");
        tracing::info!(message_id = events::PAUSED, %app, "{text}");
        Answer::Accepted(text)
    }

    /// Writes the pauses down. Where that fails, they are lost with this process, and that is logged.
    fn save_pauses(&self) {
        if let Err(error) = self.pauses.save(&self.paths.pauses()) {
            tracing::warn!(message_id = events::STATE_LOST, "could not save which apps are paused: {error:#}");
        }
    }
}
