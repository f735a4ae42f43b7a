//! A tag goes, and no other with it.

use anyhow::{Context, Result};
use harness::{
    pubsub::FakePubSub,
    registry::{Answer, Debian, FakeRegistry, RegistryServer},
};
use registry::{Client, ClientOptions, Error, Manifest};

use crate::{
    candidates::{Changes, change},
    publishing::text,
    world::{World, tag, worlds, writable},
};

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

#[tokio::test]
async fn where_nothing_is_deleted_the_tag_still_names_its_image() -> Result<()> {
    for debian in Debian::ALL {
        let world = World::of(RegistryServer::without_deletion(debian)?)?;
        let manifest = world.push("acme/web", "one", "first")?;
        two_tags(&world, &manifest).await?;
        let repository = world.repository("acme/web");
        let writable = writable(&repository);
        let (gone, kept) = (tag("change_12_a"), [(tag("final"), manifest.digest().clone())]);
        let writer = world.client.writer(&writable);
        let (refused, requests) = world.asked(writer.remove_tag(&gone, manifest.digest(), &kept)).await?;
        let refused = refused.unwrap_err().to_string();
        let expected = format!(
            "could not delete `{repository}:change_12_a`: deletion is switched off in the registry: switch it on"
        );
        assert!(refused.contains(&expected) && refused.contains("UNSUPPORTED"), "{refused}");
        assert!(requests.iter().all(|request| request.method != "PUT"), "{requests:?}");
        for name in ["change_12_a", "final"] {
            world.pulls("acme/web", name, &manifest)?;
        }
    }
    Ok(())
}

#[tokio::test]
async fn what_is_promoted_where_nothing_is_deleted_is_announced_all_the_same() -> Result<()> {
    let world = World::of(RegistryServer::without_deletion(Debian::Thirteen)?)?;
    let (host, pubsub) = (world.registry.host(), FakePubSub::start());
    let images = format!(
        "registry = \"{host}/acme\"\nrepository = '.*/(ci|acme)/.*'\n[bucket]\nurl = \"file://{}\"\nannounce = \"{}\"",
        world.directory.path().join("production").display(),
        FakePubSub::TOPIC
    );
    let changes = Changes::with(&world, &format!("registry = \"{host}/ci\""), &images)?;
    let id = changes.open()?;
    let image = world.push("ci/web", "1", "first")?;
    changes.candidate(&id, "web:1", &["--gate"])?;
    let commit = changes.merge(&id)?;
    changes.git(&["remote", "add", "origin", "https://git.example/acme/web.git"])?;
    changes.git(&["update-ref", "refs/remotes/origin/main", "main"])?;
    let mut promote = changes.release(&["promote", "--change", &change(&id)])?;
    let output = promote.env("PUBSUB_EMULATOR_HOST", pubsub.host()).output()?;
    let said = text(&output);
    assert!(output.status.code() == Some(1) && said.contains("deletion is switched off"), "{said}");
    for tag in ["1", &commit] {
        assert_eq!(changes.named(tag).await?.context("it is promoted")?.digest(), image.digest());
    }
    assert_eq!(pubsub.published().len(), 1, "{said}");
    Ok(())
}

#[tokio::test]
async fn a_registry_that_deletes_by_tag_is_asked_for_nothing_else() -> Result<()> {
    let manifest = World::new(Debian::Twelve)?.push("acme/web", "one", "first")?;
    let (media_type, bytes) = (manifest.media_type().as_str(), manifest.bytes().to_vec());
    let is_there = std::sync::atomic::AtomicBool::new(true);
    let registry = FakeRegistry::start(move |asked| {
        use std::sync::atomic::Ordering::SeqCst;
        match asked.method.as_str() {
            "DELETE" => Answer::new(if is_there.swap(false, SeqCst) { 202 } else { 500 }, ""),
            _ if is_there.load(SeqCst) => Answer::new(200, bytes.clone()).with("content-type", media_type),
            _ => Answer::new(404, r#"{"errors":[{"code":"MANIFEST_UNKNOWN"}]}"#),
        }
    });
    let repository = format!("{}/acme/web", registry.host()).parse()?;
    let writable = writable(&repository);
    let client = Client::new(ClientOptions::default()).map_err(anyhow::Error::msg)?;
    client.writer(&writable).remove_tag(&tag("change_12_a"), manifest.digest(), &[]).await?;
    let asked: Vec<_> = registry.asked().into_iter().map(|asked| asked.method).collect();
    assert_eq!(asked, ["GET", "DELETE", "GET"]);
    Ok(())
}

/// What [`registry`] goes by, and would have to do otherwise if a newer registry did.
#[tokio::test]
async fn these_registries_do_what_the_client_makes_up_for() -> Result<()> {
    for world in worlds()? {
        let [first, second] = [world.push("acme/web", "one", "first")?, world.push("acme/web", "two", "second")?];
        let index = world.push_index("acme/web", "both", "third")?;
        let http = reqwest::Client::new();
        let url = |name: &str| format!("http://{}/v2/acme/web/manifests/{name}", world.registry.host());
        let oci = first.media_type().as_str();
        // Preconditions of a put are ignored.
        for (header, value) in [("if-match", format!("\"{}\"", second.digest())), ("if-none-match", "*".to_owned())] {
            let put = http.put(url("one")).header("content-type", oci).header(header, value);
            let put = put.body(first.bytes().clone()).send().await?;
            assert_eq!(put.status(), 201, "{header}");
        }
        // What isn't named in `Accept` isn't there.
        for (name, accepted) in [("one", "application/vnd.docker.distribution.manifest.v2+json"), ("both", oci)] {
            let read = http.get(url(name)).header("accept", accepted).send().await?;
            assert_eq!(read.status(), 404, "{name}");
        }
        let read = http.get(url("both")).header("accept", index.media_type().as_str()).send().await?;
        assert_eq!(read.status(), 200);
        // No manifest says when it came.
        assert!(!read.headers().contains_key("last-modified"), "{:?}", read.headers());
        // By tag nothing is deleted, and by digest every tag of it.
        assert_eq!(http.delete(url("one")).send().await?.status(), 400);
        two_tags(&world, &first).await?;
        assert_eq!(http.delete(url(&first.digest().to_string())).send().await?.status(), 202);
        for name in ["one", "final", "change_12_a"] {
            assert_eq!(world.client.by_tag(&world.repository("acme/web"), &tag(name)).await?, None, "{name}");
        }
    }
    Ok(())
}
