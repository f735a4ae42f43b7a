//! `push channel`: where the channels of apps point, and pointing them elsewhere.

mod show;

use anyhow::{Context as _, Result, ensure};
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
fn of_app<'a>(command: &'a Command, app: Option<&AppName>) -> impl Iterator<Item = &'a ChannelRules> {
    command.policy.channels().iter().filter(move |rules| app.is_none_or(|app| rules.app == *app))
}

/// That there are channels, of an app or at all.
fn ensure_configured(command: &Command, app: Option<&AppName>) -> Result<()> {
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
