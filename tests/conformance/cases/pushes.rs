//! What is written of pushes: in a document's metadata, in the history, and as objects of their own.

use bucket::{
    DocumentMetadata, DocumentSummary, Error, Generation, HistoryEntry, LastPush, Metadata, Push, PushEnd, PushId,
    PushKind, PushRow, ReleaseName, Retry, ServerDocument, ServerName, Timestamp, UnwrittenCause, UnwrittenRow,
};
use futures_util::TryStreamExt as _;

use crate::world::{World, at};

fn server() -> ServerName {
    "web-1".parse().unwrap()
}

fn release(app: &str) -> ReleaseName {
    let commit = "7e0ff6059e653eb75a36efb621d0fd66d1ced433";
    format!("{app}/{app}:dev@build-1:2026-11-20T19:05:02Z:{commit}.deb").parse().unwrap()
}

fn last_push(app: &str, why: &str) -> LastPush {
    LastPush {
        id: PushId::random(),
        time: "2026-11-20T19:05:02.000001Z".parse().unwrap(),
        app: app.parse().unwrap(),
        from: None,
        to: Some(release(app)),
        kind: PushKind::Deploy,
        who: "dev@build-1".to_owned(),
        why: why.to_owned(),
        generation: None,
        settle_seconds: Some(120),
        recorded: false,
        without_waves: false,
        channel: None,
    }
}

fn days_ago(days: i64) -> Timestamp {
    Timestamp::now() - jiff::SignedDuration::from_hours(24 * days)
}

pub(crate) async fn a_documents_metadata_comes_back_with_it_up_to_the_limit(world: World) {
    let foreign = Metadata::from([("invented".to_owned(), format!("[\"kept{}\"]", " ".repeat(2000)))]);
    let mut metadata = DocumentMetadata::from(foreign);
    for n in 0..30 {
        let push = last_push(&format!("app{n}"), "für alle 🎉\u{7f}\n");
        let retry =
            Retry { id: push.id.clone(), time: push.time, release: release(push.app.as_str()), generation: None };
        metadata = metadata.with_push(&push).with_retry(&retry).0;
    }
    let size: usize = metadata.as_ref().iter().map(|(key, value)| key.len() + value.len()).sum();
    assert!(size > 6600, "only {size} bytes");
    let mut document = ServerDocument::default().with_metadata(metadata.clone());
    document.set(release("web"));
    let generation = world.bucket.write_server_document(&server(), &document, None).await.unwrap();
    let (_, read) = world.bucket.server_document(&server()).await.unwrap().unwrap();
    // Written again from what was read: with the mark of the write, Google's storage has no room for more than that.
    assert_eq!(read.metadata().pushes(), metadata.pushes());
    assert_eq!(read.metadata().pushes()[0].why, "für alle 🎉\u{7f}\n");
    assert_eq!(read, document);
    let crowded = Metadata::from([("invented".to_owned(), "x".repeat(7000))]);
    let crowded = DocumentMetadata::from(crowded).with_push(&last_push("web", &"ü".repeat(100)));
    assert_eq!(crowded.pushes().len(), 1, "there is room for one, and no more");
    let crowded = (0..9).fold(crowded, |crowded, n| crowded.with_push(&last_push(&format!("app{n}"), "")));
    let document = read.with_metadata(crowded);
    world.bucket.write_server_document(&server(), &document, Some(generation)).await.unwrap();
    let listed: Vec<DocumentSummary> = world.bucket.servers().try_collect().await.unwrap();
    assert_eq!(&listed[0].metadata, document.metadata());
    // The body says nothing of it.
    let body = world.bucket.get(&at("server/web-1.json"), 1000).await.unwrap().unwrap().content;
    assert_eq!(body, document.to_json());
}

pub(crate) async fn an_entry_of_the_history_is_one_object_whoever_writes_it(world: World) {
    let push = last_push("web", "why");
    assert!(!world.bucket.has_history(&server(), push.time, &push.id).await.unwrap());
    let entry = push.entry(&server(), Generation(7));
    let full = HistoryEntry { why: "why it was, at length".to_owned(), ..entry.clone() };
    world.bucket.append_history(&full).await.unwrap();
    world.bucket.append_history(&entry).await.unwrap();
    assert!(world.bucket.has_history(&server(), push.time, &push.id).await.unwrap());
    assert_eq!(world.bucket.newest_history(&server(), 9).await.unwrap(), [full]);
    let path = format!("history/web-1/20261120T190502.000001Z-{}.json", push.id);
    assert!(world.bucket.head(&at(&path)).await.unwrap().is_some());
    // Off the server, by a program that is newer: neither is passed over. Of one moment the later ID is the newer.
    let removed = HistoryEntry { id: "z".repeat(13), to: None, kind: PushKind::from("levitate".to_owned()), ..entry };
    world.bucket.append_history(&HistoryEntry { push: None, ..removed.clone() }).await.unwrap();
    let newest = world.bucket.newest_history(&server(), 1).await.unwrap();
    assert_eq!((newest[0].to.as_ref(), newest[0].kind.as_str()), (None, "levitate"));
}

pub(crate) async fn the_newest_entries_are_found_however_old(world: World) {
    let mut all = Vec::new();
    for days in [5000, 1000, 400, 200, 70, 31, 29, 1, 0, -2] {
        let entry = LastPush { time: days_ago(days), ..last_push("web", &"long ".repeat(400)) };
        let entry = HistoryEntry { why: "ü".repeat(1000), ..entry.entry(&server(), Generation(7)) };
        world.bucket.append_history(&entry).await.unwrap();
        all.insert(0, entry);
    }
    // One that lies there without metadata, as an earlier program wrote it.
    let bare = LastPush { time: days_ago(300), ..last_push("web", "") }.entry(&server(), Generation(7));
    let time = bare.time.to_zoned(jiff::tz::TimeZone::UTC).strftime("%Y%m%dT%H%M%S.%6fZ");
    world.create(&format!("history/web-1/{time}-bare.json"), &serde_json::to_string(&bare).unwrap()).await;
    all.insert(7, bare);
    for limit in [0, 1, 3, 4, 9, 11, 500] {
        let newest = world.bucket.newest_history(&server(), limit).await.unwrap();
        assert_eq!(newest, all[..limit.min(all.len())], "the newest {limit}");
    }
    assert_eq!(world.bucket.history_since(&server(), days_ago(75), 99).await.unwrap(), all[..6]);
}

pub(crate) async fn pushes_come_back_newest_first_with_their_ends(world: World) {
    let row = |server: &str, app: &str| PushRow { server: server.parse().unwrap(), from: None, to: Some(release(app)) };
    let push = |days: i64, app: &str, rows: Vec<PushRow>| Push {
        id: PushId::random(),
        time: days_ago(days),
        app: app.parse().ok(),
        kind: PushKind::Retry,
        of: Some("abc".parse().unwrap()),
        rollout: true,
        who: "dev@build-1".to_owned(),
        why: "ü".repeat(1024),
        rows,
        without_waves: false,
        channel: None,
    };
    let old = push(900, "web", vec![row("web-1", "web"), row("web-2", "web")]);
    let middle = push(3, "api", vec![row("api-1", "api"), PushRow { to: None, ..row("api-2", "api") }]);
    let new = push(0, "web", vec![row("web-1", "web")]);
    for push in [&old, &middle, &new] {
        world.bucket.create_push(push).await.unwrap();
    }
    let cause = UnwrittenCause::Conflict;
    let end = PushEnd {
        time: days_ago(3),
        who: "dev@build-1".to_owned(),
        rows: vec![UnwrittenRow { server: "api-2".parse().unwrap(), cause }],
    };
    assert!(world.bucket.end_push(middle.time, &middle.id, &end).await.unwrap());
    assert!(!world.bucket.end_push(middle.time, &middle.id, &end).await.unwrap(), "it was ended before");
    world.create("pushes/readme.json", "{}").await;
    let heads = world.bucket.newest_pushes(9).await.unwrap();
    assert_eq!(heads.iter().map(|head| &head.id).collect::<Vec<_>>(), [&new.id, &middle.id, &old.id]);
    let [head, of_middle, of_old] = &heads[..] else { panic!("{heads:?}") };
    assert_eq!((head.rows, head.to.as_ref(), head.unwritten), (1, Some(&release("web")), None));
    assert_eq!((of_middle.rows, of_middle.to.as_ref(), of_middle.unwritten), (2, None, Some(1)));
    assert_eq!((of_old.kind.as_str(), of_old.why.len(), of_old.of.as_ref()), ("retry", 2048, old.of.as_ref()));
    assert_eq!(world.bucket.newest_pushes(1).await.unwrap(), heads[..1]);
    assert_eq!(world.bucket.pushes_since(days_ago(4), 9).await.unwrap(), heads[..2]);
    for (push, head) in [&new, &middle, &old].into_iter().zip(&heads) {
        assert_eq!(world.bucket.find_push(&push.id).await.unwrap().as_ref(), Some(head));
        let read = world.bucket.push(head.time, &head.id).await.unwrap().unwrap();
        assert_eq!((read.id, read.rows), (push.id.clone(), push.rows.clone()));
    }
    assert_eq!(world.bucket.push_end(of_middle.time, &middle.id).await.unwrap(), Some(end));
    assert_eq!(world.bucket.push_end(head.time, &new.id).await.unwrap(), None);
    assert_eq!(world.bucket.find_push(&"absent".parse().unwrap()).await.unwrap(), None);
}

pub(crate) async fn a_push_that_does_not_fit_is_refused(world: World) {
    let row = |n: usize| PushRow {
        server: format!("server-{n:06}").parse().unwrap(),
        from: Some(release("web")),
        to: Some(release("web")),
    };
    let LastPush { id, app, kind, who, why, time, .. } = last_push("web", "why");
    let mut push = Push {
        id,
        time,
        app: Some(app),
        kind,
        of: None,
        who,
        why,
        without_waves: false,
        channel: None,
        rollout: false,
        rows: (0..20_000).map(row).collect(),
    };
    let refused = world.bucket.create_push(&push).await;
    assert!(matches!(refused, Err(Error::TooLarge { .. })), "{refused:?}");
    assert_eq!(world.bucket.find_push(&push.id).await.unwrap(), None);
    let fit = push.rows_that_fit();
    assert!((10_000..20_000).contains(&fit), "{fit}");
    push.rows.truncate(fit + 1);
    assert!(world.bucket.create_push(&push).await.is_err());
    push.rows.truncate(fit);
    world.bucket.create_push(&push).await.unwrap();
    assert_eq!(world.bucket.push(push.time, &push.id).await.unwrap(), Some(push));
}
