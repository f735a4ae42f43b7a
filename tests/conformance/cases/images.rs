//! Records of container images.

use bucket::{AppName, Commit, Error, Image};
use futures_util::TryStreamExt as _;
use serde_json::json;

use crate::world::World;

const COMMIT: &str = "7e0ff6059e653eb75a36efb621d0fd66d1ced433";

fn image(app: &str, commit: &str, more: &serde_json::Value) -> Image {
    let mut image = json!({
        "schema": 1, "app": app, "commit": commit, "name": "images.example/acme/web", "tag": commit,
        "digest": format!("sha256:{}", "07".repeat(32)), "media_type": "application/vnd.oci.image.manifest.v1+json",
        "time": "2026-11-26T23:30:00Z", "who": "dév@ci",
    });
    image.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    serde_json::from_value(image).unwrap()
}

pub(crate) async fn an_image_is_recorded_once_and_a_list_tells_all_of_it(world: World) {
    let (bucket, app): (_, AppName) = (&world.bucket, "web".parse().unwrap());
    let (first, other) = (COMMIT.parse::<Commit>().unwrap(), "1".repeat(64).parse::<Commit>().unwrap());
    assert_eq!(bucket.image(&app, &first).await.unwrap(), None);
    let one = image("web", COMMIT, &json!({ "later": [1, null] }));
    let generation = bucket.record_image(&one).await.unwrap();
    let changed = image("web", COMMIT, &json!({ "who": "somebody else" }));
    assert!(matches!(bucket.record_image(&changed).await, Err(Error::AlreadyExists { .. })));
    assert_eq!(bucket.image(&app, &first).await.unwrap(), Some(one.clone()));
    let promoted = image("web", other.as_str(), &json!({ "landed": COMMIT }));
    bucket.record_image(&promoted).await.unwrap();
    bucket.record_image(&image("web-2", COMMIT, &json!({}))).await.unwrap();
    world.create("images/web/latest.json", "no commit").await;

    let mut listed: Vec<_> = bucket.images(&app).try_collect().await.unwrap();
    listed.sort_by(|one, other| one.commit.as_str().cmp(other.commit.as_str()));
    let told: Vec<_> = listed.iter().map(|summary| (&summary.commit, summary.image.as_ref().ok())).collect();
    assert_eq!(told, [(&other, Some(&promoted)), (&first, Some(&one))]);
    assert_eq!((promoted.landed, listed[1].generation), (Some(first), generation));
    let written = world.bucket.get(&crate::world::at(&format!("images/web/{COMMIT}.json")), 9999).await.unwrap();
    let written: serde_json::Value = serde_json::from_slice(&written.unwrap().content).unwrap();
    assert_eq!(written["digest"], format!("sha256:{}", "07".repeat(32)));
}

pub(crate) async fn what_is_no_record_of_an_image_is_listed_as_unreadable_and_never_taken_for_one(world: World) {
    let (bucket, app): (_, AppName) = (&world.bucket, "web".parse().unwrap());
    let good = serde_json::to_value(image("web", COMMIT, &json!({}))).unwrap();
    for (n, (key, value)) in [
        ("schema", json!(2)),
        ("app", json!("api")),
        ("commit", json!("2".repeat(40))),
        ("digest", json!("07".repeat(32))),
        ("digest", json!("sha256:../x")),
    ]
    .into_iter()
    .enumerate()
    {
        let commit = format!("{n:040x}");
        let mut bad = good.clone();
        bad["commit"] = json!(commit);
        bad[key] = value;
        world.create(&format!("images/web/{commit}.json"), &bad.to_string()).await;
        let read = bucket.image(&app, &commit.parse().unwrap()).await;
        assert!(matches!(read, Err(Error::Malformed { .. })), "{key}: {read:?}");
    }
    let listed: Vec<_> = bucket.images(&app).try_collect().await.unwrap();
    assert_eq!(listed.iter().filter(|summary| matches!(summary.image, Err(Error::Malformed { .. }))).count(), 5);
    let long = image("web", COMMIT, &json!({ "name": "x".repeat(5000) }));
    assert!(matches!(bucket.record_image(&long).await, Err(Error::TooLarge { .. })));
}
