//! The channels that the policy file has.

use anyhow::{Result, ensure};
use bucket::{AppName, ChannelName};
use console::{UsageError, nearest};
use fleet::policy::ChannelRules;

use super::command::Command;

/// A channel that is configured.
pub(super) fn find<'a>(command: &'a Command, app: &AppName, channel: &ChannelName) -> Result<&'a ChannelRules> {
    let found = of_app(command, Some(app)).find(|rules| rules.channel == *channel);
    let unknown = || {
        let names: Vec<&str> = of_app(command, Some(app)).map(|rules| rules.channel.as_str()).collect();
        let what = format!("`{app}` has no channel `{channel}`{}", did_you_mean(channel.as_str(), &names));
        UsageError::new(what)
    };
    ensure_configured(command, Some(app))?;
    Ok(found.ok_or_else(unknown)?)
}

/// The channels of an app, or all.
pub(super) fn of_app<'a>(command: &'a Command, app: Option<&AppName>) -> impl Iterator<Item = &'a ChannelRules> {
    command.policy.channels().iter().filter(move |rules| app.is_none_or(|app| rules.app == *app))
}

/// That there are channels, of an app or at all.
pub(super) fn ensure_configured(command: &Command, app: Option<&AppName>) -> Result<()> {
    let none = "no channel is configured: `Channels` in the policy file says which there are (--config)";
    let apps: Vec<&str> = command.policy.channels().iter().map(|rules| rules.app.as_str()).collect();
    ensure!(!apps.is_empty(), UsageError::new(none));
    if let Some(app) = app {
        let unknown =
            || UsageError::new(format!("no channel of `{app}` is configured{}", did_you_mean(app.as_str(), &apps)));
        ensure!(apps.contains(&app.as_str()), unknown());
    }
    Ok(())
}

/// What was probably meant, or else what there is.
fn did_you_mean(word: &str, known: &[&str]) -> String {
    match nearest(word, known) {
        Some(near) => format!("; did you mean `{near}`?"),
        None => format!("; there is {}", console::quoted(known)),
    }
}
