//! What only a directory can suffer: writers that are killed, people who may read but not write, and that it goes away.

use std::{os::unix::fs::PermissionsExt, process::Stdio};

use bucket::{Bucket, BucketOptions, BucketUrl, Error, Generation, Metadata};

use crate::world::{CLIENT, World, at, open};

/// A user who owns nothing, on every Debian.
const NOBODY: u32 = 65534;

#[tokio::test]
async fn killed_writers_leave_whole_objects_and_a_free_lock() {
    let world = World::file().await;
    world.create("server/number.json", "0").await;
    let mut last = (bucket::Generation(0), 0);
    for _ in 0..30 {
        let mut writer = world.client(&["count", "server/number.json", "1000000"]).spawn().unwrap();
        // Killed as soon as it has written: somewhere in the middle of its next write.
        let now = loop {
            let object = world.bucket.get(&at("server/number.json"), 100).await.unwrap().unwrap();
            let number: u32 = std::str::from_utf8(&object.content).unwrap().parse().expect("a whole number");
            if object.generation > last.0 && number > last.1 {
                break (object.generation, number);
            }
            tokio::task::yield_now().await;
        };
        writer.kill().unwrap();
        writer.wait().unwrap();
        last = now;
    }
    let object = world.bucket.get(&at("server/number.json"), 100).await.unwrap().unwrap();
    assert!(object.generation >= last.0);
    world.bucket.replace(&at("server/number.json"), "done".into(), &Metadata::new(), object.generation).await.unwrap();
    let listed = world.bucket.list("", None, 10).await.unwrap().items;
    assert_eq!(listed.iter().map(|info| info.path.as_str()).collect::<Vec<_>>(), ["server/number.json"]);
}

#[tokio::test]
async fn metadata_is_never_read_with_another_generation() {
    let world = World::file().await;
    let path = at("debs/web/x");
    let metadata = |n: u32| Metadata::from([("n".to_owned(), n.to_string())]);
    let mut generation = world.bucket.create(&path, "".into(), &metadata(0)).await.unwrap();
    let other: Bucket = world.bucket.clone();
    let reader = tokio::spawn(async move {
        let mut last = (bucket::Generation(0), 0);
        while last.1 < 200 {
            let info = other.head(&at("debs/web/x")).await.unwrap().unwrap();
            let number: u32 = info.metadata.get("n").expect("never without its metadata").parse().unwrap();
            assert!(info.size == u64::from(number), "metadata {number} with content {}", info.size);
            assert!(info.generation >= last.0 && number >= last.1);
            last = (info.generation, number);
        }
    });
    for number in 1..=200 {
        let content = "x".repeat(number as usize);
        generation = world.bucket.replace(&path, content.into(), &metadata(number), generation).await.unwrap();
    }
    reader.await.unwrap();
}

#[tokio::test]
async fn who_may_not_write_is_told_so_and_may_read() {
    let world = World::file().await;
    world.create("server/number.json", "0").await;
    let directory = world.scratch.path().join("bucket");
    if rustix::process::geteuid().is_root() {
        // Permissions don't bind root: somebody else tries.
        for path in [world.scratch.path(), &directory] {
            std::fs::set_permissions(path, PermissionsExt::from_mode(0o755)).unwrap();
        }
        // Who may not be let in where the program was built.
        let program = world.scratch.path().join("client");
        std::fs::copy(CLIENT, &program).unwrap();
        let mut client = world.client_at(&program, &["count", "server/number.json", "1"]);
        std::os::unix::process::CommandExt::uid(&mut client, NOBODY);
        let output = client.current_dir("/").stderr(Stdio::piped()).output().unwrap();
        let words = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success());
        assert!(words.contains("not allowed to write `server/number.json`"), "{words}");
    } else {
        for path in [".push", ".push/tmp", ".push/lock"] {
            std::fs::set_permissions(directory.join(path), PermissionsExt::from_mode(0o555)).unwrap();
        }
        let answer = world.bucket.create(&at("server/new.json"), "".into(), &Metadata::new()).await;
        assert!(matches!(answer, Err(Error::Forbidden { .. })), "{answer:?}");
    }
    assert!(world.bucket.get(&at("server/number.json"), 100).await.unwrap().is_some());
}

#[tokio::test]
async fn a_group_that_shares_a_bucket_goes_on_sharing_it() {
    let world = World::file().await;
    let directory = world.scratch.path().join("bucket");
    std::fs::set_permissions(&directory, PermissionsExt::from_mode(0o2775)).unwrap();
    let shared = open(&format!("file://{}", directory.display()), None).await;
    shared.create(&at("debs/web/x"), "".into(), &Metadata::from([("a".into(), "b".into())])).await.unwrap();
    for made in [".push", ".push/tmp", ".push/lock", ".push/meta/debs/web/x", "debs", "debs/web"] {
        let mode = std::fs::metadata(directory.join(made)).unwrap().permissions().mode();
        assert_eq!(mode & 0o020, 0o020, "{made} has mode {mode:o}");
    }
}

#[tokio::test]
async fn a_prefix_that_climbs_out_finds_nothing() {
    let world = World::file().await;
    std::fs::write(world.scratch.path().join("secret"), "").unwrap();
    world.create("server/web-1.json", "[]").await;
    for prefix in ["../", "..", "server/../../", "/", "//", "/etc/", ".push/", ".push/meta/", "./", "server/./"] {
        let page = world.bucket.list(prefix, None, 10).await;
        assert!(page.as_ref().is_ok_and(|page| page.items.is_empty()), "{prefix}: {page:?}");
    }
}

/// As when a share is unmounted: nobody may conclude that all objects were deleted, or write below the mount point.
#[tokio::test]
async fn a_directory_that_is_gone_is_not_an_empty_bucket() {
    let world = World::file().await;
    let (bucket, path) = (&world.bucket, at("debs/web/x"));
    let seen = world.create("debs/web/x", "").await;
    let directory = world.scratch.path().join("bucket");
    let source = world.scratch.path().join("source");
    std::fs::write(&source, "deb").unwrap();
    for something_else in [false, true] {
        if something_else {
            std::fs::write(&directory, "a file").unwrap();
        } else {
            std::fs::remove_dir_all(&directory).unwrap();
        }
        let answers = [
            ("get", bucket.get(&path, 100).await.map(drop)),
            ("poll", bucket.get_if_changed(&path, seen, 100).await.map(drop)),
            ("head", bucket.head(&path).await.map(drop)),
            ("list", bucket.list("debs/", None, 10).await.map(drop)),
            ("list of all", bucket.list("", None, 10).await.map(drop)),
            ("list_directories", bucket.list_directories("debs/", None, 10).await.map(drop)),
            ("create", bucket.create(&path, "".into(), &Metadata::new()).await.map(drop)),
            (
                "upload",
                bucket
                    .create_from_file(&path, &bucket::SourceFile::read(&source).unwrap(), &Metadata::new(), &|_| {})
                    .await
                    .map(drop),
            ),
            ("replace", bucket.replace(&path, "".into(), &Metadata::new(), seen).await.map(drop)),
            ("delete", bucket.delete(&path, seen).await),
            ("download", bucket.download(&path, None, 0).await.map(drop)),
            ("pinned download", bucket.download(&path, Some(Generation(1)), 0).await.map(drop)),
        ];
        for (verb, answer) in answers {
            assert!(matches!(answer, Err(Error::Unavailable { .. })), "{verb}, {something_else}: {answer:?}");
        }
        assert!(!directory.is_dir(), "it was made anew");
        let url: BucketUrl = format!("file://{}", directory.display()).parse().unwrap();
        let opened = Bucket::open(&url, &BucketOptions::default()).await;
        assert!(matches!(opened, Err(Error::Unusable { .. })), "{opened:?}");
    }
}
