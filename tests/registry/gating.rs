//! Images of changes that are gated again: until the change names another one, that which it names can be promoted.

use std::{
    fs,
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, ensure};
use bucket::RecordedCandidate;
use harness::registry::{Debian, Tap};
use registry::Manifest;
use serde_json::Value;

use crate::{
    candidates::{Changes, change},
    publishing::kill_after,
    world::World,
};

/// What a change says of the image that is gated of it.
async fn gated(changes: &Changes<'_>, id: &str) -> Result<RecordedCandidate> {
    let mut gated = changes.change(id).await?.candidates.into_iter().filter(|known| known.gate);
    let one = gated.next().context("an image is gated")?;
    ensure!(gated.next().is_none(), "one image is gated under a tag");
    Ok(one)
}

/// Pushes an image as builders do, over what they pushed before.
fn build(world: &World, changes: &Changes<'_>, of: &str, content: &str) -> Result<Manifest> {
    let _ = fs::remove_dir_all(changes.path(&format!("ci-web-{of}")));
    world.push("ci/web", of, content)
}

/// That a change which is merged is promoted with the image that it names.
async fn promotes_what_is_named(changes: &Changes<'_>, id: &str, of: &str, moment: &str) -> Result<RecordedCandidate> {
    let named = gated(changes, id).await.with_context(|| moment.to_owned())?;
    let commit = changes.merge(id)?;
    let (promoted, _) = changes.promote(id).with_context(|| moment.to_owned())?;
    assert_eq!(promoted[0]["sha256"], Value::from(named.sha256.as_str()), "{moment}");
    for tag in [of, &commit] {
        let found = changes.named(tag).await?.with_context(|| format!("{moment}: {tag}"))?;
        assert_eq!(found.digest().sha256(), &named.sha256, "{moment}: {tag}");
    }
    let image = changes.recorded(&commit).await?.context("it is recorded")?;
    assert_eq!(image.digest, named.sha256, "{moment}");
    changes.promote(id).map(|_| named)
}

#[tokio::test]
async fn wherever_another_gate_is_killed_the_change_is_promoted_with_the_image_that_it_names() -> Result<()> {
    let world = World::new(Debian::Twelve)?;
    let changes = Changes::new(&world)?;
    let mut named = [0, 0];
    for requests in 1.. {
        let (id, of) = (changes.open()?, format!("v{requests}"));
        let first = build(&world, &changes, &of, &format!("{of} first"))?;
        let image = format!("web:{of}");
        changes.candidate(&id, &image, &["--gate"])?;
        // Built again it is another image, as most are.
        build(&world, &changes, &of, &format!("{of} second"))?;
        let mut gate = changes.release(&["candidate", "--image", &image, "--change", &change(&id), "--gate"])?;
        let mut gate = gate.stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
        let was_killed = kill_after(&world, &mut gate, requests)?;
        let promoted = promotes_what_is_named(&changes, &id, &of, &format!("killed after {requests}")).await?;
        named[usize::from(promoted.sha256 != *first.digest().sha256())] += 1;
        if !was_killed {
            break;
        }
    }
    // How many requests a kill comes late by is the machine's affair.
    assert!(named[0] > 2 && named[1] > 0, "{named:?}");
    Ok(())
}

#[tokio::test]
async fn a_gate_that_cannot_tell_its_change_leaves_what_the_change_names() -> Result<()> {
    let world = World::new(Debian::Thirteen)?;
    let changes = Changes::new(&world)?;
    let id = changes.open()?;
    let first = build(&world, &changes, "1", "first")?;
    changes.candidate(&id, "web:1", &["--gate"])?;
    // The candidate bucket is as it was before the second gate, all else as after it.
    let (bucket, kept) = (changes.path("candidates"), changes.path("kept"));
    ensure!(Command::new("cp").arg("-a").args([&bucket, &kept]).status()?.success(), "it is kept");
    build(&world, &changes, "1", "second")?;
    changes.candidate(&id, "web:1", &["--gate"])?;
    assert_ne!(gated(&changes, &id).await?.sha256, *first.digest().sha256());
    fs::remove_dir_all(&bucket)?;
    fs::rename(&kept, &bucket)?;
    let promoted = promotes_what_is_named(&changes, &id, "1", "not told").await?;
    assert_eq!(promoted.sha256, *first.digest().sha256());
    Ok(())
}

#[tokio::test]
async fn the_same_image_is_gated_of_the_next_patchset_and_back_after_another_one() -> Result<()> {
    let world = World::new(Debian::Thirteen)?;
    let changes = Changes::new(&world)?;
    let id = changes.open()?;
    let first = build(&world, &changes, "1", "first")?;
    changes.candidate(&id, "web:1", &["--gate"])?;
    build(&world, &changes, "1", "second")?;
    changes.candidate(&id, "web:1", &["--gate"])?;
    changes.patchset(&id)?;
    build(&world, &changes, "1", "first")?;
    changes.candidate(&id, "web:1", &["--gate"])?;
    let named = gated(&changes, &id).await?;
    assert_eq!((&named.sha256, named.patchset), (first.digest().sha256(), 2));
    // A patchset that leaves the image as it was.
    changes.patchset(&id)?;
    changes.candidate(&id, "web:1", &["--gate"])?;
    let tagged = changes.named(&format!("change_{id}_1")).await?.context("it has its tag")?;
    assert_eq!(tagged.digest(), first.digest());
    let promoted = promotes_what_is_named(&changes, &id, "1", "the third patchset").await?;
    assert_eq!((&promoted.sha256, promoted.patchset), (first.digest().sha256(), 3));
    Ok(())
}

#[tokio::test]
async fn an_image_whose_gate_was_killed_before_its_tag_gets_that_by_the_same_command_even_once_it_is_merged()
-> Result<()> {
    let world = World::new(Debian::Twelve)?;
    let tap = Tap::to(&world.registry)?;
    let candidates = format!("registry = \"{}/ci\"", world.registry.host());
    let images = format!("registry = \"{}/acme\"\nrepository = '.*/(ci|acme)/.*'", tap.host);
    let changes = Changes::with(&world, &candidates, &images)?;
    let id = changes.open()?;
    let (named, tag) = (change(&id), format!("change_{id}_1"));
    let gate = ["candidate", "--image", "web:1", "--change", &named, "--gate"];
    let putting = format!("/manifests/{tag} HTTP");
    let tagged = async || anyhow::Ok(changes.named(&tag).await?.map(|manifest| manifest.digest().clone()));

    // An image that has no tag yet is not named: a registry may take it for garbage.
    let first = build(&world, &changes, "1", "first")?;
    tap.killed_as_it_sends(&format!("PUT /v2/acme/web{putting}"), changes.release(&gate)?)?;
    assert!(changes.change(&id).await?.candidates.iter().all(|known| !known.gate));
    changes.done(&gate)?;
    assert_eq!(tagged().await?.as_ref(), Some(first.digest()));
    // Another one in its place is named before it has the tag.
    let second = build(&world, &changes, "1", "second")?;
    tap.killed_as_it_sends(&format!("PUT /v2/acme/web{putting}"), changes.release(&gate)?)?;
    assert_eq!(gated(&changes, &id).await?.sha256, *second.digest().sha256());
    assert_eq!(tagged().await?.as_ref(), Some(first.digest()));
    let commit = changes.merge(&id)?;
    changes.git(&["checkout", "--quiet", &format!("change-{id}")])?;
    for _ in 0..2 {
        changes.done(&gate)?;
        assert_eq!(tagged().await?.as_ref(), Some(second.digest()));
    }
    // Nothing else becomes a candidate of it any more.
    build(&world, &changes, "1", "third")?;
    assert!(changes.refused(&gate, 1)?.contains("was merged: candidates are built of what is not merged yet"));
    changes.git(&["checkout", "--quiet", "main"])?;
    changes.promote(&id)?;
    assert_eq!(changes.named(&commit).await?.as_ref(), Some(&second));
    assert_eq!(tagged().await?, None);
    Ok(())
}
