//! `GET /api/v1/plans`: what a push would do, and how a deploy would go out.

use std::collections::BTreeSet;

use axum::{
    Json,
    response::{IntoResponse, Response},
    routing::get,
};
use bucket::{PushKind, ServerName};
use fleet::{
    plan::Objection,
    policy::{Reason, Way},
    rollout::plan::Division,
    wish::Said,
};
use schemars::JsonSchema;
use serde::Serialize;

use super::{FILTER, bad, problem, read, types::stem};
use crate::web::{
    pages::plan::{self, Part, Planned, Wanted},
    params::Params,
    route::{Doc, Query, QueryKind, Route},
    view::View,
    waves::{WavesText, divided},
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
}

/// How the servers of a deploy would be divided, without those that need something to be said.
#[derive(Debug, Serialize, JsonSchema)]
struct WavesOut {
    /// Why it would go out so, though the request says no waves.
    #[serde(skip_serializing_if = "Option::is_none")]
    asked_for: Option<String>,
    /// Why it can't go out: the policy file asks for different waves, or the servers can't be divided into these.
    #[serde(skip_serializing_if = "Option::is_none")]
    refusal: Option<String>,
    /// Its waves, in order.
    waves: Vec<DividedOut>,
    /// How many servers of each group may be out at a time.
    budgets: Vec<BudgetOut>,
    /// Servers that do not report: they are in the last wave, and count for nothing.
    silent: Vec<String>,
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
                FILTER,
            ],
        ),
    )
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
    let text = WavesText { waves: params.get("waves"), max_down: params.get("max_down"), ..WavesText::default() };
    let said = match text.said() {
        Ok(said) => said,
        Err(wrong) => return bad(&wrong.to_string()),
    };
    let reason = plan::reason_of(params.get("reason"));
    let planned = plan::plan(&view, &wanted, &targets, reason).await;
    let waves = WavesOut::of(&view, &wanted, &planned, reason, &said);
    Json(PlanOut::new(&wanted.kind(), planned, waves)).into_response()
}

impl PlanOut {
    fn new(of: &PushKind, planned: Vec<Planned>, waves: Option<WavesOut>) -> Self {
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
        Self { kind: of.to_string(), rows: rows.collect(), waves }
    }
}

impl WavesOut {
    /// How a deploy goes out, unless that is all at once.
    fn of(view: &View, wanted: &Wanted, planned: &[Planned], reason: Reason, said: &Said) -> Option<Self> {
        let Wanted::Release(release) = wanted else { return None };
        let changing = planned.iter().filter(|planned| planned.part() == Part::Change);
        let servers: BTreeSet<&ServerName> = changing.map(|planned| &planned.server).collect();
        let (app, names) = (release.name.app(), servers.iter().copied().collect::<Vec<_>>());
        let (division, asked_for) = match view.policy.way(&view.who, app, &names, reason, said) {
            Ok(Way::AtOnce { .. }) => return None,
            Ok(Way::Waves { wish, asked_for }) => {
                (divided(view, app, &servers, &wish).map_err(|error| error.to_string()), asked_for)
            }
            Err(refusal) => (Err(refusal.to_string()), None),
        };
        Some(match division {
            Ok(division) => Self { asked_for, ..Self::from(&division) },
            Err(error) => {
                Self { asked_for, refusal: Some(error), waves: Vec::new(), budgets: Vec::new(), silent: Vec::new() }
            }
        })
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
            asked_for: None,
            refusal: None,
            waves: waves.collect(),
            budgets: budgets.collect(),
            silent: division.silent().map(ToString::to_string).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use crate::web::testing::{body, release_of, rules, server, web};

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
}
