//! The control archive of a `.deb`: plain members only.
//!
//! dpkg unpacks it with tar and reads the file `control` then. Whatever could make that another file than the one that is
//! read here (links, extended headers, names that can be read in two ways, bytes behind the end) has no use in a control
//! archive, and is refused.

use std::{
    collections::BTreeSet,
    io::{Read, Take},
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, ensure};
use bucket::Control;

/// What is read of a control archive.
#[derive(Debug)]
pub(super) struct Members {
    /// The control file.
    pub(super) control: Vec<u8>,
    /// `md5sums`: the package's files, without its conffiles.
    md5sums: Vec<u8>,
    /// `conffiles`: its conffiles.
    conffiles: Vec<u8>,
}

impl Members {
    /// Reads an archive to its end. Its limit must not be reached.
    pub(super) fn read(archive: Take<impl Read>) -> Result<Self> {
        let mut archive = tar::Archive::new(archive);
        let (mut control, mut md5sums, mut conffiles) = (None, None, None);
        // Raw, so that no extended header is applied unseen. To its end: dpkg goes by the last control file, so there must
        // be only one.
        for entry in archive.entries()?.raw(true) {
            let mut entry = entry.context("damaged control archive")?;
            let (name, is_directory) = plain_name(entry.header())?;
            let place = match name.as_str() {
                "control" => &mut control,
                "md5sums" => &mut md5sums,
                "conffiles" => &mut conffiles,
                _ => continue,
            };
            ensure!(place.is_none(), "control archive has two members `{name}`");
            ensure!(!is_directory, "`{name}` in the control archive is not a regular file");
            let limit = Control::MAX as u64;
            ensure!(name != "control" || entry.size() <= limit, "control file is larger than {limit} bytes");
            let mut content = Vec::new();
            entry.read_to_end(&mut content).context("damaged control archive")?;
            *place = Some(content);
        }
        ensure_nothing_follows(archive.into_inner())?;
        Ok(Self {
            control: control.context("control archive has no control file")?,
            md5sums: md5sums.unwrap_or_default(),
            conffiles: conffiles.unwrap_or_default(),
        })
    }

    /// The directories of the files that the package lists.
    pub(super) fn directories(&self) -> BTreeSet<PathBuf> {
        let md5sums = String::from_utf8_lossy(&self.md5sums);
        let conffiles = String::from_utf8_lossy(&self.conffiles);
        let files = md5sums.lines().filter_map(|line| line.split_once("  ").map(|(_, path)| path));
        let conffiles = conffiles.lines().filter_map(|line| line.rsplit(' ').next());
        let directory = |file: &str| Some(Path::new("/").join(file.trim_start_matches('/')).parent()?.to_owned());
        files.chain(conffiles).filter_map(directory).collect()
    }
}

/// The name of a member below the archive's root, in the one way that it can be written, and whether it is a directory.
/// That of the root itself is empty.
fn plain_name(header: &tar::Header) -> Result<(String, bool)> {
    let written = header.path_bytes();
    let shown = written.escape_ascii();
    let kind = header.entry_type();
    ensure!(kind.is_file() || kind.is_dir(), "`{shown}` in the control archive is neither a file nor a directory");
    let is_prefixed = header.as_ustar().is_some_and(|header| header.prefix.iter().any(|byte| *byte != 0));
    let size = header.as_old().size.trim_ascii_end();
    let size = &size[..size.iter().position(|byte| *byte == 0).unwrap_or(size.len())];
    let is_size = !size.is_empty() && size.iter().all(|byte| matches!(byte, b'0'..=b'7'));
    ensure!(!is_prefixed && is_size, "`{shown}` in the control archive has an unusual header");
    let mut name = str::from_utf8(&written).unwrap_or_default();
    // As tar has it: before there was a type for directories they were empty files of such a name.
    let is_directory = kind.is_dir() || name.ends_with('/');
    ensure!(!is_directory || header.size()? == 0, "the directory `{shown}` in the control archive has a content");
    if is_directory {
        name = name.strip_suffix('/').unwrap_or(name);
        if name == "." {
            return Ok((String::new(), true));
        }
    }
    while let Some(rest) = name.strip_prefix("./") {
        name = rest;
    }
    let is_plain = |part: &str| !matches!(part, "" | "." | "..") && part.bytes().all(|byte| byte.is_ascii_graphic());
    ensure!(name.split('/').all(is_plain), "control archive has the name `{shown}`");
    Ok((name.to_owned(), is_directory))
}

/// Makes sure that an archive that has ended is followed by its padding only, and that it was read to its end.
fn ensure_nothing_follows(mut rest: Take<impl Read>) -> Result<()> {
    let mut chunk = [0; 4096];
    loop {
        match rest.read(&mut chunk).context("damaged control archive")? {
            0 => break,
            length => ensure!(chunk[..length].iter().all(|byte| *byte == 0), "control archive goes on behind its end"),
        }
    }
    ensure!(rest.limit() > 0, "control archive is too large");
    Ok(())
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

    fn read(members: &[(&str, &str)]) -> Result<Members> {
        Members::read(archive(members).as_slice().take(1 << 20))
    }

    #[test]
    fn there_is_one_control_file_under_one_name() {
        assert_eq!(read(&[("./md5sums", "x"), ("./control", "good")]).unwrap().control, b"good");
        assert_eq!(read(&[("control", "good"), ("lib/control", "other")]).unwrap().control, b"good");
        for bad in [
            &[("./control", "good"), ("control", "what dpkg takes")][..],
            &[("./control", "good"), ("././/control", "what dpkg takes")],
            &[("./control", "good"), ("x/../control", "what dpkg takes")],
            &[("/control", "good")],
            &[("control/", "good")],
            &[("./postinst", "no control")],
        ] {
            assert!(read(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn an_archive_is_read_to_its_end() {
        let whole = archive(&[("./control", "good")]);
        let length = whole.len() as u64;
        assert!(Members::read(whole.as_slice().take(length + 1)).is_ok());
        assert!(Members::read(whole.as_slice().take(length)).is_err(), "there may be more");
        let twice = [whole.clone(), archive(&[("./control", "other")])].concat();
        assert!(Members::read(twice.as_slice().take(1 << 20)).unwrap_err().to_string().contains("behind its end"));
    }

    #[test]
    fn the_directories_of_all_files_are_known() {
        let md5sums =
            "d41d8cd98f00b204e9800998ecf8427e  usr/bin/web\nd41d8cd98f00b204e9800998ecf8427e  usr/share/web/a b\n";
        let conffiles = "/etc/web.conf\nremove-on-upgrade /etc/old/web.conf\n";
        let members = read(&[("control", "x"), ("md5sums", md5sums), ("conffiles", conffiles)]).unwrap();
        let directories: Vec<_> = members.directories().into_iter().collect();
        assert_eq!(directories, ["/etc", "/etc/old", "/usr/bin", "/usr/share/web"].map(PathBuf::from));
    }
}
