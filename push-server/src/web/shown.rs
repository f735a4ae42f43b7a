//! A push as its page and the API show it: as the bucket has it, followed by the snapshot, with what this process knows of
//! its writing. There is one such picture, whoever wrote the push and however long ago.

use std::{collections::HashMap, sync::Arc};

use bucket::{Generation, Push, PushEnd, PushHead, PushId, ServerName, UnwrittenCause};
use fleet::{
    account::{self, Account, Stage},
    operation::PushResult,
    rollout::drive::push_of as push_of_rollout,
    server,
};
use futures_util::{StreamExt, stream};

use super::{jobs::Job, rollouts::ShownRollout, view::View};
use crate::snapshot::{Evidence, RecentRows, push_of};

/// Servers that are read at the same time.
const AT_ONCE: usize = 32;

/// A push, and how far it is.
pub(crate) struct Shown {
    /// Its rows, and what became of each.
    pub(crate) rows: RecentRows,
    /// Whether only documents or the history tell of it.
    pub(crate) is_foreign: bool,
    /// The job that writes it or wrote it, if that is this process's.
    pub(crate) job: Option<Arc<Job>>,
}

impl Shown {
    /// A push by its ID, if there is one.
    ///
    /// # Errors
    /// When the bucket has to be asked for it and can't be read.
    pub(crate) async fn find(view: &View, id: &PushId) -> Result<Option<Self>, bucket::Error> {
        let job = view.web.jobs.get(id);
        let recent = view.snapshot.recent.iter().find(|push| push.head.id == *id);
        let kept = recent.and_then(|push| Some((push.rows.clone()?, push.is_foreign)));
        let (rows, is_foreign) = if let Some(kept) = kept {
            kept
        } else {
            // Of what is refused as a whole nothing is recorded.
            let is_recorded = job.as_ref().is_none_or(|job| job.is_recorded());
            let found = if is_recorded { read(view, id).await? } else { None };
            let found = found.or_else(|| Some((job.as_ref()?.push(), None)));
            // Of a rollout that began just now the push may not be recorded yet.
            let rollout = view.snapshot.rollouts.get(id).and_then(|known| known.rollout.known());
            let Some((push, end)) = found.or_else(|| Some((push_of_rollout(rollout?), None))) else { return Ok(None) };
            let mut rows = RecentRows::new(push, end);
            rows.follow(&mut Evidence::new(&view.snapshot.servers, &view.snapshot.pushes), None);
            (rows, false)
        };
        let mut shown = Self { rows, is_foreign, job };
        shown.learn(view);
        Ok(Some(shown))
    }

    /// How far it is by what the bucket says now: what is done about it is decided by that.
    ///
    /// # Errors
    /// When it, or what decides whether a row was written, can't be read.
    pub(crate) async fn account(&self, view: &View) -> anyhow::Result<Account> {
        let (bucket, push) = (view.web.refresher.bucket(), self.push());
        if !self.is_foreign {
            return account::read(bucket, &push.id).await;
        }
        let entries = view.snapshot.pushes.iter().filter(|entry| push_of(entry) == push.id.as_str());
        let entries: HashMap<&ServerName, _> = entries.map(|entry| (&entry.server, entry)).collect();
        let rows = push.rows.iter().map(|row| {
            let (row, entry) = (row.clone(), entries.get(&row.server).map(|entry| (***entry).clone()));
            async move {
                let server = server::read(bucket, &row.server).await;
                (row, server, entry)
            }
        });
        let rows = stream::iter(rows.collect::<Vec<_>>()).buffered(AT_ONCE).collect().await;
        Ok(account::account(push.clone(), None, rows, view.bucket_now()))
    }

    /// The rollout that carries it out, if it goes out in waves.
    ///
    /// # Errors
    /// When it can't be read.
    pub(crate) async fn rollout(&self, view: &View) -> Result<Option<ShownRollout>, String> {
        if self.push().rollout { ShownRollout::find(view, &self.push().id).await } else { Ok(None) }
    }

    fn learn(&mut self, view: &View) {
        let Some(job) = &self.job else { return };
        let progress = job.progress();
        let push = self.rows.push.clone();
        let results = progress.results.iter().flatten().filter(|result| Some(&result.intent.app) == push.app.as_ref());
        let results = results.map(|result| {
            let outcome: Result<Generation, UnwrittenCause> = result.result.clone().map_err(|error| error.cause());
            (&result.intent.server, outcome)
        });
        let results: HashMap<&ServerName, _> = results.collect();
        let evidence = Evidence::new(&view.snapshot.servers, &view.snapshot.pushes);
        self.rows.learn(&evidence, &results, progress.finished);
    }

    /// The push.
    pub(crate) fn push(&self) -> &Push {
        &self.rows.push
    }

    /// What a list shows of it.
    pub(crate) fn head(&self) -> PushHead {
        let unwritten = self.rows.end.as_ref().map(|end| end.rows.len());
        PushHead { unwritten, ..self.rows.push.head() }
    }

    /// Whether it is under way.
    pub(crate) fn stage(&self, view: &View) -> Stage {
        match &self.job {
            // However long a row takes.
            Some(job) if !job.progress().finished => Stage::UnderWay,
            _ => self.rows.stage(view.bucket_now()),
        }
    }

    /// How this process wrote its rows, by server.
    pub(crate) fn results(&self) -> HashMap<ServerName, PushResult> {
        let Some(job) = &self.job else { return HashMap::new() };
        let progress = job.progress();
        let results =
            progress.results.iter().flatten().filter(|result| Some(&result.intent.app) == self.rows.push.app.as_ref());
        results.map(|result| (result.intent.server.clone(), result.clone())).collect()
    }
}

/// A push with its rows, and how it ended, from the bucket.
async fn read(view: &View, id: &PushId) -> Result<Option<(Push, Option<PushEnd>)>, bucket::Error> {
    let bucket = view.web.refresher.bucket();
    let Some(head) = bucket.find_push(id).await? else { return Ok(None) };
    let (push, end) = tokio::join!(bucket.push(head.time, id), bucket.push_end(head.time, id));
    Ok(push?.zip(Some(end?)))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use axum::http::{Method, StatusCode};
    use bucket::{BucketUrl, ReleaseName};
    use fleet::{poke::PokeSettings, policy::watched::Watched};

    use crate::web::{
        shared::Web,
        testing::{body, release_of, send, server, web},
    };

    use super::*;

    /// Pushes a release of `web` over another, and gives the ID.
    async fn push(web: &Arc<Web>, servers: &[&str], from: Option<&ReleaseName>, to: &ReleaseName) -> String {
        let changes: Vec<_> = servers
            .iter()
            .map(|server| serde_json::json!({ "server": server, "from": from.map(ReleaseName::stem), "to": to.stem() }))
            .collect();
        let body = serde_json::json!({ "kind": "deploy", "reason": "to see it", "changes": changes }).to_string();
        let answer = send(web, "deployer", Method::POST, "/api/v1/pushes", body).await;
        let bytes = axum::body::to_bytes(answer.into_body(), 1 << 20).await.unwrap();
        let said: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
        assert_eq!(said["push"], said["id"], "{said}");
        said["id"].as_str().unwrap().to_owned()
    }

    /// Another process over the same bucket.
    async fn restarted(web: &Arc<Web>, directory: &Path) -> Arc<Web> {
        let url = BucketUrl::File(directory.join("bucket"));
        let policy = Watched::open(Some(directory.join("rules"))).unwrap();
        let again = Arc::new(Web::new(web.refresher.bucket().clone(), &url, None, PokeSettings::None, policy));
        again.refresher.refresh().await;
        again
    }

    #[tokio::test]
    async fn the_page_of_a_push_outlasts_the_process_that_wrote_it() {
        let (directory, web) = web().await;
        let (one, two, three) = (release_of(&web, 1).await, release_of(&web, 2).await, release_of(&web, 3).await);
        for name in ["web-1", "web-2"] {
            server(&web, name, Some(&one), "converged", "converged").await;
        }
        web.refresher.refresh().await;
        let id = push(&web, &["web-1", "web-2"], Some(&one), &three).await;
        let again = restarted(&web, directory.path()).await;
        let overview = format!("<a href=\"/pushes/{id}\">web → {} on 2 servers</a>", three.commit().short());
        for (process, web) in [("the same", &web), ("another", &again)] {
            let page = body(web, "viewer", &format!("/pushes/{id}")).await;
            for expected in
                ["2 pushed", "— 2 pending.", "to see it", "deployer", "change 2", "change 3", "Release notes"]
            {
                assert!(page.contains(expected), "{process}: {expected}: {page}");
            }
            assert!(!page.contains("change 1"), "{process}: {page}");
            for path in ["/", "/history"] {
                let page = body(web, "viewer", path).await;
                assert_eq!(page.matches("/pushes/").count(), 1, "{process} {path}: one row for a push: {page}");
                assert!(page.contains(&overview) && page.contains("2 pending"), "{process} {path}: {page}");
            }
        }
        // Back again, which somebody does who believes that `one` is still there.
        push(&again, &["web-1"], Some(&three), &two).await;
        let refused = push(&again, &["web-1", "web-2"], Some(&three), &one).await;
        let page = body(&again, "viewer", &format!("/pushes/{refused}")).await;
        for expected in
            ["1 not pushed", "another push changed", "not written: somebody pushed in between", "Taken back"]
        {
            assert!(page.contains(expected), "{expected}: {page}");
        }
        let last = restarted(&web, directory.path()).await;
        let page = body(&last, "viewer", &format!("/pushes/{refused}")).await;
        assert!(page.contains("1 not pushed") && page.contains("not written: somebody pushed in between"), "{page}");
        let page = body(&last, "viewer", &format!("/pushes/{id}")).await;
        assert!(page.contains("2 superseded"), "{page}");
    }

    #[tokio::test]
    async fn a_push_that_only_the_history_tells_of_has_a_page() {
        let (_directory, web) = web().await;
        let (one, two) = (release_of(&web, 1).await, release_of(&web, 2).await);
        let entry = bucket::HistoryEntry {
            time: bucket::Timestamp::now(),
            id: "0123abcd".to_owned(),
            server: "web-1".parse().unwrap(),
            app: "web".parse().ok(),
            from: Some(one),
            to: Some(two.clone()),
            kind: bucket::PushKind::Deploy,
            who: "dev@build-1".to_owned(),
            why: "before pushes had IDs".to_owned(),
            generation: Generation(1),
            push: None,
            without_waves: false,
            channel: None,
        };
        web.refresher.bucket().append_history(&entry).await.unwrap();
        server(&web, "web-1", Some(&two), "converged", "converged").await;
        web.refresher.refresh().await;
        assert!(body(&web, "viewer", "/history").await.contains("/pushes/0123abcd"));
        let page = body(&web, "viewer", "/pushes/0123abcd").await;
        assert!(page.contains("1 pushed") && page.contains("1 runs it") && page.contains("before pushes"), "{page}");
        let absent = send(&web, "viewer", Method::GET, "/pushes/0123abce", String::new()).await;
        assert_eq!(absent.status(), StatusCode::NOT_FOUND);
    }
}
