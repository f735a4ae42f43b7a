//! `GET /api/v1/plans`: what a push would do, and how a deploy would go out.

use std::collections::BTreeSet;

use axum::{
    Json,
    response::{IntoResponse, Response},
    routing::get,
};
use bucket::{PushKind, RolloutRules, ServerName};
use fleet::{
    plan::{Insistence, Objection},
    policy::{Reason, Way},
    rollout::plan::Division,
    wish::Said,
};
use schemars::JsonSchema;
use serde::Serialize;

use super::{FILTER, bad, problem, read, types::stem};
use crate::web::{
    pages::plan::{self, Planned, Wanted},
    params::Params,
    route::{Doc, Query, QueryKind, Route},
    view::View,
    waves::{NOT_A_DEPLOY, WavesText, divided},
};

/// Effect of a push on one server.
#[derive(Debug, Serialize, JsonSchema)]
struct PlannedOut {
    /// Server.
    server: String,
    /// Release of the app that its document names now.
    #[serde(skip_serializing_if = "Option::is_none")]
    from: Option<String>,
    /// Release that it would name; absent if the app would be taken off the server.
    #[serde(skip_serializing_if = "Option::is_none")]
    to: Option<String>,
    /// Bytes that the server's agent will download; 0 if it has the release already, absent if unknown.
    #[serde(skip_serializing_if = "Option::is_none")]
    download: Option<u64>,
    /// Units that it will restart.
    restarts: Vec<String>,
    /// Warnings.
    warnings: Vec<String>,
    /// Why it is impossible or not allowed; absent if it is neither.
    #[serde(skip_serializing_if = "Option::is_none")]
    refusal: Option<String>,
    /// What `POST /api/v1/pushes` has to be told for this server: `install` (it doesn't have the app yet), `new_servers`
    /// (nothing in the bucket is of it) or `held` (the operator has put it on hold).
    #[serde(skip_serializing_if = "Option::is_none")]
    needs: Option<&'static str>,
}

/// A plan.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct PlanOut {
    /// `deploy`, `rollback`, `retry` or `remove`.
    kind: String,
    /// Effect on each server; `POST /api/v1/pushes` accepts `server`, `from` and `to` of those without refusal.
    rows: Vec<PlannedOut>,
    /// How a deploy would go out, as `waves` says or the policy file asks; absent if all servers are written at once.
    #[serde(skip_serializing_if = "Option::is_none")]
    waves: Option<WavesOut>,
    /// Whether an admin would have all servers written at once where the policy file asks for waves.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    without_waves: bool,
}

/// How the servers of a deploy would be divided, without those that need what the request doesn't say.
#[derive(Debug, Default, Serialize, JsonSchema)]
struct WavesOut {
    /// Why it would go out so, though the request says no waves.
    #[serde(skip_serializing_if = "Option::is_none")]
    asked_for: Option<String>,
    /// Why it can't go out: the policy file asks for different waves, the servers can't be divided into these, or only a
    /// deploy goes out in waves.
    #[serde(skip_serializing_if = "Option::is_none")]
    refusal: Option<String>,
    /// What its waves wait for, and what stops it; absent if it can't go out.
    #[serde(skip_serializing_if = "Option::is_none")]
    rules: Option<RulesOut>,
    /// Its waves, in order.
    waves: Vec<DividedOut>,
    /// How many servers of each group may be out at a time.
    budgets: Vec<BudgetOut>,
    /// Servers that do not report: they are in the last wave, and count for nothing.
    silent: Vec<String>,
}

/// What waves wait for and what stops them: as the request says, else as the policy file asks, else as usual.
#[derive(Debug, Serialize, JsonSchema)]
struct RulesOut {
    /// For how many seconds a server must stay converged.
    settle_seconds: u64,
    /// How long a wave may take after its last write, in seconds.
    within_seconds: u64,
    /// How many of a hundred servers are enough of a wave of more than ten.
    enough_percent: u8,
    /// Number of servers that stop it.
    stop_at: usize,
    /// Waves after which it waits for a verdict, from 1.
    pause_after: Vec<usize>,
    /// Whether it undoes what it wrote when it stops by itself.
    undo_on_stop: bool,
}

/// The servers of a wave.
#[derive(Debug, Serialize, JsonSchema)]
struct DividedOut {
    /// Which servers it is to have, as it was asked for.
    what: String,
    /// Its servers, in the order in which they are written.
    servers: Vec<String>,
}

/// How many servers of a group may be out at a time.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "PlannedBudgetOut")]
struct BudgetOut {
    /// Group; absent for the servers that are in none.
    #[serde(skip_serializing_if = "Option::is_none")]
    group: Option<String>,
    /// Number of its servers.
    servers: usize,
    /// Number of those that may be out.
    allowed: usize,
    /// Servers of the push that are out already.
    out: Vec<String>,
}

/// The route.
pub(super) fn route() -> Route {
    read(
        "/api/v1/plans",
        get(plans),
        Doc::new::<PlanOut>(
            "planPush",
            "What a push would do",
            &[
                Query { name: "release", text: "Release to push", kind: QueryKind::Text },
                Query {
                    name: "rollback",
                    text: "Or app to roll back to each server's previous release",
                    kind: QueryKind::Text,
                },
                Query { name: "remove", text: "Or app to take off each server", kind: QueryKind::Text },
                Query {
                    name: "retry",
                    text: "Or app whose release is tried again where it failed",
                    kind: QueryKind::Text,
                },
                Query { name: "server", text: "Server; may be repeated", kind: QueryKind::Texts },
                Query {
                    name: "waves",
                    text: "Which servers come when, of a deploy: `1,10%,rest`, or `all` at once",
                    kind: QueryKind::Text,
                },
                Query {
                    name: "max_down",
                    text: "How many servers of a group may be out at a time, a number or a share",
                    kind: QueryKind::Text,
                },
                Query { name: "settle", text: "How long a server must stay converged: `1m`", kind: QueryKind::Text },
                Query { name: "stop_at", text: "Number of failing servers that stop it", kind: QueryKind::Text },
                Query { name: "enough", text: "Share of a large wave that is enough: `95%`", kind: QueryKind::Text },
                Query { name: "within", text: "How long a wave may take: `30m`", kind: QueryKind::Text },
                Query {
                    name: "pause_after",
                    text: "Waves after which it waits for a verdict: `1,2`",
                    kind: QueryKind::Text,
                },
                Query {
                    name: "undo_on_stop",
                    text: "Whether it undoes what it wrote when it stops by itself",
                    kind: QueryKind::Flag,
                },
                Query {
                    name: "install",
                    text: "Whether servers are meant too that do not have the app yet",
                    kind: QueryKind::Flag,
                },
                Query {
                    name: "new_servers",
                    text: "Whether servers are meant too that nothing in the bucket is of",
                    kind: QueryKind::Flag,
                },
                Query {
                    name: "held",
                    text: "Whether servers are meant too that the operator has put on hold",
                    kind: QueryKind::Flag,
                },
                FILTER,
            ],
        ),
    )
}

/// What a request wants of waves, and which servers are meant in spite of what they need.
fn said(params: &Params) -> Result<(Said, Insistence), String> {
    let flag = |name: &str| match params.get(name) {
        None | Some("false") => Ok(false),
        Some("true") => Ok(true),
        Some(other) => Err(format!("{name} `{}` must be `true` or `false`", console::safe(other))),
    };
    let text = WavesText { undo_on_stop: flag("undo_on_stop")?, ..WavesText::of(params) };
    let said = text.said().map_err(|wrong| wrong.to_string())?;
    let insistence = Insistence { install: flag("install")?, new_servers: flag("new_servers")?, held: flag("held")? };
    Ok((said, insistence))
}

async fn plans(view: View, params: Params) -> Response {
    let wanted = match plan::wanted(&view, &params).await {
        Ok(wanted) => wanted,
        Err(error) => return problem(error.status(), "Invalid plan", &error.to_string()),
    };
    let (view, targets) = match plan::fresh_targets(view, &params).await {
        Ok(found) => found,
        Err((_, wrong)) => return bad(&wrong.to_string()),
    };
    if targets.len() == 0 {
        return bad("no server specified: use `server` or `q`");
    }
    let (said, insistence) = match said(&params) {
        Ok(said) => said,
        Err(wrong) => return bad(&wrong),
    };
    let reason = plan::reason_of(params.get("reason"));
    let planned = plan::plan(&view, &wanted, &targets, reason).await;
    let meant = planned.iter().filter(|planned| planned.is_pushed(insistence)).map(|planned| &planned.server);
    let (waves, without_waves) = WavesOut::of(&view, &wanted, &meant.collect(), reason, &said);
    Json(PlanOut { waves, without_waves, ..PlanOut::new(&wanted.kind(), planned) }).into_response()
}

impl PlanOut {
    fn new(of: &PushKind, planned: Vec<Planned>) -> Self {
        let rows = planned.into_iter().map(|planned| {
            let (proposal, error) = match planned.proposal {
                Ok(proposal) => (Some(proposal), None),
                Err(error) => (None, Some(error)),
            };
            let objection = proposal.as_ref().and_then(|proposal| proposal.objection.as_ref());
            let needs = objection.map(|objection| match objection {
                Objection::NewApp(..) => "install",
                Objection::NewServer(_) => "new_servers",
            });
            let needs = needs.or(planned.held.as_ref().map(|_| "held"));
            let objection = planned.held.into_iter().chain(objection.map(ToString::to_string));
            let warnings = proposal.iter().flat_map(|proposal| &proposal.warnings).map(ToString::to_string);
            PlannedOut {
                server: planned.server.to_string(),
                from: proposal.as_ref().and_then(|proposal| proposal.from.as_ref()).map(stem),
                to: proposal.as_ref().and_then(|proposal| proposal.to.as_ref()).map(stem),
                warnings: objection.chain(warnings).collect(),
                refusal: error.or(planned.refusal),
                download: proposal.as_ref().and_then(|proposal| proposal.download),
                restarts: proposal.map(|proposal| proposal.restarts).unwrap_or_default(),
                needs,
            }
        });
        Self { kind: of.to_string(), rows: rows.collect(), waves: None, without_waves: false }
    }
}

impl WavesOut {
    /// How a push to these servers goes out, unless that is all at once; and whether it is so though waves are asked for.
    fn of(
        view: &View,
        wanted: &Wanted,
        meant: &BTreeSet<&ServerName>,
        reason: Reason,
        said: &Said,
    ) -> (Option<Self>, bool) {
        let is_deploy = wanted.kind() == PushKind::Deploy;
        let servers: Vec<&ServerName> = meant.iter().copied().filter(|_| is_deploy).collect();
        let refused = |asked_for, refusal| (Some(Self { asked_for, refusal: Some(refusal), ..Self::default() }), false);
        match view.policy.way(&view.who, wanted.app(), &servers, reason, said) {
            Ok(Way::AtOnce { instead_of }) => (None, instead_of.is_some()),
            Ok(Way::Waves { .. }) if !is_deploy => refused(None, NOT_A_DEPLOY.to_owned()),
            Ok(Way::Waves { wish, asked_for }) => match divided(view, wanted.app(), meant, &wish) {
                Ok(division) => {
                    let rules = Some(RulesOut::from(wish.rules));
                    (Some(Self { asked_for, rules, ..Self::from(&division) }), false)
                }
                Err(error) => refused(asked_for, error.to_string()),
            },
            Err(refusal) => refused(None, refusal.to_string()),
        }
    }
}

impl From<RolloutRules> for RulesOut {
    fn from(rules: RolloutRules) -> Self {
        let RolloutRules { settle_seconds, within_seconds, enough_percent, stop_at, pause_after, undo_on_stop } = rules;
        Self { settle_seconds, within_seconds, enough_percent, stop_at, pause_after, undo_on_stop }
    }
}

impl From<&Division> for WavesOut {
    fn from(division: &Division) -> Self {
        let waves = division.waves.iter().map(|wave| DividedOut {
            what: wave.what.clone(),
            servers: wave.rows.iter().map(|row| row.server.to_string()).collect(),
        });
        let budgets = division.budgets().map(|(budget, out)| BudgetOut {
            group: budget.group.clone(),
            servers: budget.servers.len(),
            allowed: budget.allowed,
            out: out.into_iter().map(ToString::to_string).collect(),
        });
        Self {
            waves: waves.collect(),
            budgets: budgets.collect(),
            silent: division.silent().map(ToString::to_string).collect(),
            ..Self::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use axum::http::{Method, StatusCode};
    use serde_json::{Value, json};

    use crate::web::testing::{body, release_of, rules, send, server, server_without_web, web};

    #[tokio::test]
    async fn a_plan_says_how_servers_are_divided_who_is_out_and_who_is_silent() {
        let (directory, web) = web().await;
        let (old, new) = (release_of(&web, 7).await, release_of(&web, 9).await);
        for (name, state) in [("web-1", "failed"), ("web-2", "converged"), ("web-3", "converged")] {
            server(&web, name, Some(&old), state, state).await;
        }
        // Of one with a document nothing was ever heard.
        let document = bucket::ServerDocument::parse(format!("[\"{old}\"]").as_bytes()).unwrap();
        web.refresher.bucket().write_server_document(&"web-4".parse().unwrap(), &document, None).await.unwrap();
        web.refresher.refresh().await;
        let plan = async |more: &str| {
            let path = format!("/api/v1/plans?release={}&q=app:web{more}", new.stem());
            serde_json::from_str::<Value>(&body(&web, "deployer", &path).await).unwrap()
        };
        assert_eq!(plan("").await["waves"], Value::Null);
        let waves = plan("&waves=1,rest&max_down=1").await["waves"].clone();
        let wave = |what: &str, servers: &[&str]| json!({ "what": what, "servers": servers });
        assert_eq!(
            waves["waves"],
            json!([wave("1", &["web-2"]), wave("rest", &["web-3", "web-1", "web-4"])]),
            "{waves}"
        );
        assert_eq!((&waves["silent"], &waves["budgets"][0]["allowed"]), (&json!(["web-4"]), &json!(1)));
        assert_eq!(waves["budgets"][0]["out"], json!(["web-1", "web-4"]));
        assert!(plan("&waves=9").await["waves"]["refusal"] == Value::Null);
        rules(directory.path(), "Apps: { web: { Waves: '2,rest' } }");
        let asked = plan("").await["waves"].clone();
        assert!(asked["asked_for"].as_str().unwrap().contains("asks for these waves for `web`"), "{asked}");
        assert_eq!(asked["waves"][0], wave("2", &["web-2", "web-3"]));
        let refused = plan("&waves=web-9,rest").await["waves"]["refusal"].clone();
        assert!(refused.as_str().unwrap().contains("the push does not go to it"), "{refused}");
    }

    #[tokio::test]
    async fn a_plan_says_by_which_rules_a_deploy_goes_out_and_what_a_push_would_refuse() {
        let (directory, web) = web().await;
        let (old, new) = (release_of(&web, 7).await, release_of(&web, 9).await);
        for name in ["web-1", "web-2"] {
            server(&web, name, Some(&old), "converged", "converged").await;
        }
        rules(directory.path(), "Groups: { prod: { Servers: ['web-*'], Waves: '1,rest', Settle: '5m', StopAt: 2 } }");
        web.refresher.refresh().await;
        let get = async |who: &str, query: String| {
            let path = format!("/api/v1/plans?q=app:web&{query}");
            let answer = send(&web, who, Method::GET, &path, String::new()).await;
            let status = answer.status();
            let bytes = axum::body::to_bytes(answer.into_body(), 1 << 20).await.unwrap();
            (status, serde_json::from_slice::<Value>(&bytes).unwrap())
        };
        let deploy = format!("release={}", new.stem());
        // What is said goes before what the policy asks for, and that before what is usual.
        let (_, plan) =
            get("deployer", format!("{deploy}&stop_at=1&pause_after=1,2&within=1h&undo_on_stop=true")).await;
        let rules = json!({
            "settle_seconds": 300, "within_seconds": 3600, "enough_percent": 95, "stop_at": 1, "pause_after": [1, 2],
            "undo_on_stop": true,
        });
        assert_eq!(plan["waves"]["rules"], rules, "{plan}");
        // What a push is answered with 400 for is that here.
        for wrong in
            ["settle=2h", "stop_at=0", "enough=101%25", "within=x", "pause_after=0", "undo_on_stop=yes", "held=1"]
        {
            let (status, said) = get("deployer", format!("{deploy}&{wrong}")).await;
            let field = wrong.split('=').next().unwrap();
            assert_eq!(status, StatusCode::BAD_REQUEST, "{wrong}: {said}");
            assert!(said["detail"].as_str().unwrap().starts_with(field), "{wrong}: {said}");
        }
        for (who, query, why) in [
            ("deployer", format!("{deploy}&pause_after=3"), "cannot wait for a verdict after wave 3"),
            ("deployer", format!("{deploy}&waves=all&reason=down"), "takes the role `admin`"),
            ("admin", format!("{deploy}&waves=all&settle=1m&reason=down"), "`waves` is missing"),
            ("deployer", "remove=web&waves=1,rest".to_owned(), "only a deploy goes out in waves"),
            ("deployer", "rollback=web&stop_at=2".to_owned(), "`waves` is missing"),
        ] {
            let (status, plan) = get(who, query.clone()).await;
            let refusal = plan["waves"]["refusal"].as_str().unwrap_or_default();
            assert!(status == StatusCode::OK && refusal.contains(why), "{query}: {plan}");
        }
        let (_, plan) = get("admin", format!("{deploy}&waves=all&reason=down")).await;
        assert_eq!((&plan["waves"], &plan["without_waves"]), (&Value::Null, &json!(true)));
    }

    #[tokio::test]
    async fn servers_that_need_something_are_divided_once_that_is_said() {
        let (_directory, web) = web().await;
        let (old, new) = (release_of(&web, 7).await, release_of(&web, 9).await);
        for name in ["web-1", "web-2"] {
            server(&web, name, Some(&old), "converged", "converged").await;
        }
        server_without_web(&web, "web-3").await;
        web.refresher.refresh().await;
        let hold = send(&web, "deployer", Method::POST, "/servers/web-2/hold", String::new()).await;
        assert_eq!(hold.status(), StatusCode::SEE_OTHER);
        let divided = async |more: &str| {
            let servers = ["web-1", "web-2", "web-3", "web-9"].map(|name| format!("server={name}")).join("&");
            let path = format!("/api/v1/plans?release={}&{servers}&waves=1,rest{more}", new.stem());
            let plan: Value = serde_json::from_str(&body(&web, "deployer", &path).await).unwrap();
            let rows = plan["waves"]["waves"].as_array().unwrap().iter().filter_map(|wave| wave["servers"].as_array());
            let mut servers: Vec<Value> = rows.flatten().cloned().collect();
            servers.sort_by_key(ToString::to_string);
            json!(servers)
        };
        assert_eq!(divided("").await, json!(["web-1"]));
        assert_eq!(divided("&held=true").await, json!(["web-1", "web-2"]));
        assert_eq!(divided("&new_servers=true&held=false").await, json!(["web-1", "web-9"]));
        assert_eq!(
            divided("&held=true&install=true&new_servers=true").await,
            json!(["web-1", "web-2", "web-3", "web-9"])
        );
    }
}
