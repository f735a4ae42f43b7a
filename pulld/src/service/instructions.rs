//! What a person on this machine tells the agent to do with one app, on its way from the control socket to the next
//! cycle, and the agent's answer on its way back.

use std::sync::{Arc, Mutex, PoisonError};

use bucket::{AppName, ReleaseName};
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

/// What to do with one app.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Instruction {
    /// Try what failed again, although it is quarantined or its time has not come.
    Retry {
        /// The app.
        app: AppName,
    },
    /// Go back to an earlier release of an app, and leave it alone.
    Rollback(Rollback),
    /// Take care of an app again that was rolled back here.
    Resume {
        /// The app.
        app: AppName,
    },
}

/// A person goes back to an earlier release.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Rollback {
    /// The app.
    pub(crate) app: AppName,
    /// The release to go back to; the one before, if none is named.
    pub(crate) to: Option<ReleaseName>,
    /// Who the person is.
    pub(crate) who: String,
    /// Why, in their words.
    pub(crate) why: String,
    /// After how many seconds the agent takes care of the app again; `None` for never.
    pub(crate) seconds: Option<u64>,
}

/// What the agent does about an instruction, in a sentence.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Answer {
    /// It carries it out, in the cycle under way.
    Accepted(String),
    /// It does nothing, for this reason.
    Refused(String),
}

/// An instruction that somebody waits to be answered.
#[derive(Debug)]
pub(crate) struct Pending {
    /// What to do.
    pub(crate) instruction: Instruction,
    answer: oneshot::Sender<Answer>,
}

impl Pending {
    /// Answers it. That nobody listens any more is fine.
    pub(crate) fn answer(self, answer: Answer) {
        let _ = self.answer.send(answer);
    }
}

/// The instructions that no cycle has taken yet; every clone is the same queue.
#[derive(Debug, Clone, Default)]
pub(crate) struct Instructions(Arc<Mutex<Vec<Pending>>>);

impl Instructions {
    /// Queues an instruction for the next cycle, which the caller wakes, and gives where its answer arrives.
    pub(crate) fn give(&self, instruction: Instruction) -> oneshot::Receiver<Answer> {
        let (answer, answered) = oneshot::channel();
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(Pending { instruction, answer });
        answered
    }

    /// Everything that is queued, oldest first.
    pub(crate) fn take(&self) -> Vec<Pending> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
