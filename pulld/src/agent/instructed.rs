//! What people on this machine told the agent to do, carried out at the begin of a cycle.

use anyhow::Result;
use bucket::AppName;

use crate::{
    machine::{PackageManager, ServiceManager},
    service::{
        events,
        instructions::{Answer, Instruction},
    },
    transaction::executor::Next,
};

use super::{Agent, cycle::Cycle};

impl<P: PackageManager, S: ServiceManager> Agent<P, S> {
    /// Carries out every instruction since the last cycle, and answers each before its work begins.
    pub(super) async fn carry_out_instructions(&mut self, cycle: &mut Cycle) -> Result<Next> {
        for pending in self.instructions.take() {
            cycle.busy = true;
            match &pending.instruction {
                Instruction::Retry { app } => {
                    let answer = self.retry(app);
                    pending.answer(answer);
                }
                Instruction::Resume { app } => {
                    let answer = self.resume(app);
                    pending.answer(answer);
                }
                Instruction::Rollback(rollback) => match self.prepare_rollback(rollback, cycle).await {
                    Err(error) => pending.answer(Answer::Refused(format!("{error:#}"))),
                    Ok((text, updates)) => {
                        pending.answer(Answer::Accepted(text));
                        if self.carry_out_rollback(updates, cycle).await? == Next::Exit {
                            return Ok(Next::Exit);
                        }
                    }
                },
            }
        }
        Ok(Next::Continue)
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
        let text = format!("retrying `{release}`, which was quarantined at {:.0}", entry.since);
        tracing::info!(message_id = events::QUARANTINE_LIFTED, %app, release, "as a person asked, {text}");
        Answer::Accepted(text)
    }
}
