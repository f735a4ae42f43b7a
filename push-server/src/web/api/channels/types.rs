//! Channels as `/api/v1/channels` shows them.

use bucket::{Frozen, Move, OnOlderBase};
use fleet::condition::app_label;
use schemars::JsonSchema;
use serde::Serialize;

use super::super::types::stem;
use crate::web::{
    channels::{self, ShownChannel, ShownFollower},
    view::View,
};

/// A channel in a list. What is known of its branch is what the last round of `push watch` saw.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct ChannelHeadOut {
    /// App.
    app: String,
    /// Channel.
    channel: String,
    /// Generation, which whoever changes it says; absent of one that was never moved or frozen.
    #[serde(skip_serializing_if = "Option::is_none")]
    generation: Option<i64>,
    /// Release; absent of one that points nowhere yet.
    #[serde(skip_serializing_if = "Option::is_none")]
    release: Option<String>,
    /// When it was pointed there.
    #[serde(skip_serializing_if = "Option::is_none")]
    moved: Option<String>,
    /// Who did that.
    #[serde(skip_serializing_if = "Option::is_none")]
    by: Option<String>,
    /// Their reason.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    /// That it moves only by hand.
    #[serde(skip_serializing_if = "Option::is_none")]
    frozen: Option<FrozenOut>,
    /// Where its release stands, in words: `3 commits behind main`.
    #[serde(skip_serializing_if = "Option::is_none")]
    place: Option<String>,
    /// Since when a round has seen its branch and followers like this.
    #[serde(skip_serializing_if = "Option::is_none")]
    seen: Option<String>,
    /// What the next round would do, in words.
    next: String,
    /// What failed in the last round, or can't be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    problem: Option<String>,
    /// That no watcher seems to run, in words.
    #[serde(skip_serializing_if = "Option::is_none")]
    no_watcher: Option<String>,
    /// Number of servers that follow it.
    followers: usize,
    /// Number of those that have its release.
    on_it: usize,
}

/// A channel, and who follows it.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct ChannelOut {
    #[serde(flatten)]
    head: ChannelHeadOut,
    /// Repository of its commits.
    repo: String,
    /// Branch on which it moves.
    branch: String,
    /// `newest`: every newer release of the branch moves it; `told`: only who is told to.
    moves: &'static str,
    /// The channel that a release must have gone through before.
    #[serde(skip_serializing_if = "Option::is_none")]
    from: Option<String>,
    /// For how many seconds.
    soak_seconds: u64,
    /// Patterns of the servers that may follow it.
    servers: Vec<String>,
    /// The image whose tag it moves, of a channel that no server follows: `images.example/acme/web:prod`.
    #[serde(skip_serializing_if = "Option::is_none")]
    image: Option<String>,
    /// The servers that follow it.
    followed_by: Vec<FollowerOut>,
    /// Servers that may follow it, and of which that can't be read.
    unreadable: Vec<String>,
    /// The last commits of the branch that landed after its own, newest first.
    later: Vec<LaterOut>,
    /// Number of releases or images that the last round passed over because they cannot be read.
    unreadable_releases: usize,
    /// Some of the releases among them.
    passed_over: Vec<String>,
    /// Which some of them are, why, and what to do, each in a sentence.
    why_passed_over: Vec<String>,
    /// Apps whose last image is built on an older image than this one.
    on_older: Vec<OnOlderOut>,
    /// Where it pointed, newest first.
    history: Vec<MoveOut>,
    /// Releases that followers rolled back by themselves, newest first: they go no further.
    rolled_back: Vec<RolledBackOut>,
}

/// An app whose last image is built on an image that its channel has moved away from.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct OnOlderOut {
    /// The app.
    app: String,
    /// The commit of that last image.
    commit: String,
    /// What it is built on.
    base: String,
}

impl From<&OnOlderBase> for OnOlderOut {
    fn from(OnOlderBase { app, commit, base }: &OnOlderBase) -> Self {
        Self { app: app.to_string(), commit: commit.to_string(), base: base.clone() }
    }
}

/// That a channel moves only by hand.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct FrozenOut {
    /// Who wants that.
    by: String,
    /// Since when.
    at: String,
    /// Reason.
    reason: String,
    /// Why it froze though it moves when told, and was only pointed to another release, in words.
    #[serde(skip_serializing_if = "Option::is_none")]
    because: Option<String>,
}

/// A server that follows a channel.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct FollowerOut {
    /// Server.
    server: String,
    /// The app's release in its document.
    #[serde(skip_serializing_if = "Option::is_none")]
    release: Option<String>,
    /// State of the app.
    #[serde(skip_serializing_if = "Option::is_none")]
    state: Option<&'static str>,
    /// Why it doesn't have the channel's release; absent if it does.
    #[serde(skip_serializing_if = "Option::is_none")]
    why_off: Option<String>,
}

/// A commit that landed after the channel's own.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct LaterOut {
    /// Commit.
    commit: String,
    /// Its release; absent if it has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    release: Option<String>,
}

/// A move of a channel.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct MoveOut {
    /// Release.
    release: String,
    /// When.
    at: String,
    /// Who moved it.
    by: String,
    /// Reason.
    reason: String,
    /// `forward`, `set`, `rollback`, or what a newer program calls it.
    kind: String,
    /// Whether the release had not gone through the channel before.
    without_soak: bool,
    /// When all followers that could be reached ran it.
    #[serde(skip_serializing_if = "Option::is_none")]
    ran: Option<String>,
}

/// A follower that rolled a release back by itself.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct RolledBackOut {
    /// Release.
    release: String,
    /// Server.
    server: String,
    /// When that was seen.
    at: String,
    /// What its agent said.
    reason: String,
}

impl ChannelHeadOut {
    pub(super) fn new(view: &View, shown: &ShownChannel) -> Self {
        let channel = &shown.channel;
        let pointed = || channel.release.is_some();
        Self {
            app: shown.rules.app.to_string(),
            channel: shown.rules.channel.to_string(),
            generation: shown.generation.map(|generation| generation.0),
            release: channel.release.as_ref().map(stem),
            moved: pointed().then(|| channel.moved.to_string()),
            by: pointed().then(|| channel.by.clone()),
            reason: pointed().then(|| channel.why.clone()),
            frozen: channel.frozen.as_ref().map(FrozenOut::from),
            place: shown.place(),
            seen: shown.state.map(|state| state.at.to_string()),
            next: shown.outlook(),
            problem: shown.problem.clone(),
            no_watcher: channels::no_watcher(view),
            followers: shown.followers.len(),
            on_it: shown.on_it(),
        }
    }
}

impl From<&Frozen> for FrozenOut {
    fn from(frozen: &Frozen) -> Self {
        Self {
            by: frozen.by.clone(),
            at: frozen.at.to_string(),
            reason: frozen.why.clone(),
            because: frozen.because.clone(),
        }
    }
}

impl From<&ShownFollower<'_>> for FollowerOut {
    fn from(follower: &ShownFollower) -> Self {
        Self {
            server: follower.server.name.to_string(),
            release: follower.release.map(stem),
            state: follower.state.map(app_label),
            why_off: follower.why_off.map(str::to_owned),
        }
    }
}

impl From<&Move> for MoveOut {
    fn from(entry: &Move) -> Self {
        Self {
            release: stem(&entry.release),
            at: entry.at.to_string(),
            by: entry.by.clone(),
            reason: entry.why.clone(),
            kind: entry.kind.as_str().to_owned(),
            without_soak: entry.without_soak,
            ran: entry.ran.map(|ran| ran.to_string()),
        }
    }
}

impl ChannelOut {
    pub(super) fn new(view: &View, shown: &ShownChannel) -> Self {
        let (rules, state) = (shown.rules, shown.state);
        let later = state.iter().flat_map(|state| &state.later);
        let rolled_back = shown.channel.rolled_back.iter().map(|entry| RolledBackOut {
            release: stem(&entry.release),
            server: entry.server.to_string(),
            at: entry.at.to_string(),
            reason: entry.why.clone(),
        });
        Self {
            head: ChannelHeadOut::new(view, shown),
            repo: rules.repo.to_string(),
            branch: rules.branch.to_string(),
            moves: rules.moves.as_str(),
            from: rules.from.as_ref().map(ToString::to_string),
            soak_seconds: rules.soak.as_secs(),
            servers: rules.servers.iter().map(ToString::to_string).collect(),
            image: rules.image.as_ref().map(|image| image.reference().to_string()),
            followed_by: shown.followers.iter().map(FollowerOut::from).collect(),
            unreadable: shown.unreadable.iter().map(ToString::to_string).collect(),
            later: later
                .map(|later| LaterOut { commit: later.commit.to_string(), release: later.release.as_ref().map(stem) })
                .collect(),
            unreadable_releases: state.map_or(0, |state| state.unreadable),
            passed_over: state.iter().flat_map(|state| &state.passed_over).map(stem).collect(),
            why_passed_over: state.iter().flat_map(|state| &state.why_passed_over).cloned().collect(),
            on_older: state.iter().flat_map(|state| &state.on_older).map(OnOlderOut::from).collect(),
            history: shown.channel.history.iter().map(MoveOut::from).collect(),
            rolled_back: rolled_back.collect(),
        }
    }
}
