//! Channels as pages and the API show them, drawn from the snapshot: no git is asked. And what somebody changes about one there.

use anyhow::Result;
use axum::{
    body::Bytes,
    extract::{Path, rejection::BytesRejection},
    http::StatusCode,
    response::{IntoResponse, Redirect, Response},
};
use bucket::{
    AppName, AppState, Channel, ChannelName, ChannelState, Generation, ReleaseName, Rollout, ServerName, Timestamp,
};
use fleet::{
    channel::{
        change::{Change, Said, Set},
        seen::{Place, silence, why_off},
    },
    condition::apps,
    follow::{self, Follower, Raced, followers, may_change, unreadable},
    policy::ChannelRules,
    server::Server,
};
use maud::{Markup, html};
use thiserror::Error;

use super::{params::Params, parts::prose, view::View};
use crate::snapshot::KnownObject;

/// A channel, and what is known of it.
pub(crate) struct ShownChannel<'a> {
    /// What the policy file says of it.
    pub(crate) rules: &'a ChannelRules,
    /// Its generation; `None` when it was never moved or frozen.
    pub(crate) generation: Option<Generation>,
    /// Where it points; nowhere if that can't be read.
    pub(crate) channel: Channel,
    /// What the last round saw of it.
    pub(crate) state: Option<&'a ChannelState>,
    /// Its rollout that goes on, or keeps its release, as far as the last round saw.
    pub(crate) rollout: Option<&'a Rollout>,
    /// What can't be read of it, or what failed in the last round.
    pub(crate) problem: Option<String>,
    /// The servers that follow it.
    pub(crate) followers: Vec<ShownFollower<'a>>,
    /// The servers that may follow it, and of which that can't be read.
    pub(crate) unreadable: Vec<&'a ServerName>,
}

/// A server that follows a channel.
pub(crate) struct ShownFollower<'a> {
    /// The server.
    pub(crate) server: &'a Server,
    /// The release of the app that its document names; `None` of a placeholder.
    pub(crate) release: Option<&'a ReleaseName>,
    /// How the app is there.
    pub(crate) state: Option<AppState>,
    /// Why it doesn't have what the channel points to; `None` if it does.
    pub(crate) why_off: Option<&'a str>,
}

impl<'a> ShownChannel<'a> {
    /// All channels, in the order of the policy file.
    pub(crate) fn all(view: &'a View) -> impl Iterator<Item = Self> {
        view.policy.channels().iter().map(|rules| Self::of(view, rules))
    }

    /// One of them.
    pub(crate) fn find(view: &'a View, app: &str, channel: &str) -> Option<Self> {
        rules(view, app, channel).map(|rules| Self::of(view, rules))
    }

    fn of(view: &'a View, rules: &'a ChannelRules) -> Self {
        let (known, key) = (&view.snapshot.channels, (rules.app.clone(), rules.channel.clone()));
        let (object, seen) = (known.channels.get(&key), known.states.get(&key));
        let never = || Channel::new(rules.app.clone(), rules.channel.clone(), "", "", Timestamp::UNIX_EPOCH);
        let channel = object.and_then(content).cloned().unwrap_or_else(never);
        let state = seen.and_then(content);
        let errors = [object.and_then(|object| object.read.error()), seen.and_then(|seen| seen.read.error())];
        let problem = errors.into_iter().flatten().next().or_else(|| state?.problem.as_deref()).map(str::to_owned);
        let servers = || view.snapshot.servers.values().map(|server| &**server);
        let shown = |Follower { server, release }: Follower<'a>| {
            let is_on = channel.release.is_some() && release == channel.release.as_ref();
            let why = why_off(&channel, state, &server.name).unwrap_or("another release");
            let row = apps(server).into_iter().find(|row| row.app == rules.app.as_str());
            let state = row.filter(|_| release.is_some()).map(|row| row.state);
            ShownFollower { server, release, state, why_off: (!is_on).then_some(why) }
        };
        let followers = followers(rules, servers()).map(shown).collect();
        let unreadable = unreadable(rules, servers()).map(|(server, _)| &server.name).collect();
        let generation = object.map(|object| object.generation);
        let rollout = state.and_then(|state| view.snapshot.rollouts.get(state.rollout.as_ref()?));
        let rollout = rollout.and_then(|known| known.rollout.known()).map(|rollout| &**rollout);
        Self { rules, generation, channel, state, rollout, problem, followers, unreadable }
    }

    /// How many of its followers have what it points to.
    pub(crate) fn on_it(&self) -> usize {
        self.followers.iter().filter(|follower| follower.why_off.is_none()).count()
    }

    /// Where its release stands, in words; `None` if it points to none.
    pub(crate) fn place(&self) -> Option<String> {
        Place::of(&self.channel, self.state).map(|place| place.words(self.rules.branch.as_str()))
    }

    /// Those of its followers that don't.
    pub(crate) fn off(&self) -> Vec<&ShownFollower<'a>> {
        self.followers.iter().filter(|follower| follower.why_off.is_some()).collect()
    }

    /// What the next round would do, in words.
    pub(crate) fn outlook(&self) -> String {
        follow::outlook(&self.channel, self.rules.moves, self.state, self.rollout)
    }

    /// Whether this operator may change it.
    pub(crate) fn may_be_changed(&self, view: &View) -> bool {
        view.may_push() && may_change(&view.policy, &view.who, self.rules, all_servers(view)).is_ok()
    }
}

/// The address of a channel's page.
pub(crate) fn address(rules: &ChannelRules) -> String {
    format!("/channels/{}/{}", rules.app, rules.channel)
}

/// Which channel the app of a server follows, and why it doesn't have what that points to.
pub(crate) fn followed(view: &View, server: &Server, app: &str) -> Markup {
    let is_followed = |rules: &&ChannelRules| rules.app.as_str() == app && followers(rules, [server]).next().is_some();
    html! {
        @for rules in view.policy.channels().iter().filter(is_followed) {
            @let shown = ShownChannel::of(view, rules);
            @let why = shown.followers.iter().find(|follower| follower.server.name == server.name).and_then(|it| it.why_off);
            p.facts {
                "follows " a href=(address(rules)) { (rules.channel) }
                @if let Some(why) = why { ": " (prose(why)) }
            }
        }
    }
}

/// What was read of an object.
fn content<T>(object: &KnownObject<T>) -> Option<&T> {
    object.read.known().map(|read| &**read)
}

fn rules<'a>(view: &'a View, app: &str, channel: &str) -> Option<&'a ChannelRules> {
    view.policy.channels().iter().find(|rules| rules.app.as_str() == app && rules.channel.as_str() == channel)
}

fn all_servers(view: &View) -> impl Iterator<Item = &Server> + Clone {
    view.snapshot.servers.values().map(|server| &**server)
}

/// That nothing seems to move channels any more, in a sentence.
pub(crate) fn no_watcher(view: &View) -> Option<String> {
    let newest = view.snapshot.channels.watcher.as_ref();
    if let Some(error) = newest.and_then(|(_, known)| known.read.error()) {
        return Some(format!("could not read whether a watcher runs: {error}"));
    }
    silence(newest.and_then(|(_, known)| content(known)), view.bucket_now())
}

/// What somebody wants of a channel, as a form or a program says it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wanted<'a> {
    /// `set`, `rollback`, `freeze` or `resume`.
    pub(crate) action: &'a str,
    /// The release to set it to.
    pub(crate) release: Option<&'a str>,
    /// Whether though that has not gone through the channel before.
    pub(crate) skip_soak: bool,
    /// The reason.
    pub(crate) reason: &'a str,
    /// The generation that they saw; `None` for a channel that was never moved or frozen.
    pub(crate) generation: Option<Generation>,
}

/// Why nothing was changed about a channel.
#[derive(Debug, Error)]
pub(crate) enum NotChanged {
    /// There is none.
    #[error("the policy file has no channel of that app and name")]
    NotFound,
    /// What is wanted isn't said as it must be.
    #[error("{0}")]
    Invalid(String),
    /// The policy forbids it.
    #[error(transparent)]
    NotAllowed(#[from] follow::NotAllowed),
    /// Which servers there are is not known.
    #[error("the bucket is unreadable at the moment: try again later")]
    Unreadable,
    /// Somebody else changed it since.
    #[error("nothing was written: the channel has changed since you saw it, and {}: look at it and try again", now(*.0))]
    Changed(Option<Generation>),
    /// Nothing would change, or it could not be written.
    #[error("{0:#}")]
    Failed(#[from] anyhow::Error),
}

fn now(generation: Option<Generation>) -> String {
    generation.map_or("is there no longer".to_owned(), |generation| format!("its generation is now {}", generation.0))
}

impl NotChanged {
    /// The status to answer.
    pub(crate) fn status(&self) -> StatusCode {
        match self {
            Self::NotFound => StatusCode::NOT_FOUND,
            Self::Invalid(_) => StatusCode::BAD_REQUEST,
            Self::NotAllowed(_) => StatusCode::FORBIDDEN,
            Self::Unreadable => StatusCode::SERVICE_UNAVAILABLE,
            Self::Changed(_) | Self::Failed(_) => StatusCode::CONFLICT,
        }
    }
}

/// Changes a channel. The next round of the watcher pushes to its followers.
pub(crate) async fn change(view: &View, app: &str, channel: &str, wanted: Wanted<'_>) -> Result<(), NotChanged> {
    let rules = rules(view, app, channel).ok_or(NotChanged::NotFound)?;
    let change = parsed(&rules.app, &rules.channel, wanted)?;
    if view.snapshot.failure.is_some() || view.snapshot.taken.is_none() {
        return Err(NotChanged::Unreadable);
    }
    may_change(&view.policy, &view.who, rules, all_servers(view))?;
    let bucket = view.web.refresher.bucket();
    let seen = follow::read(bucket, rules).await?;
    if seen.generation != wanted.generation {
        return Err(NotChanged::Changed(seen.generation));
    }
    if let Change::Set(set) = &change {
        follow::ensure_there(bucket, rules, &set.release).await?;
    }
    let said = Said { by: &view.who.name, why: wanted.reason, at: bucket.now() };
    let judged = follow::judge(bucket, rules, seen, &change, said).await?;
    match follow::write(bucket, &view.policy, judged.channel, &judged.seen).await {
        Err(error) if error.is::<Raced>() => {
            return Err(NotChanged::Changed(follow::read(bucket, rules).await?.generation));
        }
        written => written?,
    };
    view.web.refresher.refresh_channels().await;
    Ok(())
}

/// `POST /channels/{app}/{channel}`.
pub(crate) async fn post(
    view: View,
    Path((app, channel)): Path<(String, String)>,
    body: Result<Bytes, BytesRejection>,
) -> Response {
    let form = match body {
        Ok(body) => Params::parse(&body),
        Err(refused) => return view.problem(refused.status(), "Invalid form", &refused.body_text()),
    };
    let generation = match form.get("generation").map(str::parse).transpose() {
        Ok(generation) => generation.map(Generation),
        Err(_) => return view.problem(StatusCode::BAD_REQUEST, "Invalid form", "`generation` must be a number."),
    };
    let wanted = Wanted {
        action: form.get("action").unwrap_or_default(),
        release: form.get("release"),
        skip_soak: form.get("skip_soak").is_some(),
        reason: form.get("reason").unwrap_or_default().trim(),
        generation,
    };
    match change(&view, &app, &channel, wanted).await {
        Ok(()) => Redirect::to(&format!("/channels/{app}/{channel}")).into_response(),
        Err(error) => view.problem(error.status(), "Nothing was changed", &error.to_string()),
    }
}

fn parsed(app: &AppName, channel: &ChannelName, wanted: Wanted<'_>) -> Result<Change, NotChanged> {
    let invalid = |text: String| Err(NotChanged::Invalid(text));
    let set = |release: &str| -> Result<Change, NotChanged> {
        let stem = release.strip_suffix(".deb").unwrap_or(release);
        let release = ReleaseName::from_stem(stem).map_err(|error| NotChanged::Invalid(error.to_string()))?;
        if release.app() != app {
            return invalid(format!("the channel `{channel}` is of `{app}`, and `{}` is not", release.stem()));
        }
        Ok(Change::Set(Set { release, without_soak: wanted.skip_soak }))
    };
    match (wanted.action, wanted.release) {
        ("set", Some(release)) => set(release.trim()),
        ("set", None) => invalid("`release` is missing: where the channel is to point".to_owned()),
        ("rollback" | "freeze" | "resume", Some(_)) => invalid("only `set` has a `release`".to_owned()),
        ("rollback" | "freeze" | "resume", None) if wanted.skip_soak => {
            invalid("only `set` has `skip_soak`".to_owned())
        }
        ("rollback", None) => Ok(Change::Rollback),
        ("freeze", None) => Ok(Change::Freeze),
        ("resume", None) => Ok(Change::Resume),
        _ => invalid("`action` must be `set`, `rollback`, `freeze` or `resume`".to_owned()),
    }
}
