//! Which credential goes where: of several registries each gets its own, and never that of another.

use std::fs;

use anyhow::{Context as _, Result, ensure};
use harness::{
    base64,
    registry::{BUILDER, Debian, PASSWORD, RegistryOptions, RegistryServer, Serving, Tap, USER, oci_image},
};
use serde_json::{Map, Value, json};

use crate::{
    candidates::{Changes, change},
    serving::{client, password},
    world::World,
};

/// Whose credentials were sent there so far.
fn seen(tap: &Tap) -> Vec<&'static str> {
    let sent = tap.sent();
    [USER, BUILDER].into_iter().filter(|user| sent.contains(&auth(user))).collect()
}

/// A credential, as it is written down and sent.
fn auth(user: &str) -> String {
    base64(format!("{user}:{PASSWORD}").as_bytes())
}

#[tokio::test]
async fn each_registry_gets_its_own_credential_and_never_that_of_another() -> Result<()> {
    let asks = RegistryOptions { password: true };
    let world = World::of(RegistryServer::start(Debian::Twelve, asks)?)?;
    let production = RegistryServer::start(Debian::Thirteen, asks)?;
    let (of_candidates, of_releases) = (Tap::to(&world.registry)?, Tap::to(&production)?);
    let (ci, images) = (&of_candidates.host, &of_releases.host);
    let changes = Changes::with(
        &world,
        &format!("registry = \"{ci}/ci\""),
        &format!("registry = \"{images}/acme\"\nrepository = '.*/(ci|acme)/.*'"),
    )?;
    let log_in = |logins: &[(&str, &str)]| {
        let entry = |(host, user): &(&str, &str)| ((*host).to_owned(), json!({ "auth": auth(user) }));
        let auths: Map<String, Value> = logins.iter().map(entry).collect();
        fs::write(changes.path("config.json"), json!({ "auths": auths }).to_string())
    };
    let (id, overlay) = (changes.open()?, changes.path("overlay"));
    let (image, named) = ("web:1", change(&id));
    world.push("ci/web", "1", "new")?;
    let released = changes.path("released");
    oci_image(&released, b"released")?;
    world.tools.push(&released, &format!("{}/acme/web:prod", production.host()))?;
    let gate = ["candidate", "--image", image, "--change", &named, "--gate"];

    // Whoever has logged in to one of them has no right on the other.
    log_in(&[(ci, BUILDER)])?;
    let refused = changes.refused(&gate, 1)?;
    assert!(refused.contains(&format!("there is no credential for `{images}`")), "{refused}");
    assert_eq!((seen(&of_candidates), seen(&of_releases)), (vec![BUILDER], vec![]));
    log_in(&[(images, USER)])?;
    let refused = changes.refused(&gate, 1)?;
    assert!(refused.contains(&format!("there is no credential for `{ci}`")), "{refused}");
    assert_eq!((seen(&of_candidates), seen(&of_releases)), (vec![BUILDER], vec![]));

    log_in(&[(ci, BUILDER), (images, USER)])?;
    changes.done(&gate)?;
    let out = overlay.to_str().context("UTF-8")?;
    changes.done(&["buildset", "start", "--change", &named, "--out", out])?;
    // The registry of the overlay reads production's with the credential for that, and has a password of its own.
    let serving = Serving::start(changes.release(&["registry", out, "--from", images])?)?;
    let own = password(&overlay, &serving.address)?;
    for tag in ["1", "prod"] {
        let url = format!("https://{}/v2/acme/web/manifests/{tag}", serving.address);
        let asked = client(&overlay)?.get(url).header("authorization", &own);
        let accepted = "application/vnd.oci.image.manifest.v1+json";
        let answer = asked.header("accept", accepted).send().await?;
        ensure!(answer.status().is_success(), "{tag}: {}: {}", answer.status(), answer.text().await?);
    }
    drop(serving);
    changes.merge(&id)?;
    changes.promote(&id)?;
    assert_eq!((seen(&of_candidates), seen(&of_releases)), (vec![BUILDER], vec![USER]));
    // Whatever is served, pushed and promoted: what opens the overlay stays here.
    let own = own.trim_start_matches("Basic ");
    for tap in [&of_candidates, &of_releases] {
        assert!(!tap.sent().contains(own));
    }
    Ok(())
}
