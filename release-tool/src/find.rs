//! The package that a person means: a file, a release in the bucket, or the newest release of an app.
//!
//! Of a release only the head is read, up to where its files begin, unless it is wanted whole: everything but the files
//! themselves is in the control member, which comes first.

use std::{
    fs::File,
    io::{self, Write as _},
    os::fd::AsRawFd as _,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};
use bucket::{AppName, Bucket, Download, Release, ReleaseFields, ReleaseName, Sha256, Timestamp};
use console::{UsageError, one_line};
use sha2::Digest as _;

use crate::{
    deb::{ar, read::DebFile},
    inventory::Inventory,
};

/// How much of a release is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Extent {
    /// Up to the files.
    Head,
    /// All of it, and compared with its SHA-256.
    Whole,
}

/// What a person typed, as far as it is clear without the bucket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// A package on this machine.
    File(PathBuf),
    /// A release in the bucket.
    Release(ReleaseName),
    /// The newest release of an app.
    Newest(AppName),
}

/// A package that was found and read.
#[derive(Debug)]
pub(crate) struct Found {
    /// The package. What came from the bucket lies in a file without a name.
    pub(crate) deb: DebFile,
    /// The release that it is; `None` for a package of others.
    pub(crate) name: Option<ReleaseName>,
    /// What the bucket says of it; `None` for a file.
    pub(crate) release: Option<Release>,
    /// Size of the whole package in bytes.
    pub(crate) size: u64,
    /// How much of it was read.
    extent: Extent,
    /// Keeps the file as long as it is read.
    _file: Option<File>,
}

impl Wanted {
    /// Understands a path relative to `directory`, a release with or without directory and `.deb`, or an app.
    pub(crate) fn parse(text: &str, directory: &Path) -> Result<Self> {
        let path = directory.join(text);
        // A program of a project often has the app's name.
        let is_path = text.contains('/') || path.extension().is_some_and(|extension| extension == "deb");
        if is_path && path.is_file() {
            return Ok(Self::File(path));
        }
        let stem = text.strip_suffix(".deb").unwrap_or(text);
        if let Ok(name) = text.parse().or_else(|_| ReleaseName::from_stem(stem)) {
            return Ok(Self::Release(name));
        }
        if let Ok(app) = text.parse() {
            return Ok(Self::Newest(app));
        }
        let text = format!("`{}` is neither a file, a release nor an app", one_line(text));
        Err(UsageError::new(text).with_hint("`release list APP` lists the releases of an app").into())
    }

    /// Whether the bucket is needed to find it.
    pub(crate) fn is_in_bucket(&self) -> bool {
        !matches!(self, Self::File(_))
    }

    /// Finds and reads it. `bucket` may be absent for a file.
    pub(crate) async fn find(&self, bucket: Option<&Bucket>, extent: Extent) -> Result<Found> {
        let bucket = || bucket.context("a release is looked for without a bucket");
        match self {
            Self::File(path) => Found::file(path, extent),
            Self::Release(name) => {
                let found = bucket()?.release(name).await.with_context(|| format!("could not read `{name}`"))?;
                let release = found.with_context(|| format!("no release `{name}` in the bucket"))?;
                Found::release(bucket()?, release, extent).await
            }
            Self::Newest(app) => {
                let newest = bucket()?.newest_releases(app, 1).await;
                let newest = newest.with_context(|| format!("could not list the releases of `{app}`"))?;
                let release = newest.into_iter().next();
                let release = release.with_context(|| format!("no releases of `{app}` in the bucket"))?;
                Found::release(bucket()?, release, extent).await
            }
        }
    }
}

impl Found {
    /// A package on this machine.
    pub(crate) fn file(path: &Path, extent: Extent) -> Result<Self> {
        let deb = DebFile::open(path)?;
        let size = path.metadata().with_context(|| format!("could not read `{}`", path.display()))?.len();
        let name = ReleaseFields::read(&deb.control)?.map(|fields| fields.release);
        let extent = needed(extent, &deb);
        Ok(Self { deb, name, release: None, size, extent, _file: None })
    }

    /// A release in the bucket.
    pub(crate) async fn release(bucket: &Bucket, release: Release, extent: Extent) -> Result<Self> {
        let name = &release.name;
        let failed = || format!("could not read `{name}`");
        let sha256 = release.metadata.as_ref().ok().map(|facts| facts.sha256.clone());
        let fetch = async |extent: Extent| {
            let download = bucket.download_release(&release, 0).await.with_context(failed)?;
            let download = download.with_context(|| format!("`{name}` no longer exists"))?;
            fetch(download, extent, sha256.clone()).await.with_context(failed)
        };
        let (mut file, mut deb) = fetch(extent).await?;
        if needed(extent, &deb) != extent {
            (file, deb) = fetch(Extent::Whole).await?;
        }
        let extent = needed(extent, &deb);
        let size = release.size;
        Ok(Self { deb, name: Some(name.clone()), release: Some(release), size, extent, _file: Some(file) })
    }

    /// What it has, as much of it as was read.
    pub(crate) fn inventory(&self) -> Result<Inventory> {
        match self.extent {
            Extent::Head => Inventory::of_control(&self.deb),
            Extent::Whole => Inventory::of_whole(&self.deb),
        }
    }

    /// Its place among the releases of its app: by when it was uploaded, as the time in a name is the word of whoever built
    /// it. A file that is none of them is as old as the file.
    pub(crate) fn place(&self, releases: &[Release]) -> Option<(Timestamp, ReleaseName)> {
        let name = self.name.clone()?;
        let uploaded = releases.iter().find(|release| release.name == name).map(|release| release.uploaded);
        let made = || Timestamp::try_from(self.deb.path.metadata().ok()?.modified().ok()?).ok();
        Some((uploaded.or_else(made)?, name))
    }

    /// What it is called in messages.
    pub(crate) fn shown(&self) -> String {
        match &self.name {
            Some(name) => name.to_string(),
            None => self.deb.path.display().to_string(),
        }
    }
}

/// How much of a package has to be read: the head of one without MD5 sums does not name its files.
fn needed(extent: Extent, deb: &DebFile) -> Extent {
    if deb.files.contains_key("md5sums") { extent } else { Extent::Whole }
}

/// Reads a package that is on its way into a file without a name. Of what isn't read the file has a hole.
pub(crate) async fn fetch(mut download: Download, extent: Extent, expected: Option<Sha256>) -> Result<(File, DebFile)> {
    let mut file = tempfile::tempfile().context("could not create a temporary file")?;
    let (mut head, mut sum) = (Vec::new(), sha2::Sha256::new());
    while let Some(chunk) = download.chunk().await? {
        match extent {
            Extent::Whole => {
                sum.update(&chunk);
                file.write_all(&chunk).context("could not write a temporary file")?;
            }
            Extent::Head => {
                head.extend_from_slice(&chunk);
                if let Some(end) = end_of_head(&head)? {
                    head.truncate(end);
                    break;
                }
            }
        }
    }
    if extent == Extent::Whole {
        let sum = Sha256::from(<[u8; 32]>::from(sum.finalize()));
        if let Some(expected) = expected.filter(|expected| *expected != sum) {
            bail!("SHA-256 mismatch: expected {expected}, received {sum}");
        }
    } else {
        file.write_all(&head).and_then(|()| file.set_len(download.size)).context("could not write a temporary file")?;
    }
    let deb = DebFile::open(&path_of(&file))?;
    Ok((file, deb))
}

/// Where a file without a name can be opened once more, as long as it is open.
pub(crate) fn path_of(file: &File) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()))
}

/// Where the header of the data member ends, if all before it is there.
fn end_of_head(bytes: &[u8]) -> Result<Option<usize>> {
    let mut rest = bytes;
    if bytes.len() < ar::MAGIC.len() {
        return Ok(None);
    }
    ar::Member::read_magic(&mut rest)?;
    let mut at = ar::MAGIC.len();
    loop {
        let Some(mut header) = bytes.get(at..).filter(|rest| rest.len() >= HEADER) else { return Ok(None) };
        let Some(member) = ar::Member::read(&mut header)? else { return Ok(None) };
        at += HEADER;
        if member.name.starts_with("data.tar") {
            return Ok(Some(at));
        }
        let size = usize::try_from(member.size).map_err(io::Error::other)?;
        if size > LARGEST_HEAD {
            bail!("`{}` has {size} bytes, more than the {LARGEST_HEAD} allowed before the files", member.name);
        }
        at += size + usize::from(member.is_padded());
    }
}

/// Length of a member's header.
const HEADER: usize = 60;

/// Largest member before the files, compressed or not.
const LARGEST_HEAD: usize = 64 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_person_types_is_understood() {
        let directory = tempfile::tempdir().unwrap();
        for file in ["x.deb", "web"] {
            std::fs::write(directory.path().join(file), "").unwrap();
        }
        let wanted = |text: &str| Wanted::parse(text, directory.path());
        let stem = "web:dev@build-1:2026-11-20T19:05:02Z:7e0ff6059e653eb75a36efb621d0fd66d1ced433";
        let name = ReleaseName::from_stem(stem).unwrap();
        for text in [stem.to_owned(), format!("{stem}.deb"), format!("web/{stem}.deb")] {
            assert_eq!(wanted(&text).unwrap(), Wanted::Release(name.clone()), "{text}");
        }
        assert_eq!(wanted("web").unwrap(), Wanted::Newest("web".parse().unwrap()));
        assert_eq!(wanted("./web").unwrap(), Wanted::File(directory.path().join("./web")));
        assert_eq!(wanted("x.deb").unwrap(), Wanted::File(directory.path().join("x.deb")));
        assert!(wanted("no such/thing").unwrap_err().to_string().contains("neither a file, a release nor an app"));
    }

    #[test]
    fn the_head_ends_where_the_files_begin() {
        let mut bytes = ar::MAGIC.to_vec();
        for (name, size) in [("debian-binary", 4), ("control.tar", 7), ("data.tar.zst", 1000)] {
            bytes.extend(ar::Member::new(name, size).header(0).unwrap());
            if !name.starts_with("data") {
                bytes.resize(bytes.len() + usize::try_from(size.next_multiple_of(2)).unwrap(), 0);
            }
        }
        assert_eq!(end_of_head(&bytes).unwrap(), Some(bytes.len()));
        for length in 0..bytes.len() {
            assert_eq!(end_of_head(&bytes[..length]).unwrap(), None, "{length}");
        }
        assert!(end_of_head(b"not a package").is_err());
    }
}
