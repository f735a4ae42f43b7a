//! What keeps operators from pushing: rejected releases, a halt of everything, holds, and retired servers.

use bucket::{
    Error, Generation, Halt, HeldTrial, Hold, Holds, Metadata, PushId, Rejection, ReleaseName, Retirement,
    ServerDocument, ServerName,
};
use serde_json::Map;

use crate::world::World;

fn release(app: &str, day: u32) -> ReleaseName {
    let commit = "7e0ff6059e653eb75a36efb621d0fd66d1ced433";
    format!("{app}/{app}:dev@build-1:2026-11-{day:02}T19:05:02Z:{commit}.deb").parse().unwrap()
}

/// A release is rejected once, found by its app, and no longer rejected when that is taken back.
pub(crate) async fn rejections(world: World) {
    let bucket = &world.bucket;
    let at = release("web", 20).time();
    let rejection = |release| Rejection { schema: 1, release, by: "dev".into(), why: "CVE-2026-1".into(), at };
    let (web, other, api) = (release("web", 20), release("web", 21), release("api", 20));
    assert_eq!(bucket.rejection(&web).await.unwrap(), None);
    for release in [&web, &other, &api] {
        bucket.reject(&rejection(release.clone())).await.unwrap();
    }
    let again = bucket.reject(&rejection(web.clone())).await;
    assert!(matches!(again, Err(Error::AlreadyExists { .. })), "{again:?}");
    assert_eq!(bucket.rejected(web.app()).await.unwrap(), [web.clone(), other.clone()].into());
    assert_eq!(bucket.all_rejected().await.unwrap(), [web.clone(), other.clone(), api].into());
    assert_eq!(bucket.rejection(&web).await.unwrap().unwrap().1, rejection(web.clone()));
    assert!(bucket.unreject(&web).await.unwrap());
    assert!(!bucket.unreject(&web).await.unwrap());
    assert_eq!(bucket.rejected(web.app()).await.unwrap(), [other].into());
    // One that can't be understood rejects all the same.
    world.create(&format!("rejected/web/{}.json", web.stem()), "{").await;
    assert_eq!(bucket.rejected(web.app()).await.unwrap().len(), 2);
    assert!(matches!(bucket.rejection(&web).await, Err(Error::Malformed { .. })));
    assert!(bucket.unreject(&web).await.unwrap());
}

/// All is halted once, until somebody lifts that.
pub(crate) async fn halts(world: World) {
    let bucket = &world.bucket;
    let halt = Halt { schema: 1, by: "dev".into(), why: "outage".into(), at: release("web", 20).time() };
    assert_eq!(bucket.halt().await.unwrap(), None);
    let begun = bucket.begin_halt(&halt).await.unwrap();
    assert!(matches!(bucket.begin_halt(&halt).await, Err(Error::AlreadyExists { .. })));
    assert_eq!(bucket.halt().await.unwrap(), Some((begun, halt)));
    assert!(bucket.lift_halt().await.unwrap());
    assert_eq!(bucket.halt().await.unwrap(), None);
    assert!(!bucket.lift_halt().await.unwrap());
    // One that can't be understood is in force, and can be lifted.
    world.create("halt.json", "[]").await;
    assert!(matches!(bucket.halt().await, Err(Error::Malformed { .. })));
    assert!(bucket.lift_halt().await.unwrap());
}

/// The holds of a server are replaced only by whoever has read them, what isn't understood is kept, and what is too large is
/// not written.
pub(crate) async fn holds(world: World) {
    let (bucket, server) = (&world.bucket, "web-1".parse::<ServerName>().unwrap());
    let at = release("web", 20).time();
    let hold = Hold {
        app: "web".parse().ok(),
        by: "dev".into(),
        why: "für mich".into(),
        at,
        until: release("web", 21).time(),
        trial: Some(HeldTrial {
            id: "a2b3c4d5e6f7".parse().unwrap(),
            push: "k3v9w1c7m2xq".parse().unwrap(),
            release: release("web", 20),
            before: Some(release("web", 19)),
        }),
        other: Map::new(),
    };
    assert_eq!(bucket.holds(&server).await.unwrap(), None);
    let mut holds = Holds { holds: vec![hold.clone()], ..Holds::default() };
    let first = bucket.write_holds(&server, &holds, None).await.unwrap();
    assert!(matches!(bucket.write_holds(&server, &holds, None).await, Err(Error::AlreadyExists { .. })));
    assert_eq!(bucket.holds(&server).await.unwrap(), Some((first, holds.clone())));
    assert_eq!(bucket.held_servers().await.unwrap(), [(server.clone(), first)].into());
    holds.holds.push(Hold { app: None, ..hold.clone() });
    let second = bucket.write_holds(&server, &holds, Some(first)).await.unwrap();
    assert!(matches!(bucket.write_holds(&server, &holds, Some(first)).await, Err(Error::Conflict { .. })));
    // Up to the limit, and not beyond it.
    let long = |count: usize| {
        let of_it = Hold { why: "w".repeat(1000), trial: None, ..hold.clone() };
        Holds { holds: vec![of_it; count], ..Holds::default() }
    };
    let third = bucket.write_holds(&server, &long(50), Some(second)).await.unwrap();
    assert_eq!(bucket.holds(&server).await.unwrap(), Some((third, long(50))));
    assert!(matches!(bucket.write_holds(&server, &long(70), Some(third)).await, Err(Error::TooLarge { .. })));
    // What a newer program wrote comes back; what isn't understood at all is an error.
    let later = r#"{"schema":1,"holds":[{"by":"dev","why":"","at":"2026-11-20T19:05:02Z","until":"2026-11-21T19:05:02Z","ticket":7}],"later":[1]}"#;
    let other: ServerName = "web-2".parse().unwrap();
    world.create("holds/web-2.json", later).await;
    let (generation, read) = bucket.holds(&other).await.unwrap().unwrap();
    bucket.write_holds(&other, &read, Some(generation)).await.unwrap();
    let (_, again) = bucket.holds(&other).await.unwrap().unwrap();
    assert_eq!((&again.other["later"][0], &again.holds[0].other["ticket"]), (&1.into(), &7.into()));
    world.create("holds/web-3.json", "{").await;
    assert!(matches!(bucket.holds(&"web-3".parse().unwrap()).await, Err(Error::Malformed { .. })));
}

/// What is kept of a retired server is its document byte for byte, with its metadata, also where that has no room for more.
pub(crate) async fn retired_documents(world: World) {
    let (bucket, server) = (&world.bucket, "web-1".parse::<ServerName>().unwrap());
    let content = format!("[ \"{}\",\n 7, \"db/\" ]", release("web", 20));
    let path = "server/web-1.json".parse().unwrap();
    for (room, pushed) in [("x".repeat(100), true), ("x".repeat(8100), false)] {
        let metadata = Metadata::from([("invented".to_owned(), room)]);
        let created = bucket.create(&path, content.clone().into(), &metadata).await.unwrap();
        let document = bucket.document_object(&server).await.unwrap().unwrap();
        let retirement = Retirement {
            push: PushId::random(),
            time: release("web", 21).time(),
            who: "dev".into(),
            why: "ü".repeat(2000),
            generation: created,
        };
        bucket.keep_retired(&server, &document, &retirement, None).await.unwrap();
        let again = bucket.keep_retired(&server, &document, &retirement, None).await;
        assert!(matches!(again, Err(Error::AlreadyExists { .. })), "{again:?}");
        bucket.delete_server_document(&server, created).await.unwrap();
        assert!(bucket.is_retired(&server).await.unwrap());
        assert_eq!(bucket.retired_servers().await.unwrap(), [server.clone()].into());
        let kept = bucket.retired(&server).await.unwrap().unwrap();
        assert_eq!((&kept.document.content, &kept.document.metadata), (&document.content, &metadata));
        let told = Retirement { why: "ü".repeat(100), ..retirement.clone() };
        assert_eq!(kept.retirement, pushed.then_some(told));
        let restored = bucket.restore_retired(&server, &kept).await.unwrap();
        assert!(matches!(bucket.restore_retired(&server, &kept).await, Err(Error::AlreadyExists { .. })));
        let found = bucket.document_object(&server).await.unwrap().unwrap();
        assert_eq!((&found.content, &found.metadata, found.generation), (&document.content, &metadata, restored));
        bucket.forget_retired(&server, kept.generation).await.unwrap();
        assert!(!bucket.is_retired(&server).await.unwrap());
        bucket.delete_server_document(&server, restored).await.unwrap();
    }
    // Whoever has read an earlier one deletes nothing.
    let first = bucket.write_server_document(&server, &ServerDocument::default(), None).await.unwrap();
    bucket.write_server_document(&server, &ServerDocument::default(), Some(first)).await.unwrap();
    let stale = bucket.delete_server_document(&server, first).await;
    assert!(matches!(stale, Err(Error::Conflict { .. })), "{stale:?}");
    assert!(bucket.delete_status(&server, Generation(1)).await.is_ok(), "there is none");
}
