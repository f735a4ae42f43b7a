//! A service with a package and an image: what a pipeline of a change makes of it, and that both move together.

use anyhow::{Context as _, Result};
use bucket::ArtifactType;
use harness::registry::Debian;
use serde_json::Value;

use crate::{
    candidates::{Changes, change, uploads},
    world::{World, tag, worlds},
};

/// A pipeline that publishes both.
const STAGES: &str = "pipelines:
  web:
    stages:
      - { name: ship, build: production, publish: { package: { name: web }, image: { tags: ['extra'] } } }
";

/// Nothing that is built here is the same twice.
const VARIANTS: &str = "variants:
  production: { build: [[sh, -c, 'mkdir out; cp version out; date +%s%N >out/time']], root: out, entrypoint: [/version] }
";

fn add_pipeline(changes: &Changes) -> Result<()> {
    changes.repo.write(".pipeline/config.yaml", STAGES)?;
    changes.repo.write(".pipeline/web/variants.yaml", VARIANTS)?;
    changes.repo.commit("a pipeline")
}

#[tokio::test]
async fn a_package_and_an_image_of_one_service_are_tried_gated_and_promoted_together() -> Result<()> {
    for world in worlds()? {
        let changes = Changes::new(&world)?;
        add_pipeline(&changes)?;
        let id = changes.open()?;
        let built = changes.git(&["rev-parse", "HEAD"])?;
        let run = ["run", "-m", "why", "--change", &change(&id)];
        let (ran, _) = changes.done(&run)?;
        let image = &ran["pipelines"][0]["images"][0];
        let of = image["tag"].as_str().context("it has a tag")?.to_owned();
        assert_eq!(image["name"], world.repository("ci/web").to_string());
        let recorded = changes.change(&id).await?;
        let types: Vec<_> = recorded.candidates.iter().map(|known| (known.artifact.clone(), known.gate)).collect();
        assert_eq!(types, [(ArtifactType::Deb, false), (ArtifactType::Image, false)]);
        assert_eq!(of, format!("{}_{built}", recorded.candidates[1].build));
        let manifest = world.client.by_tag(&world.repository("ci/web"), &tag(&of)).await?.context("it is there")?;
        assert_eq!(changes.named(&built).await?, None);
        assert_eq!(world.client.by_tag(&world.repository("ci/web"), &tag("extra")).await?, None);

        // What was made of this commit is taken when the same is run again.
        let (again, requests) = world.asked(async { changes.done(&run) }).await?;
        assert_eq!(again?.0["pipelines"][0]["images"][0], *image);
        assert_eq!(uploads(&requests), 0, "{requests:?}");
        assert_eq!(changes.change(&id).await?.candidates.len(), 2);

        changes.done(&["candidate", "-m", "why", "--change", &change(&id), "--gate"])?;
        changes.candidate(&id, &format!("web:{built}"), &["--gate"])?;
        let show = ["change", "show", &change(&id)];
        let shown = String::from_utf8(changes.release(&show)?.output()?.stdout)?;
        for gated in [false, true] {
            let known = changes.change(&id).await?.candidates.into_iter().filter(|known| known.gate == gated);
            for known in known {
                let (kind, name) = match known.tag {
                    Some(_) => ("image", known.image.context("it has a tag")?),
                    None => ("package", known.release.stem().to_owned()),
                };
                let is_it = |line: &str| line.starts_with(&format!("{name} ")) && line.contains(kind);
                assert!(shown.lines().any(|line| is_it(line) && line.contains(" yes ") == gated), "no {name}: {shown}");
            }
        }
        let landed = changes.merge(&id)?;
        let (promoted, _) = changes.promote(&id)?;
        let moved: Vec<_> = promoted.as_array().context("a list")?.iter().map(|one| &one["type"]).collect();
        assert_eq!(moved, ["deb", "image"]);
        assert!(promoted.as_array().context("a list")?.iter().all(|one| one["landed"] == *landed), "{promoted}");
        for name in [&built, &landed] {
            assert_eq!(changes.named(name).await?.as_ref(), Some(&manifest), "{name}");
        }
        assert_eq!(changes.below("production", "debs").len(), 1);
        assert_eq!(changes.below("production", "candidates"), Vec::<String>::new());
        for directory in ["changes", "production", "candidates"] {
            std::fs::remove_dir_all(changes.path(directory))?;
        }
    }
    Ok(())
}

#[tokio::test]
async fn an_image_of_a_change_goes_only_where_its_target_branch_says() -> Result<()> {
    let world = World::new(Debian::Thirteen)?;
    let host = world.registry.host();
    let images = format!("registry = \"{host}/acme\"\nrepository = '.*/acme/.*'");
    for (candidates, expected) in [
        (String::new(), "set `registry` in `[candidates]`"),
        (format!("registry = \"{host}/ci\""), "does not match its whole name"),
    ] {
        let changes = Changes::with(&world, &candidates, &images)?;
        add_pipeline(&changes)?;
        let id = changes.open()?;
        // What the change says of itself counts for nothing.
        let own = std::fs::read_to_string(changes.repo.directory().join("release.toml"))?;
        changes.repo.write("release.toml", &own.replace("'.*/acme/.*'", "'.*'"))?;
        changes.repo.commit("more rights")?;
        changes.done(&["change", "open", &change(&id)])?;
        let run = ["run", "-m", "why", "--change", &change(&id)];
        let (refused, requests) = world.asked(async { changes.refused(&run, 2) }).await?;
        let refused = refused?;
        assert!(refused.contains(expected), "{refused}");
        assert_eq!(requests, []);
        for directory in ["changes", "production", "candidates"] {
            std::fs::remove_dir_all(changes.path(directory))?;
        }
    }
    Ok(())
}

#[tokio::test]
async fn an_overlay_has_the_images_of_the_change_and_of_those_ahead() -> Result<()> {
    let world = World::new(Debian::Thirteen)?;
    let changes = Changes::new(&world)?;
    let own = std::fs::read_to_string(changes.repo.directory().join("release.toml"))?;
    changes.repo.write("release.toml", &format!("{own}requires = [\"image\"]\n"))?;
    changes.repo.commit("images are required")?;
    let first = changes.open()?;
    let ahead = world.push_index("ci/web-lib", "1", "of the change ahead")?;
    changes.candidate(&first, "web-lib:1", &[])?;
    let second = changes.open()?;
    changes.done(&["change", "open", &change(&second), "--needs", &change(&first)])?;
    let nearest = world.push("ci/web", "2", "of the change itself")?;
    changes.candidate(&second, "web:2", &["--gate"])?;
    let overlay = changes.path("overlay");
    let start = ["buildset", "start", "--change", &change(&second), "--out", overlay.to_str().context("UTF-8")?];
    let (started, said) = changes.done(&start)?;
    assert!(said.contains(&format!("the image web-lib:1 from {}, patchset 1", change(&first))), "{said}");
    let images: Vec<_> = started["artifacts"].as_array().context("a list")?.iter().map(|one| &one["image"]).collect();
    assert_eq!(images, ["web:2", "web-lib:1"]);
    let host = world.registry.host();
    for (name, expected) in [("web:2", &nearest), ("web-lib:1", &ahead)] {
        let at = format!("oci:{}/registry/images:{host}/acme/{name}", overlay.display());
        let found = world.tools.skopeo(&["inspect", "--raw", &at])?.ok()?;
        assert_eq!(found.trim().as_bytes(), &expected.bytes()[..], "{name}");
    }
    // The same again is left as it is.
    let (again, said) = changes.done(&start)?;
    assert_eq!(again["buildset"], started["buildset"], "{said}");
    let images = |started: &Value| -> Vec<Value> {
        let artifacts = started["artifacts"].as_array().cloned().unwrap_or_default();
        artifacts.into_iter().filter(|artifact| artifact["image"].is_string()).collect()
    };
    assert!(images(&started).len() == 2 && images(&again) == images(&started), "{again}");
    assert_eq!(images(&again)[1]["change"], change(&first));
    // Nobody chooses the image of a change that was given up: the overlay does not serve it in production's place.
    changes.done(&["change", "abandoned", &change(&first)])?;
    let (without, said) = changes.done(&start)?;
    assert!(without["buildset"] != started["buildset"] && said.contains("has something else in it"), "{said}");
    assert_eq!(images(&without), images(&started)[..1]);
    let left = format!("oci:{}/registry/images:{host}/acme/web-lib:1", overlay.display());
    assert!(!world.tools.skopeo(&["inspect", "--raw", &left])?.success());
    changes.git(&["checkout", "--quiet", &format!("change-{first}")])?;
    changes.done(&["change", "open", &change(&first)])?;
    changes.git(&["checkout", "--quiet", &format!("change-{second}")])?;

    // A try that passes is one of exactly these images.
    std::fs::remove_dir_all(&overlay)?;
    let run = changes.release(&["buildset", "run", "--change", &change(&second), "--", "true"])?.output()?;
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    let recorded = changes.change(&second).await?;
    let tried = recorded.tries.last().context("it was tried")?;
    assert!([&nearest, &ahead].iter().all(|image| tried.sha256.contains(image.digest().sha256())), "{tried:?}");
    changes.merge(&second)?;
    let (_, said) = changes.promote(&second)?;
    assert!(!said.contains("no try with exactly"), "{said}");
    Ok(())
}
