//! `/api/v1/rollouts`: pushes in waves, how far they are, and what is decided about them.

use axum::{
    Json,
    body::Bytes,
    extract::{Path, rejection::BytesRejection},
    http::{Method, StatusCode},
    response::{IntoResponse, Response},
    routing::{MethodRouter, get, post},
};
use bucket::{PushId, Rollout, RolloutStage};
use fleet::{
    policy::Role,
    rollout::{decide::Decision, next::stops_when, observe::RowState},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    NUMBER, PROBLEM, bad, problem, read, read_body,
    redo::optional,
    types::{Page, Problem},
};
use crate::{
    badge,
    web::{
        params::Params,
        parts::page_of,
        rollouts::{self, NotDecided, ShownRollout, wave},
        route::{Doc, Route},
        shared::Web,
        view::View,
    },
};

/// A rollout in a list.
#[derive(Debug, Serialize, JsonSchema)]
struct RolloutHeadOut {
    /// ID, which is that of its push.
    id: String,
    /// When it began.
    began: String,
    /// App.
    app: String,
    /// Release.
    release: String,
    /// Operator.
    who: String,
    /// Reason.
    reason: String,
    /// `running`, `stopped`, `undoing`, `done`, `undone`, `abandoned`, or what a newer program calls it.
    stage: String,
    /// Why it stopped, while it is stopped.
    #[serde(skip_serializing_if = "Option::is_none")]
    stopped: Option<String>,
    /// The wave that is under way, from 1.
    wave: usize,
    /// Number of waves.
    of: usize,
    /// Number of servers.
    servers: usize,
    /// Who drove it last.
    #[serde(skip_serializing_if = "Option::is_none")]
    driven_by: Option<String>,
    /// When that was.
    #[serde(skip_serializing_if = "Option::is_none")]
    driven: Option<String>,
    /// The push that undoes it.
    #[serde(skip_serializing_if = "Option::is_none")]
    undo: Option<String>,
}

/// A rollout, and how far it is.
#[derive(Debug, Serialize, JsonSchema)]
struct RolloutOut {
    #[serde(flatten)]
    head: RolloutHeadOut,
    /// What is done next or what it waits for, in words; absent when it is over.
    #[serde(skip_serializing_if = "Option::is_none")]
    waits_for: Option<String>,
    /// What would stop it, in words; absent unless it runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    stops_when: Option<String>,
    /// Why the process that answers could not carry it on.
    #[serde(skip_serializing_if = "Option::is_none")]
    problem: Option<String>,
    /// How many servers of each group are out, and may be.
    budgets: Vec<BudgetOut>,
    /// Its waves, in order.
    waves: Vec<WaveOut>,
    /// What was decided about it, oldest first.
    decisions: Vec<DecisionOut>,
}

/// How many servers of a group are out.
#[derive(Debug, Serialize, JsonSchema)]
struct BudgetOut {
    /// Group; absent for the servers that are in none.
    #[serde(skip_serializing_if = "Option::is_none")]
    group: Option<String>,
    /// Number of its servers.
    servers: usize,
    /// Number of those that are out.
    out: usize,
    /// Number that may be.
    allowed: usize,
}

/// A wave.
#[derive(Debug, Serialize, JsonSchema)]
struct WaveOut {
    /// Which servers it was meant to have, as it was asked for.
    what: String,
    /// Its servers, in the order in which they are written.
    servers: Vec<WaveRowOut>,
}

/// A server of a wave.
#[derive(Debug, Serialize, JsonSchema)]
struct WaveRowOut {
    /// Server.
    server: String,
    /// How far it is: `not written yet`, `pending`, `settling`, `settled`, `not reporting`, `no longer of the rollout`,
    /// `undone`, or how its app failed.
    state: &'static str,
    /// Until when it must stay converged, or why it is no longer of the rollout.
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<String>,
    /// Whether it counts for what is enough, and for what stops the rollout.
    counts: bool,
}

/// A decision about a rollout.
#[derive(Debug, Serialize, JsonSchema)]
struct DecisionOut {
    /// `pass`, `fail`, `unsure`, `continue`, `stop`, `undo` or `abandon`.
    what: String,
    /// The last wave of which something was written by then, from 1; 0 for none.
    wave: usize,
    /// Who decided.
    by: String,
    /// When.
    at: String,
    /// Reason.
    reason: String,
}

/// That a rollout goes on.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
struct ContinueIn {
    /// Reason, recorded in the rollout.
    reason: String,
    /// How many servers of each group may be out from now on, a number or a share, more than before. A rollout that has not
    /// stopped goes on with that.
    max_down: Option<String>,
}

/// The reason for a decision.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
struct DecisionIn {
    /// Reason, recorded in the rollout.
    reason: String,
}

/// A verdict on the wave that a rollout waits after.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct VerdictIn {
    /// `pass`: the next wave is written; `fail` and `unsure`: the rollout stops.
    verdict: VerdictWord,
    /// Reason, recorded in the rollout.
    #[serde(default)]
    reason: String,
}

/// A verdict.
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
enum VerdictWord {
    /// The wave is good.
    Pass,
    /// It is not.
    Fail,
    /// Somebody should look.
    Unsure,
}

/// The routes.
pub(super) fn routes() -> Vec<Route> {
    let doc = |id, summary| {
        Doc::new::<RolloutHeadOut>(id, summary, &[])
            .or::<Problem>(403, "That takes the role `deployer` on every server of it", PROBLEM)
            .or::<Problem>(409, "It is in no stage for that, or could not be written", PROBLEM)
    };
    let decision = |path, handler: MethodRouter<_>, doc: Doc| Route {
        method: Method::POST,
        path,
        least: Role::Deployer,
        handler,
        doc: Some(doc),
    };
    let handler = |decision: Decision| -> MethodRouter<std::sync::Arc<Web>> {
        post(move |view: View, id: Path<String>, body: Result<Bytes, BytesRejection>| async move {
            match optional::<DecisionIn>(body) {
                Ok(DecisionIn { reason }) => decide(&view, &id.0, decision, &reason).await,
                Err((status, text)) => problem(status, "Invalid request", &text),
            }
        })
    };
    vec![
        read(
            "/api/v1/rollouts",
            get(list),
            Doc::new::<Page<RolloutHeadOut>>(
                "listRollouts",
                "The rollouts that were written last, newest first",
                &[NUMBER],
            ),
        ),
        read(
            "/api/v1/rollouts/{id}",
            get(one),
            Doc::new::<RolloutOut>("getRollout", "A rollout, and how far each server is", &[]),
        ),
        decision(
            "/api/v1/rollouts/{id}/continue",
            post(go_on),
            doc("continueRollout", "Have a stopped rollout go on; servers that have failed by now no longer count")
                .takes::<ContinueIn>(),
        ),
        decision(
            "/api/v1/rollouts/{id}/stop",
            handler(Decision::Stop),
            doc("stopRollout", "Stop a rollout: what it has not written stays as it is").takes::<DecisionIn>(),
        ),
        decision(
            "/api/v1/rollouts/{id}/undo",
            handler(Decision::Undo),
            doc("undoRollout", "Restore what ran before on every server that it wrote, newest wave first")
                .takes::<DecisionIn>(),
        ),
        decision(
            "/api/v1/rollouts/{id}/abandon",
            handler(Decision::Abandon),
            doc("abandonRollout", "Give a rollout up: it is over, and what it wrote stays").takes::<DecisionIn>(),
        ),
        decision(
            "/api/v1/rollouts/{id}/verdict",
            post(verdict),
            doc("judgeRollout", "Say how the wave is that a rollout waits after").takes::<VerdictIn>(),
        ),
    ]
}

impl RolloutHeadOut {
    fn new(rollout: &Rollout) -> Self {
        let driven = rollout.driven.as_ref();
        Self {
            id: rollout.id.to_string(),
            began: rollout.began.to_string(),
            app: rollout.app.to_string(),
            release: rollout.release.stem().to_owned(),
            who: rollout.who.clone(),
            reason: rollout.why.clone(),
            stage: rollout.stage.as_str().to_owned(),
            stopped: rollout.stopped.clone().filter(|_| rollout.stage == RolloutStage::Stopped),
            wave: wave(rollout),
            of: rollout.waves.len(),
            servers: rollout.rows().count(),
            driven_by: driven.map(|driven| driven.by.clone()),
            driven: driven.map(|driven| driven.at.to_string()),
            undo: rollout.undo.as_ref().map(|undo| undo.id.to_string()),
        }
    }
}

impl RolloutOut {
    fn new(view: &View, shown: &ShownRollout) -> Self {
        let rollout = &shown.rollout;
        let row = |row: &bucket::WaveRow| {
            let state = shown.state(view, row);
            let detail = match &state {
                RowState::Settling(until) => Some(until.to_string()),
                RowState::Left(why) => Some(why.clone()),
                _ => None,
            };
            let (server, counts) = (row.server.to_string(), row.counts());
            WaveRowOut { server, state: badge::of_rollout_row(&state).text, detail, counts }
        };
        let waves = rollout
            .waves
            .iter()
            .map(|wave| WaveOut { what: wave.what.clone(), servers: wave.rows.iter().map(row).collect() });
        let budgets = rollout.budgets.iter().zip(&shown.out).map(|(budget, out)| BudgetOut {
            group: budget.group.clone(),
            servers: budget.servers.len(),
            out: *out,
            allowed: budget.allowed,
        });
        let decisions = rollout.verdicts.iter().map(|verdict| DecisionOut {
            what: verdict.what.clone(),
            wave: verdict.wave,
            by: verdict.by.clone(),
            at: verdict.at.to_string(),
            reason: verdict.why.clone(),
        });
        Self {
            head: RolloutHeadOut::new(rollout),
            waits_for: (!rollout.stage.is_over()).then(|| shown.next.to_string()),
            stops_when: (rollout.stage == RolloutStage::Running).then(|| stops_when(&rollout.rules)),
            problem: shown.problem.clone(),
            budgets: budgets.collect(),
            waves: waves.collect(),
            decisions: decisions.collect(),
        }
    }
}

async fn list(view: View, params: Params) -> Response {
    let known = view.snapshot.rollouts.values().filter_map(|known| known.rollout.known());
    let mut rollouts: Vec<&Rollout> = known.map(|rollout| &**rollout).collect();
    rollouts.sort_by_key(|rollout| std::cmp::Reverse(rollout.began));
    let total = rollouts.len();
    let shown = page_of(rollouts.into_iter(), params.page()).into_iter().map(RolloutHeadOut::new);
    Json(Page::new(&view, shown.collect(), params.page(), total)).into_response()
}

async fn one(view: View, Path(id): Path<String>) -> Response {
    let not_found = || problem(StatusCode::NOT_FOUND, "Rollout not found", "no rollout has this ID");
    let Ok(id) = id.parse::<PushId>() else { return not_found() };
    match ShownRollout::find(&view, &id).await {
        Ok(Some(shown)) => Json(RolloutOut::new(&view, &shown)).into_response(),
        Ok(None) => not_found(),
        Err(error) => problem(StatusCode::SERVICE_UNAVAILABLE, "Rollout unreadable", &error),
    }
}

async fn go_on(view: View, Path(id): Path<String>, body: Result<Bytes, BytesRejection>) -> Response {
    let ContinueIn { reason, max_down } = match optional(body) {
        Ok(said) => said,
        Err((status, text)) => return problem(status, "Invalid request", &text),
    };
    match rollouts::going_on(max_down.as_deref()) {
        Ok(decision) => decide(&view, &id, decision, &reason).await,
        Err(error) => bad(&error),
    }
}

async fn verdict(view: View, Path(id): Path<String>, body: Result<Bytes, BytesRejection>) -> Response {
    let VerdictIn { verdict, reason } = match read_body(body) {
        Ok(said) => said,
        Err((status, text)) => return problem(status, "Invalid request", &text),
    };
    let decision = match verdict {
        VerdictWord::Pass => Decision::Pass,
        VerdictWord::Fail => Decision::Fail,
        VerdictWord::Unsure => Decision::Unsure,
    };
    decide(&view, &id, decision, &reason).await
}

async fn decide(view: &View, id: &str, decision: Decision, reason: &str) -> Response {
    match rollouts::decide(view, id, decision, reason.trim()).await {
        Ok(rollout) => Json(RolloutHeadOut::new(&rollout)).into_response(),
        Err(error) => {
            let title =
                if matches!(error, NotDecided::NotFound(_)) { "Rollout not found" } else { "Nothing was decided" };
            problem(error.status(), title, &error.to_string())
        }
    }
}

#[cfg(test)]
mod tests {
    use axum::http::header;
    use serde_json::{Value, json};

    use super::*;
    use crate::web::{
        driver::look,
        testing::{body, release_of, report, send, server, web},
    };

    #[tokio::test]
    async fn a_program_pushes_in_waves_and_judges_them() {
        let (_directory, web) = web().await;
        let (old, new) = (release_of(&web, 7).await, release_of(&web, 9).await);
        for name in ["web-1", "web-2"] {
            server(&web, name, Some(&old), "converged", "converged").await;
        }
        web.refresher.refresh().await;
        let post = async |path: &str, sent: Value| {
            let answer = send(&web, "deployer", Method::POST, path, sent.to_string()).await;
            let place = answer.headers().get(header::LOCATION).map(|place| place.to_str().unwrap().to_owned());
            let status = answer.status();
            let bytes = axum::body::to_bytes(answer.into_body(), 1 << 20).await.unwrap();
            (status, place, serde_json::from_slice::<Value>(&bytes).unwrap())
        };
        let rows = ["web-1", "web-2"].map(|name| json!({ "server": name, "from": old.stem(), "to": new.stem() }));
        let push = json!({ "kind": "deploy", "rows": rows, "waves": "1,rest", "settle": "0s", "pause_after": [1] });
        let with = |key: &str, value: Value| {
            let mut push = push.clone();
            push[key] = value;
            push
        };
        for (key, value, status, why) in [
            ("waves", json!("rest,1"), StatusCode::BAD_REQUEST, "`rest` must be the last wave"),
            ("settle", json!("2h"), StatusCode::BAD_REQUEST, "can be at most 1h"),
            ("waves", Value::Null, StatusCode::BAD_REQUEST, "`waves` is missing"),
            ("waves", json!("1"), StatusCode::CONFLICT, "leave out 1 of the servers"),
            ("kind", json!("rollback"), StatusCode::CONFLICT, "only a deploy goes out in waves"),
        ] {
            let (found, _, said) = post("/api/v1/pushes", with(key, value)).await;
            assert!(found == status && said.to_string().contains(why), "{why}: {found} {said}");
        }
        assert_eq!(body(&web, "viewer", "/api/v1/rollouts").await.matches("\"id\"").count(), 0);
        let (status, place, said) = post("/api/v1/pushes", push.clone()).await;
        let place = place.unwrap();
        assert_eq!(
            (status, &said["finished"], &said["outcomes"][1]["result"]),
            (StatusCode::ACCEPTED, &json!(false), &json!("waiting"))
        );
        let rollout = async || serde_json::from_str::<Value>(&body(&web, "viewer", &place).await).unwrap();
        let drive = async || {
            web.refresher.refresh().await;
            while look(&web, "test").await {
                web.refresher.refresh().await;
            }
        };
        drive().await;
        report(&web, "web-1", "converged").await;
        drive().await;
        let shown = rollout().await;
        assert_eq!(
            (&shown["stage"], &shown["waits_for"]),
            (&json!("running"), &json!("waiting for a verdict on wave 1")),
            "{shown}"
        );
        assert_eq!(
            (&shown["waves"][0]["servers"][0]["state"], &shown["budgets"][0]["allowed"]),
            (&json!("settled"), &json!(1))
        );
        let (status, _, said) = post(&format!("{place}/verdict"), json!({ "verdict": "good" })).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{said}");
        assert_eq!(post(&format!("{place}/continue"), json!({})).await.0, StatusCode::CONFLICT);
        let (status, _, said) =
            post(&format!("{place}/verdict"), json!({ "verdict": "unsure", "reason": "slow" })).await;
        assert_eq!((status, &said["stopped"]), (StatusCode::OK, &json!("paused by deployer: slow")));
        assert_eq!(post(&format!("{place}/continue"), json!({ "reason": "looked" })).await.0, StatusCode::OK);
        let (status, _, said) =
            post(&format!("{place}/verdict"), json!({ "verdict": "fail", "reason": "errors" })).await;
        assert_eq!((status, &said["stopped"]), (StatusCode::OK, &json!("judged as failed by deployer: errors")));
        assert_eq!(post(&format!("{place}/continue"), json!({ "reason": "known ones" })).await.0, StatusCode::OK);
        assert_eq!(post(&format!("{place}/verdict"), json!({ "verdict": "pass" })).await.0, StatusCode::OK);
        drive().await;
        report(&web, "web-2", "converged").await;
        drive().await;
        web.refresher.refresh().await;
        assert_eq!(rollout().await["stage"], "done");
        assert_eq!(post(&format!("{place}/undo"), json!({})).await.2["stage"], "undoing");
        assert_eq!(post(&format!("{place}/abandon"), json!({})).await.2["stage"], "abandoned");
        assert_eq!(post("/api/v1/rollouts/abc123/stop", json!({})).await.0, StatusCode::NOT_FOUND);
    }
}
