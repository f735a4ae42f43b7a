//! What only a directory can have: people, links and dying writers.

use std::{
    path::Path,
    time::{Duration, SystemTime},
};

use super::FileBucket;
use crate::{Bucket, Error, Fetched, Metadata, ObjectPath, SimulatedMachine};

async fn bucket() -> (tempfile::TempDir, FileBucket) {
    let directory = tempfile::tempdir().unwrap();
    let bucket = FileBucket::open(directory.path(), false).await.unwrap();
    (directory, bucket)
}

fn at(path: &str) -> ObjectPath {
    path.parse().unwrap()
}

#[tokio::test]
async fn what_a_person_edits_is_a_new_generation() {
    let (directory, bucket) = bucket().await;
    let path = at("server/web-1.json");
    let first = bucket.create(&path, "[]".into(), &Metadata::new()).await.unwrap();
    std::fs::write(directory.path().join(path.as_str()), "[ ]").unwrap();
    let Fetched::Found(second, object) = bucket.get_if_changed(&path, first, 100).await.unwrap() else {
        panic!("the edit wasn't seen");
    };
    assert_eq!((second > first, &object.content[..]), (true, &b"[ ]"[..]));
    let stale = bucket.replace(&path, "[]".into(), &Metadata::new(), first).await;
    assert!(matches!(stale, Err(Error::Conflict { .. })), "{stale:?}");
}

#[tokio::test]
async fn metadata_of_a_writer_that_died_is_not_read() {
    let (directory, bucket) = bucket().await;
    let path = at("debs/web/x.deb");
    let metadata = |note: &str| Metadata::from([("note".to_owned(), note.to_owned())]);
    let first = bucket.create(&path, "one".into(), &metadata("one")).await.unwrap();
    // What a writer leaves that dies after its metadata and before its content was renamed into place.
    let meta = directory.path().join(".push/meta").join(path.as_str());
    std::fs::write(meta.join((first.0 + 1000).to_string()), r#"{"note":"never"}"#).unwrap();
    assert_eq!(bucket.head(&path).await.unwrap().unwrap().metadata, metadata("one"));
    bucket.replace(&path, "two".into(), &metadata("two"), first).await.unwrap();
    assert_eq!(bucket.head(&path).await.unwrap().unwrap().metadata, metadata("two"));
    assert_eq!(std::fs::read_dir(&meta).unwrap().count(), 1);
}

#[tokio::test]
async fn what_killed_writers_left_is_cleared_away_a_day_later_by_whoever_writes_next() {
    let (directory, bucket) = bucket().await;
    bucket.create(&at("debs/web/a.deb"), "a".into(), &Metadata::new()).await.unwrap();
    let temporary = directory.path().join(".push/tmp");
    for (name, hours) in [("old", 25), ("new", 23)] {
        let file = std::fs::File::create(temporary.join(name)).unwrap();
        file.set_modified(SystemTime::now() - Duration::from_hours(hours)).unwrap();
    }
    bucket.create(&at("debs/web/b.deb"), "b".into(), &Metadata::new()).await.unwrap();
    let left: Vec<_> = std::fs::read_dir(&temporary).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["new"]);
}

#[tokio::test]
async fn unreadable_metadata_hides_no_other_object() {
    let (directory, bucket) = bucket().await;
    let metadata = Metadata::from([("note".to_owned(), "one".to_owned())]);
    let mut generations = Vec::new();
    for name in ["debs/web/a.deb", "debs/web/b.deb"] {
        generations.push(bucket.create(&at(name), "x".into(), &metadata).await.unwrap());
    }
    let broken = directory.path().join(format!(".push/meta/debs/web/a.deb/{}", generations[0]));
    std::fs::write(broken, "{").unwrap();
    let listed = bucket.list("debs/", None, 10).await.unwrap().items;
    let notes: Vec<_> = listed.iter().map(|info| info.metadata.get("note").map(String::as_str)).collect();
    assert_eq!(notes, [None, Some("one")]);
    assert_eq!((listed[0].generation, listed[0].size), (generations[0], 1));
    let alone = bucket.head(&at("debs/web/a.deb")).await;
    assert!(matches!(alone, Err(Error::Malformed { .. })), "{alone:?}");
    assert_eq!(bucket.list_directories("debs/", None, 10).await.unwrap().items, ["web"]);
}

#[tokio::test]
async fn a_symbolic_link_is_not_an_object() {
    let (directory, bucket) = bucket().await;
    std::os::unix::fs::symlink("/etc", directory.path().join("server")).unwrap();
    std::os::unix::fs::symlink("/etc/passwd", directory.path().join("link")).unwrap();
    assert_eq!(bucket.head(&at("server/passwd")).await.unwrap(), None);
    assert_eq!(bucket.head(&at("link")).await.unwrap(), None);
    assert!(bucket.create(&at("server/new"), "x".into(), &Metadata::new()).await.is_err());
    assert!(!Path::new("/etc/new").exists());
}

#[tokio::test]
async fn a_directory_that_went_away_is_not_an_empty_bucket() {
    let (directory, bucket) = bucket().await;
    drop(directory);
    let answer = bucket.head(&at("server/web-1.json")).await;
    assert!(matches!(answer, Err(Error::Unavailable { .. })), "{answer:?}");
}

#[tokio::test]
async fn a_directory_without_a_marker_is_not_a_bucket_for_those_who_need_one() {
    let directory = tempfile::tempdir().unwrap();
    let (path, none) = (at("status/web-1.json"), Metadata::new());
    let [anyone, agent] = [false, true].map(|needs_marker| FileBucket::open(directory.path(), needs_marker));
    let (anyone, agent) = (anyone.await.unwrap(), agent.await.unwrap());
    assert_eq!(anyone.head(&path).await.unwrap(), None, "there is nothing, without an error");
    for refused in [agent.head(&path).await.map(drop), agent.create(&path, "{}".into(), &none).await.map(drop)] {
        let Err(Error::Unavailable { reason, .. }) = refused else { panic!("{refused:?}") };
        assert!(reason.contains("no file `push-bucket`") && reason.contains("mount the share"), "{reason}");
    }
    assert!(agent.mark().await.is_err());
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0, "nothing was written");

    let new = anyone.mark().await.unwrap().expect("it is a new bucket");
    assert!(new.to_string().contains("marked by the file `push-bucket`"), "{new}");
    assert_eq!(anyone.mark().await.unwrap(), None, "it is one already");
    agent.create(&path, "{}".into(), &none).await.unwrap();
    assert!(agent.head(&path).await.unwrap().is_some());
}

#[tokio::test]
async fn a_bucket_from_before_there_were_markers_is_one() {
    for holds in ["debs", "server"] {
        let directory = tempfile::tempdir().unwrap();
        std::fs::create_dir(directory.path().join(holds)).unwrap();
        let bucket = FileBucket::open(directory.path(), true).await.unwrap();
        assert_eq!(bucket.head(&at("server/web-1.json")).await.unwrap(), None, "{holds}");
        assert!(bucket.is_marked().await.unwrap());
    }
    for (holds, is_directory) in [("status", true), (".push", true), ("debs", false), ("push-bucket", true)] {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(holds);
        if is_directory {
            std::fs::create_dir(path).unwrap();
        } else {
            std::fs::write(path, "").unwrap();
        }
        let bucket = FileBucket::open(directory.path(), true).await.unwrap();
        assert!(!bucket.is_marked().await.unwrap(), "{holds}");
    }
}

#[tokio::test]
async fn of_many_who_mark_a_bucket_at_once_one_says_so() {
    let directory = tempfile::tempdir().unwrap();
    let bucket = FileBucket::open(directory.path(), false).await.unwrap();
    let marking = (0..20).map(|_| {
        tokio::spawn({
            let bucket = bucket.clone();
            async move { bucket.mark().await.unwrap() }
        })
    });
    let mut said = 0;
    for marked in marking.collect::<Vec<_>>() {
        said += usize::from(marked.await.unwrap().is_some());
    }
    assert_eq!(said, 1);
}

#[tokio::test]
async fn a_file_from_the_future_is_named_and_refused_and_all_else_goes_on() {
    let (directory, bucket) = bucket().await;
    let (path, other) = (at("server/web-1.json"), at("server/web-2.json"));
    let none = Metadata::new();
    let before = bucket.create(&other, "[]".into(), &none).await.unwrap();
    // 2040, and the last second that ext4 knows.
    for second in [2_208_988_800, 15_032_385_535] {
        let time = std::time::UNIX_EPOCH + std::time::Duration::from_secs(second);
        let file = std::fs::File::create(directory.path().join(path.as_str())).unwrap();
        file.set_modified(time).unwrap();
        let refused = [
            bucket.get(&path, 100).await.map(drop),
            bucket.head(&path).await.map(drop),
            bucket
                .replace(&path, "[]".into(), &none, crate::Generation(i64::try_from(second).unwrap() * 1_000_000))
                .await
                .map(drop),
            bucket.create(&path, "[]".into(), &none).await.map(drop),
        ];
        for refused in refused {
            let said = refused.unwrap_err().to_string();
            assert!(said.contains("`server/web-1.json`") && said.contains("touch server/web-1.json"), "{said}");
        }
        let listed = bucket.list("server/", None, 10).await.unwrap().items;
        assert_eq!(listed.iter().map(|info| &info.path).collect::<Vec<_>>(), [&path, &other], "it isn't absent");
    }
    let seen = bucket.head(&other).await.unwrap().unwrap().generation;
    let after = bucket.replace(&other, "[ ]".into(), &none, seen).await.unwrap();
    let hour = 3_600_000_000;
    assert!((before.0 + 1..before.0 + hour).contains(&after.0), "{before} and then {after}");
    // What the message says helps.
    std::fs::File::create(directory.path().join(path.as_str())).unwrap();
    let seen = bucket.head(&path).await.unwrap().unwrap().generation;
    bucket.replace(&path, "[]".into(), &none, seen).await.unwrap();
}

#[tokio::test]
async fn generations_of_a_writer_whose_clock_was_ahead_are_read_and_go_on() {
    let (directory, bucket) = bucket().await;
    let (path, none) = (at("server/web-1.json"), Metadata::new());
    bucket.create(&path, "[]".into(), &none).await.unwrap();
    let time = std::time::SystemTime::from("2040-01-01T00:00:00Z".parse::<jiff::Timestamp>().unwrap());
    for file in [".push/lock", path.as_str()] {
        std::fs::File::options().write(true).open(directory.path().join(file)).unwrap().set_modified(time).unwrap();
    }
    let seen = bucket.head(&path).await.unwrap().unwrap().generation;
    assert!(bucket.replace(&path, "[ ]".into(), &none, seen).await.unwrap() > seen);
    assert!(bucket.get(&path, 100).await.unwrap().is_some());
}

#[tokio::test]
async fn a_machine_whose_clock_is_off_goes_by_that_of_the_file_system() {
    let directory = tempfile::tempdir().unwrap();
    let (start, hour): (jiff::Timestamp, _) =
        ("2026-01-01T00:00:00Z".parse().unwrap(), jiff::SignedDuration::from_hours(1));
    let machine = SimulatedMachine::new(start);
    let bucket = Bucket::open_simulated(directory.path(), &machine).await.unwrap();
    bucket.create(&at("server/web-1.json"), "[]".into(), &Metadata::new()).await.unwrap();
    for ahead in [hour, -hour] {
        let other = Bucket::open_simulated(directory.path(), &machine.another(ahead)).await.unwrap();
        assert_eq!(other.now(), start + ahead, "nothing was asked yet");
        other.list("server/", None, 10).await.unwrap();
        assert_eq!((other.now(), other.clock_offset()), (start, -ahead));
        let path = at(&format!("server/web{}.json", ahead.as_secs()));
        let written = other.create(&path, "[]".into(), &Metadata::new()).await.unwrap();
        let after = written.0 - start.as_microsecond();
        assert!((0..1000).contains(&after), "it was dated {after} microseconds later");
    }
}

#[tokio::test]
async fn a_copy_is_a_file_of_its_own_and_a_link_is_never_copied() {
    let (directory, bucket) = bucket().await;
    let (from, to) = (at("candidates/web/12/web.deb"), at("debs/web/web.deb"));
    let generation = bucket.create(&from, "deb".into(), &Metadata::new()).await.unwrap();
    bucket.copy(&from, generation, &to, &Metadata::new()).await.unwrap();
    let inode = |path: &ObjectPath| {
        let found = std::fs::metadata(directory.path().join(path.as_str())).unwrap();
        (std::os::unix::fs::MetadataExt::ino(&found), found.modified().unwrap())
    };
    let ((one, its_time), (other, other_time)) = (inode(&from), inode(&to));
    assert!(one != other && its_time != other_time, "two names of one file would share its generation");

    let link = at("candidates/web/12/link.deb");
    std::os::unix::fs::symlink("/etc/passwd", directory.path().join(link.as_str())).unwrap();
    let refused = bucket.copy(&link, generation, &at("debs/web/passwd.deb"), &Metadata::new()).await;
    assert!(matches!(refused, Err(Error::Gone { .. })), "{refused:?}");
    assert!(!directory.path().join("debs/web/passwd.deb").exists());
}

#[tokio::test]
async fn a_machine_that_has_died_copies_nothing_and_a_copy_is_one_write() {
    let directory = tempfile::tempdir().unwrap();
    let machine = SimulatedMachine::new("2026-01-01T00:00:00Z".parse().unwrap());
    let bucket = Bucket::open_simulated(directory.path(), &machine).await.unwrap();
    let from = at("candidates/web/12/web.deb");
    let generation = bucket.create(&from, "deb".into(), &Metadata::new()).await.unwrap();
    machine.dies_after(1);
    let copied = bucket.copy(&from, generation, &at("debs/web/1.deb"), &Metadata::new()).await.unwrap();
    assert!(copied > generation, "dated by the clock of the simulation");
    let dead = bucket.copy(&from, generation, &at("debs/web/2.deb"), &Metadata::new()).await;
    assert!(matches!(dead, Err(Error::Unavailable { .. })) && machine.is_dead(), "{dead:?}");
    assert_eq!(bucket.head(&at("debs/web/2.deb")).await.unwrap(), None);
}

#[tokio::test]
async fn to_an_overlay_that_was_made_anew_nothing_is_written_for_the_earlier_try() {
    let above = tempfile::tempdir().unwrap();
    let at_overlay = above.path().join("overlay");
    let buildset = |id: &str| -> crate::Buildset {
        serde_json::from_value(serde_json::json!({ "schema": 1, "buildset": id, "change": "web/12", "host": "ci",
            "directory": at_overlay, "since": "2026-11-20T19:00:00Z" }))
        .unwrap()
    };
    let (first, second) = (buildset("k3v9"), buildset("m4w2"));
    crate::Overlay::begin(&at_overlay, &first).await.unwrap();
    let url = crate::BucketUrl::File(at_overlay.clone());
    let opened = Bucket::open(&url, &crate::BucketOptions::default()).await.unwrap().of_overlay(&first.buildset);
    let (path, none) = (at("server/web-1.json"), Metadata::new());
    let seen = opened.create(&path, "[]".into(), &none).await.unwrap();
    let seen = opened.replace(&path, "[ ]".into(), &none, seen).await.unwrap();

    crate::Overlay::remove(&at_overlay, &first).await.unwrap();
    let gone = opened.replace(&path, "[]".into(), &none, seen).await;
    assert!(matches!(gone, Err(Error::Unavailable { .. })), "{gone:?}");
    assert!(!at_overlay.exists());
    crate::Overlay::begin(&at_overlay, &second).await.unwrap();
    let anew = Bucket::open(&url, &crate::BucketOptions::default()).await.unwrap();
    let seen = anew.create(&path, "[]".into(), &none).await.unwrap();
    let refused = [
        opened.replace(&path, "[ ]".into(), &none, seen).await.map(drop),
        opened.create(&at("holds/web-1.json"), "{}".into(), &none).await.map(drop),
        opened.delete(&path, seen).await,
    ];
    for refused in refused {
        let Err(Error::Unusable { reason, .. }) = refused else { panic!("{refused:?}") };
        assert_eq!(
            reason,
            "it is not the overlay of the buildset `k3v9` any more: it belongs to the buildset `m4w2` by now"
        );
    }
    assert_eq!(anew.get(&path, 100).await.unwrap().unwrap().content, "[]");
    assert!(!at_overlay.join("holds").exists());
}
