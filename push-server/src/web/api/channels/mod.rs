//! `/api/v1/channels`: where channels point, who follows them, and what is changed about them.

mod types;

use axum::{
    Json,
    body::Bytes,
    extract::{Path, rejection::BytesRejection},
    http::{Method, StatusCode},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use bucket::Generation;
use fleet::policy::Role;
use schemars::JsonSchema;
use serde::Deserialize;

use self::types::{ChannelHeadOut, ChannelOut};
use super::{
    NUMBER, PROBLEM, problem, read, read_body,
    types::{Page, Problem},
};
use crate::web::{
    channels::{self, NotChanged, ShownChannel, Wanted},
    params::Params,
    parts::page_of,
    route::{Doc, Route},
    view::View,
};

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
        testing::{body, release_of, rules, send, server, web},
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
            "unreadable": 3, "passed_over": [old], "why_passed_over": ["`web:x`: it has no metadata; build that commit again"],
            "later": [{ "commit": new.commit(), "release": new }, { "commit": "a".repeat(40), "release": null }],
        }))
        .unwrap();
        let seen = web.refresher.bucket().write_channel_state(&state, None).await.unwrap();
        web.refresher.refresh().await;
        let (_, shown) = call(&web, "viewer", PROD, None).await;
        assert_eq!(shown["place"], "2 commits behind main");
        assert_eq!((&shown["unreadable_releases"], &shown["passed_over"]), (&json!(3), &json!([old.stem()])));
        assert_eq!(shown["why_passed_over"], json!(state.why_passed_over));
        // What it says of git has its age, wherever it is said.
        assert_eq!(shown["seen"], json!(state.at));
        let listed = call(&web, "viewer", "/api/v1/channels", None).await.1;
        assert_eq!((&listed["items"][0]["seen"], &listed["items"][1]["seen"]), (&shown["seen"], &Value::Null));
        for page in ["/channels", "/apps/web"] {
            let page = body(&web, "viewer", page).await;
            assert!(page.contains("2 commits behind main, as seen since <time"), "{page}");
        }
        let page = body(&web, "viewer", "/channels/web/prod").await;
        assert!(page.contains("Passed over 3 releases that cannot be read."), "{page}");
        let why = "<code>web:x</code>: it has no metadata; build that commit again</bdi></li><li>and 2 more</li>";
        assert!(page.contains(why), "{page}");
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
    async fn of_programs_that_saw_the_same_one_changes_it_and_the_others_are_told_what_it_is_now() {
        let (_directory, web, [old, _]) = followed().await;
        let change = async |wanted: Value| call(&web, "deployer", PROD, Some(wanted)).await;
        let (_, first) = change(json!({ "action": "set", "release": old.stem(), "reason": "first" })).await;
        let resume = json!({ "action": "resume", "reason": "x", "generation": first["generation"] });
        // However many of them have read it before the first of them writes.
        let all = futures_util::future::join_all((0..16).map(|_| change(resume.clone()))).await;
        let (changed, refused): (Vec<_>, Vec<_>) = all.into_iter().partition(|(status, _)| *status == 200);
        let [(_, changed)] = &changed[..] else { panic!("{changed:?}") };
        let now = format!("its generation is now {}", changed["generation"]);
        assert_eq!(refused.len(), 15);
        for (status, said) in refused {
            assert!(status == 409 && said["detail"].as_str().unwrap().contains(&now), "{now}: {said}");
        }
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

    #[tokio::test]
    async fn why_a_told_channel_froze_is_said_and_shown_to_whoever_comes_later() {
        let (directory, web, [old, _]) = followed().await;
        rules(directory.path(), &CHANNELS.replace("Servers: ['web-*']", "Servers: ['web-*'], Moves: 'told'"));
        let set = json!({ "action": "set", "release": old.stem(), "reason": "first" });
        let (status, said) = call(&web, "deployer", PROD, Some(set)).await;
        let because = "what the last round of `push watch` saw of its branch is not known";
        assert_eq!((status, &said["frozen"]["because"]), (200, &json!(because)), "{said}");
        for page in ["/channels", "/channels/web/prod"] {
            let shown = body(&web, "viewer", page).await;
            assert!(
                shown.contains("it moves when told, and froze all the same, because what the last round"),
                "{shown}"
            );
        }
    }

    #[tokio::test]
    async fn the_next_round_is_told_by_the_rollout_as_it_is_now() {
        let (_directory, web, [old, new]) = followed().await;
        let set = json!({ "action": "set", "release": new.stem(), "reason": "first" });
        assert_eq!(call(&web, "deployer", PROD, Some(set)).await.0, 200);
        let bucket = web.refresher.bucket();
        let row = |server: &str| json!({ "server": server, "from": old });
        let rollout: bucket::Rollout = serde_json::from_value(json!({
            "schema": 1, "id": "k3v9", "began": Timestamp::now(), "app": "web", "release": new, "who": "w", "why": "newer",
            "channel": "prod", "stage": "running", "budgets": [],
            "rules": { "settle_seconds": 0, "within_seconds": 60, "enough_percent": 100, "stop_at": 1 },
            "waves": [{ "what": "1", "rows": [row("web-1")] }, { "what": "rest", "rows": [row("web-2")] }],
        }))
        .unwrap();
        let generation = bucket.write_rollout(&rollout, None).await.unwrap();
        let state: ChannelState = serde_json::from_value(json!({
            "schema": 1, "app": "web", "channel": "prod", "at": Timestamp::now(), "release": new, "rollout": "k3v9",
        }))
        .unwrap();
        bucket.write_channel_state(&state, None).await.unwrap();
        let next = async || {
            web.refresher.refresh().await;
            call(&web, "viewer", PROD, None).await.1["next"].as_str().unwrap().to_owned()
        };
        assert_eq!(next().await, format!("carries rollout k3v9 of {} on: wave 1 of 2", new.stem()));
        let stopped = bucket::Rollout {
            stage: bucket::RolloutStage::Stopped,
            stopped: Some("1 server failed: web-1".to_owned()),
            ..rollout
        };
        bucket.write_rollout(&stopped, Some(generation)).await.unwrap();
        let told = next().await;
        assert!(
            told.contains("has stopped in wave 1 of 2: 1 server failed: web-1; `push rollout continue k3v9`"),
            "{told}"
        );
        assert!(body(&web, "viewer", "/channels/web/prod").await.contains("has stopped in wave 1 of 2"));
        // One that the web app knows nothing of any more is named.
        let lost = ChannelState { rollout: Some("z9".parse().unwrap()), ..state };
        let (seen, _) = bucket.channel_state(&lost.app, &lost.channel).await.unwrap().unwrap();
        bucket.write_channel_state(&lost, Some(seen)).await.unwrap();
        assert_eq!(next().await, "goes by rollout z9, of which `push rollout show z9` tells");
    }
}
