//! A tag goes, and no other with it.

use anyhow::{Context, Result};
use registry::{Error, Manifest};

use crate::world::{World, tag, worlds, writable};

/// Two tags of one digest, of which `change_12_a` is to go.
async fn two_tags(world: &World, manifest: &Manifest) -> Result<()> {
    let writable = writable(&world.repository("acme/web"));
    let writer = world.client.writer(&writable);
    writer.tag(&tag("change_12_a"), manifest).await?;
    Ok(writer.tag(&tag("final"), manifest).await?)
}

/// Removes it, and says what the registry was asked to delete.
async fn remove(world: &World, manifest: &Manifest) -> Result<Vec<String>> {
    let writable = writable(&world.repository("acme/web"));
    let kept = [(tag("final"), manifest.digest().clone())];
    let gone = tag("change_12_a");
    let writer = world.client.writer(&writable);
    let (removed, requests) = world.asked(writer.remove_tag(&gone, manifest.digest(), &kept)).await?;
    removed?;
    let deleted = requests.into_iter().filter(|request| request.method == "DELETE");
    Ok(deleted.map(|request| request.path).collect())
}

/// The final tag pulls, also after the garbage was collected, and the other one is gone.
async fn only_the_final_tag_is_left(world: &World, manifest: &Manifest) -> Result<()> {
    let repository = world.repository("acme/web");
    world.pulls("acme/web", "final", manifest)?;
    world.registry.collect_garbage()?;
    world.pulls("acme/web", "final", manifest)?;
    assert_eq!(world.client.by_tag(&repository, &tag("change_12_a")).await?, None);
    assert_eq!(world.client.by_tag(&repository, &tag("final")).await?.as_ref(), Some(manifest));
    Ok(())
}

#[tokio::test]
async fn of_two_tags_of_one_image_one_goes_and_the_other_pulls() -> Result<()> {
    for world in worlds()? {
        let manifest = world.push("acme/web", "one", "first")?;
        two_tags(&world, &manifest).await?;
        let deleted = remove(&world, &manifest).await?;
        let by_digest: Vec<_> = deleted.iter().filter(|path| path.contains("sha256:")).collect();
        assert!(!by_digest.is_empty(), "{deleted:?}");
        assert!(by_digest.iter().all(|path| !path.contains(&manifest.digest().to_string())), "{deleted:?}");
        only_the_final_tag_is_left(&world, &manifest).await?;
        // Once more is the same.
        assert_eq!(remove(&world, &manifest).await?, Vec::<String>::new());
    }
    Ok(())
}

#[tokio::test]
async fn of_two_tags_of_an_image_for_two_platforms_one_goes_and_the_other_pulls() -> Result<()> {
    for world in worlds()? {
        let index = world.push_index("acme/web", "one", "first")?;
        two_tags(&world, &index).await?;
        remove(&world, &index).await?;
        only_the_final_tag_is_left(&world, &index).await?;
    }
    Ok(())
}

#[tokio::test]
async fn of_two_tags_of_an_image_of_docker_one_goes_and_the_other_pulls() -> Result<()> {
    for world in worlds()? {
        let repository = world.repository("acme/web");
        world.push("acme/web", "oci", "first")?;
        let [from, to] = ["oci", "docker"].map(|tag| format!("docker://{repository}:{tag}"));
        let copy = ["copy", "--src-tls-verify=false", "--dest-tls-verify=false", "--format", "v2s2", &from, &to];
        world.tools.skopeo(&copy)?.ok()?;
        let docker = world.client.by_tag(&repository, &tag("docker")).await?.context("it is there")?;
        two_tags(&world, &docker).await?;
        remove(&world, &docker).await?;
        only_the_final_tag_is_left(&world, &docker).await?;
    }
    Ok(())
}

#[tokio::test]
async fn whoever_was_killed_before_the_deletion_removes_it_the_next_time() -> Result<()> {
    for world in worlds()? {
        let manifest = world.push("acme/web", "one", "first")?;
        two_tags(&world, &manifest).await?;
        // Killed after the tag got a manifest of its own, and before that was deleted.
        let alone = manifest.annotated("dev.push.removed", "change_12_a")?;
        let writable = writable(&world.repository("acme/web"));
        world.client.writer(&writable).tag(&tag("change_12_a"), &alone).await?;
        remove(&world, &manifest).await?;
        only_the_final_tag_is_left(&world, &manifest).await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_tag_that_somebody_else_gave_another_image_stays() -> Result<()> {
    for world in worlds()? {
        let (manifest, other) = (world.push("acme/web", "one", "first")?, world.push("acme/web", "two", "second")?);
        let (repository, gone) = (world.repository("acme/web"), tag("change_12_a"));
        let writable = writable(&repository);
        let writer = world.client.writer(&writable);
        writer.tag(&gone, &other).await?;
        let (left, requests) = world.asked(writer.remove_tag(&gone, manifest.digest(), &[])).await?;
        left?;
        assert!(requests.iter().all(|request| request.method == "GET"), "{requests:?}");
        assert_eq!(world.client.digest(&repository, &gone).await?.as_ref(), Some(other.digest()));
    }
    Ok(())
}

#[tokio::test]
async fn nothing_is_removed_while_the_other_tag_is_not_what_it_should_be() -> Result<()> {
    for world in worlds()? {
        let manifest = world.push("acme/web", "one", "first")?;
        let other = world.push("acme/web", "two", "second")?;
        two_tags(&world, &manifest).await?;
        let repository = world.repository("acme/web");
        let writable = writable(&repository);
        let (gone, kept) = (tag("change_12_a"), [(tag("final"), other.digest().clone())]);
        let writer = world.client.writer(&writable);
        let (refused, requests) = world.asked(writer.remove_tag(&gone, manifest.digest(), &kept)).await?;
        let refused = refused.unwrap_err();
        assert!(matches!(&refused, Error::Changed { what, .. } if *what == format!("{repository}:final")), "{refused}");
        assert!(requests.iter().all(|request| request.method == "GET"), "{requests:?}");
    }
    Ok(())
}

#[tokio::test]
async fn an_image_that_was_built_to_look_like_one_of_a_removed_tag_takes_no_other_tag_with_it() -> Result<()> {
    for world in worlds()? {
        let manifest = world.push("acme/web", "one", "first")?;
        let forged = manifest.annotated("dev.push.removed", "change_12_a")?;
        two_tags(&world, &forged).await?;
        let deleted = remove(&world, &forged).await?;
        assert!(deleted.iter().all(|path| !path.contains(&forged.digest().to_string())), "{deleted:?}");
        only_the_final_tag_is_left(&world, &forged).await?;
    }
    Ok(())
}
