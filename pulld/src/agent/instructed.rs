//! What people on this machine told the agent to do, carried out at the begin of a cycle.

use bucket::AppName;

use crate::{
    machine::{PackageManager, ServiceManager},
    service::{
        events,
        instructions::{Answer, Instruction},
    },
};

use super::{Agent, cycle::Cycle};

impl<P: PackageManager, S: ServiceManager> Agent<P, S> {
    /// Carries out every instruction since the last cycle, and answers each.
    pub(super) fn carry_out_instructions(&mut self, cycle: &mut Cycle) {
        for pending in self.instructions.take() {
            cycle.busy = true;
            let answer = match &pending.instruction {
                Instruction::Retry { app } => self.retry(app),
                Instruction::Resume { app } => self.resume(app),
            };
            pending.answer(answer);
        }
    }

    /// Lets the plan of this cycle try again what failed.
    fn retry(&mut self, app: &AppName) -> Answer {
        let Some(entry) = self.quarantine.lift(app) else {
            return match self.retries.remove(app) {
                Some(release) => Answer::Accepted(format!("retrying `{}` now", release.stem())),
                None => Answer::Refused(format!(
                    "there is nothing to retry for `{app}`: it is neither quarantined nor waiting for a retry (see \
                     `pulld status`)"
                )),
            };
        };
        let release = entry.release.stem();
        if let Err(error) = self.quarantine.save(&self.paths.quarantine()) {
            self.quarantine.add(entry.clone());
            return Answer::Refused(format!("could not lift the quarantine of `{release}`: {error:#}"));
        }
        let text = format!("retrying `{release}`, which was quarantined at {}", entry.since);
        tracing::info!(message_id = events::QUARANTINE_LIFTED, %app, release, "as a person asked, {text}");
        Answer::Accepted(text)
    }
}
