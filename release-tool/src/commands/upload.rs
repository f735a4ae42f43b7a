//! `release upload`: from a built `.deb` to the bucket. All it needs to know is inside the package.

use std::{
    fs::File,
    io::{BufReader, Read as _},
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};
use bucket::{Bucket, Error, ReleaseMetadata, ReleaseName};
use clap::Args;
use console::{one_line, print_json, print_line, size};
use serde::Serialize;
use sha2::{Digest as _, Sha256};

use crate::{
    cli::{Options, wait_for},
    deb::{
        control::{Control, unescape},
        read::DebFile,
    },
    manifest::FILE,
    progress::Progress,
};

const EXAMPLES: &str = "\
Examples:
  release upload dist/web:*.deb
  release upload --bucket file:///srv/push dist/web:dev@build-1:2026-11-20T19:05:02Z:7e0f….deb

Uploading the same file twice does no harm; another one under the same name is refused.";

/// Arguments of `release upload`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Upload {
    /// Packages that `release build` made
    #[arg(value_name = "DEB", required = true)]
    debs: Vec<PathBuf>,
}

/// A package that was uploaded, for `--json`.
#[derive(Debug, Serialize)]
struct Uploaded {
    release: ReleaseName,
    #[serde(flatten)]
    metadata: ReleaseMetadata,
}

impl Upload {
    pub(crate) fn run(self, options: &Options) -> Result<()> {
        let debs: Vec<PathBuf> = self.debs.iter().map(|deb| options.directory.join(deb)).collect();
        wait_for(async {
            let bucket = options.find_bucket().await?;
            upload_all(&bucket, &debs, options.json).await
        })
    }
}

/// Uploads packages one after the other and prints each release name as soon as the release is there.
pub(crate) async fn upload_all(bucket: &Bucket, debs: &[PathBuf], json: bool) -> Result<()> {
    let mut uploaded = Vec::new();
    for deb in debs {
        let (release, metadata) = describe(deb)?;
        upload(bucket, deb, &release, &metadata).await?;
        if !json {
            print_line(&release)?;
        }
        uploaded.push(Uploaded { release, metadata });
    }
    if json { print_json(&uploaded) } else { Ok(()) }
}

async fn upload(bucket: &Bucket, deb: &Path, release: &ReleaseName, metadata: &ReleaseMetadata) -> Result<()> {
    let uploaded = {
        let progress = Progress::begin(&format!("uploading {}", release.stem()), metadata.size);
        bucket.upload_release(release, deb, metadata, &|done| progress.at(done)).await
    };
    let shown = deb.display();
    match uploaded {
        Ok(_) => console::note(format_args!("uploaded {release} ({})", size(metadata.size))),
        Err(Error::AlreadyExists { .. }) => {
            // An upload whose answer was lost looks like this when it is tried again.
            let there = bucket.release(release).await.with_context(|| format!("could not look at `{release}`"))?;
            let same = there.is_some_and(|there| there.metadata.is_ok_and(|facts| facts.sha256 == metadata.sha256));
            if !same {
                bail!(
                    "another package is in the bucket as `{release}` already, and a release is never overwritten: \
                     build again, the new one gets a name of its own"
                );
            }
            console::note(format_args!("{release} was uploaded before, with the same content"));
        }
        Err(error @ Error::Unavailable { .. }) => {
            return Err(error).with_context(|| {
                format!("could not upload `{release}`; nothing is lost, try again with `release upload '{shown}'`")
            });
        }
        Err(error) => return Err(error).with_context(|| format!("could not upload `{release}`")),
    }
    Ok(())
}

/// What is said of a release: read from inside the package, and its size and hash.
pub(crate) fn describe(deb: &Path) -> Result<(ReleaseName, ReleaseMetadata)> {
    let opened = DebFile::open(deb)?;
    let (release, metadata) =
        facts(&opened.control).with_context(|| format!("`{}` can't be uploaded", deb.display()))?;
    let (sha256, size) = hash(deb).with_context(|| format!("could not read `{}`", deb.display()))?;
    Ok((release, ReleaseMetadata { sha256, size, ..metadata }))
}

/// The facts in a control file; size and hash are still to be filled in.
pub(crate) fn facts(control: &Control) -> Result<(ReleaseName, ReleaseMetadata)> {
    let Some(stem) = control.get("Push-Release") else {
        bail!(
            "it has no field `Push-Release`, so `release` didn't make it. To release it as it is, write into {FILE} \
             [package.NAME] with deb = \"path/of/it.deb\", and run `release -m \"why\" NAME`"
        );
    };
    let release = ReleaseName::from_stem(stem).context("its field `Push-Release` is wrong")?;
    let needed = |field: &str| match control.get(field) {
        Some(value) if !value.is_empty() && !value.contains('\n') => Ok(value.to_owned()),
        _ => bail!("it has no proper field `{field}`"),
    };
    let text = |field: &str| {
        unescape(control.get(field).unwrap_or_default()).with_context(|| format!("its field `{field}` is wrong"))
    };
    let note = text("Push-Note")?;
    if note.is_empty() || note.len() > ReleaseMetadata::MAX_NOTE {
        bail!("its field `Push-Note` is missing or too long: build it again with `release build`");
    }
    let dirty = match control.get("Push-Dirty") {
        Some("true") => true,
        Some("false") => false,
        other => bail!("its field `Push-Dirty` is `{}`, not true or false", one_line(other.unwrap_or_default())),
    };
    let units = control.get("Push-Units").unwrap_or_default().split_whitespace();
    let services = units.map(|unit| unit.split('=').next().unwrap_or_default().to_owned()).collect();
    let metadata = ReleaseMetadata {
        dirty,
        note,
        services,
        sha256: String::new(),
        size: 0,
        package: needed("Package")?,
        version: needed("Version")?,
        architecture: needed("Architecture")?,
        repo: text("Push-Repo")?,
        branch: text("Push-Branch")?,
    };
    Ok((release, metadata))
}

fn hash(deb: &Path) -> Result<(String, u64)> {
    let mut file = BufReader::with_capacity(0, File::open(deb)?);
    let (mut hash, mut size, mut buffer) = (Sha256::new(), 0, vec![0; 256 * 1024]);
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok((hex::encode(hash.finalize()), size)),
            read => {
                hash.update(&buffer[..read]);
                size += read as u64;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STEM: &str = "web:dev@build-1:2026-11-20T19:05:02Z:7e0ff6059e653eb75a36efb621d0fd66d1ced433";

    fn control(extra: &str) -> Control {
        Control::parse(&format!("Package: web\nVersion: 1\nArchitecture: all\n{extra}")).unwrap()
    }

    #[test]
    fn facts_come_from_inside() {
        let fields = format!(
            "Push-Release: {STEM}\nPush-Note: a\\nb\nPush-Dirty: true\nPush-Units: web.service=restart x.timer=none\n"
        );
        let (release, metadata) = facts(&control(&fields)).unwrap();
        assert_eq!(release.stem(), STEM);
        assert_eq!((metadata.note.as_str(), metadata.dirty), ("a\nb", true));
        assert_eq!(metadata.services, ["web.service", "x.timer"]);
    }

    #[test]
    fn packages_of_others_are_refused_with_the_way_to_release_them() {
        let error = facts(&control("")).unwrap_err().to_string();
        assert!(error.contains("deb = "), "{error}");
        for bad in ["Push-Release: ../x:a@b\n".to_owned(), format!("Push-Release: {STEM}\nPush-Note: x\n")] {
            assert!(facts(&control(&bad)).is_err(), "{bad}");
        }
    }
}
