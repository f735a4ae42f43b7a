//! Listings of objects and of directories, in pages.

use bucket::{ObjectInfo, PageToken, items};
use futures_util::TryStreamExt as _;

use crate::world::{World, at, drain, note, text};

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
