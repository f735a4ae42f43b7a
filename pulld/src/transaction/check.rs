//! A release's own check: tried until it passes, or has failed.

use std::time::Duration;

use bucket::Check;
use tokio::time::Instant;

use crate::{
    decide::trial::{After, Trial},
    failure::{FailureKind, Fault},
    machine::{CheckResult, ServiceManager},
};

/// Tries the check of an app's release, whose units are up.
pub(super) async fn pass(
    services: &impl ServiceManager,
    app: &str,
    check: &Check,
    window: Duration,
) -> Result<(), Fault> {
    let trial = Trial::of(check, window);
    let began = Instant::now();
    let mut attempts = 0;
    loop {
        let fault = match services.check(app, &check.probe, trial.timeout).await {
            Ok(CheckResult::Passed) => return Ok(()),
            Ok(CheckResult::Failed(fault)) => Fault::CheckFailed(fault),
            // systemd could not be asked, which the release did not cause.
            Err(error) => Fault::told(FailureKind::MachineAtFault, format!("could not run its check: {error:#}")),
        };
        attempts += 1;
        match trial.after(attempts, began.elapsed()) {
            After::Pause(pause) => tokio::time::sleep(pause).await,
            After::Failure => return Err(fault),
        }
    }
}
