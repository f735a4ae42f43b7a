//! `/api/v1/channels`: where channels point, who follows them, and what is changed about them.

use axum::{
    Json,
    body::Bytes,
    extract::{Path, rejection::BytesRejection},
    http::{Method, StatusCode},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use bucket::{Frozen, Generation, Move, MoveKind};
use fleet::{condition::app_label, policy::Role};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    NUMBER, PROBLEM, problem, read, read_body,
    types::{Page, Problem, stem},
};
use crate::web::{
    channels::{self, NotChanged, ShownChannel, ShownFollower, Wanted},
    params::Params,
    parts::page_of,
    route::{Doc, Route},
    view::View,
};

/// A channel in a list. What is known of its branch is what the last round of `push watch` saw.
#[derive(Debug, Serialize, JsonSchema)]
struct ChannelHeadOut {
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
struct ChannelOut {
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
    /// Since when a round has seen its branch and followers like this.
    #[serde(skip_serializing_if = "Option::is_none")]
    seen: Option<String>,
    /// The servers that follow it.
    followed_by: Vec<FollowerOut>,
    /// Servers that may follow it, and of which that can't be read.
    unreadable: Vec<String>,
    /// The last commits of the branch that landed after its own, newest first.
    later: Vec<LaterOut>,
    /// Where it pointed, newest first.
    history: Vec<MoveOut>,
    /// Releases that followers rolled back by themselves, newest first: they go no further.
    rolled_back: Vec<RolledBackOut>,
}

/// That a channel moves only by hand.
#[derive(Debug, Serialize, JsonSchema)]
struct FrozenOut {
    /// Who wants that.
    by: String,
    /// Since when.
    at: String,
    /// Reason.
    reason: String,
}

/// A server that follows a channel.
#[derive(Debug, Serialize, JsonSchema)]
struct FollowerOut {
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
struct LaterOut {
    /// Commit.
    commit: String,
    /// Its release; absent if it has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    release: Option<String>,
}

/// A move of a channel.
#[derive(Debug, Serialize, JsonSchema)]
struct MoveOut {
    /// Release.
    release: String,
    /// When.
    at: String,
    /// Who moved it.
    by: String,
    /// Reason.
    reason: String,
    /// `forward`, `set`, `rollback`, or `unknown` for what a newer program calls it.
    kind: &'static str,
    /// Whether the release had not gone through the channel before.
    without_soak: bool,
    /// When all followers that could be reached ran it.
    #[serde(skip_serializing_if = "Option::is_none")]
    ran: Option<String>,
}

/// A follower that rolled a release back by itself.
#[derive(Debug, Serialize, JsonSchema)]
struct RolledBackOut {
    /// Release.
    release: String,
    /// Server.
    server: String,
    /// When that was seen.
    at: String,
    /// What its agent said.
    reason: String,
}

/// A change of a channel.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct ChangeIn {
    /// `set`, `rollback`, `freeze` or `resume`.
    action: String,
    /// Release that it is set to.
    release: Option<String>,
    /// Whether it is set though the release has not gone through the channel before.
    #[serde(default)]
    skip_soak: bool,
    /// Reason, recorded in the channel.
    reason: String,
    /// The generation that you saw; absent for one that was never moved or frozen.
    generation: Option<i64>,
}

pub(super) fn routes() -> Vec<Route> {
    vec![
        read(
            "/api/v1/channels",
            get(list),
            Doc::new::<Page<ChannelHeadOut>>("listChannels", "The channels of the policy file", &[NUMBER]),
        ),
        read(
            "/api/v1/channels/{app}/{channel}",
            get(one),
            Doc::new::<ChannelOut>("getChannel", "A channel, and who follows it", &[]),
        ),
        Route {
            method: Method::POST,
            path: "/api/v1/channels/{app}/{channel}",
            least: Role::Deployer,
            handler: post(change),
            doc: Some(
                Doc::new::<ChannelOut>(
                    "changeChannel",
                    "Point a channel to a release or back, freeze it, or let it go on; the next round pushes to its followers",
                    &[],
                )
                .takes::<ChangeIn>()
                .or::<Problem>(403, "That takes the role `deployer` for the app on all its followers", PROBLEM)
                .or::<Problem>(409, "It has another generation by now, or nothing would change", PROBLEM),
            ),
        },
    ]
}

impl ChannelHeadOut {
    fn new(view: &View, shown: &ShownChannel) -> Self {
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
            next: shown.outlook().to_string(),
            problem: shown.problem.clone(),
            no_watcher: channels::no_watcher(view),
            followers: shown.followers.len(),
            on_it: shown.on_it(),
        }
    }
}

impl From<&Frozen> for FrozenOut {
    fn from(frozen: &Frozen) -> Self {
        Self { by: frozen.by.clone(), at: frozen.at.to_string(), reason: frozen.why.clone() }
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
        let kind = match entry.kind {
            MoveKind::Forward => "forward",
            MoveKind::Set => "set",
            MoveKind::Rollback => "rollback",
            MoveKind::Unknown => "unknown",
        };
        Self {
            release: stem(&entry.release),
            at: entry.at.to_string(),
            by: entry.by.clone(),
            reason: entry.why.clone(),
            kind,
            without_soak: entry.without_soak,
            ran: entry.ran.map(|ran| ran.to_string()),
        }
    }
}

impl ChannelOut {
    fn new(view: &View, shown: &ShownChannel) -> Self {
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
            seen: state.map(|state| state.at.to_string()),
            followed_by: shown.followers.iter().map(FollowerOut::from).collect(),
            unreadable: shown.unreadable.iter().map(ToString::to_string).collect(),
            later: later
                .map(|later| LaterOut { commit: later.commit.to_string(), release: later.release.as_ref().map(stem) })
                .collect(),
            history: shown.channel.history.iter().map(MoveOut::from).collect(),
            rolled_back: rolled_back.collect(),
        }
    }
}

async fn list(view: View, params: Params) -> Response {
    let total = view.policy.channels().len();
    let shown = page_of(ShownChannel::all(&view), params.page());
    let items = shown.iter().map(|shown| ChannelHeadOut::new(&view, shown)).collect();
    Json(Page::new(&view, items, params.page(), total)).into_response()
}

async fn one(view: View, Path((app, channel)): Path<(String, String)>) -> Response {
    match ShownChannel::find(&view, &app, &channel) {
        Some(shown) => Json(ChannelOut::new(&view, &shown)).into_response(),
        None => problem(StatusCode::NOT_FOUND, "Channel not found", &NotChanged::NotFound.to_string()),
    }
}

async fn change(
    view: View,
    Path((app, channel)): Path<(String, String)>,
    body: Result<Bytes, BytesRejection>,
) -> Response {
    let ChangeIn { action, release, skip_soak, reason, generation } = match read_body(body) {
        Ok(wanted) => wanted,
        Err((status, text)) => return problem(status, "Invalid request", &text),
    };
    let (release, generation) = (release.as_deref(), generation.map(Generation));
    let wanted = Wanted { action: &action, release, skip_soak, reason: reason.trim(), generation };
    match channels::change(&view, &app, &channel, wanted).await {
        Ok(()) => one(view.afresh(), Path((app, channel))).await,
        Err(error) => {
            let title = if matches!(error, NotChanged::NotFound) { "Channel not found" } else { "Nothing was changed" };
            problem(error.status(), title, &error.to_string())
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bucket::{ChannelState, ReleaseName, Timestamp};
    use serde_json::{Value, json};

    use super::*;
    use crate::web::{
        shared::Web,
        testing::{release_of, rules, send, server, web},
    };

    const CHANNELS: &str = "Channels: [{ App: 'web', Repo: 'https://git.example/web.git', Servers: ['web-*'] }, \
                            { App: 'web', Channel: 'next', Repo: 'https://git.example/web.git', From: 'prod' }]";

    async fn call(web: &Arc<Web>, who: &str, path: &str, sent: Option<Value>) -> (u16, Value) {
        let (method, sent) = sent.map_or((Method::GET, String::new()), |sent| (Method::POST, sent.to_string()));
        let answer = send(web, who, method, path, sent).await;
        let status = answer.status().as_u16();
        let bytes = axum::body::to_bytes(answer.into_body(), 1 << 20).await.unwrap();
        (status, serde_json::from_slice(&bytes).unwrap())
    }

    /// Two servers with the first of two releases.
    async fn followed() -> (tempfile::TempDir, Arc<Web>, [ReleaseName; 2]) {
        let (directory, web) = web().await;
        rules(directory.path(), CHANNELS);
        let releases = [release_of(&web, 7).await, release_of(&web, 9).await];
        for name in ["web-1", "web-2"] {
            server(&web, name, Some(&releases[0]), "converged", "converged").await;
        }
        web.refresher.refresh().await;
        (directory, web, releases)
    }

    const PROD: &str = "/api/v1/channels/web/prod";

    #[tokio::test]
    async fn a_program_sees_channels_as_the_last_round_saw_them() {
        let (directory, web, [old, new]) = followed().await;
        let (status, listed) = call(&web, "viewer", "/api/v1/channels", None).await;
        assert_eq!((status, &listed["total"], &listed["items"][1]["channel"]), (200, &json!(2), &json!("next")));
        assert!(
            listed["items"][0]["no_watcher"].as_str().unwrap().contains("no `push watch` has reported"),
            "{listed}"
        );
        let set = json!({ "action": "set", "release": old.stem(), "reason": "first" });
        let (status, said) = call(&web, "deployer", PROD, Some(set)).await;
        assert_eq!((status, &said["on_it"], &said["frozen"]["reason"]), (200, &json!(2), &json!("first")), "{said}");
        let state: ChannelState = serde_json::from_value(json!({
            "schema": 1, "app": "web", "channel": "prod", "at": Timestamp::now(), "release": old, "behind": 2, "would": new,
            "off": [{ "server": "web-2", "state": "left-alone", "why": "its release is dirty" }],
            "later": [{ "commit": new.commit(), "release": new }, { "commit": "a".repeat(40), "release": null }],
        }))
        .unwrap();
        let seen = web.refresher.bucket().write_channel_state(&state, None).await.unwrap();
        web.refresher.refresh().await;
        let (_, shown) = call(&web, "viewer", PROD, None).await;
        assert_eq!(shown["place"], "2 commits behind main");
        assert_eq!(shown["next"], format!("stays, being frozen; would otherwise move to {}", new.stem()));
        let later = json!([{ "commit": new.commit(), "release": new.stem() }, { "commit": "a".repeat(40) }]);
        assert_eq!((&shown["later"], &shown["followers"]), (&later, &json!(2)));
        assert_eq!(shown["followed_by"][1]["why_off"], Value::Null, "it has it by now");
        assert_eq!((&shown["history"][0]["kind"], &shown["history"][0]["reason"]), (&json!("set"), &json!("first")));
        // What can't be read says why, and nothing else of it is trusted.
        let path = directory.path().join("bucket/channel-state/web/prod.json");
        std::fs::write(&path, "{").unwrap();
        web.refresher.refresh().await;
        let (_, shown) = call(&web, "viewer", PROD, None).await;
        assert!(shown["problem"].as_str().unwrap().contains("malformed"), "{seen:?} {shown}");
        assert_eq!((&shown["place"], &shown["later"]), (&json!("not known before the next round"), &json!([])));
        let (status, said) = call(&web, "viewer", "/api/v1/channels/web/beta", None).await;
        assert_eq!((status, &said["title"]), (404, &json!("Channel not found")));
    }

    #[tokio::test]
    async fn a_program_changes_a_channel_over_the_generation_that_it_saw() {
        let (_directory, web, [old, new]) = followed().await;
        let change = async |wanted: Value| call(&web, "deployer", PROD, Some(wanted)).await;
        let (status, said) = change(json!({ "action": "freeze", "reason": "fair", "generation": 7 })).await;
        assert_eq!(status, 409, "{said}");
        assert!(said["detail"].as_str().unwrap().contains("is there no longer"), "{said}");
        let (status, first) = change(json!({ "action": "set", "release": old.stem(), "reason": "first" })).await;
        assert_eq!((status, &first["release"]), (200, &json!(old.stem())), "{first}");
        // Who has not seen that.
        for generation in [Value::Null, json!(7)] {
            let stale = json!({ "action": "set", "release": new.stem(), "reason": "second", "generation": generation });
            let (status, said) = change(stale).await;
            assert_eq!((status, &said["title"]), (409, &json!("Nothing was changed")), "{said}");
            let now = format!("its generation is now {}", first["generation"]);
            assert!(said["detail"].as_str().unwrap().contains(&now), "{said}");
        }
        let mut generation = first["generation"].clone();
        for (action, release, reason, want) in [
            ("set", Some(&new), "second", (json!(new.stem()), "set", true)),
            ("rollback", None, "slow", (json!(old.stem()), "rollback", true)),
            ("resume", None, "mended", (json!(old.stem()), "rollback", false)),
            ("freeze", None, "fair", (json!(old.stem()), "rollback", true)),
        ] {
            let release = release.map(ReleaseName::stem);
            let (status, said) =
                change(json!({ "action": action, "release": release, "reason": reason, "generation": generation }))
                    .await;
            assert_eq!(status, 200, "{action}: {said}");
            let got =
                (said["release"].clone(), said["history"][0]["kind"].as_str().unwrap(), said["frozen"].is_object());
            assert_eq!(got, want, "{action}");
            generation = said["generation"].clone();
        }
        let lists = call(&web, "viewer", "/api/v1/channels", None).await.1;
        assert_eq!(lists["items"][0]["generation"], generation);
    }

    #[tokio::test]
    async fn what_is_no_change_of_a_channel_or_not_allowed_writes_nothing() {
        let (directory, web, [old, new]) = followed().await;
        for (who, path, wanted, status, why) in [
            ("viewer", PROD, json!({ "action": "freeze", "reason": "x" }), 403, "read-only"),
            ("deployer", PROD, json!({ "action": "move", "reason": "x" }), 400, "`action` must be"),
            ("deployer", PROD, json!({ "action": "set", "reason": "x" }), 400, "`release` is missing"),
            ("deployer", PROD, json!({ "action": "set", "release": "../x", "reason": "x" }), 400, "release"),
            (
                "deployer",
                PROD,
                json!({ "action": "set", "release": old.stem().replace("web:", "api:"), "reason": "x" }),
                400,
                "is of `web`",
            ),
            (
                "deployer",
                PROD,
                json!({ "action": "set", "release": old.stem().replace("05:07Z", "05:08Z"), "reason": "x" }),
                409,
                "does not exist",
            ),
            ("deployer", PROD, json!({ "action": "freeze", "release": old.stem(), "reason": "x" }), 400, "only `set`"),
            ("deployer", PROD, json!({ "action": "freeze", "reason": " " }), 409, "no reason specified"),
            ("deployer", PROD, json!({ "action": "resume", "reason": "x" }), 409, "is not frozen"),
            ("deployer", PROD, json!({ "action": "freeze", "reason": "x", "who": "me" }), 400, "unknown field"),
            ("deployer", "/api/v1/channels/web/x", json!({ "action": "freeze", "reason": "x" }), 404, "no channel"),
            (
                "deployer",
                "/api/v1/channels/web/next",
                json!({ "action": "set", "release": new.stem(), "reason": "x" }),
                409,
                "has not gone through the channel `prod`",
            ),
        ] {
            let (got, said) = call(&web, who, path, Some(wanted.clone())).await;
            assert_eq!(got, status, "{wanted}: {said}");
            assert!(said["detail"].as_str().unwrap().contains(why), "{wanted}: {said}");
        }
        // On all followers.
        let limited = "{ Groups: { one: { Servers: ['web-1'] } }, \
                       Roles: [{ Role: 'deployer', Who: ['deployer'], Groups: ['one'] }], CHANNELS }";
        std::fs::write(directory.path().join("new"), limited.replace("CHANNELS", CHANNELS)).unwrap();
        std::fs::rename(directory.path().join("new"), directory.path().join("rules")).unwrap();
        let (status, said) = call(&web, "deployer", PROD, Some(json!({ "action": "freeze", "reason": "x" }))).await;
        assert_eq!(status, 403, "{said}");
        assert!(said["detail"].as_str().unwrap().contains("on all servers that follow it"), "{said}");
        assert!(!directory.path().join("bucket/channels").exists());
        rules(directory.path(), CHANNELS);
        let hotfix = json!({ "action": "set", "release": new.stem(), "skip_soak": true, "reason": "hotfix" });
        let (status, said) = call(&web, "deployer", "/api/v1/channels/web/next", Some(hotfix)).await;
        assert_eq!((status, &said["history"][0]["without_soak"]), (200, &json!(true)), "{said}");
    }
}
