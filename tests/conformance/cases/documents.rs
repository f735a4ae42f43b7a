//! Documents of all kinds.

use bucket::{
    AgentStatus, AppName, DocumentMetadata, DocumentStatus, DocumentSummary, Error, Fetched, Generation, HistoryEntry,
    Page, PushKind, Release, ReleaseMetadata, ReleaseName, ServerDocument, ServerName, ServerState, Status, ToldHold,
};
use futures_util::TryStreamExt as _;

use crate::world::{World, at};

fn server() -> ServerName {
    "web-1".parse().unwrap()
}

fn release(day: u32) -> ReleaseName {
    let commit = "7e0ff6059e653eb75a36efb621d0fd66d1ced433";
    format!("web/web:dev@build-1:2026-11-{day:02}T19:05:02Z:{commit}.deb").parse().unwrap()
}

fn status() -> Status {
    let time = "2026-11-20T19:05:02Z".parse().unwrap();
    Status {
        server: server(),
        machine: "abc".to_owned(),
        written: time,
        state: ServerState::Converged,
        summary: "all is well".to_owned(),
        agent: AgentStatus {
            version: "1".to_owned(),
            started: time,
            poll_seconds: 300,
            heartbeat_seconds: 900,
            next_poll: None,
            health_window_seconds: None,
        },
        document: DocumentStatus {
            generation: Some(Generation(7)),
            error: None,
            bad_entries: Vec::new(),
            bad_count: None,
        },
        apps: Vec::new(),
        holds: Vec::new(),
        warnings: Vec::new(),
        events: Vec::new(),
        not_compared: Vec::new(),
    }
}

fn history(day: u32, id: &str) -> HistoryEntry {
    HistoryEntry {
        time: release(day).time(),
        id: id.to_owned(),
        server: server(),
        app: "web".parse().ok(),
        from: None,
        to: Some(release(day)),
        kind: PushKind::Deploy,
        who: "dev@build-1".to_owned(),
        why: String::new(),
        generation: Generation(7),
        push: None,
        without_waves: false,
        channel: None,
    }
}

pub(super) fn facts() -> ReleaseMetadata {
    ReleaseMetadata {
        dirty: true,
        note: "für alle".to_owned(),
        services: vec!["web.service".to_owned()],
        sha256: [0; 32].into(),
        size: 3,
        package: "web".parse().unwrap(),
        version: "1".to_owned(),
        architecture: "all".parse().unwrap(),
        repo: String::new(),
        branch: "main".to_owned(),
        made_by: None,
    }
}

pub(crate) async fn unknown_fields_of_documents_are_ignored(world: World) {
    let mut json = serde_json::to_value(status()).unwrap();
    json["invented"] = serde_json::json!({ "later": [1, null] });
    json["state"] = "levitating".into();
    world.create("status/web-1.json", &json.to_string()).await;
    let Some((_, read)) = world.bucket.status(&server()).await.unwrap() else { panic!("no status") };
    assert_eq!(read, Status { state: ServerState::Unknown, ..status() });
    let mut json = serde_json::to_value(history(20, "0123456789abcdef")).unwrap();
    json["invented"] = true.into();
    world.create("history/web-1/20261120T190502.000000Z-0123456789abcdef.json", &json.to_string()).await;
    world.create("history/web-1/20261121T190502.000000Z-broken.json", "{").await;
    let read: Vec<HistoryEntry> = world.bucket.history(&server()).try_collect().await.unwrap();
    assert_eq!(read, [history(20, "0123456789abcdef")]);
}

pub(crate) async fn documents_of_all_kinds_come_back(world: World) {
    let bucket = &world.bucket;
    let mut document = ServerDocument::default();
    document.set(release(20));
    let first = bucket.write_server_document(&server(), &document, None).await.unwrap();
    assert_eq!(bucket.server_document(&server()).await.unwrap(), Some((first, document.clone())));
    assert_eq!(bucket.server_document_if_changed(&server(), first).await.unwrap(), Fetched::Unchanged);
    document.set(release(21));
    bucket.write_server_document(&server(), &document, Some(first)).await.unwrap();
    let stale = bucket.write_server_document(&server(), &document, Some(first)).await;
    assert!(matches!(stale, Err(Error::Conflict { .. })), "{stale:?}");
    world.create("server/readme.txt", "not a document").await;
    let servers: Vec<DocumentSummary> = bucket.servers().try_collect().await.unwrap();
    assert_eq!(servers.iter().map(|summary| summary.server.as_str()).collect::<Vec<_>>(), ["web-1"]);
    let head = bucket.head(&at("server/web-1.json")).await.unwrap().unwrap();
    assert_eq!((servers[0].generation, servers[0].updated), (head.generation, head.updated));

    let metadata = facts();
    let deb = world.scratch.path().join("web.deb");
    std::fs::write(&deb, "deb").unwrap();
    for day in [20, 22, 21] {
        bucket
            .upload_release(&release(day), &bucket::SourceFile::read(&deb).unwrap(), &metadata, &|_| {})
            .await
            .unwrap();
    }
    // What was uploaded last is the newest, whatever the builder's clock says.
    let newest = bucket.newest_releases(&"web".parse().unwrap(), 2).await.unwrap();
    assert_eq!(newest.iter().map(|release| release.name.clone()).collect::<Vec<_>>(), [release(21), release(22)]);
    assert_eq!(newest[0].metadata.as_ref(), Ok(&metadata));
    assert_eq!(bucket.release(&release(20)).await.unwrap().unwrap().metadata, Ok(metadata));
    let (opened, mut content) = bucket.open_release(&release(20)).await.unwrap().unwrap();
    assert_eq!((Some(opened), content.size), (bucket.release(&release(20)).await.unwrap(), 3));
    assert_eq!(content.chunk().await.unwrap().as_deref(), Some(&b"deb"[..]));
    assert!(bucket.open_release(&release(19)).await.unwrap().is_none());
    assert_eq!(bucket.release(&release(19)).await.unwrap(), None);
    let apps: Vec<AppName> = bucket.apps().try_collect().await.unwrap();
    assert_eq!(apps, ["web".parse().unwrap()]);
    let names = |page: Page<Release>| page.items.into_iter().map(|release| release.name).collect::<Vec<_>>();
    assert_eq!(names(bucket.all_releases(None).await.unwrap()), [release(20), release(21), release(22)]);
    let newer = bucket.releases_after(&release(20), 1).await.unwrap();
    assert_eq!((newer.next.is_some(), names(newer)), (true, vec![release(21)]));
    assert_eq!(names(bucket.releases_after(&release(19), 9).await.unwrap()), [release(20), release(21), release(22)]);
    assert_eq!(names(bucket.releases_after(&release(22), 9).await.unwrap()), []);

    let written = bucket.write_status(&status(), None).await.unwrap();
    let summaries: Vec<_> = bucket.statuses().try_collect().await.unwrap();
    let summary = &summaries[0];
    assert_eq!((summary.generation, summary.document), (written, Some(Generation(7))));
    assert_eq!(summary.state, Some(ServerState::Converged));
    bucket.append_history(&history(20, "a")).await.unwrap();
    bucket.append_history(&history(21, "b")).await.unwrap();
    let newest = bucket.newest_history(&server(), 1).await.unwrap();
    assert_eq!(newest, [history(21, "b")]);
    let since = async |day| bucket.history_since(&server(), release(day).time(), 9).await.unwrap();
    assert_eq!(since(21).await, [history(21, "b")]);
    assert_eq!(since(20).await, [history(21, "b"), history(20, "a")]);
    assert_eq!(since(22).await, []);
}

pub(crate) async fn nobody_writes_what_nobody_would_read(world: World) {
    let bucket = &world.bucket;
    for elements in [4001, 500_000] {
        let many = ServerDocument::parse(format!("[{}1]", "1,".repeat(elements - 1)).as_bytes()).unwrap();
        let refused = bucket.write_server_document(&server(), &many, None).await;
        let Err(Error::Malformed { reason, .. }) = refused else { panic!("{refused:?}") };
        assert!(reason.contains(&format!("{elements} entries")) && reason.contains("4000"), "{reason}");
    }
    let large = ServerDocument::parse(format!("[\"{}\"]", "x".repeat(1 << 20)).as_bytes()).unwrap();
    let refused = bucket.write_server_document(&server(), &large, None).await;
    assert!(matches!(refused, Err(Error::TooLarge { .. })), "{refused:?}");
    assert_eq!(bucket.server_document(&server()).await.unwrap(), None);

    let endless = Status { summary: "x".repeat(40 << 20), ..status() };
    bucket.write_status(&endless, None).await.unwrap();
    let Some((_, read)) = bucket.status(&server()).await.unwrap() else { panic!("no status") };
    assert!(read.summary.len() < 5000 && read.summary.ends_with('…'));
}

pub(crate) async fn a_bucket_is_marked_once(world: World) {
    world.bucket.mark().await.unwrap();
    assert_eq!(world.bucket.mark().await.unwrap(), None);
    assert!(world.bucket.is_marked().await.unwrap());
}

/// An object as the original system uploaded it: no SHA-256, the keys of its own time.
async fn original(world: &World, day: u32, note: &str) -> ReleaseName {
    let commit = "560316aa6e053eb75a36efb621d0fd66d1ced433";
    let userid = "dev@dev.c.acme-project.internal";
    let datetime = format!("2015-03-{day:02}T19:05:02Z");
    let name: ReleaseName = format!("web/web:{userid}:{datetime}:{commit}.deb").parse().unwrap();
    let metadata = [
        ("appname", "web"),
        ("userid", userid),
        ("hash", commit),
        ("datetime", &datetime),
        ("dirty", "true"),
        ("note", note),
        ("services", "web.service web-tidy.timer"),
    ];
    let metadata = metadata.map(|(key, value)| (key.to_owned(), value.to_owned())).into_iter().collect();
    world.bucket.create(&at(&format!("debs/{name}")), "original".into(), &metadata).await.unwrap();
    name
}

pub(crate) async fn releases_of_the_original_system_are_found_and_adopted_once(world: World) {
    let app: AppName = "web".parse().unwrap();
    let newer = original(&world, 2, "newer").await;
    let older = original(&world, 1, "").await;
    let found = world.bucket.original_releases(&app).await.unwrap();
    assert_eq!(found.iter().map(|original| &original.name).collect::<Vec<_>>(), [&older, &newer]);
    assert_eq!((found[1].note.as_str(), found[1].dirty, found[1].adopted.as_ref()), ("newer", true, None));
    assert_eq!(found[1].services, ["web.service", "web-tidy.timer"]);
    assert_eq!(world.bucket.original_releases(&"api".parse().unwrap()).await.unwrap(), []);
    let mut download = world.bucket.download_original(&found[1]).await.unwrap().unwrap();
    let mut content = Vec::new();
    while let Some(chunk) = download.chunk().await.unwrap() {
        content.extend_from_slice(&chunk);
    }
    assert_eq!(content, b"original");
    // No release of ours: an agent could not know that it is whole.
    assert!(world.bucket.release(&newer).await.unwrap().unwrap().metadata.is_err());

    let deb = world.scratch.path().join("adopted.deb");
    std::fs::write(&deb, "adopted").unwrap();
    let metadata = facts();
    world
        .bucket
        .upload_adopted(&release(20), &newer, &bucket::SourceFile::read(&deb).unwrap(), &metadata, &|_| {})
        .await
        .unwrap();
    let ours = world.bucket.release(&release(20)).await.unwrap().unwrap();
    assert_eq!((ours.metadata.as_ref(), ours.adopted.as_ref()), (Ok(&metadata), Some(&newer)));
    let found = world.bucket.original_releases(&app).await.unwrap();
    assert_eq!(found.iter().map(|original| original.adopted.clone()).collect::<Vec<_>>(), [None, Some(release(20))]);
    let again = world
        .bucket
        .upload_adopted(&release(20), &newer, &bucket::SourceFile::read(&deb).unwrap(), &metadata, &|_| {})
        .await;
    assert!(matches!(again, Err(Error::AlreadyExists { .. })), "{again:?}");
}

pub(crate) async fn a_document_is_written_once_more_as_it_is_with_other_metadata(world: World) {
    // As somebody wrote it by hand: not in the form that programs write.
    let by_hand = format!("[ \"{}\",\n\"api/\", 7 ]", release(20));
    world.create("server/web-1.json", &by_hand).await;
    let read = async || world.bucket.document_object(&server()).await.unwrap().unwrap();
    let before = read().await;
    let until = history(20, "x").time;
    let hold = ToldHold { app: None, by: "dev".to_owned(), why: "für alle".to_owned(), until };
    let telling = DocumentMetadata::default().telling(std::slice::from_ref(&hold), before.generation);
    world.bucket.write_document_metadata(&server(), before.clone(), &telling).await.unwrap();
    let after = read().await;
    assert_eq!((after.content, &after.metadata), (before.content.clone(), telling.as_ref()));
    let (generation, document) = world.bucket.server_document(&server()).await.unwrap().unwrap();
    assert_eq!(document.metadata().holds(), [hold]);
    assert_eq!((generation, document.metadata().said_since(generation)), (after.generation, before.generation));
    let stale = world.bucket.write_document_metadata(&server(), before, &telling).await;
    assert!(matches!(stale, Err(Error::Conflict { .. })), "{stale:?}");
}
