//! What systemd is told of the agent (`sd_notify(3)`). Without systemd all of it does nothing.

use std::time::Duration;

use sd_notify::NotifyState;

/// It is up and takes commands.
pub(crate) fn ready() {
    tell(&[NotifyState::Ready]);
}

/// It goes down.
pub(crate) fn stopping() {
    tell(&[NotifyState::Stopping]);
}

/// What it does, in a sentence: the `Status:` of `systemctl status pulld`.
pub(crate) fn status(text: &str) {
    // A line break would begin another assignment.
    let line: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    tell(&[NotifyState::Status(&line)]);
}

/// It is alive.
pub(crate) fn watchdog() {
    tell(&[NotifyState::Watchdog]);
}

/// How often systemd wants to hear that it is alive: half of what it tolerates.
pub(crate) fn watchdog_interval() -> Option<Duration> {
    sd_notify::watchdog_enabled().map(|limit| limit / 2)
}

fn tell(what: &[NotifyState]) {
    if let Err(error) = sd_notify::notify(what) {
        tracing::debug!(%error, "systemd could not be told");
    }
}
