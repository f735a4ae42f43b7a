//! What pushes write on Google Cloud: in which order, with how many requests, and what is left of them when they are
//! interrupted.

use std::{collections::BTreeMap, sync::Arc};

use bucket::{
    Bucket, BucketOptions, BucketUrl, Credentials, HistoryEntry, PushId, PushKind, ReleaseName, ServerName, Timestamp,
};
use fleet::{
    account::{self, RowState, Stage},
    identity::{Identity, Origin},
    operation::{Intent, JustRead, NotPushed, Operator, PushResult, carry_out, find},
    poke::PokeSettings,
    push::{self, Incomplete, Request, Seen},
    redo,
    rollback::previous_on,
    server,
};
use futures_util::TryStreamExt as _;
use harness::gcs::{FakeGcs, Fault, Kind};
use jiff::SignedDuration;

use crate::push_command::facts;

pub(crate) struct World {
    pub(crate) gcs: FakeGcs,
    pub(crate) bucket: Bucket,
}

impl World {
    pub(crate) async fn new() -> Self {
        let gcs = FakeGcs::start("fleet");
        let options = BucketOptions {
            endpoint: Some(gcs.url.parse().unwrap()),
            credentials: Credentials::Anonymous,
            timeout: std::time::Duration::from_secs(30),
            ..BucketOptions::default()
        };
        let bucket = Bucket::open(&"gs://fleet".parse::<BucketUrl>().unwrap(), &options).await.unwrap();
        let world = Self { gcs, bucket };
        for app in ["web", "api"] {
            for n in 1..=4 {
                let name = release(app, n);
                let metadata: BTreeMap<String, String> = facts().to_metadata(&name);
                world.gcs.put_with("fleet", &format!("debs/{name}"), "deb", metadata);
            }
        }
        world
    }

    /// A push of one release to servers that were read a moment ago, as the command does it.
    pub(crate) async fn push(&self, app: &str, n: u8, servers: &[&str], kind: PushKind) -> Vec<PushResult> {
        let release = find(&self.bucket, &release(app, n)).await.unwrap();
        let mut intents = Vec::new();
        for name in servers {
            let server = server::read(&self.bucket, &name.parse().unwrap()).await;
            let seen = match server.document.known() {
                Some((generation, document)) => Seen { generation: Some(*generation), document: document.clone() },
                None => Seen::default(),
            };
            let from = server.desired(release.name.app()).cloned();
            let (app, to) = (release.name.app().clone(), Some(release.name.clone()));
            let intent = Intent { server: server.name.clone(), app, from, to, kind: kind.clone() };
            intents.push((intent, Some(JustRead { release: Some(release.clone()), seen })));
        }
        carry_out(&self.bucket, &operator(), intents, |_, _| ()).await
    }

    /// What was asked from a request on, in order, without what names the objects.
    fn asked(&self, since: usize) -> Vec<String> {
        let place = |object: &str| object.split('/').next().unwrap_or_default().to_owned();
        let words = |request: &harness::gcs::Request| {
            let end = if request.object.ends_with(".end.json") { " end" } else { "" };
            format!("{:?} {}{end}", request.kind, place(&request.object))
        };
        self.gcs.requests()[since..].iter().map(words).collect()
    }

    pub(crate) async fn history(&self, server: &str) -> Vec<HistoryEntry> {
        self.bucket.history(&server.parse().unwrap()).try_collect().await.unwrap()
    }
}

fn release(app: &str, n: u8) -> ReleaseName {
    let commit = "7e0ff6059e653eb75a36efb621d0fd66d1ced433";
    format!("{app}/{app}:dev@build-1:2026-11-20T19:05:{n:02}Z:{commit}.deb").parse().unwrap()
}

pub(crate) fn operator() -> Operator {
    Operator {
        who: Identity { name: "dev@build-1".to_owned(), origin: Origin::Local },
        reason: "für alle".to_owned(),
        policy: Arc::default(),
        poke: PokeSettings::None,
        held: false,
        without_waves: false,
        channel: None,
    }
}

pub(crate) fn ok(results: &[PushResult]) -> PushId {
    for result in results {
        assert!(result.is_pushed() && result.incomplete.is_empty(), "{results:?}");
    }
    results[0].push.clone().expect("a push that was written has an ID")
}

fn request(app: &str, n: u8, from: Option<u8>) -> Request {
    Request {
        id: PushId::random(),
        settle_seconds: None,
        began: Timestamp::now(),
        server: "web-1".parse().unwrap(),
        app: app.parse().unwrap(),
        to: Some(release(app, n)),
        from: from.map(|from| release(app, from)),
        only_as_seen: false,
        kind: PushKind::Deploy,
        who: "ops@laptop".to_owned(),
        reason: "killed".to_owned(),
        without_waves: false,
        channel: None,
    }
}

/// Writes a document, and nothing after that: as a process that is killed then.
async fn killed(world: &World, request: &Request) {
    let seen = push::read(&world.bucket, &request.server).await.unwrap();
    let filled = push::fill(&world.bucket, &request.server, seen).await;
    push::push(&world.bucket, request, filled).await.unwrap();
}

#[tokio::test]
async fn a_push_is_recorded_before_its_first_document_and_costs_one_round_trip_more() {
    let world = World::new().await;
    ok(&world.push("web", 1, &["web-1"], PushKind::Deploy).await);
    // Of what it takes after everything was read.
    let read = async {
        let before = world.gcs.requests().len();
        let id = ok(&world.push("web", 2, &["web-1"], PushKind::Deploy).await);
        (before, id)
    };
    let (before, id) = read.await;
    let asked: Vec<String> = world
        .asked(before)
        .into_iter()
        .filter(|asked| !["Head debs", "Get server", "Get status"].contains(&&**asked))
        .collect();
    let written = asked.iter().position(|asked| asked == "Insert server").unwrap_or_else(|| panic!("{asked:?}"));
    let mut first = asked[..written].to_vec();
    first.sort();
    let expected = ["Get halt.json", "Head history", "Insert pushes", "List holds", "List rejected"];
    assert_eq!(first, expected, "side by side: {asked:?}");
    let mut last = asked[written + 1..].to_vec();
    last.sort();
    assert_eq!(last, ["Insert history", "Insert pushes end"], "side by side: {asked:?}");
    let history = world.history("web-1").await;
    assert_eq!((history.len(), history[1].push.as_ref(), history[1].why.as_str()), (2, Some(&id), "für alle"));
    let head = world.bucket.find_push(&id).await.unwrap().unwrap();
    assert_eq!((head.rows, head.unwritten, head.to), (1, Some(0), Some(release("web", 2))));
}

#[tokio::test]
async fn what_a_killed_push_leaves_is_a_record_and_the_next_fills_it_in() {
    let world = World::new().await;
    ok(&world.push("web", 1, &["web-1"], PushKind::Deploy).await);
    let lost = request("web", 2, Some(1));
    killed(&world, &lost).await;
    assert_eq!(world.history("web-1").await.len(), 1, "it was killed before");
    // A rollback doesn't miss the step, and who lists sees it.
    let read = server::read(&world.bucket, &"web-1".parse().unwrap()).await;
    let back = previous_on(&world.bucket, &"web".parse().unwrap(), &read).await.unwrap();
    assert_eq!(back.name, release("web", 1));
    let (generation, document) = read.document.known().unwrap();
    let told = fleet::rollback::with_told(world.history("web-1").await, &read.name, *generation, document);
    assert_eq!(told[0].push.as_ref(), Some(&lost.id));
    // Two who write next, of other apps and at the same time.
    let (a, b) = tokio::join!(world.push("api", 1, &["web-1"], PushKind::Deploy), async {
        push::fill(&world.bucket, &lost.server, push::read(&world.bucket, &lost.server).await.unwrap()).await
    });
    ok(&a);
    drop(b);
    let history = world.history("web-1").await;
    let filled: Vec<&HistoryEntry> = history.iter().filter(|entry| entry.push.as_ref() == Some(&lost.id)).collect();
    assert_eq!(filled.len(), 1, "{history:?}");
    assert_eq!((filled[0].generation, filled[0].who.as_str()), (*generation, "ops@laptop"));
    assert_eq!(history.len(), 3);
}

#[tokio::test]
async fn what_cannot_be_filled_in_stays_in_the_document() {
    let world = World::new().await;
    let lost = request("web", 1, None);
    killed(&world, &lost).await;
    world.gcs.fail(Kind::Insert, "history/", Fault::Status(403, None));
    let results = world.push("web", 2, &["web-1"], PushKind::Deploy).await;
    assert!(matches!(results[0].incomplete[..], [Incomplete::NotRecorded(_)]), "{results:?}");
    let seen = push::read(&world.bucket, &lost.server).await.unwrap();
    let kept: Vec<PushId> = seen.document.metadata().pushes().into_iter().map(|push| push.id).collect();
    assert_eq!(kept, [results[0].push.clone().unwrap(), lost.id.clone()]);
    world.gcs.heal();
    ok(&world.push("api", 1, &["web-1"], PushKind::Deploy).await);
    assert_eq!(world.history("web-1").await.len(), 3);
}

#[tokio::test]
async fn a_push_that_cannot_be_recorded_writes_nothing() {
    let world = World::new().await;
    world.gcs.fail(Kind::Insert, "pushes/", Fault::Status(403, None));
    let results = world.push("web", 1, &["web-1", "web-2"], PushKind::Deploy).await;
    for result in &results {
        let Err(NotPushed::Failed(reason)) = &result.result else { panic!("{result:?}") };
        assert!(reason.contains("could not record the push; nothing was written"), "{reason}");
    }
    assert!(world.bucket.server_document(&"web-1".parse().unwrap()).await.unwrap().is_none());
}

#[tokio::test]
async fn a_push_that_does_not_fit_is_refused_with_the_number_that_does() {
    let world = World::new().await;
    let found = find(&world.bucket, &release("web", 1)).await.unwrap();
    let intent = |n: usize| {
        let server: ServerName = format!("server-with-a-name-of-some-length-{n:06}").parse().unwrap();
        let (app, to) = (found.name.app().clone(), Some(found.name.clone()));
        let intent = Intent { server, app, from: None, to, kind: PushKind::Deploy };
        (intent, Some(JustRead { release: Some(found.clone()), seen: Seen::default() }))
    };
    let intents = (0..30_000).map(intent).collect();
    let before = world.gcs.requests().len();
    let results = carry_out(&world.bucket, &operator(), intents, |_, _| ()).await;
    let asked = world.asked(before);
    assert!(!asked.iter().any(|asked| asked.starts_with("Insert")), "nothing is even tried: {asked:?}");
    let Err(NotPushed::Failed(reason)) = &results[0].result else { panic!("{:?}", results[0]) };
    let told = reason.split("at most ").nth(1).and_then(|rest| rest.split(' ').next()?.parse::<usize>().ok());
    assert!(told.is_some_and(|told| (10_000..30_000).contains(&told)), "{reason}");
}

#[tokio::test]
async fn rollback_and_history_cost_the_same_after_any_number_of_pushes() {
    let world = World::new().await;
    let server: ServerName = "web-1".parse().unwrap();
    ok(&world.push("web", 1, &["web-1"], PushKind::Deploy).await);
    ok(&world.push("web", 2, &["web-1"], PushKind::Deploy).await);
    let cost = async || {
        let before = world.gcs.requests().len();
        let read = server::read(&world.bucket, &server).await;
        let back = previous_on(&world.bucket, &"web".parse().unwrap(), &read).await.unwrap();
        assert_eq!(back.name, release("web", 1));
        let rollback = world.asked(before);
        let before = world.gcs.requests().len();
        world.bucket.newest_history(&server, 20).await.unwrap();
        (rollback, world.asked(before))
    };
    let (few, few_listed) = cost().await;
    // Four years of pushes, ten a day at their end: of another app, so that all of them matter to nobody and are looked at.
    for n in 0..1500_i64 {
        let time = Timestamp::now() - SignedDuration::from_hours(24 * 40 + n * 20);
        let entry = HistoryEntry {
            time,
            id: format!("{n:016x}"),
            server: server.clone(),
            app: "api".parse().ok(),
            from: None,
            to: Some(release("api", 1)),
            kind: PushKind::Deploy,
            who: "dev@build-1".to_owned(),
            why: String::new(),
            generation: bucket::Generation(1),
            push: None,
            without_waves: false,
            channel: None,
        };
        world.bucket.append_history(&entry).await.unwrap();
    }
    let (many, many_listed) = cost().await;
    for asked in [&few, &many, &few_listed, &many_listed] {
        assert!(asked.iter().all(|asked| asked != "Get history"), "no entry is read by itself: {asked:?}");
    }
    // Those of the document, the report and the release, and listings of which the last ones go out together.
    let lists = |asked: &[String]| asked.iter().filter(|asked| *asked == "List history").count();
    assert_eq!((few.len() - lists(&few), many.len() - lists(&many)), (3, 3), "{few:?} {many:?}");
    assert!(lists(&few) == 1 && lists(&many) <= 10, "{few:?} {many:?}");
    assert!(many_listed.len() <= 10, "{many_listed:?}");
}

#[tokio::test]
async fn a_retry_that_the_agent_has_not_seen_is_not_displaced() {
    let world = World::new().await;
    let server: ServerName = "web-1".parse().unwrap();
    let apps: Vec<String> = (0..12).map(|n| format!("app{n}")).collect();
    for app in &apps {
        let name = release(app, 1);
        world.gcs.put_with("fleet", &format!("debs/{name}"), "deb", facts().to_metadata(&name));
        ok(&world.push(app, 1, &["web-1"], PushKind::Deploy).await);
    }
    let body = push::read(&world.bucket, &server).await.unwrap();
    let mut refused = None;
    for app in &apps {
        let results = world.push(app, 1, &["web-1"], PushKind::Retry).await;
        if let Err(error) = &results[0].result {
            refused = Some((app.clone(), error.to_string()));
            break;
        }
    }
    let (app, reason) = refused.expect("there is room for all of them");
    assert!(reason.contains("has not seen yet") && reason.contains("app0:"), "{reason}");
    let seen = push::read(&world.bucket, &server).await.unwrap();
    assert_eq!(seen.document.to_json(), body.document.to_json(), "the content stays as it is");
    assert!(seen.document.metadata().retries().len() >= 4);
    // Once it has reported, there is room.
    let mut status: serde_json::Value = serde_json::json!({
        "server": "web-1", "machine": "m", "written": Timestamp::now(), "state": "converged", "summary": "",
        "agent": {"version": "1", "started": Timestamp::now(), "poll_seconds": 300},
        "document": {"generation": seen.generation, "error": null}, "apps": []
    });
    world.gcs.put("fleet", "status/web-1.json", status.to_string());
    ok(&world.push(&app, 1, &["web-1"], PushKind::Retry).await);
    // Another release of an app needs no retry of the one before.
    status["document"]["generation"] = 1.into();
    world.gcs.put("fleet", "status/web-1.json", status.to_string());
    let name = release(&app, 2);
    world.gcs.put_with("fleet", &format!("debs/{name}"), "deb", facts().to_metadata(&name));
    ok(&world.push(&app, 2, &["web-1"], PushKind::Deploy).await);
    let retries = push::read(&world.bucket, &server).await.unwrap().document.metadata().retries();
    assert!(retries.iter().all(|retry| retry.release.app().as_str() != app), "{retries:?}");
}

#[tokio::test]
async fn a_removal_leaves_everything_else_and_is_continued_and_undone() {
    let world = World::new().await;
    for app in ["web", "api"] {
        ok(&world.push(app, 1, &["web-1", "web-2"], PushKind::Deploy).await);
    }
    ok(&world.push("api", 1, &["web-1"], PushKind::Retry).await);
    ok(&world.push("web", 1, &["web-1"], PushKind::Retry).await);
    // What lies there that this program knows nothing of.
    let server: ServerName = "web-1".parse().unwrap();
    let seen = push::read(&world.bucket, &server).await.unwrap();
    let mut metadata = seen.document.metadata().as_ref().clone();
    metadata.insert("invented".to_owned(), "later".to_owned());
    let document = seen.document.clone().with_metadata(metadata.into());
    world.bucket.write_server_document(&server, &document, seen.generation).await.unwrap();
    // A removal that was cut off after the first of two documents.
    let row =
        |server: &str| bucket::PushRow { server: server.parse().unwrap(), from: Some(release("web", 1)), to: None };
    let push = bucket::Push {
        id: PushId::random(),
        time: Timestamp::now() - SignedDuration::from_mins(10),
        app: "web".parse().ok(),
        kind: PushKind::Remove,
        of: None,
        rollout: false,
        who: "ops@laptop".to_owned(),
        why: "moved".to_owned(),
        rows: vec![row("web-1"), row("web-2")],
        without_waves: false,
        channel: None,
    };
    world.bucket.create_push(&push).await.unwrap();
    let first = Request {
        id: push.id.clone(),
        settle_seconds: None,
        began: push.time,
        to: None,
        kind: PushKind::Remove,
        ..request("web", 1, Some(1))
    };
    killed(&world, &first).await;
    let seen = push::read(&world.bucket, &server).await.unwrap();
    let metadata = seen.document.metadata();
    assert_eq!(seen.document.releases().collect::<Vec<_>>(), [&release("api", 1)]);
    let told = metadata.pushes();
    assert_eq!((&told[0].id, &told[0].from, &told[0].to), (&push.id, &Some(release("web", 1)), &None));
    assert_eq!(metadata.as_ref().get("invented").map(String::as_str), Some("later"));
    let retried: Vec<ReleaseName> = metadata.retries().into_iter().map(|retry| retry.release).collect();
    assert_eq!(retried, [release("api", 1)], "the other app's stays");
    let account = account::read(&world.bucket, &push.id).await.unwrap();
    let account = fleet::account::Account { stage: Stage::CutOff, ..account };
    let results = redo::carry_on_with(&world.bucket, &operator(), &account, |_, _| ()).await.unwrap();
    assert!(results.len() == 1 && results[0].is_pushed(), "{results:?}");
    let account = account::read(&world.bucket, &push.id).await.unwrap();
    assert_eq!((account.stage, account.summary().as_str()), (Stage::Over, "2 pending"));
    for row in &account.rows {
        let before = redo::undone(&world.bucket, &account, row).await.unwrap();
        assert_eq!(before.map(|release| release.name), Some(release("web", 1)));
    }
    let entry = world.history("web-2").await.pop().unwrap();
    assert_eq!((entry.kind, entry.from, entry.to), (PushKind::Remove, Some(release("web", 1)), None));
}

#[tokio::test]
async fn a_push_that_was_cut_off_is_continued_once_whoever_continues_it() {
    let world = World::new().await;
    let servers: Vec<String> = (1..=6).map(|n| format!("web-{n}")).collect();
    let names: Vec<&str> = servers.iter().map(String::as_str).collect();
    ok(&world.push("web", 1, &names, PushKind::Deploy).await);
    // What a process leaves that was killed ten minutes ago, after two of six documents.
    let push = bucket::Push {
        id: PushId::random(),
        time: Timestamp::now() - SignedDuration::from_mins(10),
        app: "web".parse().ok(),
        kind: PushKind::Deploy,
        of: None,
        rollout: false,
        who: "ops@laptop".to_owned(),
        why: "killed".to_owned(),
        rows: servers
            .iter()
            .map(|server| bucket::PushRow {
                server: server.parse().unwrap(),
                from: Some(release("web", 1)),
                to: Some(release("web", 2)),
            })
            .collect(),
        without_waves: false,
        channel: None,
    };
    world.bucket.create_push(&push).await.unwrap();
    let account = account::read(&world.bucket, &push.id).await.unwrap();
    assert_eq!((account.stage, account.summary().as_str()), (Stage::CutOff, "6 not written yet"));
    for server in &servers[..2] {
        let row = Request {
            id: push.id.clone(),
            settle_seconds: None,
            began: push.time,
            server: server.parse().unwrap(),
            ..request("web", 2, Some(1))
        };
        killed(&world, &row).await;
    }
    let account = account::read(&world.bucket, &push.id).await.unwrap();
    assert_eq!((account.stage, account.unwritten().count()), (Stage::UnderWay, 4), "it wrote a moment ago");
    assert!(redo::carry_on_with(&world.bucket, &operator(), &account, |_, _| ()).await.is_err());
    // Somebody has pushed to one of the two since, and back again: it counts as written all the same.
    ok(&world.push("web", 3, &["web-1"], PushKind::Deploy).await);
    ok(&world.push("web", 1, &["web-1"], PushKind::Deploy).await);
    let account = fleet::account::Account { stage: Stage::CutOff, ..account };
    let (one, two) = (operator(), operator());
    let (one, two) = tokio::join!(
        redo::carry_on_with(&world.bucket, &one, &account, |_, _| ()),
        redo::carry_on_with(&world.bucket, &two, &account, |_, _| ())
    );
    for result in one.unwrap().iter().chain(&two.unwrap()) {
        assert!(result.is_pushed(), "{result:?}");
    }
    for server in &servers {
        let history = world.history(server).await;
        let rows = history.iter().filter(|entry| entry.push.as_ref() == Some(&push.id)).count();
        // The first was recorded by those who pushed after it, and the second is told by its document.
        assert_eq!(rows, usize::from(server != "web-2"), "{server}: {history:?}");
    }
    let account = account::read(&world.bucket, &push.id).await.unwrap();
    assert_eq!((account.stage, account.summary().as_str()), (Stage::Over, "5 pending, 1 superseded"));
    assert!(account.rows.iter().all(|row| row.state != RowState::Waiting));
}

#[tokio::test]
async fn a_push_that_is_stopped_writes_nothing_more() {
    let world = World::new().await;
    let push = bucket::Push {
        id: PushId::random(),
        time: Timestamp::now() - SignedDuration::from_mins(10),
        app: "web".parse().ok(),
        kind: PushKind::Deploy,
        of: None,
        rollout: false,
        who: "ops@laptop".to_owned(),
        why: String::new(),
        rows: vec![bucket::PushRow { server: "web-1".parse().unwrap(), from: None, to: Some(release("web", 1)) }],
        without_waves: false,
        channel: None,
    };
    world.bucket.create_push(&push).await.unwrap();
    let account = account::read(&world.bucket, &push.id).await.unwrap();
    assert_eq!(redo::stop(&world.bucket, &account, &operator().policy, &operator().who).await.unwrap(), 1);
    assert!(
        redo::stop(&world.bucket, &account, &operator().policy, &operator().who)
            .await
            .unwrap_err()
            .to_string()
            .contains("ended")
    );
    let account = account::read(&world.bucket, &push.id).await.unwrap();
    assert_eq!((account.stage, account.summary().as_str()), (Stage::Over, "1 not written"));
    assert!(account.rows[0].state.to_string().contains("the push was stopped"));
    let refused = redo::carry_on_with(&world.bucket, &operator(), &account, |_, _| ()).await.unwrap_err();
    assert!(refused.to_string().contains("nothing to continue"), "{refused}");
}
