//! Whatever the size of a layer, whoever carries it takes little memory.

use std::{
    fs::{self, File},
    io::copy,
    path::{Path, PathBuf},
    process::Stdio,
};

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use harness::registry::Debian;
use registry::{BlobSource, Descriptor, Digest, Manifest, MediaType};
use reqwest::{Method, StatusCode};
use serde_json::json;

use crate::{
    candidates::change,
    programs::STAGES,
    publishing::{Service, most_memory},
    serving::Try,
    world::{World, tag, writable},
};

/// How large a layer is, in MiB: what is kept of one is seen by the other, and what is kept of another program by neither.
const SIZES: [u64; 2] = [1, 48];

/// How much more memory the larger one may take, in KiB.
const MORE: u64 = 32 << 10;

/// An image with one layer of so many MiB that is not compressed, in the OCI's layout in a directory: it, its configuration, and
/// its layer with where that is.
fn large(directory: &Path, megabytes: u64) -> Result<(Manifest, Bytes, (Descriptor, PathBuf))> {
    let blobs = directory.join("blobs/sha256");
    fs::create_dir_all(&blobs)?;
    let layer = blobs.join("layer");
    let mut content = std::io::Read::take(File::open("/dev/urandom")?, megabytes << 20);
    copy(&mut content, &mut File::create(&layer)?)?;
    let descriptor = Descriptor::of(MediaType::LAYER.parse()?, &fs::read(&layer)?);
    let config = json!({
        "architecture": "amd64", "os": "linux", "config": {},
        "rootfs": { "type": "layers", "diff_ids": [descriptor.digest] },
    });
    let config = Bytes::from(config.to_string());
    let described = Descriptor::of(MediaType::CONFIG.parse()?, &config);
    let manifest = Manifest::image(&described, std::slice::from_ref(&descriptor), &std::collections::BTreeMap::new())?;
    let path = |digest: &Digest| blobs.join(digest.sha256().as_str());
    fs::rename(&layer, path(&descriptor.digest))?;
    fs::write(path(&described.digest), &config)?;
    fs::write(path(manifest.digest()), manifest.bytes())?;
    let listed = Descriptor::of(manifest.media_type().as_str().parse()?, manifest.bytes());
    fs::write(directory.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#)?;
    fs::write(directory.join("index.json"), json!({ "schemaVersion": 2, "manifests": [listed] }).to_string())?;
    let at = path(&descriptor.digest);
    Ok((manifest, config, (descriptor, at)))
}

#[tokio::test]
async fn a_large_base_that_is_copied_from_another_registry_takes_little_memory() -> Result<()> {
    let (elsewhere, world) = (World::new(Debian::Twelve)?, World::new(Debian::Thirteen)?);
    let repository = elsewhere.repository("acme/base");
    let to = writable(&repository);
    let writer = elsewhere.client.writer(&to);
    let mut most = Vec::new();
    for megabytes in SIZES {
        let oci = world.directory.path().join(format!("base-{megabytes}"));
        let (base, config, (layer, at)) = large(&oci, megabytes)?;
        writer.put_blob(&layer, BlobSource::File(&at)).await?;
        writer.put_blob(&Descriptor::of(MediaType::CONFIG.parse()?, &config), BlobSource::Bytes(&config)).await?;
        writer.tag(&tag(&megabytes.to_string()), &base).await?;
        let variants = format!(
            "  production: {{ base: '{repository}@{}', build: [[sh, -c, 'mkdir out; cp web out']], root: out, entrypoint: [/web] }}\n",
            base.digest()
        );
        let service = Service::new(&world, &Service::images(&world), STAGES, &variants)?;
        let mut run = service.release(service.repo.directory(), "022", &["run", "-m", "why"])?;
        most.push(most_memory(run.stdout(Stdio::null()).stderr(Stdio::null()).spawn()?)?);
        let copied = world.client.blob_size(&world.repository("acme/web"), &layer.digest).await?;
        assert_eq!(copied, Some(megabytes << 20), "it was copied");
        fs::remove_dir_all(service.repo.directory())?;
    }
    assert!(most[1] < most[0] + MORE, "from {} KiB to {} KiB", most[0], most[1]);
    Ok(())
}

#[tokio::test]
async fn a_large_image_of_another_builder_takes_little_memory() -> Result<()> {
    let world = World::new(Debian::Thirteen)?;
    let it = Try::new(&world, Debian::Thirteen)?;
    let id = it.changes.open()?;
    let mut most = Vec::new();
    for megabytes in SIZES {
        let oci = world.directory.path().join(format!("built-{megabytes}"));
        let (_, _, (layer, _)) = large(&oci, megabytes)?;
        let archive = world.directory.path().join(format!("built-{megabytes}.tar"));
        let (from, to) = (format!("oci:{}", oci.display()), format!("docker-archive:{}:web:1", archive.display()));
        world.tools.skopeo(&["copy", &from, &to])?.ok()?;
        for (kind, from) in [("oci", from), ("archive", format!("docker-archive:{}", archive.display()))] {
            let image = format!("web-{kind}-{megabytes}:1");
            let candidate = ["candidate", "--image", &image, "--from", &from, "--change", &change(&id)];
            let mut candidate = it.changes.release(&candidate)?;
            most.push(most_memory(candidate.stdout(Stdio::null()).stderr(Stdio::null()).spawn()?)?);
            let repository = world.repository(&format!("ci/web-{kind}-{megabytes}"));
            assert_eq!(world.client.blob_size(&repository, &layer.digest).await?, Some(megabytes << 20));
        }
    }
    let [oci, archive] = [0, 1].map(|kind| (most[kind], most[kind + 2]));
    for (kind, (small, large)) in [("oci", oci), ("docker-archive", archive)] {
        assert!(large < small + MORE, "{kind}: from {small} KiB to {large} KiB");
    }
    Ok(())
}

/// The most memory that a process has had so far, in KiB.
fn most_so_far(process: u32) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{process}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("it says how much")?;
    Ok(line.trim().trim_end_matches(" kB").parse()?)
}

#[tokio::test]
async fn large_blobs_go_into_and_through_the_registry_of_an_overlay_in_little_memory() -> Result<()> {
    let world = World::new(Debian::Thirteen)?;
    let it = Try::new(&world, Debian::Thirteen)?;
    let serving = it.serve(&["--from", &it.production.host()])?;
    let (client, password) = (it.client()?, it.password(&serving.address)?);
    let repository = format!("{}/acme/web", it.production.host()).parse()?;
    let to = writable(&repository);
    let mut most = Vec::new();
    for megabytes in SIZES {
        let oci = world.directory.path().join(format!("layers-{megabytes}"));
        let (_, _, (layer, at)) = large(&oci, megabytes)?;
        world.client.writer(&to).put_blob(&layer, BlobSource::File(&at)).await?;
        let base = format!("https://{}", serving.address);
        let ask = |method: Method, url: String| client.request(method, url).header("authorization", &password);
        // Through it from production, into it, and out of it.
        let read = async || -> Result<()> {
            let answer = ask(Method::GET, format!("{base}/v2/acme/web/blobs/{}", layer.digest)).send().await?;
            ensure!(answer.status() == StatusCode::OK, "{}", answer.status());
            ensure!(Digest::of(&answer.bytes().await?) == layer.digest, "it is another");
            Ok(())
        };
        read().await?;
        let upload = ask(Method::POST, format!("{base}/v2/acme/web/blobs/uploads/")).send().await?;
        let place = upload.headers()["location"].to_str()?.to_owned();
        let put =
            ask(Method::PUT, format!("{base}{place}?digest={}", layer.digest)).body(fs::read(&at)?).send().await?;
        ensure!(put.status() == StatusCode::CREATED, "{}", put.status());
        read().await?;
        most.push(most_so_far(serving.process.id())?);
    }
    assert!(most[1] < most[0] + MORE, "from {} KiB to {} KiB", most[0], most[1]);
    Ok(())
}
