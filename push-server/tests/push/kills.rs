//! Processes that are killed while they push, and processes that push at the same time: no push is without a record.
//!
//! `make kills` does it a thousand and three hundred times; here it is a sample of that.

use std::{
    collections::BTreeSet,
    process::{Command, Stdio},
    time::Duration,
};

use bucket::{HistoryEntry, LastPush, PushId, ServerName};
use futures_util::TryStreamExt as _;

use super::Fixture;

/// A number from the environment, or the usual one.
fn times(key: &str, usual: usize) -> usize {
    std::env::var(key).ok().and_then(|text| text.parse().ok()).unwrap_or(usual)
}

impl Fixture {
    fn spawn(&self, arguments: &str) -> std::process::Child {
        let url = bucket::BucketUrl::File(self.directory.path().to_owned());
        Command::new(env!("CARGO_BIN_EXE_push"))
            .env("PUSH_BUCKET", url.to_string())
            .env("PUSH_USER", "dev")
            .args(arguments.split_whitespace())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap()
    }

    /// The push of what a document names, as the document itself tells it. Panics when there is none.
    async fn record_of(&self, server: &ServerName, app: &str) -> Option<PushId> {
        let (generation, document) = self.bucket.server_document(server).await.unwrap()?;
        let named = document.release_of(&app.parse().unwrap())?.clone();
        let told: Vec<LastPush> =
            document.metadata().pushes().into_iter().filter(|push| push.app.as_str() == app).collect();
        let told = told.first().map(|push| (push.id.clone(), push.to.clone()));
        let (id, to) =
            told.unwrap_or_else(|| panic!("{server} names {named}, and generation {generation} tells no push"));
        assert_eq!(to.as_ref(), Some(&named), "{server}");
        Some(id)
    }

    /// Sees that each of these pushes has an object of its own.
    async fn are_pushes(&self, ids: &BTreeSet<PushId>) {
        let heads = self.bucket.newest_pushes(usize::MAX).await.unwrap();
        let known: BTreeSet<PushId> = heads.into_iter().map(|head| head.id).collect();
        assert!(ids.is_subset(&known), "no object: {:?}", ids.difference(&known));
    }

    /// Sees that every row that was ever written to a server has its record: each step begins where the one before ended.
    async fn history_is_whole(&self, server: &ServerName, app: &str) {
        let mut history: Vec<HistoryEntry> = self.bucket.history(server).try_collect().await.unwrap();
        history.retain(|entry| entry.app.as_ref().is_some_and(|named| named.as_str() == app));
        history.sort_by_key(|entry| entry.generation);
        for pair in history.windows(2) {
            assert_eq!(pair[0].to, pair[1].from, "{server}: a step is missing between {pair:#?}");
        }
        let pushes: BTreeSet<_> = history.iter().map(|entry| &entry.push).collect();
        assert_eq!(pushes.len(), history.len(), "{server}: no row is written twice");
    }
}

#[tokio::test]
async fn a_push_that_is_killed_at_any_time_leaves_a_record() {
    let fixture = Fixture::new().await;
    let releases = [fixture.release("web", 1, false).await, fixture.release("web", 2, false).await];
    let servers: Vec<ServerName> = (1..=4).map(|n| format!("web-{n}").parse().unwrap()).collect();
    let names: Vec<&str> = servers.iter().map(ServerName::as_str).collect();
    let mut ids = BTreeSet::new();
    let mut seed = 1_u64;
    for round in 0..times("PUSH_KILLS", 25) {
        let release = &releases[round % 2];
        let mut push = fixture.spawn(&format!("deploy {release} {} --force", names.join(" ")));
        // Any moment of the time that it takes; what it is doing then differs from machine to machine.
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let moment = Duration::from_micros((seed >> 33) % 60_000);
        tokio::time::sleep(moment).await;
        push.kill().unwrap();
        push.wait().unwrap();
        for server in &servers {
            ids.extend(fixture.record_of(server, "web").await);
        }
    }
    fixture.are_pushes(&ids).await;
    // Whoever writes next makes up for what is missing in the history.
    let last = fixture.release("web", 3, false).await;
    super::ok(&fixture.push(&format!("deploy {last} {} --force", names.join(" "))));
    for server in &servers {
        fixture.history_is_whole(server, "web").await;
    }
}

#[tokio::test]
async fn processes_that_push_at_the_same_time_leave_a_record_each() {
    let fixture = Fixture::new().await;
    let server: ServerName = "web-1".parse().unwrap();
    for app in ["web", "api"] {
        for n in 1..=2 {
            fixture.release(app, n, false).await;
        }
    }
    let mut ids = BTreeSet::new();
    for round in 0..times("PUSH_RACES", 20) {
        let n = u8::try_from(round % 2 + 1).unwrap();
        // Two of them want the same app: one of these may find that the other was faster.
        let pushes: Vec<_> = [("api", n), ("web", n), ("web", 3 - n)]
            .into_iter()
            .map(|(app, n)| fixture.spawn(&format!("deploy {} web-1 --force", super::release(app, n))))
            .collect();
        let succeeded: Vec<bool> = pushes.into_iter().map(|mut push| push.wait().unwrap().success()).collect();
        assert!(succeeded[0] && (succeeded[1] || succeeded[2]), "{succeeded:?}");
        for app in ["web", "api"] {
            ids.insert(fixture.record_of(&server, app).await.unwrap());
        }
    }
    fixture.are_pushes(&ids).await;
    for app in ["web", "api"] {
        fixture.history_is_whole(&server, app).await;
    }
}
