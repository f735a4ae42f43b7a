//! Notifications to systemd (`sd_notify(3)`). Without systemd they do nothing.

use std::time::Duration;

use sd_notify::NotifyState;

/// The agent has started and accepts commands.
pub(crate) fn ready() {
    send(&[NotifyState::Ready]);
}

/// The agent is about to exit.
pub(crate) fn stopping() {
    send(&[NotifyState::Stopping]);
}

/// Sets the `Status:` line of `systemctl status pulld`.
pub(crate) fn status(text: &str) {
    // A line break would begin another assignment.
    let line: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    send(&[NotifyState::Status(&line)]);
}

/// Feeds the watchdog.
pub(crate) fn watchdog() {
    send(&[NotifyState::Watchdog]);
}

/// How often to feed the watchdog: twice per timeout.
pub(crate) fn watchdog_interval() -> Option<Duration> {
    sd_notify::watchdog_enabled().map(|limit| limit / 2)
}

fn send(what: &[NotifyState]) {
    if let Err(error) = sd_notify::notify(what) {
        tracing::debug!(%error, "could not notify systemd");
    }
}
