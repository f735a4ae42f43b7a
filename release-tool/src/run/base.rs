//! The image that another one is built on, as its registry has it.

use anyhow::{Context as _, Result, bail};
use registry::{
    Client, Content, Descriptor, Manifest, Platform, Reference,
    image::{Base, Configuration},
};

/// Reads a base, of one for several platforms that of this machine; and what it was called, with the digest that this had now.
pub(super) async fn read(client: &Client, named: &Reference) -> Result<(Base, Reference)> {
    let found = client.manifest(named).await?;
    let found = found.with_context(|| format!("there is no base `{named}` in its registry"))?;
    let seen = Reference { digest: Some(found.digest().clone()), ..named.clone() };
    let manifest = of_platform(client, named, found).await?;
    let Content::Image { config, .. } = manifest.content() else {
        bail!("the base `{named}` lists an index of its own: name one of the images in that")
    };
    let read = client.small_blob(&named.repository, config).await?;
    let configuration = Configuration::read(&read).with_context(|| format!("nothing can be built on `{named}`"))?;
    Ok((Base { repository: named.repository.clone(), manifest, configuration }, seen))
}

async fn of_platform(client: &Client, named: &Reference, found: Manifest) -> Result<Manifest> {
    let Content::Index(listed) = found.content() else { return Ok(found) };
    let here = Platform::here()?;
    let is_here = |descriptor: &&Descriptor| {
        descriptor.platform.as_ref().is_some_and(|platform| {
            let is_variant = here.variant.is_none() || platform.variant == here.variant;
            (&platform.os, &platform.architecture, is_variant) == (&here.os, &here.architecture, true)
        })
    };
    let Some(own) = listed.iter().find(is_here) else {
        bail!("the base `{named}` has no image for {}/{}, on which this runs", here.os, here.architecture)
    };
    let read = client.by_digest(&named.repository, &own.digest).await?;
    read.with_context(|| format!("the base `{named}` lists {}, and that is missing", own.digest))
}
