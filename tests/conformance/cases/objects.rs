//! One object: created, read, replaced, deleted, sent and downloaded.

use std::{fs::File, io::Write, sync::Mutex};

use bucket::{Bucket, Error, Fetched, Generation, Metadata, Object, SourceFile};
use bytes::Bytes;
use sha2::{Digest, Sha256};

use crate::world::{LIMIT, World, at, drain, note, text};

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
    assert_eq!(found, Some(Object { generation, content: Bytes::new(), metadata: Metadata::new() }));
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
    let two = Object { generation: second, content: "two".into(), metadata: Metadata::new() };
    assert_eq!(changed, Fetched::Found(second, two));
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
        let generation = world
            .bucket
            .create_from_file(&path, &SourceFile::read(&file).unwrap(), &note("why"), &progress)
            .await
            .unwrap();
        let told = told.into_inner().unwrap();
        assert!(told.is_sorted(), "{told:?}");
        assert_eq!(told.last().copied().unwrap_or(0), size as u64);
        let info = world.bucket.head(&path).await.unwrap().unwrap();
        assert_eq!((info.generation, info.size, info.metadata), (generation, size as u64, note("why")));
        let download = world.bucket.download(&path, Some(generation), 0).await.unwrap().unwrap();
        assert!(drain(download).await == content);
        let again =
            world.bucket.create_from_file(&path, &SourceFile::read(&file).unwrap(), &note("again"), &|_| {}).await;
        assert!(matches!(again, Err(Error::AlreadyExists { .. })), "{again:?}");
        assert_eq!(world.bucket.head(&path).await.unwrap().unwrap().generation, generation);
    }
}

pub(crate) async fn a_file_that_changed_since_it_was_read_is_never_published(world: World) {
    let file = world.scratch.path().join("web.deb");
    for size in [100_usize, 5 << 20] {
        let content: Vec<u8> = (0..size).map(|n| u8::try_from(n % 251).unwrap()).collect();
        let mut other = content.clone();
        *other.last_mut().unwrap() ^= 1;
        let changes = [other, content[..size - 1].to_vec(), [&content[..], b"more"].concat()];
        for (number, changed) in changes.into_iter().enumerate() {
            let path = at(&format!("debs/web/{size}-{number}"));
            std::fs::write(&file, &content).unwrap();
            let source = SourceFile::read(&file).unwrap();
            std::fs::write(&file, changed).unwrap();
            let answer = world.bucket.create_from_file(&path, &source, &note("why"), &|_| {}).await;
            let Err(Error::Unavailable { reason, .. }) = answer else { panic!("{size}, {number}: {answer:?}") };
            assert!(reason.contains("changed while it was being uploaded"), "{reason}");
            assert_eq!(world.bucket.head(&path).await.unwrap(), None, "{size}, {number}");
            // The same name is free for the file as it is now.
            let source = SourceFile::read(&file).unwrap();
            world.bucket.create_from_file(&path, &source, &note("why"), &|_| {}).await.unwrap();
        }
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

pub(crate) async fn a_copy_has_the_content_and_metadata_of_its_own(world: World) {
    for size in [0_usize, 100, 5 << 20] {
        let content: Bytes = (0..size).map(|n| u8::try_from(n % 251).unwrap()).collect();
        let (from, to) = (at(&format!("candidates/web/12/{size}.deb")), at(&format!("debs/web/{size}.deb")));
        let first = world.bucket.create(&from, content.clone(), &note("candidate")).await.unwrap();
        let copy = world.bucket.copy(&from, first, &to, &note("release: für alle")).await.unwrap();
        assert!(copy != first, "each has a generation of its own");
        let info = world.bucket.head(&to).await.unwrap().unwrap();
        assert_eq!((info.generation, info.size, info.metadata), (copy, size as u64, note("release: für alle")));
        assert!(drain(world.bucket.download(&to, Some(copy), 0).await.unwrap().unwrap()).await == content);
        let source = world.bucket.head(&from).await.unwrap().unwrap();
        assert_eq!((source.generation, source.metadata), (first, note("candidate")), "what was copied is as it was");
        // Neither is the other: what becomes of one is nothing to the other.
        world.bucket.replace(&from, "other".into(), &Metadata::new(), first).await.unwrap();
        assert_eq!(world.bucket.head(&to).await.unwrap().unwrap().generation, copy);
        assert!(drain(world.bucket.download(&to, Some(copy), 0).await.unwrap().unwrap()).await == content);
    }
}

pub(crate) async fn a_copy_never_overwrites_and_wants_the_generation(world: World) {
    let (from, to) = (at("candidates/web/12/web.deb"), at("debs/web/web.deb"));
    let absent = world.bucket.copy(&from, Generation(7), &to, &Metadata::new()).await;
    assert!(matches!(&absent, Err(Error::Gone { object }) if object == from.as_str()), "{absent:?}");
    let first = world.bucket.create(&from, "one".into(), &Metadata::new()).await.unwrap();
    let second = world.bucket.replace(&from, "two".into(), &Metadata::new(), first).await.unwrap();
    let stale = world.bucket.copy(&from, first, &to, &Metadata::new()).await;
    assert!(matches!(&stale, Err(Error::Gone { object }) if object == from.as_str()), "{stale:?}");
    assert_eq!(world.bucket.head(&to).await.unwrap(), None, "nothing was written");

    let copy = world.bucket.copy(&from, second, &to, &note("two")).await.unwrap();
    // Also where the source is another one by now: what is there is the answer.
    for seen in [second, first] {
        let again = world.bucket.copy(&from, seen, &to, &note("again")).await;
        assert!(matches!(&again, Err(Error::AlreadyExists { object }) if object == to.as_str()), "{again:?}");
    }
    let info = world.bucket.head(&to).await.unwrap().unwrap();
    assert_eq!((info.generation, info.metadata), (copy, note("two")));
    assert_eq!(text(&world.bucket, "debs/web/web.deb").await.as_deref(), Some("two"));
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
    world
        .bucket
        .create_from_file(&at("debs/web/a"), &SourceFile::read(&large).unwrap(), &Metadata::new(), &|_| {})
        .await
        .unwrap();
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
