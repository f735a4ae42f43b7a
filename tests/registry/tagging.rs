//! A tag is moved by its manifest's bytes alone.

use anyhow::{Context, Result};
use registry::Error;

use crate::world::{tag, worlds, writable};

#[tokio::test]
async fn a_tag_moves_without_any_layer() -> Result<()> {
    for world in worlds()? {
        let repository = world.repository("acme/web");
        let [first, second] = [world.push("acme/web", "one", "first")?, world.push_index("acme/web", "two", "second")?];
        let writable = writable(&repository);
        let writer = world.client.writer(&writable);
        for manifest in [&first, &second, &first] {
            let (moved, requests) = world.asked(writer.tag(&tag("prod"), manifest)).await?;
            moved?;
            world.pulls("acme/web", "prod", manifest)?;
            let paths: Vec<_> = requests.iter().map(|request| format!("{} {}", request.method, request.path)).collect();
            assert_eq!(paths, ["PUT /v2/acme/web/manifests/prod", "GET /v2/acme/web/manifests/prod"]);
            assert!(requests.iter().all(|request| request.agent.starts_with("push/")), "{requests:?}");
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_manifest_without_its_blobs_is_refused_and_the_tag_stays() -> Result<()> {
    for world in worlds()? {
        let [web, other] = ["acme/web", "acme/other"].map(|path| world.repository(path));
        let standing = world.push("acme/web", "prod", "first")?;
        let elsewhere = world.push("acme/other", "one", "second")?;
        let writable = writable(&web);
        let refused = world.client.writer(&writable).tag(&tag("prod"), &elsewhere).await.unwrap_err();
        let Error::Unavailable { what, reason, .. } = &refused else { panic!("{refused:?}") };
        assert_eq!(what, &format!("{web}:prod"));
        assert!(reason.contains("BLOB_UNKNOWN"), "{refused}");
        assert_eq!(world.client.by_tag(&web, &tag("prod")).await?.context("it stands")?, standing);
        world.pulls("acme/web", "prod", &standing)?;
        assert!(world.client.by_tag(&other, &tag("one")).await?.is_some());
    }
    Ok(())
}
