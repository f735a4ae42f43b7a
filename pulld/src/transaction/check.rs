//! A release's own check: tried until it passes, or has failed.

use std::time::Duration;

use bucket::Check;
use tokio::time::Instant;

use crate::{
    decide::trial::{After, Trial},
    machine::{CheckResult, ServiceManager},
    state::failure::FailureKind,
};

/// Why a release cannot stay.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Unhealthy {
    /// In a sentence.
    pub(super) reason: String,
    /// In a word.
    pub(super) kind: FailureKind,
    /// False when systemd could not be queried, which the release did not cause.
    pub(super) release_at_fault: bool,
}

impl Unhealthy {
    /// Nobody knows whether it is: systemd could not be asked.
    pub(super) fn unknown(reason: String) -> Self {
        Self { reason, kind: FailureKind::MachineAtFault, release_at_fault: false }
    }
}

/// Tries the check of an app's release, whose units are up.
pub(super) async fn pass(
    services: &impl ServiceManager,
    app: &str,
    check: &Check,
    window: Duration,
) -> Result<(), Unhealthy> {
    let trial = Trial::of(check, window);
    let began = Instant::now();
    let mut attempts = 0;
    loop {
        let unhealthy = match services.check(app, &check.probe, trial.timeout).await {
            Ok(CheckResult::Passed) => return Ok(()),
            Ok(CheckResult::Failed { reason }) => {
                Unhealthy { reason, kind: FailureKind::CheckFailed, release_at_fault: true }
            }
            Err(error) => Unhealthy::unknown(format!("could not run its check: {error:#}")),
        };
        attempts += 1;
        match trial.after(attempts, began.elapsed()) {
            After::Pause(pause) => tokio::time::sleep(pause).await,
            After::Failure => return Err(unhealthy),
        }
    }
}
