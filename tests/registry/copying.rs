//! An image goes from one repository to another, of one registry and of two.

use anyhow::Result;
use harness::registry::Debian;
use registry::Error;

use crate::world::{World, tag, worlds, writable};

#[tokio::test]
async fn within_a_registry_no_layer_is_transferred() -> Result<()> {
    for world in worlds()? {
        let [from, to] = ["acme/candidates", "acme/web"].map(|path| world.repository(path));
        let index = world.push_index("acme/candidates", "1234_a", "first")?;
        let writable = writable(&to);
        let writer = world.client.writer(&writable);
        let (copied, requests) = world.asked(writer.copy(&from, &index)).await?;
        copied?;
        let sent = requests.iter().filter(|request| ["PUT", "PATCH"].contains(&&request.method[..]));
        assert!(sent.clone().all(|request| request.path.starts_with("/v2/acme/web/manifests/sha256:")), "{requests:?}");
        assert!(requests.iter().all(|request| request.method != "GET" || !request.path.contains("/blobs/")));
        // The same again asks and writes nothing.
        let (again, requests) = world.asked(writer.copy(&from, &index)).await?;
        again?;
        assert!(requests.iter().all(|request| ["GET", "HEAD"].contains(&&request.method[..])), "{requests:?}");
        writer.tag(&tag("prod"), &index).await?;
        world.pulls("acme/web", "prod", &index)?;
        world.registry.collect_garbage()?;
        world.pulls("acme/web", "prod", &index)?;
    }
    Ok(())
}

#[tokio::test]
async fn between_registries_layers_go_over_the_wire_once() -> Result<()> {
    for [from, to] in [Debian::ALL, [Debian::Thirteen, Debian::Twelve]] {
        let [source, world] = [World::new(from)?, World::new(to)?];
        let index = source.push_index("acme/web", "1234_a", "first")?;
        let writable = writable(&world.repository("acme/web"));
        let writer = world.client.writer(&writable);
        let (copied, requests) = world.asked(writer.copy(&source.repository("acme/web"), &index)).await?;
        copied?;
        // Two configurations, two layers, and the one that both platforms have.
        let sent =
            requests.iter().filter(|request| request.method == "PUT" && request.path.contains("/blobs/uploads/"));
        assert_eq!(sent.count(), 5, "{requests:?}");
        writer.tag(&tag("prod"), &index).await?;
        world.pulls("acme/web", "prod", &index)?;
    }
    Ok(())
}

#[tokio::test]
async fn what_lacks_a_part_is_not_copied() -> Result<()> {
    for world in worlds()? {
        let [from, to] = ["acme/candidates", "acme/web"].map(|path| world.repository(path));
        let index = world.push_index("acme/other", "1234_a", "first")?;
        let writable = writable(&to);
        let refused = world.client.writer(&writable).copy(&from, &index).await.unwrap_err();
        assert!(matches!(&refused, Error::Malformed { reason, .. } if reason.contains("it is missing")), "{refused}");
        let image = world.push("acme/other", "1234_b", "second")?;
        let refused = world.client.writer(&writable).copy(&from, &image).await.unwrap_err();
        assert!(matches!(&refused, Error::Unavailable { reason, .. } if reason.contains("BLOB_UNKNOWN")), "{refused}");
        assert_eq!(world.client.tags(&to).await?, []);
    }
    Ok(())
}
