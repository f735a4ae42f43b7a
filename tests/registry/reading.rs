//! What is read is what others wrote, to the byte.

use anyhow::{Context, Result};
use harness::registry::{Answer, FakeRegistry};
use registry::{Client, ClientOptions, Content, Digest, ManifestType, Reference, Repository};

use crate::world::{tag, worlds, writable};

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

#[tokio::test]
async fn a_list_of_docker_is_read_tagged_copied_and_removed_as_what_it_is() -> Result<()> {
    for world in worlds()? {
        let [web, copied] = ["acme/web", "acme/copied"].map(|path| world.repository(path));
        world.push_index("acme/web", "oci", "first")?;
        let [from, to] = ["oci", "list"].map(|tag| format!("docker://{web}:{tag}"));
        let copy =
            ["copy", "--all", "--src-tls-verify=false", "--dest-tls-verify=false", "--format", "v2s2", &from, &to];
        world.tools.skopeo(&copy)?.ok()?;
        // Who does not say that they take a list gets one of its images in its place, and no error.
        let list = world.client.by_tag(&web, &tag("list")).await?.context("it is there")?;
        assert_eq!((list.media_type(), list.children().len()), (ManifestType::DockerList, 2));
        assert_eq!(world.client.digest(&web, &tag("list")).await?.as_ref(), Some(list.digest()));
        let (to, here) = (writable(&copied), writable(&web));
        world.client.writer(&to).copy(&web, &list).await?;
        world.client.writer(&to).tag(&tag("final"), &list).await?;
        world.pulls("acme/copied", "final", &list)?;
        let writer = world.client.writer(&here);
        writer.tag(&tag("final"), &list).await?;
        writer.remove_tag(&tag("list"), list.digest(), &[(tag("final"), list.digest().clone())]).await?;
        assert_eq!(world.client.by_tag(&web, &tag("list")).await?, None);
        world.registry.collect_garbage()?;
        world.pulls("acme/web", "final", &list)?;
    }
    Ok(())
}

#[tokio::test]
async fn every_kind_of_manifest_is_taken_also_where_a_registry_leads() -> Result<()> {
    let storage = FakeRegistry::start(|_| Answer::new(200, ""));
    let elsewhere = format!("http://{}/manifest", storage.host());
    let registry = FakeRegistry::start(move |_| Answer::new(307, "").with("location", elsewhere.clone()));
    let client = Client::new(ClientOptions::default()).map_err(anyhow::Error::msg)?;
    let web: Repository = format!("{}/acme/web", registry.host()).parse()?;
    // Nothing of what comes is a manifest.
    assert!(client.by_tag(&web, &tag("one")).await.is_err());
    assert!(client.by_digest(&web, &Digest::of(b"one")).await.is_err());
    assert!(client.digest(&web, &tag("one")).await.is_err());
    let asked = [registry.asked(), storage.asked()].concat();
    let methods: Vec<&str> = asked.iter().map(|asked| asked.method.as_str()).collect();
    assert!(methods.contains(&"GET") && methods.contains(&"HEAD"), "{methods:?}");
    let expected = "application/vnd.oci.image.manifest.v1+json, application/vnd.oci.image.index.v1+json, \
                    application/vnd.docker.distribution.manifest.v2+json, \
                    application/vnd.docker.distribution.manifest.list.v2+json";
    let sorted = |accepted: &str| {
        let mut types: Vec<String> = accepted.split(", ").map(str::to_owned).collect();
        types.sort();
        types
    };
    for asked in asked {
        assert_eq!(sorted(asked.accept.as_deref().unwrap_or_default()), sorted(expected), "{}", asked.path);
    }
    Ok(())
}
