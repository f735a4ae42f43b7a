//! `push channel`: where the channels of apps point, and pointing them elsewhere.

mod show;

use anyhow::{Context as _, Result};
use bucket::{AppName, Channel, ChannelName, Generation};
use clap::{Args, Subcommand};
use console::{UsageError, nearest, note, print_json, print_line, safe};
use fleet::{
    channel::change::{Change, Said, before},
    follow::{self, Seen},
    identity::{Identity, Origin},
    policy::ChannelRules,
    server::{self, Server},
};
use futures_util::{StreamExt as _, stream};
use serde_json::json;

use super::{
    command::{AT_ONCE, Command, operator_name},
    deploy::choose,
};

/// Point channels to releases, and show where they point
///
/// A channel is a named pointer, for one app, to one release: `prod` of web is this release. `Channels` in the policy file
/// says which there are (--config).
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  push channel list
  push channel show web --channel beta
  push channel set web@417ac97 -m 'hotfix'
  push channel rollback web -m 'too slow'
  push channel resume web -m 'mended'")]
pub(crate) struct ChannelArguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// List the channels, with how many of their followers have the release
    List {
        /// App; default: all apps
        app: Option<AppName>,
    },
    /// Show a channel: where it points and pointed, and each of its followers
    Show {
        /// App
        app: AppName,
        #[command(flatten)]
        of: Of,
    },
    /// Point a channel to a release, backwards too, and freeze it there
    Set {
        /// Release: an app (its newest clean release), APP@COMMIT or a release name
        #[arg(value_name = "APP|RELEASE")]
        release: String,
        #[command(flatten)]
        changing: Changing,
    },
    /// Point a channel to the release before, and freeze it there; twice goes back twice
    Rollback {
        /// App
        app: AppName,
        #[command(flatten)]
        changing: Changing,
    },
    /// Freeze a channel: it moves only by hand until it is resumed
    Freeze {
        /// App
        app: AppName,
        #[command(flatten)]
        changing: Changing,
    },
    /// Let a frozen channel move again
    Resume {
        /// App
        app: AppName,
        #[command(flatten)]
        changing: Changing,
    },
}

#[derive(Debug, Args)]
struct Of {
    /// Which channel of the app
    #[arg(long = "channel", value_name = "NAME", default_value_t = ChannelName::usual())]
    channel: ChannelName,
}

#[derive(Debug, Args)]
struct Changing {
    #[command(flatten)]
    of: Of,
    /// Reason, recorded in the channel
    #[arg(short = 'm', long, value_name = "REASON")]
    reason: String,
    /// Show what would change, and write nothing
    #[arg(long)]
    dry_run: bool,
}

impl ChannelArguments {
    pub(crate) async fn run(self, command: &Command) -> Result<bool> {
        match self.verb {
            Verb::List { app } => show::list(command, app.as_ref()).await,
            Verb::Show { app, of } => show::show(command, find(command, &app, &of.channel)?).await,
            Verb::Set { release, changing } => {
                let release = choose(&command.bucket, &release).await?.name;
                let app = release.app().clone();
                change(command, &app, changing, &Change::Set(release)).await
            }
            Verb::Rollback { app, changing } => change(command, &app, changing, &Change::Rollback).await,
            Verb::Freeze { app, changing } => change(command, &app, changing, &Change::Freeze).await,
            Verb::Resume { app, changing } => change(command, &app, changing, &Change::Resume).await,
        }
    }
}

/// A channel that is configured.
fn find<'a>(command: &'a Command, app: &AppName, channel: &ChannelName) -> Result<&'a ChannelRules> {
    let configured = command.policy.channels();
    let found = configured.iter().find(|rules| rules.app == *app && rules.channel == *channel);
    let unknown = || {
        let of_app: Vec<&str> =
            configured.iter().filter(|rules| rules.app == *app).map(|rules| rules.channel.as_str()).collect();
        let apps: Vec<&str> = configured.iter().map(|rules| rules.app.as_str()).collect();
        let did_you_mean = |near: Option<&str>| near.map_or(String::new(), |near| format!("; did you mean `{near}`?"));
        let text = if configured.is_empty() {
            "no channel is configured: `Channels` in the policy file says which there are (--config)".to_owned()
        } else if of_app.is_empty() {
            format!("no channel of `{app}` is configured{}", did_you_mean(nearest(app.as_str(), &apps)))
        } else {
            let near = did_you_mean(nearest(channel.as_str(), &of_app));
            format!("`{app}` has no channel `{channel}`{near}; it has {}", console::quoted(&of_app))
        };
        UsageError::new(text)
    };
    Ok(found.ok_or_else(unknown)?)
}

/// The servers that may follow one of these channels.
async fn servers(command: &Command, rules: &[&ChannelRules]) -> Result<Vec<Server>> {
    let listed = server::listed(&command.bucket).await?;
    let matched = listed.into_iter().filter(|(name, _)| rules.iter().any(|rules| rules.matches(name)));
    let read = matched.map(async |(name, written)| server::read_listed(&command.bucket, &name, written).await);
    Ok(stream::iter(read).buffered(AT_ONCE).collect().await)
}

async fn change(command: &Command, app: &AppName, changing: Changing, change: &Change) -> Result<bool> {
    let bucket = &command.bucket;
    let rules = find(command, app, &changing.of.channel)?;
    let who = Identity { name: operator_name(), origin: Origin::Local };
    follow::may_change(&command.policy, &who, rules, &servers(command, &[rules]).await?)?;
    let seen = follow::read(bucket, rules).await?;
    let said = Said { by: &who.name, why: &changing.reason, at: command.now() };
    let changed = follow::judge(&seen, change, said)?;
    let generation = if changing.dry_run {
        None
    } else {
        if let Some(new) = bucket.mark().await.context("could not mark the bucket; nothing was written")? {
            note(new);
        }
        Some(follow::write(bucket, &changed, &seen).await?)
    };
    tell(command, &seen, &changed, generation)
}

/// Says what has changed, or would.
fn tell(command: &Command, seen: &Seen, changed: &Channel, generation: Option<Generation>) -> Result<bool> {
    let Channel { app, channel, .. } = changed;
    let (from, to) = (&seen.channel.release, &changed.release);
    if command.json {
        print_json(&json!({
            "app": app, "channel": channel, "from": from, "release": to, "frozen": changed.frozen, "generation": generation,
        }))?;
        return Ok(true);
    }
    let would = if generation.is_none() { "would be " } else { "" };
    let named = |release: &Option<bucket::ReleaseName>| {
        release.as_ref().map_or("nothing".to_owned(), |release| release.stem().to_owned())
    };
    if from != to {
        print_line(format_args!("{app} {channel}: {} → {}", named(from), named(to)))?;
    }
    match (&seen.channel.frozen, &changed.frozen) {
        (None, Some(frozen)) => print_line(format_args!("{app} {channel}: {would}frozen: {}", safe(&frozen.why)))?,
        (Some(_), None) => print_line(format_args!("{app} {channel}: {would}no longer frozen"))?,
        _ => {}
    }
    if let Some(before) = before(changed).filter(|_| from != to) {
        note(format_args!("`push channel rollback` would go to {}", before.stem()));
    }
    Ok(true)
}
