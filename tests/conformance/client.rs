//! A program that uses a bucket, for tests that need one in a process of its own.
//!
//! `conformance-client URL count PATH N`: adds 1 to the number in an object, N times.
//! `conformance-client URL copy FROM TO FILE`: downloads FROM to FILE, uploads that as TO, and prints by how many KiB
//! its memory grew at most.

use anyhow::{Context, Result, bail};
use bucket::{Bucket, BucketOptions, BucketUrl, Error, Metadata, ObjectPath};
use tokio::io::AsyncWriteExt;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let [url, arguments @ ..] = &arguments[..] else { bail!("usage: conformance-client URL count|copy …") };
    let options = BucketOptions::from_env(|key| std::env::var(key).ok())?;
    let bucket = Bucket::open(&url.parse::<BucketUrl>()?, &options).await?;
    match arguments {
        ["count", path, times] => count(&bucket, &path.parse()?, times.parse()?).await,
        ["copy", from, to, file] => copy(&bucket, &from.parse()?, &to.parse()?, file.as_ref()).await,
        _ => bail!("usage: conformance-client URL count|copy …"),
    }
}

async fn count(bucket: &Bucket, path: &ObjectPath, times: u32) -> Result<()> {
    let mut done = 0;
    while done < times {
        let object = bucket.get(path, 100).await?.context("the number is gone")?;
        let number: u32 = std::str::from_utf8(&object.content)?.parse()?;
        let next = (number + 1).to_string().into();
        match bucket.replace(path, next, &Metadata::new(), object.generation).await {
            Ok(_) => done += 1,
            Err(Error::Conflict { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

async fn copy(bucket: &Bucket, from: &ObjectPath, to: &ObjectPath, file: &std::path::Path) -> Result<()> {
    // A first request, so that what every client needs isn't counted.
    bucket.head(from).await?;
    let before = memory("VmRSS:")?;
    let mut download = bucket.download(from, None, 0).await?.context("nothing to download")?;
    let mut target = tokio::fs::File::create(file).await?;
    while let Some(chunk) = download.chunk().await? {
        target.write_all(&chunk).await?;
    }
    target.flush().await?;
    bucket.create_from_file(to, &bucket::SourceFile::read(file)?, &Metadata::new(), &|_| {}).await?;
    println!("{}", memory("VmHWM:")?.saturating_sub(before));
    Ok(())
}

/// A field of `/proc/self/status`, in KiB.
fn memory(field: &str) -> Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix(field)).context("no such field")?;
    Ok(line.trim().trim_end_matches(" kB").parse()?)
}
