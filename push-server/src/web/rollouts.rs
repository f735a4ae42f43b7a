//! A rollout as its page, lists and the API show it: as it was read last, with what its servers say by now; and what somebody
//! decides about it there.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use axum::http::StatusCode;
use bucket::{Generation, PushId, Rollout, ServerName, Timestamp, WaveRow};
use fleet::{
    rollout::{
        decide::{self, Decision, ensure_may_decide},
        next::{Next, Surroundings, loads, next},
        observe::{RowState, observe, row_state},
        read::held,
    },
    server::Reading,
    wish::{NoShare, Share},
};
use thiserror::Error;

use super::{shared::Web, view::View};

/// How long who decided something waits until it is seen everywhere.
const SEEN_TIMEOUT: Duration = Duration::from_secs(2);

/// A rollout, and how far it is.
pub(crate) struct ShownRollout {
    /// With what was seen of its servers.
    pub(crate) rollout: Rollout,
    /// What is done next, or what it waits for.
    pub(crate) next: Next,
    /// How many servers of each of its budgets are out, in the same order.
    pub(crate) out: Vec<usize>,
    /// Why this process could not carry it on.
    pub(crate) problem: Option<String>,
}

/// Why nothing was decided about a rollout.
#[derive(Debug, Error)]
pub(crate) enum NotDecided {
    /// There is none of that ID.
    #[error("no rollout has the ID `{0}`")]
    NotFound(String),
    /// It can't be read.
    #[error("{0}")]
    Unreadable(String),
    /// The policy forbids it.
    #[error("{0:#}")]
    Forbidden(anyhow::Error),
    /// It is in no stage for that, or it can't be written.
    #[error("{0:#}")]
    Impossible(anyhow::Error),
}

impl NotDecided {
    /// The status to answer.
    pub(crate) fn status(&self) -> StatusCode {
        match self {
            Self::NotFound(_) => StatusCode::NOT_FOUND,
            Self::Unreadable(_) => StatusCode::SERVICE_UNAVAILABLE,
            Self::Forbidden(_) => StatusCode::FORBIDDEN,
            Self::Impossible(_) => StatusCode::CONFLICT,
        }
    }
}

impl ShownRollout {
    /// A rollout as it was read.
    pub(crate) fn of(view: &View, rollout: &Rollout) -> Self {
        let snapshot = &view.snapshot;
        let rollout = observe(rollout.clone(), &snapshot.servers);
        // What can't be read of holds is said where the rollout is carried on.
        let held = held(&rollout, &snapshot.holds, view.bucket_now()).unwrap_or_default();
        let (next, out) = {
            let around = surroundings(view, &held);
            (next(&rollout, around), loads(&rollout, around).into_iter().map(|(_, out)| out).collect())
        };
        let problem = view.web.problems.of(&rollout.id);
        Self { rollout, next, out, problem }
    }

    /// A rollout by its ID, if there is one; one that is older than those in the snapshot is read.
    ///
    /// # Errors
    /// When it can't be read.
    pub(crate) async fn find(view: &View, id: &PushId) -> Result<Option<Self>, String> {
        let rollout = match view.snapshot.rollouts.get(id).map(|known| &known.rollout) {
            Some(Reading::Known(rollout)) => Some(rollout.clone()),
            Some(Reading::Unreadable(error)) => return Err(error.clone()),
            Some(Reading::Absent) | None => {
                let read = view.web.refresher.bucket().rollout(id).await;
                read.map_err(|error| error.to_string())?.map(|(_, rollout): (Generation, _)| Arc::new(rollout))
            }
        };
        Ok(rollout.map(|rollout| Self::of(view, &rollout)))
    }

    /// How far one of its servers is.
    pub(crate) fn state(&self, view: &View, row: &WaveRow) -> RowState {
        let server = view.snapshot.servers.get(&row.server).map(|server| &**server);
        row_state(&self.rollout, row, server, view.bucket_now())
    }

    /// What can be decided about it by this operator.
    pub(crate) fn decisions(&self, view: &View) -> Vec<Decision> {
        if ensure_may_decide(&view.policy, &view.who, &self.rollout).is_err() {
            return Vec::new();
        }
        let waits_for_verdict = matches!(self.next, Next::Wait(fleet::rollout::next::Waiting::Verdict(_)));
        let is_offered = |decision: &Decision| match decision {
            Decision::Pass | Decision::Fail => waits_for_verdict,
            Decision::Unsure | Decision::ContinueWith(_) => false,
            Decision::Continue | Decision::Stop | Decision::Undo | Decision::Abandon => true,
        };
        let applies = |decision: &Decision| decision.applies(&self.rollout.stage) && is_offered(decision);
        Decision::ALL.into_iter().filter(applies).collect()
    }

    /// Whether this operator can let more servers be out.
    pub(crate) fn can_be_raised(&self, view: &View) -> bool {
        Decision::ContinueWith(Share::QUARTER).applies(&self.rollout.stage)
            && ensure_may_decide(&view.policy, &view.who, &self.rollout).is_ok()
    }

    /// The wave that is under way, from 1: the last one of which something was written, or the first.
    pub(crate) fn wave(&self) -> usize {
        wave(&self.rollout)
    }
}

/// The wave of a rollout that is under way, from 1: the last one of which something was written, or the first.
pub(crate) fn wave(rollout: &Rollout) -> usize {
    rollout.begun_waves().max(1)
}

fn surroundings<'a>(view: &'a View, held: &'a BTreeMap<ServerName, Timestamp>) -> Surroundings<'a> {
    let snapshot = &view.snapshot;
    Surroundings { servers: &snapshot.servers, held, halted: snapshot.halt.is_some(), now: view.bucket_now() }
}

/// That a rollout goes on, and how many servers of each group may be out from now on if somebody says so: `2`, `10%`.
///
/// # Errors
/// When that is no such number.
pub(crate) fn going_on(max_down: Option<&str>) -> Result<Decision, String> {
    let Some(text) = max_down else { return Ok(Decision::Continue) };
    let share = text.parse().map_err(|error: NoShare| format!("max_down `{}` {error}", console::safe(text)));
    share.map(Decision::ContinueWith)
}

/// Decides something about a rollout, and gives it as it is then.
pub(crate) async fn decide(view: &View, id: &str, decision: Decision, reason: &str) -> Result<Rollout, NotDecided> {
    let parsed: PushId = id.parse().map_err(|_| NotDecided::NotFound(id.to_owned()))?;
    let found = ShownRollout::find(view, &parsed).await.map_err(NotDecided::Unreadable)?;
    let shown = found.ok_or_else(|| NotDecided::NotFound(id.to_owned()))?;
    ensure_may_decide(&view.policy, &view.who, &shown.rollout).map_err(NotDecided::Forbidden)?;
    let (bucket, by) = (view.web.refresher.bucket(), (&view.who, reason));
    let decided = decide::decide(bucket, &view.policy, &parsed, decision, by, &view.snapshot.servers).await;
    let decided = decided.map_err(NotDecided::Impossible)?;
    be_seen(&view.web).await;
    Ok(decided)
}

/// Has the snapshot show what was written just now, unless that takes long. It is then carried on at once, too.
pub(crate) async fn be_seen(web: &Arc<Web>) {
    let web = web.clone();
    // Apart, so that no round is broken off.
    let refreshed = tokio::spawn(async move { web.refresher.refresh().await });
    let _ = tokio::time::timeout(SEEN_TIMEOUT, refreshed).await;
}

#[cfg(test)]
mod tests {
    use axum::http::Method;
    use bucket::ReleaseName;

    use super::*;
    use crate::web::{
        driver::look,
        testing::{body, release_of, report, rollout, send, server, web},
    };

    async fn desired(web: &Arc<Web>, server: &str) -> Option<ReleaseName> {
        let document = web.refresher.bucket().server_document(&server.parse().unwrap()).await.unwrap();
        document.and_then(|(_, document)| document.releases().next().cloned())
    }

    /// Whoever carries rollouts on does what there is to do.
    async fn drive(web: &Arc<Web>) {
        web.refresher.refresh().await;
        while look(web, "push serve of test").await {
            web.refresher.refresh().await;
        }
        web.refresher.refresh().await;
    }

    #[tokio::test]
    async fn a_rollout_is_followed_and_decided_about_on_the_page_of_its_push() {
        let (_directory, web) = web().await;
        let (old, new) = (release_of(&web, 7).await, release_of(&web, 9).await);
        for name in ["web-1", "web-2", "web-3", "web-4"] {
            server(&web, name, Some(&old), "converged", "converged").await;
        }
        web.refresher.refresh().await;
        let id = rollout(&web, &new, "1,1,rest").await;
        let place = format!("/pushes/{id}");
        let page = body(&web, "viewer", &place).await;
        for expected in ["Not driven yet", "2 not written yet", "0 of 4 out, 1 allowed", "It stops when a server fails"]
        {
            assert!(page.contains(expected), "{expected}: {page}");
        }
        assert!(!page.contains("<form"), "{page}");
        drive(&web).await;
        assert_eq!(
            (desired(&web, "web-1").await, desired(&web, "web-2").await),
            (Some(new.clone()), Some(old.clone()))
        );
        let page = body(&web, "deployer", &place).await;
        for expected in
            ["Waiting for a report of web-1", "wave 1 of 3", "1 of 4 out", "by <bdi>push serve of test</bdi>"]
        {
            assert!(page.contains(expected), "{expected}: {page}");
        }
        assert!(page.contains("Stop rollout") && !page.contains("Continue rollout"), "{page}");
        report(&web, "web-1", "converged").await;
        drive(&web).await;
        report(&web, "web-2", "quarantined").await;
        drive(&web).await;
        for path in [place.as_str(), "/history", "/"] {
            let page = body(&web, "deployer", path).await;
            assert!(page.contains("stopped in wave 2 of 3"), "{path}: {page}");
            assert_eq!(page.contains("1 server failed: web-2"), path == place, "{path}: {page}");
        }
        let post = async |who: &str, decision: &str| {
            let form = format!("decision={decision}&reason=bad");
            send(&web, who, Method::POST, &format!("{place}/rollout"), form).await.status()
        };
        assert_eq!(post("viewer", "undo").await, StatusCode::FORBIDDEN);
        assert_eq!(post("deployer", "pass").await, StatusCode::CONFLICT);
        assert_eq!(post("deployer", "explode").await, StatusCode::BAD_REQUEST);
        assert_eq!(post("deployer", "undo").await, StatusCode::SEE_OTHER);
        assert!(body(&web, "viewer", &place).await.contains("undoing"));
        drive(&web).await;
        for name in ["web-1", "web-2", "web-3"] {
            report(&web, name, "converged").await;
            drive(&web).await;
        }
        assert_eq!((desired(&web, "web-1").await, desired(&web, "web-2").await), (Some(old.clone()), Some(old)));
        let page = body(&web, "deployer", &place).await;
        for expected in
            ["1 undone", "<strong><bdi>undo</bdi></strong> after wave 2, by <bdi>deployer</bdi>", ": <bdi>bad</bdi>"]
        {
            assert!(page.contains(expected), "{expected}: {page}");
        }
        let absent = send(&web, "deployer", Method::POST, "/pushes/abc123/rollout", "decision=stop".to_owned()).await;
        assert_eq!(absent.status(), StatusCode::NOT_FOUND);
    }

    #[tokio::test]
    async fn that_max_down_of_a_channel_makes_one_wave_is_on_the_page() {
        let (_directory, web) = web().await;
        let (old, new) = (release_of(&web, 7).await, release_of(&web, 9).await);
        for name in ["web-1", "web-2"] {
            server(&web, name, Some(&old), "converged", "converged").await;
        }
        web.refresher.refresh().await;
        let bucket = web.refresher.bucket();
        for (waves, of_channel, is_said) in [("rest", true, true), ("rest", false, false), ("1,rest", true, false)] {
            let id = rollout(&web, &new, waves).await;
            let (generation, mut rollout) = bucket.rollout(&id).await.unwrap().unwrap();
            rollout.channel = of_channel.then(|| "prod".parse().unwrap());
            bucket.write_rollout(&rollout, Some(generation)).await.unwrap();
            web.refresher.refresh().await;
            let page = body(&web, "viewer", &format!("/pushes/{id}")).await;
            assert!(page.contains("0 of 2 out, 1 allowed"), "{page}");
            assert_eq!(page.contains("All servers are in one wave"), is_said, "{waves} {of_channel}: {page}");
        }
    }

    #[tokio::test]
    async fn the_wave_that_it_waits_after_is_judged_and_the_budget_raised_on_the_page() {
        let (_directory, web) = web().await;
        let (old, new) = (release_of(&web, 7).await, release_of(&web, 9).await);
        for name in ["web-1", "web-2", "web-3", "web-4"] {
            server(&web, name, Some(&old), "converged", "converged").await;
        }
        web.refresher.refresh().await;
        let rows: Vec<_> = ["web-1", "web-2", "web-3", "web-4"]
            .map(|name| serde_json::json!({ "server": name, "from": old.stem(), "to": new.stem() }))
            .into();
        let push = serde_json::json!({
            "kind": "deploy", "rows": rows, "waves": "1,1,rest", "settle": "0s", "pause_after": [1, 2],
        });
        let answer = send(&web, "deployer", Method::POST, "/api/v1/pushes", push.to_string()).await;
        let place = answer.headers()["location"].to_str().unwrap().replace("/api/v1/rollouts/", "/pushes/");
        let post = async |form: &str| {
            send(&web, "deployer", Method::POST, &format!("{place}/rollout"), form.to_owned()).await.status()
        };
        let settle = async |name: &str| {
            drive(&web).await;
            report(&web, name, "converged").await;
            drive(&web).await;
        };
        settle("web-1").await;
        let page = body(&web, "deployer", &place).await;
        assert!(page.contains("Pass wave 1") && page.contains("Fail wave 1"), "{page}");
        assert!(!body(&web, "viewer", &place).await.contains("Pass wave 1"));
        assert_eq!(desired(&web, "web-2").await, Some(old.clone()), "it waits for the verdict");
        assert_eq!(post("decision=pass&reason=looks+good").await, StatusCode::SEE_OTHER);
        settle("web-2").await;
        assert_eq!(desired(&web, "web-2").await, Some(new.clone()));
        assert_eq!(post("decision=fail&reason=slow").await, StatusCode::SEE_OTHER);
        drive(&web).await;
        let page = body(&web, "deployer", &place).await;
        for expected in
            ["stopped in wave 2 of 3", "Judged as failed by deployer: slow", "Continue rollout", "1 allowed"]
        {
            assert!(page.contains(expected), "{expected}: {page}");
        }
        assert!(!page.contains("Pass wave") && page.contains("name=\"max_down\""), "{page}");
        for (max_down, status) in
            [("many", StatusCode::BAD_REQUEST), ("1", StatusCode::CONFLICT), ("75%25", StatusCode::SEE_OTHER)]
        {
            assert_eq!(post(&format!("decision=continue&max_down={max_down}")).await, status, "{max_down}");
        }
        drive(&web).await;
        assert!(body(&web, "viewer", &place).await.contains("0 of 4 out, 3 allowed"));
        assert_eq!(post("decision=pass").await, StatusCode::SEE_OTHER);
        drive(&web).await;
        let documents = [desired(&web, "web-3").await, desired(&web, "web-4").await];
        assert_eq!(documents, [Some(new.clone()), Some(new)], "two may be out now");
        // One that runs is told so too, by a program as well.
        let api = place.replace("/pushes/", "/api/v1/rollouts/");
        let body = |max_down: &str| serde_json::json!({ "max_down": max_down }).to_string();
        let raise = async |max_down: &str| {
            send(&web, "deployer", Method::POST, &format!("{api}/continue"), body(max_down)).await.status()
        };
        assert_eq!(raise("x").await, StatusCode::BAD_REQUEST);
        assert_eq!((raise("3").await, raise("4").await), (StatusCode::CONFLICT, StatusCode::OK));
        assert_eq!(post("decision=continue").await, StatusCode::CONFLICT, "it has not stopped");
    }

    #[tokio::test]
    async fn who_has_put_a_server_on_hold_rolls_out_there_if_they_say_so_and_others_wait() {
        for (held, waits) in [("&held=yes", false), ("", true)] {
            let (_directory, web) = web().await;
            let (old, new) = (release_of(&web, 7).await, release_of(&web, 9).await);
            for name in ["web-1", "web-2"] {
                server(&web, name, Some(&old), "converged", "converged").await;
            }
            let hold = send(&web, "deployer", Method::POST, "/servers/web-2/hold", String::new()).await;
            assert_eq!(hold.status(), StatusCode::SEE_OTHER);
            web.refresher.refresh().await;
            let row = |name: &str| format!("{name}+{}+{}", old.stem(), new.stem());
            let field = if waits { "target" } else { "held_target" };
            let form = format!(
                "kind=deploy&target={}&{field}={}&waves=1,rest&settle=0s&max_down=2{held}",
                row("web-1"),
                row("web-2")
            );
            let answer = send(&web, "deployer", Method::POST, "/push", form).await;
            let place = answer.headers()["location"].to_str().unwrap().to_owned();
            drive(&web).await;
            report(&web, "web-1", "converged").await;
            drive(&web).await;
            let page = body(&web, "viewer", &place).await;
            assert_eq!(page.contains("Waiting for web-2, on hold, the first until"), waits, "{page}");
            assert_eq!(desired(&web, "web-2").await == Some(new), !waits);
        }
    }

    #[tokio::test]
    async fn what_keeps_the_web_app_from_carrying_it_on_is_said() {
        let (directory, web) = web().await;
        let (old, new) = (release_of(&web, 7).await, release_of(&web, 9).await);
        for name in ["web-1", "web-2"] {
            server(&web, name, Some(&old), "converged", "converged").await;
        }
        web.refresher.refresh().await;
        let id = rollout(&web, &new, "1,rest").await;
        let held = directory.path().join("bucket/holds/web-2.json");
        std::fs::create_dir(held.parent().unwrap()).unwrap();
        std::fs::write(&held, "{").unwrap();
        drive(&web).await;
        let page = body(&web, "viewer", &format!("/pushes/{id}")).await;
        assert!(page.contains("could not read whether <code>web-2</code> is on hold"), "{page}");
        assert_eq!(desired(&web, "web-1").await, Some(old));
        std::fs::remove_file(&held).unwrap();
        drive(&web).await;
        assert_eq!(desired(&web, "web-1").await, Some(new));
        assert!(!body(&web, "viewer", &format!("/pushes/{id}")).await.contains("is on hold"));
    }
}
