//! What a `.deb` says of itself, read without dpkg from a verified file (deb(5)).
//!
//! Verified means that the bytes are those that were released, not that they are sane: every size is bounded, and
//! what isn't as it should be is refused.

#[cfg(test)]
mod against_dpkg;
mod archive;
mod members;

use std::{
    collections::BTreeSet,
    fs::File,
    io::{BufRead, BufReader, Read},
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail, ensure};
use bucket::{Control, PackageFacts, ReleaseFields};

use self::members::Members;
use super::package_manager::DebInfo;

/// Most bytes of a package's control archive, unpacked; md5sums of a hundred thousand files fit.
const ARCHIVE_LIMIT: u64 = 64 << 20;
/// Most bytes of memory for unpacking an xz archive; `xz -9` takes 65 MiB.
const XZ_MEMORY: u64 = 80 << 20;

/// Reads the control fields of the package in `path`.
pub(crate) fn inspect(path: &Path) -> Result<DebInfo> {
    let read = || parse(&members(path)?.control);
    read().with_context(|| format!("cannot use the package `{}`", path.display()))
}

/// The directories in which the package in `path` has files, as far as it lists its files: each below `/`, and it needn't
/// exist.
pub(crate) fn directories(path: &Path) -> Result<BTreeSet<PathBuf>> {
    Ok(members(path)?.directories())
}

/// What is in the control archive.
fn members(path: &Path) -> Result<Members> {
    let mut file = File::open(path)?;
    archive::begin(&mut file)?;
    let (name, mut version) = archive::next(&mut file)?.context("archive is empty")?;
    ensure!(name == b"debian-binary", "first member is not `debian-binary`");
    let mut format = String::new();
    Read::by_ref(&mut version).take(16).read_to_string(&mut format)?;
    ensure!(format.starts_with("2."), "format `{}` is not 2.x", format.trim().escape_debug());
    archive::skip(version)?;
    let (name, member) = archive::next(&mut file)?.context("archive has no control member")?;
    let mut member = BufReader::new(member);
    // dpkg reads every gzip member, but of the others the first stream or frame only: there must be one.
    let read = match name.as_slice() {
        b"control.tar" => Members::read(Read::by_ref(&mut member).take(ARCHIVE_LIMIT)),
        b"control.tar.zst" => {
            let decoder = zstd::stream::read::Decoder::with_buffer(&mut member)?.single_frame();
            Members::read(decoder.take(ARCHIVE_LIMIT))
        }
        b"control.tar.xz" => {
            let stream = liblzma::stream::Stream::new_stream_decoder(XZ_MEMORY, 0)?;
            Members::read(liblzma::bufread::XzDecoder::new_stream(&mut member, stream).take(ARCHIVE_LIMIT))
        }
        b"control.tar.gz" => Members::read(flate2::bufread::MultiGzDecoder::new(&mut member).take(ARCHIVE_LIMIT)),
        other => bail!("second member is `{}`, not a control archive", other.escape_ascii()),
    }?;
    ensure!(member.fill_buf()?.is_empty(), "control archive goes on behind its end");
    Ok(read)
}

fn parse(control: &[u8]) -> Result<DebInfo> {
    let control = Control::parse(control)?;
    let fields = ReleaseFields::read(&control)?;
    let fields = fields.with_context(|| format!("package is not a release: no field `{}`", ReleaseFields::RELEASE))?;
    Ok(DebInfo { facts: PackageFacts::read(&control)?, fields })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_releases_are_packages_that_can_be_used() {
        let facts = "Package: web\nVersion: 1\nArchitecture: all\n";
        let stem = "web:dev@build-1:2026-11-20T19:05:02Z:7e0ff6059e653eb75a36efb621d0fd66d1ced433";
        let info = parse(format!("{facts}Push-Release: {stem}\nPush-Units: web.service=restart\n").as_bytes()).unwrap();
        assert_eq!((info.facts.package.as_str(), info.fields.units.len()), ("web", 1));
        assert_eq!(info.fields.release.stem(), stem);
        for bad in [facts, &format!("Push-Release: {stem}\n"), &format!("{facts}Push-Release: nonsense\n")] {
            assert!(parse(bad.as_bytes()).is_err(), "{bad}");
        }
    }
}
