//! The last pushes in the web app's snapshot: each one thing, whatever its number of servers, with what became of it.

use std::sync::Arc;

use bucket::{AppState, Push, PushEnd, PushId, PushKind, PushRow, Timestamp, UnwrittenCause, UnwrittenRow};
use fleet::{
    account::Stage,
    identity::{Identity, Origin},
    operation::{Intent, Operator, PushResult, carry_out},
    poke::PokeSettings,
};
use push_server::snapshot::SnapshotRefresher;

use crate::snapshot::{QUIET, World, asked, name, server_name, status, time};

impl World {
    /// Pushes release `n` of `web` to servers, as another process does.
    async fn push(&self, n: u32, servers: &[&str]) -> PushId {
        let operator = Operator {
            who: Identity { name: "dev@build-1".to_owned(), origin: Origin::Local },
            reason: "to see it".to_owned(),
            policy: Arc::default(),
            poke: PokeSettings::None,
            held: false,
            without_waves: false,
            channel: None,
        };
        let mut intents = Vec::new();
        for server in servers {
            let read = fleet::server::read(&self.bucket, &server_name(server)).await;
            let from = read.desired(&"web".parse().unwrap()).cloned();
            let release = name("web", "dev@build-1", n);
            let (server, app) = (server_name(server), release.app().clone());
            intents.push((Intent { server, app, to: Some(release), from, kind: PushKind::Deploy }, None));
        }
        let results = carry_out(&self.bucket, &operator, intents, |_, _| ()).await;
        assert!(results.iter().all(PushResult::is_pushed), "{results:?}");
        results[0].push.clone().unwrap()
    }

    /// Lets an agent report that release `n` of `web`, which its document names, is in a state.
    async fn report_on(&self, server: &str, n: u32, state: AppState) {
        let (generation, _) = self.bucket.server_document(&server_name(server)).await.unwrap().unwrap();
        let seen = self.bucket.status(&server_name(server)).await.unwrap().map(|(seen, _)| seen);
        let mut status = serde_json::to_value(status(server)).unwrap();
        let release = name("web", "dev@build-1", n);
        status["document"]["generation"] = generation.0.into();
        status["apps"] = serde_json::json!([{
            "app": "web", "desired": release, "installed": release, "state": state, "since": time(0)
        }]);
        self.bucket.write_status(&serde_json::from_value(status).unwrap(), seen).await.unwrap();
    }

    fn summaries(&self) -> Vec<String> {
        let recent = self.refresher.snapshot().recent.clone();
        recent.iter().map(|push| push.rows.as_ref().map_or("no rows".to_owned(), |rows| rows.summary.clone())).collect()
    }
}

#[tokio::test]
async fn a_push_is_one_thing_and_what_became_of_it_follows_the_reports() {
    let world = World::empty().await;
    (1..=2).for_each(|n| world.release(&name("web", "dev@build-1", n)));
    let servers = ["web-1", "web-2", "web-3"];
    let first = world.push(1, &servers).await;
    for _ in 0..3 {
        world.refresher.refresh().await;
    }
    assert_eq!(world.summaries(), ["3 pending"]);
    assert_eq!(asked(&world.round().await), QUIET, "its rows and its end are read once");
    world.report_on("web-1", 1, AppState::Converged).await;
    world.report_on("web-2", 1, AppState::Quarantined).await;
    world.refresher.refresh().await;
    assert_eq!(world.summaries(), ["1 runs it, 1 rolled back, 1 pending"]);
    // Another push takes the place of it on one server.
    let second = world.push(2, &["web-1"]).await;
    world.refresher.refresh().await;
    assert_eq!(world.summaries(), ["1 pending", "1 superseded, 1 rolled back, 1 pending"]);
    let recent = world.refresher.snapshot().recent.clone();
    assert_eq!([&recent[0].head.id, &recent[1].head.id], [&second, &first]);
    assert_eq!((recent[0].from(), recent[1].head.rows), (Some(&name("web", "dev@build-1", 1)), 3));
    assert_eq!(world.bucket.find_push(&first).await.unwrap().as_ref(), Some(&recent[1].head));
    let again = SnapshotRefresher::new(world.bucket.clone());
    again.refresh().await;
    assert_eq!(again.snapshot().recent, recent, "a new process sees the same");
}

#[tokio::test]
async fn a_push_that_nobody_ended_is_asked_for_until_somebody_does() {
    let world = World::settled().await;
    let row = PushRow { server: server_name("web-1"), from: None, to: Some(name("web", "dev@build-1", 2)) };
    let hours = Timestamp::now() - jiff::SignedDuration::from_hours(3);
    let push = Push {
        id: PushId::random(),
        time: hours,
        app: "web".parse().ok(),
        kind: PushKind::Deploy,
        of: None,
        rollout: false,
        who: "dev@build-1".to_owned(),
        why: String::new(),
        rows: vec![row.clone()],
        without_waves: false,
        channel: None,
    };
    world.bucket.create_push(&push).await.unwrap();
    let again = SnapshotRefresher::new(world.bucket.clone());
    again.refresh().await;
    let seen = || {
        let recent = again.snapshot().recent.clone();
        let place = recent.iter().position(|known| known.head.id == push.id).unwrap();
        let summary = recent[place].rows.as_ref().unwrap().summary.clone();
        (place > 0, recent[place].stage(Timestamp::now()), summary)
    };
    world.push(2, &["web-2"]).await;
    again.refresh().await;
    assert_eq!(seen(), (true, Stage::CutOff, "1 not written yet".to_owned()));
    let unwritten = UnwrittenRow { server: row.server, cause: UnwrittenCause::Stopped };
    let end = PushEnd { time: Timestamp::now(), who: "ops".to_owned(), rows: vec![unwritten] };
    assert!(world.bucket.end_push(push.time, &push.id, &end).await.unwrap());
    again.refresh().await;
    assert_eq!(seen(), (true, Stage::Over, "1 not written".to_owned()));
}

#[tokio::test]
async fn a_push_of_which_only_documents_tell_is_shown_too() {
    let world = World::empty().await;
    world.release(&name("web", "dev@build-1", 1));
    let id = world.push(1, &["web-1", "web-2"]).await;
    for prefix in ["pushes/", "history/"] {
        for object in world.bucket.list(prefix, None, 1000).await.unwrap().items {
            world.delete(object.path.as_str()).await;
        }
    }
    world.refresher.refresh().await;
    let recent = world.refresher.snapshot().recent.clone();
    assert_eq!((recent.len(), &recent[0].head.id, recent[0].is_foreign, recent[0].head.rows), (1, &id, true, 2));
    assert_eq!((world.summaries(), recent[0].head.why.as_str()), (vec!["2 pending".to_owned()], "to see it"));
    let changes = world.changes();
    world.refresher.refresh().await;
    assert_eq!(world.changes(), changes);
}
