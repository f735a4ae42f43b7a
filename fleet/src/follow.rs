//! Servers that follow a channel, and changing the channel that they follow.

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use bucket::{
    AppName, Bucket, Channel, ChannelName, ChannelState, Entry, Error, Generation, Image, ReleaseName, Rollout,
    Timestamp, WatcherReport,
};
use futures_util::{
    StreamExt as _, TryStreamExt as _,
    stream::{self, BoxStream},
};
use jiff::SignedDuration;
use thiserror::Error;

use crate::{
    channel::{
        build::Build,
        change::{Change, Moves, Said, Set, changed},
        choose::{soaked, trimmed},
        seen::{Outlook, is_forward},
    },
    identity::Identity,
    operation,
    policy::{ChannelRules, Policy, Role},
    reason::ensure_short,
    rollout::channel::next_of,
    server::{self, Server},
};

/// Servers that are read at the same time.
const AT_ONCE: usize = 16;

/// A server that gets what a channel points to.
#[derive(Debug, Clone, Copy)]
pub struct Follower<'a> {
    /// The server.
    pub server: &'a Server,
    /// The release of the app that its document names; `None` of a placeholder.
    pub release: Option<&'a ReleaseName>,
}

/// A channel as it was read, or that it was never moved or frozen.
#[derive(Debug, Clone, PartialEq)]
pub struct Seen {
    /// Its generation; `None` when there was none.
    pub generation: Option<Generation>,
    /// What it says; that of one that there was none of points nowhere.
    pub channel: Channel,
}

/// Somebody else changed a channel at this moment: nothing was written.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error(
    "nothing was written: somebody else changed the channel `{channel}` of `{app}` at this moment: look at it and try again"
)]
pub struct Raced {
    app: AppName,
    channel: ChannelName,
}

impl Raced {
    /// About the channel of these rules.
    pub fn over(rules: &ChannelRules) -> Self {
        Self { app: rules.app.clone(), channel: rules.channel.clone() }
    }
}

/// Somebody may not change a channel.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error(
    "`{who}` may not change the channel `{channel}` of `{app}`: that takes the role `deployer` for the app {}",
    if *of_images { "and for no groups alone, because no server follows a channel of images" } else { "on all servers that follow it" }
)]
pub struct NotAllowed {
    who: String,
    app: AppName,
    channel: ChannelName,
    of_images: bool,
}

/// The followers of a channel: the servers that it may have, of which the document has the app, or its placeholder. A pattern
/// alone never puts an app on a server.
pub fn followers<'a>(
    rules: &ChannelRules,
    servers: impl IntoIterator<Item = &'a Server>,
) -> impl Iterator<Item = Follower<'a>> {
    let matched = servers.into_iter().filter(|server| rules.matches(&server.name));
    matched.filter_map(|server| {
        let document = server.document()?;
        let release = document.release_of(&rules.app);
        let is_placeholder = |entry: &Entry| matches!(entry, Entry::Placeholder { app, .. } if *app == rules.app);
        let has = release.is_some() || document.entries().iter().any(is_placeholder);
        has.then_some(Follower { server, release })
    })
}

/// The servers that a channel may have and whose document can't be read, with the reason: whether they follow isn't known.
pub fn unreadable<'a>(
    rules: &ChannelRules,
    servers: impl IntoIterator<Item = &'a Server>,
) -> impl Iterator<Item = (&'a Server, &'a str)> {
    let matched = servers.into_iter().filter(|server| rules.matches(&server.name));
    matched.filter_map(|server| Some((server, server.document.error()?)))
}

/// Whether somebody may change a channel with these servers. A server whose document can't be read may follow it. Of images it takes
/// the role for the app, wherever that is: no server says less.
///
/// # Errors
/// Why not.
pub fn may_change<'a>(
    policy: &Policy,
    who: &Identity,
    rules: &ChannelRules,
    servers: impl IntoIterator<Item = &'a Server> + Clone,
) -> Result<(), NotAllowed> {
    let unreadable = unreadable(rules, servers.clone()).map(|(server, _)| server);
    let concerned = followers(rules, servers).map(|follower| follower.server).chain(unreadable);
    let least = concerned.map(|server| policy.role(who, &rules.app, &server.name)).min();
    let least = match &rules.image {
        Some(_) => policy.role_for(who, &rules.app),
        None => least.unwrap_or(policy.highest_role(who)),
    };
    if least < Role::Deployer {
        let (app, channel) = (rules.app.clone(), rules.channel.clone());
        return Err(NotAllowed { who: who.name.clone(), app, channel, of_images: rules.image.is_some() });
    }
    Ok(())
}

/// Reads the servers that may follow one of these channels.
///
/// # Errors
/// When they can't be listed.
pub async fn servers(bucket: &Bucket, rules: &[&ChannelRules]) -> Result<Vec<Server>> {
    let listed = server::listed(bucket).await?;
    let matched = listed.into_iter().filter(|(name, _)| rules.iter().any(|rules| rules.matches(name)));
    let read = matched.map(async |(name, written)| server::read_listed(bucket, &name, written).await);
    Ok(stream::iter(read).buffered(AT_ONCE).collect().await)
}

/// Reads a channel.
///
/// # Errors
/// When it can't be read.
pub async fn read(bucket: &Bucket, rules: &ChannelRules) -> Result<Seen> {
    let ChannelRules { app, channel, .. } = rules;
    let found = bucket.channel(app, channel).await;
    let found = found.with_context(|| format!("could not read the channel `{channel}` of `{app}`"))?;
    let read = found.map(|(generation, channel)| Seen { generation: Some(generation), channel });
    Ok(read.unwrap_or_else(|| {
        let channel = Channel::new(app.clone(), channel.clone(), "", "", Timestamp::UNIX_EPOCH);
        Seen { generation: None, channel }
    }))
}

/// What the last round saw of a channel, or why that can't be read: pages and commands do without it then.
pub async fn state(bucket: &Bucket, rules: &ChannelRules) -> Result<Option<ChannelState>> {
    let ChannelRules { app, channel, .. } = rules;
    let found = bucket.channel_state(app, channel).await;
    let found = found.with_context(|| {
        format!("what the last round saw of the channel `{channel}` of `{app}` cannot be read; delete it and it is seen anew")
    })?;
    Ok(found.map(|(_, state)| state))
}

/// The rollout of a channel that goes on, or keeps its release, as far as a round saw; pages and commands do without it, too.
pub async fn rollout(bucket: &Bucket, state: Option<&ChannelState>) -> Option<Rollout> {
    let id = state?.rollout.as_ref()?;
    bucket.rollout(id).await.ok().flatten().map(|(_, rollout)| rollout)
}

/// What the next round would do with a channel if nothing changed, in a sentence's words. `rollout` is the one that `state` names, as
/// it is now.
pub fn outlook(channel: &Channel, moves: Moves, state: Option<&ChannelState>, rollout: Option<&Rollout>) -> String {
    let named = state.and_then(|state| state.rollout.as_ref());
    let of_rollout = match (named, rollout) {
        (_, Some(rollout)) => next_of(channel, rollout),
        (Some(id), None) => Some(format!("goes by rollout {id}, of which `push rollout show {id}` tells")),
        (None, None) => None,
    };
    match (of_rollout, Outlook::of(channel, moves, state)) {
        (Some(of_rollout), Outlook::Nothing) => of_rollout,
        (Some(of_rollout), outlook) => format!("{of_rollout}; {outlook}"),
        (None, outlook) => outlook.to_string(),
    }
}

/// What a channel may point to, all that there is of it.
pub fn builds<'a>(bucket: &'a Bucket, rules: &'a ChannelRules) -> BoxStream<'a, Result<Build, Error>> {
    if rules.image.is_none() {
        return bucket.releases(&rules.app).map_ok(Build::from).boxed();
    }
    let images = bucket.images(&rules.app);
    images.try_filter_map(async |listed| Ok(listed.image.ok().and_then(|image| Build::try_from(&image).ok()))).boxed()
}

/// That a channel may point to something of this name.
///
/// # Errors
/// That there is none, or that this isn't known.
pub async fn ensure_there(bucket: &Bucket, rules: &ChannelRules, name: &ReleaseName) -> Result<()> {
    let Some(image) = &rules.image else { return operation::find(bucket, name).await.map(|_| ()) };
    let found = bucket.image(&rules.app, name.commit()).await;
    let found =
        found.with_context(|| format!("could not read which image of `{}` `{}` is", rules.app, name.commit()))?;
    let is_it = |image: Image| image.release().is_ok_and(|release| release == *name);
    ensure!(
        found.is_some_and(is_it),
        "no image of `{}` is recorded as `{}`: `push watch` records a tag of `{}` that is a commit of the branch when it sees it",
        rules.app,
        name.stem(),
        image.name
    );
    Ok(())
}

/// The report of the watcher that reported last.
///
/// # Errors
/// When it can't be read.
pub async fn newest_watcher(bucket: &Bucket) -> Result<Option<WatcherReport>> {
    let unread = "could not read whether a watcher runs";
    let Some((host, _)) = bucket.newest_watcher().await.context(unread)? else { return Ok(None) };
    Ok(bucket.watcher(&host).await.context(unread)?.map(|(_, report)| report))
}

/// A change of a channel that nothing speaks against, and that isn't written yet.
#[derive(Debug, Clone, PartialEq)]
pub struct Judged {
    /// What was read.
    pub seen: Seen,
    /// What it would be.
    pub channel: Channel,
}

/// A release may not be what a channel points to yet.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error(
    "`{release}` has not gone through the channel `{from}`: its followers have not run it for long enough, or went back from it; \
     for a hotfix, skip that"
)]
pub struct NotSoaked {
    release: String,
    from: ChannelName,
}

/// What a change would make of a channel that was read a moment ago, and whether anything speaks against it.
///
/// # Errors
/// When nothing would change, a release has not gone through the channel before ([`NotSoaked`]), or the reason is absent or too
/// long.
pub async fn judge(
    bucket: &Bucket,
    rules: &ChannelRules,
    seen: Seen,
    change: &Change,
    said: Said<'_>,
) -> Result<Judged> {
    ensure!(!said.why.trim().is_empty(), "no reason specified: say why, for everybody who meets it");
    ensure_short(said.why)?;
    let mut freezes = None;
    if let Change::Set(set) = change {
        ensure_soaked(bucket, rules, &seen.channel, set, said.at).await?;
        if rules.moves == Moves::Told {
            // It is derived: nobody is kept from anything because it can't be read.
            let state = state(bucket, rules).await.unwrap_or_default();
            freezes = is_forward(&seen.channel, state.as_ref(), &set.release).err();
        }
    }
    let before = match seen.generation {
        Some(_) => seen.channel.clone(),
        None => Channel { moved: said.at, by: said.by.to_owned(), why: said.why.to_owned(), ..seen.channel.clone() },
    };
    let mut channel = changed(&before, change, rules.moves == Moves::Newest || freezes.is_some(), said)?;
    if let (Some(frozen), Some(why)) = (&mut channel.frozen, freezes) {
        frozen.because = Some(why.to_string());
    }
    Ok(Judged { seen, channel })
}

/// That a release has gone through the channel before, if there is one, or was in this one already.
///
/// # Errors
/// That it has not ([`NotSoaked`]), or that this can't be read.
pub(crate) async fn ensure_soaked(
    bucket: &Bucket,
    rules: &ChannelRules,
    channel: &Channel,
    Set { release, without_soak }: &Set,
    now: Timestamp,
) -> Result<()> {
    let Some(from) = &rules.from else {
        ensure!(
            !without_soak,
            "the channel `{}` of `{}` has no `From`: there is nothing to skip",
            rules.channel,
            rules.app
        );
        return Ok(());
    };
    let was_here = channel.history.iter().any(|entry| entry.release == *release);
    if *without_soak || was_here {
        return Ok(());
    }
    if before(bucket, rules, from).await?.is_some_and(|from| soaked(&from, soak(rules), now).contains(release)) {
        return Ok(());
    }
    bail!(NotSoaked { release: release.stem().to_owned(), from: from.clone() })
}

/// The channel that releases must have gone through before; `None` if it was never moved.
///
/// # Errors
/// When it can't be read.
pub async fn before(bucket: &Bucket, rules: &ChannelRules, from: &ChannelName) -> Result<Option<Channel>> {
    let read = bucket.channel(&rules.app, from).await;
    let read = read.with_context(|| format!("could not read the channel `{from}` of `{}`", rules.app))?;
    Ok(read.map(|(_, from)| from))
}

/// For how long a release must have run there.
pub fn soak(rules: &ChannelRules) -> SignedDuration {
    as_signed(rules.soak)
}

/// A duration as differences of times have it.
pub fn as_signed(duration: Duration) -> SignedDuration {
    SignedDuration::try_from(duration).unwrap_or(SignedDuration::MAX)
}

/// Writes a channel over what was read, with as much of its history as the policy's channels need.
///
/// # Errors
/// That somebody else wrote it meanwhile ([`Raced`]), or it can't be written. Nothing was written then.
pub async fn write(bucket: &Bucket, policy: &Policy, channel: Channel, seen: &Seen) -> Result<Generation> {
    let (app, name) = (channel.app.clone(), channel.channel.clone());
    let soak = policy.soak_behind(&app, &name).map(as_signed);
    match bucket.write_channel(&trimmed(channel, soak, bucket.now()), seen.generation).await {
        Err(Error::Conflict { .. } | Error::AlreadyExists { .. }) => {
            bail!(Raced { app, channel: name })
        }
        written => {
            written.with_context(|| format!("could not write the channel `{name}` of `{app}`; nothing was written"))
        }
    }
}
