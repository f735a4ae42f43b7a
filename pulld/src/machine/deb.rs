//! What a `.deb` says of itself, read without dpkg from a verified file (deb(5)).
//!
//! Verified means that the bytes are those that were released, not that they are sane: every size is bounded, and
//! what isn't as it should be is refused.

use std::{
    fs::File,
    io::{Read, Take},
    path::{Component, Path},
};

use anyhow::{Context, Result, bail, ensure};
use bucket::ReleaseName;

use super::{
    owned_unit::{OwnedUnit, UnitAction},
    package_manager::DebInfo,
};

/// Most bytes of a package's control archive, unpacked; md5sums of a hundred thousand files fit.
const ARCHIVE_LIMIT: u64 = 64 << 20;
/// Most bytes of memory for unpacking an xz archive; `xz -9` takes 65 MiB.
const XZ_MEMORY: u64 = 80 << 20;
/// Most bytes of a package's control file.
const CONTROL_LIMIT: u64 = 1 << 20;
/// Most units that a release may own.
const UNITS: usize = 200;

/// Reads the control fields of the package in `path`.
pub(crate) fn inspect(path: &Path) -> Result<DebInfo> {
    let read = || parse(&control(path)?);
    read().with_context(|| format!("`{}` is not a package that can be used", path.display()))
}

/// The text of the control file.
fn control(path: &Path) -> Result<String> {
    let mut archive = ar::Archive::new(File::open(path)?);
    let mut version = archive.next_entry().context("it is empty")??;
    ensure!(version.header().identifier() == b"debian-binary", "it doesn't begin with `debian-binary`");
    let mut format = String::new();
    Read::by_ref(&mut version).take(16).read_to_string(&mut format)?;
    ensure!(format.starts_with("2."), "its format `{}` isn't 2.x", format.trim().escape_debug());
    drop(version);
    let member = archive.next_entry().context("it has no control archive")??;
    match member.header().identifier() {
        b"control.tar" => control_of(member.take(ARCHIVE_LIMIT)),
        b"control.tar.zst" => control_of(zstd::stream::read::Decoder::new(member)?.take(ARCHIVE_LIMIT)),
        b"control.tar.xz" => {
            let decoder = liblzma::stream::Stream::new_stream_decoder(XZ_MEMORY, 0)?;
            control_of(liblzma::read::XzDecoder::new_stream(member, decoder).take(ARCHIVE_LIMIT))
        }
        b"control.tar.gz" => control_of(flate2::read::GzDecoder::new(member).take(ARCHIVE_LIMIT)),
        other => bail!("its second member is `{}`, not a control archive", other.escape_ascii()),
    }
}

fn control_of(archive: Take<impl Read>) -> Result<String> {
    let mut archive = tar::Archive::new(archive);
    let mut control = None;
    // To its end: dpkg goes by the last control file, so there must be only one.
    for entry in archive.entries()? {
        let mut entry = entry.context("its control archive is damaged")?;
        if !is_control(&entry.path().context("its control archive has a name that can't be read")?)? {
            continue;
        }
        ensure!(control.is_none(), "its control archive has two control files");
        ensure!(entry.header().entry_type().is_file(), "its control file isn't a file");
        ensure!(entry.size() <= CONTROL_LIMIT, "its control file is larger than {CONTROL_LIMIT} bytes");
        let mut text = String::new();
        entry.read_to_string(&mut text).context("its control file isn't UTF-8")?;
        control = Some(text);
    }
    control.context("its control archive has no control file")
}

/// Whether a name in the control archive is the control file's, however it is written.
fn is_control(name: &Path) -> Result<bool> {
    let inside = |component: Component| matches!(component, Component::CurDir | Component::Normal(_));
    ensure!(
        name.components().all(inside),
        "its control archive has the name `{}`",
        name.display().to_string().escape_debug()
    );
    let mut names = name.components().filter(|component| *component != Component::CurDir);
    Ok(names.next() == Some(Component::Normal("control".as_ref())) && names.next().is_none())
}

fn parse(control: &str) -> Result<DebInfo> {
    let fields = fields(control)?;
    let find =
        |name: &str| fields.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str());
    let need =
        |name: &str| find(name).filter(|value| !value.is_empty()).with_context(|| format!("it has no field `{name}`"));
    let release = find("Push-Release").map(ReleaseName::from_stem).transpose()?;
    let kilobytes: u64 =
        find("Installed-Size").unwrap_or("0").parse().context("its `Installed-Size` isn't a number")?;
    let depends = ["Pre-Depends", "Depends"].iter().filter_map(|name| find(name)).map(str::to_owned).collect();
    Ok(DebInfo {
        package: package_name(need("Package")?)?,
        version: need("Version")?.to_owned(),
        architecture: need("Architecture")?.to_owned(),
        release,
        units: parse_units(find("Push-Units").unwrap_or_default())?,
        check: find("Push-Check").filter(|check| !check.is_empty()).map(words),
        installed_size: kilobytes.saturating_mul(1024),
        depends,
    })
}

/// The fields of a control file's one paragraph, continuation lines joined with spaces (deb-control(5)).
fn fields(control: &str) -> Result<Vec<(String, String)>> {
    let mut fields: Vec<(String, String)> = Vec::new();
    for line in control.trim_end().lines() {
        if let Some(more) = line.strip_prefix([' ', '\t']) {
            let (_, value) = fields.last_mut().context("its control file begins with a continuation line")?;
            value.push(' ');
            value.push_str(more.trim());
            continue;
        }
        let (name, value) = line.split_once(':').context("its control file has a line without a field")?;
        ensure!(
            !fields.iter().any(|(known, _)| known.eq_ignore_ascii_case(name)),
            "its control file has two fields `{}`",
            name.escape_debug()
        );
        fields.push((name.to_owned(), value.trim().to_owned()));
    }
    Ok(fields)
}

/// Debian Policy §5.6.1. A name can't be taken for an option, a path or a pattern.
fn package_name(name: &str) -> Result<String> {
    let good = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "+-.".contains(c);
    let begins = name.starts_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit());
    ensure!(begins && name.len() >= 2 && name.chars().all(good), "`{}` isn't a package name", name.escape_debug());
    Ok(name.to_owned())
}

fn words(value: &str) -> Vec<String> {
    value.split_whitespace().map(str::to_owned).collect()
}

/// Parses the value of `Push-Units:`, as in `web.service=restart web.timer=start`.
pub(crate) fn parse_units(value: &str) -> Result<Vec<OwnedUnit>> {
    let units: Vec<OwnedUnit> = value.split_whitespace().map(parse_unit).collect::<Result<_>>()?;
    ensure!(units.len() <= UNITS, "`Push-Units` has more than {UNITS} units");
    Ok(units)
}

fn parse_unit(text: &str) -> Result<OwnedUnit> {
    let (name, action) =
        text.split_once('=').with_context(|| format!("the unit `{}` has no `=`", text.escape_debug()))?;
    // systemd.unit(5): what a unit name is made of, and the kinds a release may own.
    let good = |c: char| c.is_ascii_alphanumeric() || ":-_.\\@".contains(c);
    let kind = name.rsplit_once('.').map(|(_, kind)| kind);
    let known = matches!(kind, Some("service" | "timer" | "socket" | "path" | "target" | "mount" | "slice"));
    ensure!(
        known && name.len() <= 255 && !name.starts_with(['.', '-']) && name.chars().all(good),
        "`{}` isn't a unit's name",
        name.escape_debug()
    );
    let action = match action {
        "restart" => UnitAction::Restart,
        "reload" => UnitAction::Reload,
        "start" => UnitAction::Start,
        "none" => UnitAction::None,
        other => {
            bail!("`{name}` has the action `{}`; pulld knows restart, reload, start and none", other.escape_debug())
        }
    };
    Ok(OwnedUnit { name: name.to_owned(), action })
}

#[cfg(test)]
mod tests {
    use super::*;

    const STEM: &str = "web:dev@build-1:2026-11-20T19:05:02Z:7e0ff6059e653eb75a36efb621d0fd66d1ced433";

    #[test]
    fn a_control_file_is_read_by_its_fields() {
        let control = format!(
            "Package: web\nVersion: 0+1\nArchitecture: all\nInstalled-Size: 7\nDepends: a,\n b (>= 2)\nDescription: x\n .\n more\n\
             Push-Release: {STEM}\nPush-Units: web.service=restart web@1.timer=none\nPush-Check: /usr/bin/web --health\n"
        );
        let info = parse(&control).unwrap();
        assert_eq!((info.package.as_str(), info.installed_size), ("web", 7 * 1024));
        assert_eq!(info.release.unwrap().stem(), STEM);
        assert_eq!(info.depends, ["a, b (>= 2)"]);
        assert_eq!(info.check.unwrap(), ["/usr/bin/web", "--health"]);
        let units: Vec<_> = info.units.iter().map(|unit| (unit.name.as_str(), unit.action)).collect();
        assert_eq!(units, [("web.service", UnitAction::Restart), ("web@1.timer", UnitAction::None)]);
    }

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
        assert_eq!(read(&[("./md5sums", "x"), ("./control", "good")]).unwrap(), "good");
        assert_eq!(read(&[("control", "good"), ("lib/control", "other")]).unwrap(), "good");
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
    fn an_empty_check_is_none() {
        let info = parse("Package: web\nVersion: 1\nArchitecture: all\nPush-Check: \n").unwrap();
        assert_eq!(info.check, None);
    }

    #[test]
    fn what_is_not_as_it_should_be_is_refused() {
        let base = "Package: web\nVersion: 1\nArchitecture: all\n";
        assert!(parse(base).is_ok());
        for bad in [
            "Version: 1\nArchitecture: all\n",
            "Package: -rf\nVersion: 1\nArchitecture: all\n",
            "Package: ../x\nVersion: 1\nArchitecture: all\n",
            " Package: web\n",
            "Package: web\nPackage: api\nVersion: 1\nArchitecture: all\n",
            "Package: web\n\nVersion: 1\n",
            &format!("{base}Push-Release: nonsense\n"),
            &format!("{base}Push-Units: ../x.service=restart\n"),
            &format!("{base}Push-Units: -x.service=restart\n"),
            &format!("{base}Push-Units: x.service\n"),
            &format!("{base}Push-Units: x.service=poweroff\n"),
            &format!("{base}Push-Units: x.exe=restart\n"),
            &format!("{base}Installed-Size: many\n"),
        ] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
