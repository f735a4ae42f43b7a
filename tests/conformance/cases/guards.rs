//! What keeps operators from pushing: rejected releases, and a halt of everything.

use bucket::{Error, Halt, Rejection, ReleaseName};

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
