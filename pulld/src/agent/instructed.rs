//! What people told the agent to do: on this machine, carried out at the begin of a cycle, and in the server document,
//! carried out when that was read.

use anyhow::Result;
use bucket::{AppName, Retry};

use crate::{
    machine::{PackageManager, ServiceManager},
    service::{
        events,
        instructions::{Answer, Instruction},
    },
    state::quarantine::Quarantined,
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

    /// Lets the plan of this cycle try again what operators asked for in the document, each retry once: that is noted on
    /// disk together with the end of the quarantine. It counts for the release that the document names.
    pub(super) fn carry_out_retries(&mut self) {
        let Some((_, document)) = self.desired.document() else { return };
        let retries: Vec<Retry> = document
            .metadata()
            .retries()
            .into_iter()
            .filter(|retry| document.release_of(retry.release.app()) == Some(&retry.release))
            .filter(|retry| !self.quarantine.has_retried(&retry.id))
            .collect();
        if retries.is_empty() {
            return;
        }
        let before = self.quarantine.clone();
        let lifted: Vec<(Retry, Option<Quarantined>)> = retries
            .into_iter()
            .map(|retry| {
                let entry = self.quarantine.retry(&retry.id, &retry.release);
                (retry, entry)
            })
            .collect();
        if let Err(error) = self.quarantine.save(&self.paths.quarantine()) {
            tracing::warn!(message_id = events::STATE_LOST, "could not note a retry, which comes later: {error:#}");
            self.quarantine = before;
            return;
        }
        for (retry, entry) in lifted {
            let (app, release) = (retry.release.app(), retry.release.stem());
            let was_waiting = self.retries.remove(app).is_some();
            if entry.is_some() || was_waiting {
                tracing::info!(
                    message_id = events::QUARANTINE_LIFTED,
                    %app,
                    release,
                    push = %retry.id,
                    "retrying `{release}`, as push {} asks",
                    retry.id
                );
            }
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
        let text = format!("retrying `{release}`, which was quarantined at {:.0}", entry.since);
        tracing::info!(message_id = events::QUARANTINE_LIFTED, %app, release, "as a person asked, {text}");
        Answer::Accepted(text)
    }
}
