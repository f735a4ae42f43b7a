//! Blobs on their way: whole or not at all, and their size costs no memory.

use std::{fs, process::Command};

use anyhow::{Context, Result};
use bytes::Bytes;
use harness::registry::Debian;
use registry::{BlobSource, Descriptor, Digest, Error, MediaType};
use sha2::Digest as _;

use crate::world::{World, worlds, writable};

/// How large the blob is by which memory is judged, in bytes.
const LARGE: u64 = 256 << 20;

/// Most memory that an upload may take, in kB.
const MEMORY: u64 = 32 << 10;

/// Tells this very test to upload, in a process of its own.
const UPLOADER: &str = "PUSH_TEST_UPLOAD";

#[tokio::test]
async fn a_blob_is_sent_once_and_only_with_its_own_digest() -> Result<()> {
    for world in worlds()? {
        let repository = world.repository("acme/web");
        let writable = writable(&repository);
        let writer = world.client.writer(&writable);
        let bytes = Bytes::from_static(b"some layer");
        let blob = Descriptor::of(MediaType::LAYER.parse()?, &bytes);
        let (sent, requests) = world.asked(writer.put_blob(&blob, BlobSource::Bytes(&bytes))).await?;
        sent?;
        assert_eq!(requests.iter().filter(|request| request.method == "PUT").count(), 1, "{requests:?}");
        let (again, requests) = world.asked(writer.put_blob(&blob, BlobSource::Bytes(&bytes))).await?;
        again?;
        assert!(requests.iter().all(|request| request.method == "HEAD"), "{requests:?}");
        assert_eq!(world.client.small_blob(&repository, &blob).await?, bytes);

        let other = Descriptor { digest: Digest::of(b"another"), ..blob };
        let refused = writer.put_blob(&other, BlobSource::Bytes(&bytes)).await.unwrap_err();
        assert!(
            matches!(&refused, Error::Unavailable { reason, .. } if reason.contains("DIGEST_INVALID")),
            "{refused}"
        );
        assert_eq!(world.client.blob_size(&repository, &other.digest).await?, None);
    }
    Ok(())
}

#[tokio::test]
async fn an_upload_takes_little_memory_whatever_its_size() -> Result<()> {
    if let Some(host) = std::env::var_os(UPLOADER) {
        return upload(host.to_str().context("a host is text")?).await;
    }
    let world = World::new(Debian::Thirteen)?;
    let test = Command::new(std::env::current_exe()?)
        .args(["--exact", "uploading::an_upload_takes_little_memory_whatever_its_size", "--nocapture"])
        .env(UPLOADER, world.registry.host())
        .output()?;
    let said = format!("{}{}", String::from_utf8_lossy(&test.stdout), String::from_utf8_lossy(&test.stderr));
    assert!(test.status.success() && said.contains("1 passed"), "{said}");
    Ok(())
}

/// Uploads a large file, and judges how much memory that took.
async fn upload(host: &str) -> Result<()> {
    let client = registry::Client::new(registry::ClientOptions::default()).map_err(anyhow::Error::msg)?;
    let directory = tempfile::tempdir()?;
    let path = directory.path().join("layer");
    fs::File::create(&path)?.set_len(LARGE)?;
    let mut hasher = sha2::Sha256::new();
    let zeros = vec![0; 1 << 20];
    for _ in 0..LARGE >> 20 {
        hasher.update(&zeros);
    }
    let digest = Digest::from(bucket::Sha256::from(<[u8; 32]>::from(hasher.finalize())));
    let blob = Descriptor::new(MediaType::LAYER.parse()?, digest, LARGE);
    let writable = writable(&format!("{host}/acme/web").parse()?);
    let before = memory("VmRSS")?;
    client.writer(&writable).put_blob(&blob, BlobSource::File(&path)).await?;
    let most = memory("VmHWM")?;
    assert!(most.saturating_sub(before) < MEMORY, "from {before} kB to {most} kB");
    assert_eq!(client.blob_size(writable.repository(), &blob.digest).await?, Some(LARGE));
    Ok(())
}

/// A line of proc(5), `/proc/self/status`, in kB.
fn memory(name: &str) -> Result<u64> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    Ok(line.context("the kernel says it")?.trim().trim_end_matches(" kB").parse()?)
}
