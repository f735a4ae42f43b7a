//! `channel`: channels are moved forward to what the run has released.

use anyhow::{Context as _, Result};
use bucket::{AppName, ChannelName};
use fleet::told::{Moved, move_forward};
use futures_util::FutureExt as _;
use pipeline::ChannelMove;

use crate::run::{
    limits::Unfinished,
    pushing,
    running::{Made, Running},
};

/// Moves channels, one after the other.
pub(super) async fn channel(running: &mut Running, wanted: &[ChannelMove]) -> Result<(), Unfinished> {
    let operator = pushing::operator(&running.pipeline.name, &running.stage.name)?;
    let shared = running.shared.clone();
    for one in wanted {
        let (app, channel) = parsed(one)?;
        let moving = async {
            let Some(Made { release, .. }) = shared.published.made(app.as_str()).await else {
                return Err(Unfinished::Failed(format!(
                    "this run has released nothing of `{app}` to move the channel `{channel}` to: a stage before this one has to \
                     `publish` it"
                )));
            };
            let (bucket, what) = (shared.bucket().await?, (&release, &channel));
            let moved = move_forward(bucket, &operator.policy, &operator.who, what, &operator.reason).await?;
            Ok((release.clone(), moved))
        };
        let (release, moved) = running.limits().within(moving.boxed()).await?;
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
