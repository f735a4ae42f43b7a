//! `push channel`: where the channels of apps point, and pointing them elsewhere.

mod images;
mod show;

use anyhow::{Context as _, Result, ensure};
use bucket::{AppName, ChannelName, Generation};
use clap::{Args, Subcommand};
use console::{UsageError, note, print_json, print_line, safe};
use fleet::{
    channel::change::{Change, Said, Set, before},
    follow::{self, Judged, NotSoaked},
    identity::{Identity, Origin},
};
use serde_json::json;

use super::{
    command::{Command, operator_name},
    configured::find,
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
  push channel set web@417ac97 -m 'the one before was too slow'
  push channel set web@417ac97 --skip-soak -m 'hotfix'
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
    ///
    /// A channel that moves only when told (`Moves: "told"`) is not frozen by a release that is further on its branch, as the
    /// last round of `push watch` saw that. A channel with `From` takes only what has gone through the channel before for as
    /// long as `Soak` says, or was in this one already.
    Set {
        /// Release: an app (its newest clean release), APP@COMMIT or a release name
        #[arg(value_name = "APP|RELEASE")]
        release: String,
        /// Point it there though the release has not gone through the channel before (`From`), as for a hotfix; recorded
        #[arg(long)]
        skip_soak: bool,
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
            Verb::Set { release, skip_soak: without_soak, changing } => {
                let release = match images::of(command, &release, &changing.of.channel) {
                    Some(rules) => images::choose(&command.bucket, rules, &release).await?,
                    None => choose(&command.bucket, &release).await?.name,
                };
                let app = release.app().clone();
                let has_no_from = || {
                    UsageError::new(format!(
                        "the channel `{}` of `{app}` has no `From`, so there is nothing to skip: leave out --skip-soak",
                        changing.of.channel
                    ))
                };
                let rules = find(command, &app, &changing.of.channel)?;
                ensure!(!without_soak || rules.from.is_some(), has_no_from());
                change(command, &app, changing, &Change::Set(Set { release, without_soak })).await
            }
            Verb::Rollback { app, changing } => change(command, &app, changing, &Change::Rollback).await,
            Verb::Freeze { app, changing } => change(command, &app, changing, &Change::Freeze).await,
            Verb::Resume { app, changing } => change(command, &app, changing, &Change::Resume).await,
        }
    }
}

async fn change(command: &Command, app: &AppName, changing: Changing, change: &Change) -> Result<bool> {
    let bucket = &command.bucket;
    let rules = find(command, app, &changing.of.channel)?;
    let who = Identity { name: operator_name(), origin: Origin::Local };
    follow::may_change(&command.policy, &who, rules, &follow::servers(bucket, &[rules]).await?)?;
    let said = Said { by: &who.name, why: &changing.reason, at: command.now() };
    let seen = follow::read(bucket, rules).await?;
    let judged = follow::judge(bucket, rules, seen, change, said).await.map_err(|error| {
        if error.is::<NotSoaked>() { error.context("--skip-soak points it there all the same") } else { error }
    })?;
    let generation = if changing.dry_run {
        None
    } else {
        if let Some(new) = bucket.mark().await.context("could not mark the bucket; nothing was written")? {
            note(new);
        }
        Some(follow::write(bucket, &command.policy, judged.channel.clone(), &judged.seen).await?)
    };
    tell(command, &judged, generation)
}

/// Says what has changed, or would.
fn tell(command: &Command, judged: &Judged, generation: Option<Generation>) -> Result<bool> {
    let Judged { seen, channel: changed } = judged;
    let (app, channel) = (&changed.app, &changed.channel);
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
    let frozen = changed.frozen.as_ref().filter(|_| changed.frozen != seen.channel.frozen);
    if let Some(why) = frozen.and_then(|frozen| frozen.because.as_ref()) {
        note(format_args!("{app} {channel}: it moves when told, and is frozen all the same, because {why}"));
    }
    if let Some(before) = before(changed).filter(|_| from != to) {
        note(format_args!("`push channel rollback` would go to {}", before.stem()));
    }
    Ok(true)
}
