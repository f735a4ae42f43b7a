//! Which image a person means, of a channel that moves images.

use anyhow::{Context as _, Result, bail};
use bucket::{Bucket, ChannelName, ReleaseName};
use fleet::{channel::build::Build, follow, policy::ChannelRules};
use futures_util::TryStreamExt as _;

use super::super::{
    command::Command,
    configured::of_app,
    deploy::{app_and_commit, ensure_commit_prefix, parse_release},
};

/// The channel of images that somebody means who names an app or a release like this, if it is one.
pub(super) fn of<'a>(command: &'a Command, text: &str, channel: &ChannelName) -> Option<&'a ChannelRules> {
    let named = parse_release(text).map(|release| release.app().clone());
    let app = named.or_else(|| app_and_commit(text).ok().map(|(app, _)| app))?;
    of_app(command, Some(&app)).find(|rules| rules.channel == *channel && rules.image.is_some())
}

/// The image that somebody means by an app (the one recorded last), APP@COMMIT or a name, as the channel names it.
pub(super) async fn choose(bucket: &Bucket, rules: &ChannelRules, text: &str) -> Result<ReleaseName> {
    if let Some(name) = parse_release(text) {
        follow::ensure_there(bucket, rules, &name).await?;
        return Ok(name);
    }
    let (app, commit) = app_and_commit(text)?;
    let unlisted = || format!("could not list the images of `{app}`");
    let (all, rejected) =
        tokio::join!(follow::builds(bucket, rules).try_collect::<Vec<Build>>(), bucket.rejected(&app));
    let rejected = rejected.with_context(|| format!("could not read which images of `{app}` are rejected"))?;
    let mut all = all.with_context(unlisted)?;
    all.sort_by_key(|build| build.uploaded);
    let Some(commit) = commit else {
        let newest = all.into_iter().rev().find(|build| !rejected.contains(&build.name));
        return Ok(newest.with_context(|| format!("no image of `{app}` is recorded that is not rejected"))?.name);
    };
    ensure_commit_prefix(commit)?;
    let mut matching = all.into_iter().filter(|build| build.name.commit().as_str().starts_with(commit));
    match (matching.next(), matching.next()) {
        (Some(build), None) => Ok(build.name),
        (Some(one), Some(other)) => bail!(
            "`{app}@{commit}` is ambiguous, it matches the commits `{}` and `{}`",
            one.name.commit(),
            other.name.commit()
        ),
        (None, _) => bail!("no image of `{app}` is recorded of a commit that begins with `{commit}`"),
    }
}
