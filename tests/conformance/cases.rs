//! What both backends must do alike.

use std::{fs::File, io::Write, sync::Mutex};

use bucket::{
    AgentStatus, AppName, Bucket, DocumentStatus, DocumentSummary, Download, Error, Fetched, Generation, HistoryEntry,
    Metadata, Object, ObjectInfo, Page, PageToken, PushKind, Release, ReleaseMetadata, ReleaseName, ServerDocument,
    ServerName, ServerState, Status, items,
};
use bytes::Bytes;
use futures_util::TryStreamExt as _;
use sha2::{Digest, Sha256};

use crate::world::{World, at};

const LIMIT: u64 = 1 << 20;

async fn text(bucket: &Bucket, path: &str) -> Option<String> {
    let object = bucket.get(&at(path), LIMIT).await.expect("the bucket answers")?;
    Some(String::from_utf8(object.content.to_vec()).expect("text"))
}

async fn drain(mut download: Download) -> Vec<u8> {
    let mut all = Vec::new();
    while let Some(chunk) = download.chunk().await.expect("the download goes on") {
        assert!(!chunk.is_empty(), "an empty chunk");
        all.extend_from_slice(&chunk);
    }
    all
}

fn note(text: &str) -> Metadata {
    Metadata::from([("note".to_owned(), text.to_owned())])
}

pub(crate) async fn what_was_created_is_read_back(world: World) {
    let path = at("server/web-1.json");
    assert_eq!(world.bucket.get(&path, LIMIT).await.unwrap(), None);
    assert_eq!(world.bucket.head(&path).await.unwrap(), None);
    assert!(world.bucket.download(&path, None, 0).await.unwrap().is_none());
    let generation = world.create("server/web-1.json", "[]").await;
    assert!(generation > Generation(0));
    let object = world.bucket.get(&path, LIMIT).await.unwrap().unwrap();
    assert_eq!((object.generation, &object.content[..]), (generation, &b"[]"[..]));
    let info = world.bucket.head(&path).await.unwrap().unwrap();
    assert_eq!((info.generation, info.size, info.path), (generation, 2, path));
    assert!((bucket::Timestamp::now() - info.updated).abs().total(jiff::Unit::Hour).unwrap() < 1.0);
}

pub(crate) async fn an_empty_object_is_not_absent(world: World) {
    let generation = world.create("server/empty.json", "").await;
    let found = world.bucket.get(&at("server/empty.json"), LIMIT).await.unwrap();
    assert_eq!(found, Some(Object { generation, content: Bytes::new() }));
    let download = world.bucket.download(&at("server/empty.json"), None, 0).await.unwrap().unwrap();
    assert_eq!((download.generation, download.size), (generation, 0));
    assert!(drain(download).await.is_empty());
}

pub(crate) async fn a_second_create_is_refused_and_changes_nothing(world: World) {
    let path = at("debs/web/web.deb");
    let first = world.bucket.create(&path, "one".into(), &note("one")).await.unwrap();
    let second = world.bucket.create(&path, "two".into(), &note("two")).await;
    assert!(matches!(second, Err(Error::AlreadyExists { .. })), "{second:?}");
    let info = world.bucket.head(&path).await.unwrap().unwrap();
    assert_eq!((info.generation, info.metadata), (first, note("one")));
    assert_eq!(text(&world.bucket, "debs/web/web.deb").await.as_deref(), Some("one"));
}

pub(crate) async fn a_stale_generation_is_refused_and_changes_nothing(world: World) {
    let path = at("server/web-1.json");
    let first = world.create("server/web-1.json", "one").await;
    let second = world.bucket.replace(&path, "two".into(), &Metadata::new(), first).await.unwrap();
    assert!(second > first);
    let stale = world.bucket.replace(&path, "three".into(), &Metadata::new(), first).await;
    assert!(matches!(&stale, Err(Error::Conflict { expected, .. }) if *expected == first), "{stale:?}");
    assert_eq!(text(&world.bucket, "server/web-1.json").await.as_deref(), Some("two"));
    assert_eq!(world.bucket.head(&path).await.unwrap().unwrap().generation, second);
}

pub(crate) async fn an_absent_object_is_not_replaced(world: World) {
    let path = at("server/none.json");
    let answer = world.bucket.replace(&path, "x".into(), &Metadata::new(), Generation(7)).await;
    assert!(matches!(answer, Err(Error::Conflict { .. })), "{answer:?}");
    assert_eq!(world.bucket.head(&path).await.unwrap(), None);
}

pub(crate) async fn generations_grow_and_are_not_used_again_after_a_delete(world: World) {
    let path = at("status/web-1.json");
    let mut last = Generation(0);
    for _ in 0..20 {
        let created = world.create("status/web-1.json", "same").await;
        let replaced = world.bucket.replace(&path, "same".into(), &Metadata::new(), created).await.unwrap();
        assert!(last < created && created < replaced, "{last} {created} {replaced}");
        world.bucket.delete(&path, replaced).await.unwrap();
        last = replaced;
    }
}

pub(crate) async fn an_unchanged_object_is_not_read_again(world: World) {
    let path = at("server/web-1.json");
    let absent = world.bucket.get_if_changed(&path, Generation(1), LIMIT).await.unwrap();
    assert_eq!(absent, Fetched::Absent);
    let first = world.create("server/web-1.json", "one").await;
    assert_eq!(world.bucket.get_if_changed(&path, first, LIMIT).await.unwrap(), Fetched::Unchanged);
    // Not even when it is larger than may be read: nothing is read.
    assert_eq!(world.bucket.get_if_changed(&path, first, 1).await.unwrap(), Fetched::Unchanged);
    let second = world.bucket.replace(&path, "two".into(), &Metadata::new(), first).await.unwrap();
    let changed = world.bucket.get_if_changed(&path, first, LIMIT).await.unwrap();
    assert_eq!(changed, Fetched::Found(second, "two".into()));
}

pub(crate) async fn content_over_the_limit_is_not_read(world: World) {
    world.create("server/web-1.json", "four").await;
    let answer = world.bucket.get(&at("server/web-1.json"), 3).await;
    assert!(matches!(answer, Err(Error::TooLarge { size: 4, limit: 3, .. })), "{answer:?}");
    assert!(world.bucket.get(&at("server/web-1.json"), 4).await.unwrap().is_some());
}

pub(crate) async fn metadata_comes_back_and_belongs_to_its_generation(world: World) {
    let path = at("debs/web/web.deb");
    let metadata = Metadata::from([
        ("note".to_owned(), "fix \"login\"\nfür alle 🎉 \\ done".to_owned()),
        ("services".to_owned(), "web.service web.timer".to_owned()),
        ("branch".to_owned(), String::new()),
    ]);
    let first = world.bucket.create(&path, "one".into(), &metadata).await.unwrap();
    assert_eq!(world.bucket.head(&path).await.unwrap().unwrap().metadata, metadata);
    assert_eq!(world.bucket.list("debs/web/", None, 10).await.unwrap().items[0].metadata, metadata);
    let second = world.bucket.replace(&path, "two".into(), &note("two"), first).await.unwrap();
    assert_eq!(world.bucket.head(&path).await.unwrap().unwrap().metadata, note("two"));
    world.bucket.replace(&path, "three".into(), &Metadata::new(), second).await.unwrap();
    assert_eq!(world.bucket.head(&path).await.unwrap().unwrap().metadata, Metadata::new());
}

pub(crate) async fn a_listing_gives_what_begins_with_the_prefix_in_byte_order(world: World) {
    // `-` and `.` sort before `/`, `0` after it.
    let paths = ["a-b/x", "a.b", "a/b/c", "a/b/d", "a/b0", "a/bc", "a0", "b/x"];
    for path in paths.iter().rev() {
        world.create(path, path).await;
    }
    for prefix in ["", "a", "a/", "a/b", "a/b/", "a/b/c", "a/b/c/", "a-", "b", "c", "c/d/"] {
        let page = world.bucket.list(prefix, None, 100).await.unwrap();
        let found: Vec<&str> = page.items.iter().map(|info| info.path.as_str()).collect();
        let expected: Vec<&str> = paths.into_iter().filter(|path| path.starts_with(prefix)).collect();
        assert_eq!(found, expected, "prefix {prefix:?}");
        assert!(page.next.is_none());
        assert!(page.items.iter().all(|info| info.size == info.path.as_str().len() as u64));
    }
}

pub(crate) async fn a_listing_of_several_pages_gives_each_object_once(world: World) {
    let mut expected = Vec::new();
    for number in 0..25 {
        let path = format!("history/web-{}/{number:02}.json", number % 3);
        world.bucket.create(&at(&path), "{}".into(), &note(&path)).await.unwrap();
        expected.push(path);
    }
    expected.sort_unstable();
    for limit in [1, 2, 7, 24, 25, 26] {
        let listed: Vec<ObjectInfo> = items(async |after: Option<PageToken>| {
            let page = world.bucket.list("history/", after.as_ref(), limit).await?;
            assert!(page.items.len() <= limit as usize);
            Ok(page)
        })
        .try_collect()
        .await
        .unwrap();
        assert!(listed.iter().all(|info| info.metadata == note(info.path.as_str())));
        let found: Vec<String> = listed.iter().map(|info| info.path.to_string()).collect();
        assert_eq!(found, expected, "{limit} on a page");
    }
}

pub(crate) async fn directories_are_listed_in_pages_and_only_with_objects_in_them(world: World) {
    for path in ["debs/web/1", "debs/web/2", "debs/web-api/1", "debs/db/x/1", "debs/stray", "other/1"] {
        world.create(path, "").await;
    }
    let gone = world.create("debs/gone/1", "").await;
    world.bucket.delete(&at("debs/gone/1"), gone).await.unwrap();
    for limit in [1, 2, 100] {
        let found: Vec<String> = items(async |after: Option<PageToken>| {
            let page = world.bucket.list_directories("debs/", after.as_ref(), limit).await?;
            assert!(page.items.len() <= limit as usize);
            Ok(page)
        })
        .try_collect()
        .await
        .unwrap();
        // In the order of the paths: `web-api/` before `web/`.
        assert_eq!(found, ["db", "web-api", "web"], "{limit} on a page");
    }
    assert!(world.bucket.list_directories("none/", None, 10).await.unwrap().items.is_empty());
}

pub(crate) async fn names_with_colons_and_other_signs_are_kept(world: World) {
    let commit = "7e0ff6059e653eb75a36efb621d0fd66d1ced433";
    let paths = [
        format!("debs/g++~x/g++~x:ana_b@ws-1.lan:2026-11-20T19:05:02Z:{commit}.deb"),
        "server/per%2fcent %41.json".to_owned(),
        "server/a?b#c&d=e;f.json".to_owned(),
        "server/münchen-東京.json".to_owned(),
        "server/'quoted\" [x]*{y}.json".to_owned(),
    ];
    for path in &paths {
        world.create(path, path).await;
    }
    for path in &paths {
        assert_eq!(text(&world.bucket, path).await.as_ref(), Some(path));
        assert_eq!(world.bucket.head(&at(path)).await.unwrap().unwrap().path.as_str(), path);
        let listed = world.bucket.list(path, None, 10).await.unwrap().items;
        assert_eq!(listed.iter().map(|info| info.path.as_str()).collect::<Vec<_>>(), [path]);
        let download = world.bucket.download(&at(path), None, 0).await.unwrap().unwrap();
        assert_eq!(drain(download).await, path.as_bytes());
    }
    assert_eq!(world.bucket.list("", None, 100).await.unwrap().items.len(), paths.len());
}

pub(crate) async fn a_delete_wants_the_generation_and_is_done_once(world: World) {
    let path = at("status/web-1.json");
    world.bucket.delete(&path, Generation(1)).await.unwrap();
    let first = world.create("status/web-1.json", "one").await;
    let second = world.bucket.replace(&path, "two".into(), &Metadata::new(), first).await.unwrap();
    let stale = world.bucket.delete(&path, first).await;
    assert!(matches!(stale, Err(Error::Conflict { .. })), "{stale:?}");
    assert_eq!(text(&world.bucket, "status/web-1.json").await.as_deref(), Some("two"));
    world.bucket.delete(&path, second).await.unwrap();
    assert_eq!(text(&world.bucket, "status/web-1.json").await, None);
    world.bucket.delete(&path, second).await.unwrap();
}

pub(crate) async fn an_upload_from_a_file_tells_its_progress_and_never_overwrites(world: World) {
    let file = world.scratch.path().join("web.deb");
    // Small ones and large ones go different ways.
    for size in [0_usize, 100, 5 << 20] {
        let content: Vec<u8> = (0..size).map(|n| u8::try_from(n % 251).unwrap()).collect();
        std::fs::write(&file, &content).unwrap();
        let path = at(&format!("debs/web/{size}"));
        let told = Mutex::new(Vec::new());
        let progress = |sent| told.lock().unwrap().push(sent);
        let generation = world.bucket.create_from_file(&path, &file, &note("why"), &progress).await.unwrap();
        let told = told.into_inner().unwrap();
        assert!(told.is_sorted(), "{told:?}");
        assert_eq!(told.last().copied().unwrap_or(0), size as u64);
        let info = world.bucket.head(&path).await.unwrap().unwrap();
        assert_eq!((info.generation, info.size, info.metadata), (generation, size as u64, note("why")));
        let download = world.bucket.download(&path, Some(generation), 0).await.unwrap().unwrap();
        assert!(drain(download).await == content);
        let again = world.bucket.create_from_file(&path, &file, &note("again"), &|_| {}).await;
        assert!(matches!(again, Err(Error::AlreadyExists { .. })), "{again:?}");
        assert_eq!(world.bucket.head(&path).await.unwrap().unwrap().generation, generation);
    }
}

pub(crate) async fn a_download_begins_at_any_byte(world: World) {
    let generation = world.create("debs/web/x", "0123456789").await;
    for (offset, rest) in [(0, "0123456789"), (1, "123456789"), (9, "9"), (10, "")] {
        let download = world.bucket.download(&at("debs/web/x"), Some(generation), offset).await.unwrap().unwrap();
        assert_eq!((download.generation, download.size), (generation, 10));
        assert_eq!(drain(download).await, rest.as_bytes(), "from byte {offset}");
    }
    let beyond = world.bucket.download(&at("debs/web/x"), Some(generation), 11).await;
    assert!(matches!(beyond, Err(Error::Unavailable { .. })), "{beyond:?}");
}

pub(crate) async fn a_download_stays_with_its_generation(world: World) {
    let path = at("debs/web/x");
    let first = world.create("debs/web/x", "first").await;
    let before = world.bucket.download(&path, None, 0).await.unwrap().unwrap();
    let second = world.bucket.replace(&path, "second".into(), &Metadata::new(), first).await.unwrap();
    // Begun before it was replaced: all of the old.
    assert_eq!((before.generation, drain(before).await), (first, b"first".to_vec()));
    for offset in [0, 2] {
        let pinned = world.bucket.download(&path, Some(first), offset).await;
        assert!(matches!(pinned, Err(Error::Gone { .. })), "{pinned:?}");
    }
    let now = world.bucket.download(&path, Some(second), 2).await.unwrap().unwrap();
    assert_eq!(drain(now).await, b"cond");
    world.bucket.delete(&path, second).await.unwrap();
    let pinned = world.bucket.download(&path, Some(second), 0).await;
    assert!(matches!(pinned, Err(Error::Gone { .. })), "{pinned:?}");
}

pub(crate) async fn a_large_object_goes_through_in_flat_memory(world: World) {
    const MIB: usize = 1 << 20;
    let large = world.scratch.path().join("large");
    let mut file = File::create(&large).unwrap();
    let mut hash = Sha256::new();
    for number in 0..64_u8 {
        let block: Vec<u8> = (0..MIB).map(|n| number ^ u8::try_from(n % 253).unwrap()).collect();
        file.write_all(&block).unwrap();
        hash.update(&block);
    }
    world.bucket.create_from_file(&at("debs/web/a"), &large, &Metadata::new(), &|_| {}).await.unwrap();
    let copy = world.scratch.path().join("copy");
    let mut client = world.client(&["copy", "debs/web/a", "debs/web/b", copy.to_str().unwrap()]);
    let output = tokio::task::spawn_blocking(move || client.output()).await.unwrap().unwrap();
    assert!(output.status.success(), "{output:?}");
    let grown: u64 = String::from_utf8(output.stdout).unwrap().trim().parse().unwrap();
    assert!(grown < 16 << 10, "memory grew by {grown} KiB for 64 MiB down and up again");
    assert_eq!(Sha256::digest(std::fs::read(&copy).unwrap()), hash.finalize());
    let copied = world.bucket.head(&at("debs/web/b")).await.unwrap().unwrap();
    assert_eq!(copied.size, 64 * MIB as u64);
}

pub(crate) async fn two_processes_race_and_nothing_is_lost(world: World) {
    world.create("server/number.json", "0").await;
    let spawn = || world.client(&["count", "server/number.json", "100"]).spawn().unwrap();
    let writers = [spawn(), spawn()];
    for writer in writers {
        let output = tokio::task::spawn_blocking(move || writer.wait_with_output()).await.unwrap().unwrap();
        assert!(output.status.success(), "{output:?}");
    }
    assert_eq!(text(&world.bucket, "server/number.json").await.as_deref(), Some("200"));
}

/// Two tasks of one process may share what keeps two processes apart.
pub(crate) async fn two_tasks_race_and_nothing_is_lost(world: World) {
    world.create("server/number.json", "0").await;
    let count = |bucket: Bucket| async move {
        let path = at("server/number.json");
        let mut done = 0;
        while done < 200 {
            let object = bucket.get(&path, LIMIT).await.unwrap().unwrap();
            let number: u32 = std::str::from_utf8(&object.content).unwrap().parse().expect("a whole number");
            let next = (number + 1).to_string().into();
            match bucket.replace(&path, next, &Metadata::new(), object.generation).await {
                Ok(_) => done += 1,
                Err(Error::Conflict { .. }) => {}
                Err(error) => panic!("{error}"),
            }
        }
    };
    let writers = [tokio::spawn(count(world.bucket.clone())), tokio::spawn(count(world.bucket.clone()))];
    for writer in writers {
        writer.await.unwrap();
    }
    assert_eq!(text(&world.bucket, "server/number.json").await.as_deref(), Some("400"));
}

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
        agent: AgentStatus { version: "1".to_owned(), started: time, poll_seconds: 300, heartbeat_seconds: 900 },
        document: DocumentStatus { generation: Some(Generation(7)), error: None, bad_entries: Vec::new() },
        apps: Vec::new(),
    }
}

fn history(day: u32, id: &str) -> HistoryEntry {
    HistoryEntry {
        time: release(day).time(),
        id: id.to_owned(),
        server: server(),
        app: "web".parse().unwrap(),
        from: None,
        to: release(day),
        kind: PushKind::Deploy,
        who: "dev@build-1".to_owned(),
        why: String::new(),
        generation: Generation(7),
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

    let metadata = ReleaseMetadata {
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
    };
    let deb = world.scratch.path().join("web.deb");
    std::fs::write(&deb, "deb").unwrap();
    for day in [20, 22, 21] {
        bucket.upload_release(&release(day), &deb, &metadata, &|_| {}).await.unwrap();
    }
    let newest = bucket.newest_releases(&"web".parse().unwrap(), 2).await.unwrap();
    assert_eq!(newest.iter().map(|release| release.name.clone()).collect::<Vec<_>>(), [release(22), release(21)]);
    assert_eq!(newest[0].metadata.as_ref(), Ok(&metadata));
    assert_eq!(bucket.release(&release(20)).await.unwrap().unwrap().metadata, Ok(metadata));
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
