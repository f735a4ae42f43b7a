//! An image goes from one repository to another, of one registry and of two.

use anyhow::Result;
use harness::registry::Debian;
use registry::{Descriptor, Error, Manifest, ManifestType};

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

/// An index that lists these.
fn index_of(listed: &[&Manifest]) -> Manifest {
    let describe = |manifest: &&Manifest| {
        Descriptor::of(manifest.media_type().as_str().parse().expect("a media type"), manifest.bytes())
    };
    let media_type = ManifestType::OciIndex;
    let manifests: Vec<Descriptor> = listed.iter().map(describe).collect();
    let written = serde_json::json!({ "schemaVersion": 2, "mediaType": media_type.as_str(), "manifests": manifests });
    Manifest::read(media_type, written.to_string()).expect("an index")
}

#[tokio::test]
async fn an_image_that_is_listed_above_and_below_is_copied_before_all_that_list_it() -> Result<()> {
    for world in worlds()? {
        let [from, to] = ["acme/candidates", "acme/web"].map(|path| world.repository(path));
        let image = world.push("acme/candidates", "1234_a", "first")?;
        let inner = index_of(&[&image]);
        let middle = index_of(&[&inner, &image]);
        let (source, target) = (writable(&from), writable(&to));
        for outer in [index_of(&[&image, &middle, &inner]), index_of(&[&middle, &image])] {
            for index in [&inner, &middle, &outer] {
                world.client.writer(&source).put(index).await?;
            }
            let (copied, requests) = world.asked(world.client.writer(&target).copy(&from, &outer)).await?;
            copied?;
            let put: Vec<&str> = requests
                .iter()
                .filter(|request| request.method == "PUT")
                .map(|request| request.path.as_str())
                .collect();
            let ends = put.last().is_some_and(|last| last.ends_with(&outer.digest().to_string()));
            assert!(ends && put.iter().collect::<std::collections::BTreeSet<_>>().len() == put.len(), "{put:?}");
        }
    }
    Ok(())
}

#[tokio::test]
async fn what_is_nested_without_end_is_not_copied() -> Result<()> {
    let world = World::new(Debian::Thirteen)?;
    let [from, to] = ["acme/candidates", "acme/web"].map(|path| world.repository(path));
    let mut index = world.push("acme/candidates", "1234_a", "first")?;
    let (source, target) = (writable(&from), writable(&to));
    for _ in 0..8 {
        index = index_of(&[&index]);
        world.client.writer(&source).put(&index).await?;
    }
    let refused = world.client.writer(&target).copy(&from, &index).await.unwrap_err();
    assert!(refused.to_string().contains("nested more than 8 deep"), "{refused}");
    Ok(())
}
