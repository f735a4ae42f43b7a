//! What a `.deb` says of itself, read without dpkg from a verified file (deb(5)).
//!
//! Verified means that the bytes are those that were released, not that they are sane: every size is bounded, and
//! what isn't as it should be is refused.

#[cfg(test)]
mod against_dpkg;

use std::{
    fs::File,
    io::{Read, Take},
    path::{Component, Path},
};

use anyhow::{Context, Result, bail, ensure};
use bucket::{Control, PackageFacts, ReleaseFields};

use super::package_manager::DebInfo;

/// Most bytes of a package's control archive, unpacked; md5sums of a hundred thousand files fit.
const ARCHIVE_LIMIT: u64 = 64 << 20;
/// Most bytes of memory for unpacking an xz archive; `xz -9` takes 65 MiB.
const XZ_MEMORY: u64 = 80 << 20;

/// Reads the control fields of the package in `path`.
pub(crate) fn inspect(path: &Path) -> Result<DebInfo> {
    let read = || parse(&control(path)?);
    read().with_context(|| format!("cannot use the package `{}`", path.display()))
}

/// The content of the control file.
fn control(path: &Path) -> Result<Vec<u8>> {
    let mut archive = ar::Archive::new(File::open(path)?);
    let mut version = archive.next_entry().context("archive is empty")??;
    ensure!(version.header().identifier() == b"debian-binary", "first member is not `debian-binary`");
    let mut format = String::new();
    Read::by_ref(&mut version).take(16).read_to_string(&mut format)?;
    ensure!(format.starts_with("2."), "format `{}` is not 2.x", format.trim().escape_debug());
    drop(version);
    let member = archive.next_entry().context("archive has no control member")??;
    match member.header().identifier() {
        b"control.tar" => control_of(member.take(ARCHIVE_LIMIT)),
        b"control.tar.zst" => control_of(zstd::stream::read::Decoder::new(member)?.take(ARCHIVE_LIMIT)),
        b"control.tar.xz" => {
            let decoder = liblzma::stream::Stream::new_stream_decoder(XZ_MEMORY, 0)?;
            control_of(liblzma::read::XzDecoder::new_stream(member, decoder).take(ARCHIVE_LIMIT))
        }
        b"control.tar.gz" => control_of(flate2::read::GzDecoder::new(member).take(ARCHIVE_LIMIT)),
        other => bail!("second member is `{}`, not a control archive", other.escape_ascii()),
    }
}

fn control_of(archive: Take<impl Read>) -> Result<Vec<u8>> {
    let mut archive = tar::Archive::new(archive);
    let mut control = None;
    // To its end: dpkg goes by the last control file, so there must be only one.
    for entry in archive.entries()? {
        let mut entry = entry.context("damaged control archive")?;
        if !is_control(&entry.path().context("control archive has an unreadable name")?)? {
            continue;
        }
        ensure!(control.is_none(), "control archive has two control files");
        ensure!(entry.header().entry_type().is_file(), "control file is not a regular file");
        let limit = Control::MAX as u64;
        ensure!(entry.size() <= limit, "control file is larger than {limit} bytes");
        let mut content = Vec::new();
        entry.read_to_end(&mut content).context("damaged control file")?;
        control = Some(content);
    }
    control.context("control archive has no control file")
}

/// Whether a name in the control archive is the control file's, however it is written.
fn is_control(name: &Path) -> Result<bool> {
    let inside = |component: Component| matches!(component, Component::CurDir | Component::Normal(_));
    ensure!(
        name.components().all(inside),
        "control archive has the name `{}`",
        name.display().to_string().escape_debug()
    );
    let mut names = name.components().filter(|component| *component != Component::CurDir);
    Ok(names.next() == Some(Component::Normal("control".as_ref())) && names.next().is_none())
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

    /// A control archive of these members.
    fn archive(members: &[(&str, &str)]) -> Vec<u8> {
        let mut archive = tar::Builder::new(Vec::new());
        for (name, content) in members {
            let mut header = tar::Header::new_gnu();
            // By hand: the builder itself refuses names that lead out.
            header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
            header.set_size(content.len() as u64);
            header.set_cksum();
            archive.append(&header, content.as_bytes()).unwrap();
        }
        archive.into_inner().unwrap()
    }

    #[test]
    fn there_is_one_control_file_under_one_name() {
        let read = |members: &[(&str, &str)]| control_of(archive(members).as_slice().take(ARCHIVE_LIMIT));
        assert_eq!(read(&[("./md5sums", "x"), ("./control", "good")]).unwrap(), b"good");
        assert_eq!(read(&[("control", "good"), ("lib/control", "other")]).unwrap(), b"good");
        for bad in [
            &[("./control", "good"), ("control", "what dpkg takes")][..],
            &[("./control", "good"), ("././/control", "what dpkg takes")],
            &[("./control", "good"), ("x/../control", "what dpkg takes")],
            &[("/control", "good")],
            &[("./postinst", "no control")],
        ] {
            assert!(read(bad).is_err(), "{bad:?}");
        }
    }

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
