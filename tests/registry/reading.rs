//! What is read is what others wrote, to the byte.

use anyhow::{Context, Result};
use registry::{Content, Digest, Reference};

use crate::world::{tag, worlds};

#[tokio::test]
async fn what_others_push_is_read_with_its_exact_bytes() -> Result<()> {
    for world in worlds()? {
        let repository = world.repository("acme/web");
        let pushed = world.push("acme/web", "one", "first")?;
        let read = world.client.by_tag(&repository, &tag("one")).await?.context("it is there")?;
        assert_eq!(read, pushed);
        assert_eq!(world.client.digest(&repository, &tag("one")).await?.as_ref(), Some(pushed.digest()));
        assert_eq!(world.client.by_digest(&repository, pushed.digest()).await?.as_ref(), Some(&pushed));
        let reference: Reference = format!("{repository}:gone@{}", pushed.digest()).parse()?;
        assert_eq!(world.client.manifest(&reference).await?.as_ref(), Some(&pushed));

        let Content::Image { config, layers } = read.content() else { panic!("an image: {read:?}") };
        let bytes = world.client.small_blob(&repository, config).await?;
        assert_eq!(Digest::of(&bytes), config.digest);
        for layer in layers {
            assert_eq!(world.client.blob_size(&repository, &layer.digest).await?, Some(layer.size));
            let mut blob = world.client.blob(&repository, layer).await?;
            let mut length = 0;
            while let Some(chunk) = blob.chunk().await? {
                length += chunk.len() as u64;
            }
            assert_eq!(length, layer.size);
        }
        world.client.ping(repository.host()).await?;
    }
    Ok(())
}

#[tokio::test]
async fn what_docker_pushes_and_images_for_two_platforms_are_read_alike() -> Result<()> {
    for world in worlds()? {
        let repository = world.repository("acme/web");
        let index = world.push_index("acme/web", "both", "first")?;
        assert_eq!(world.client.by_tag(&repository, &tag("both")).await?.as_ref(), Some(&index));
        assert_eq!(index.children().len(), 2);
        let [from, to] = ["both", "docker"].map(|tag| format!("docker://{repository}:{tag}"));
        let copy = ["copy", "--src-tls-verify=false", "--dest-tls-verify=false", "--format", "v2s2", &from, &to];
        world.tools.skopeo(&copy)?.ok()?;
        let docker = world.client.by_tag(&repository, &tag("docker")).await?.context("it is there")?;
        assert_eq!(docker.media_type(), registry::ManifestType::DockerImage);
    }
    Ok(())
}

#[tokio::test]
async fn what_is_absent_is_none_and_tags_are_listed() -> Result<()> {
    for world in worlds()? {
        let [web, other] = ["acme/web", "acme/other"].map(|path| world.repository(path));
        assert_eq!(world.client.by_tag(&web, &tag("one")).await?, None);
        assert_eq!(world.client.digest(&web, &tag("one")).await?, None);
        assert_eq!(world.client.tags(&web).await?, []);
        world.push("acme/web", "one", "first")?;
        world.push("acme/web", "two", "second")?;
        let mut tags = world.client.tags(&web).await?;
        tags.sort();
        assert_eq!(tags, [tag("one"), tag("two")]);
        assert_eq!(world.client.by_digest(&web, &Digest::of(b"none")).await?, None);
        assert_eq!(world.client.blob_size(&web, &Digest::of(b"none")).await?, None);
        assert_eq!(world.client.tags(&other).await?, []);
    }
    Ok(())
}
