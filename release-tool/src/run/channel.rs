//! `channel`: channels are moved forward to what the run has released.

use std::path::Path;

use anyhow::{Context as _, Result, bail};
use bucket::{AppName, ChannelName, ReleaseName};
use console::safe;
use fleet::{
    channel::line::Line,
    told::{Moved, move_forward, told},
};
use futures_util::FutureExt as _;
use pipeline::ChannelMove;

use crate::{
    change::line::reference,
    git::Git,
    run::{
        limits::Unfinished,
        pushing,
        running::{Made, Running},
    },
};

/// Moves channels, one after the other.
pub(super) async fn channel(running: &mut Running, wanted: &[ChannelMove]) -> Result<(), Unfinished> {
    let operator = pushing::operator(&running.pipeline.name, &running.stage.name)?;
    let shared = running.shared.clone();
    for one in wanted {
        let (app, channel) = parsed(one)?;
        let publishing = async { Ok(shared.published.made(app.as_str()).await) };
        let Some(Made { release, .. }) = running.limits().within(publishing.boxed()).await? else {
            return Err(Unfinished::Failed(format!(
                "this run has released nothing of `{app}` to move the channel `{channel}` to: a stage before this one has to \
                 `publish` it"
            )));
        };
        ensure_tried(running, &release, &channel)?;
        let branch = told(&operator.policy, &app, &channel).map_err(anyhow::Error::new)?.branch.to_string();
        let top = shared.source.top.clone();
        let (line, shown) = running.blocking(move || line(&top, &branch)).await?;
        let moving = async {
            let (bucket, what) = (shared.bucket().await?, (&release, &channel));
            Ok(move_forward(bucket, &operator.policy, &operator.who, what, (&line, &shown), &operator.reason).await?)
        };
        let moved = running.limits().within(moving.boxed()).await?;
        running.output.say(&match moved {
            Moved::There => format!("the channel {channel} of {app} points to {} already", release.stem()),
            Moved::From(None, _) => format!("moved the channel {channel} of {app} to {}", release.stem()),
            Moved::From(Some(from), _) => {
                format!("moved the channel {channel} of {app} from {} to {}", from.stem(), release.stem())
            }
        });
    }
    Ok(())
}

fn parsed(wanted: &ChannelMove) -> Result<(AppName, ChannelName)> {
    let app = wanted.app.parse().with_context(|| format!("`{}` is not an app", wanted.app))?;
    let channel = wanted.channel.parse().with_context(|| format!("`{}` is not a channel", wanted.channel))?;
    Ok((app, channel))
}

/// The line of a channel's branch as the checkout knows it, of `origin` if it has it from there, and what people call that.
fn line(top: &Path, branch: &str) -> Result<(Line, String)> {
    let git = Git::at(top);
    let (reference, shown) = reference(&git, branch)?;
    // What a person has put in the place of a commit, on this machine only, isn't what has landed (git-replace(1)).
    let listing = ["--no-replace-objects", "rev-list", "--first-parent", "--reverse", reference.as_str(), "--"];
    let listed = git.run(&listing).with_context(|| format!("could not read what has landed on `{shown}`"))?;
    let commits = String::from_utf8_lossy(&listed).lines().map(str::parse).collect::<Result<_, _>>();
    Ok((Line::new(commits.context("unexpected output of `git rev-list`")?), shown))
}

/// Where only what was tried may be what a channel points to: refuses what no stage before has tried.
fn ensure_tried(running: &Running, release: &ReleaseName, channel: &ChannelName) -> Result<()> {
    let (shared, pipeline) = (&running.shared, &running.pipeline);
    if !shared.manifest.pipeline.require_trial {
        return Ok(());
    }
    let Some(own) = pipeline.stages.iter().position(|stage| stage.name == running.stage.name) else { return Ok(()) };
    let mut before = pipeline.order.before(own);
    before.insert(own);
    if before.iter().any(|at| shared.tried.has(&pipeline.name, &pipeline.stages[*at].name, release)) {
        return Ok(());
    }
    bail!(
        "the channel `{channel}` of `{}` is not moved to `{}`: no stage before `{}` has tried it on a server, which \
         `[pipeline] require_trial` in release.toml asks for; let a `deploy` with that `release` come first",
        release.app(),
        release.stem(),
        safe(&running.stage.name)
    )
}
