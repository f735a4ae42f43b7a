//! Reading a `.deb`: its members, and what its control member holds.
//!
//! The file may come from anywhere: every size is bounded before it is believed.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, BufRead, BufReader, Read, Seek, SeekFrom},
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};
use bucket::Control;
use console::safe;
use flate2::bufread::MultiGzDecoder;
use liblzma::bufread::XzDecoder;

use super::ar::Member;

/// Largest control member, decompressed. Debian's largest has some 8 MiB of MD5 sums.
const LARGEST_CONTROL: u64 = 64 * 1024 * 1024;

/// Refuses a control member that nobody would read: not this program when it uploads, nor the agent.
pub(super) fn check_control_size(size: u64) -> Result<()> {
    if size > LARGEST_CONTROL {
        bail!(
            "control member is larger than {LARGEST_CONTROL} bytes: it has a line for each file, and the scripts; \
             put fewer files or shorter scripts into the package"
        );
    }
    Ok(())
}

/// A `.deb` on disk whose control member was read.
#[derive(Debug)]
pub(crate) struct DebFile {
    /// Path of the file.
    pub(crate) path: PathBuf,
    /// Its members and where their content begins.
    pub(crate) members: Vec<(Member, u64)>,
    /// The control member as a plain tar.
    pub(crate) control_tar: Vec<u8>,
    /// The control file.
    pub(crate) control: Control,
    /// The other small files of the control member: `md5sums`, `conffiles`, scripts.
    pub(crate) files: BTreeMap<String, Vec<u8>>,
}

impl DebFile {
    /// Reads everything but the data member.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        Self::read(path).with_context(|| format!("could not read the package `{}`", path.display()))
    }

    fn read(path: &Path) -> Result<Self> {
        let mut file = File::open(path)?;
        let length = file.metadata()?.len();
        Member::read_magic(&mut file)?;
        let mut members = Vec::new();
        let mut at = 8;
        while let Some(member) = Member::read(&mut file)? {
            at += super::ar::HEADER;
            if at + member.size > length {
                bail!("file is truncated: `{}` should have {} bytes", member.name, member.size);
            }
            if members.len() == 16 {
                bail!("archive has more than 16 members");
            }
            let next = at + member.size + u64::from(member.is_padded());
            members.push((member, at));
            at = file.seek(SeekFrom::Start(next))?;
        }
        let is = |i: usize, wanted: &str| members.get(i).is_some_and(|(member, _)| member.name.starts_with(wanted));
        if !is(0, "debian-binary")
            || !is(1, "control.tar")
            || !members.iter().any(|(m, _)| m.name.starts_with("data.tar"))
        {
            bail!("not a .deb: the members must be debian-binary, control.tar and data.tar");
        }
        let control_tar = control_tar(&mut file, &members[1])?;
        let mut files = files(&control_tar).context("damaged control member")?;
        let control = files.remove("control").context("no control file in the control member")?;
        let control = Control::parse(&control).context("malformed control file")?;
        Ok(Self { path: path.to_owned(), members, control_tar, control, files })
    }

    /// The data member as a plain tar, streamed; to be ended by [`Content::finish`].
    pub(crate) fn data(&self) -> Result<Content<impl BufRead + use<>>> {
        let Some((member, at)) = self.members.iter().find(|(member, _)| member.name.starts_with("data.tar")) else {
            bail!("`{}` has no data member", self.path.display());
        };
        let mut file = File::open(&self.path)?;
        file.seek(SeekFrom::Start(*at))?;
        Content::of(&member.name, BufReader::with_capacity(64 * 1024, file.take(member.size)))
    }

    /// Fails unless the data member can be decompressed to its end, with the checksums that its format has.
    pub(crate) fn check_data(&self) -> Result<()> {
        let check = || self.data()?.finish();
        check().with_context(|| format!("`{}` is damaged: its data member cannot be unpacked", self.path.display()))
    }
}

fn control_tar(file: &mut File, (member, at): &(Member, u64)) -> Result<Vec<u8>> {
    file.seek(SeekFrom::Start(*at))?;
    let mut tar = Vec::new();
    let mut content = Content::of(&member.name, BufReader::new(file.try_clone()?.take(member.size)))?;
    (&mut content).take(LARGEST_CONTROL + 1).read_to_end(&mut tar).context("damaged control member")?;
    check_control_size(tar.len() as u64)?;
    content.finish().context("damaged control member")?;
    Ok(tar)
}

/// The content of a member, decompressed as its name says.
///
/// A tar ends before what is compressed ends: only [`Content::finish`] sees the checksums at the end.
pub(crate) enum Content<R: BufRead> {
    Plain(R),
    Gzip(MultiGzDecoder<R>),
    Xz(XzDecoder<R>),
    Zstd(zstd::Decoder<'static, R>),
}

impl<R: BufRead> Content<R> {
    fn of(name: &str, member: R) -> Result<Self> {
        // dpkg reads every member of gzip, but of the others the first stream or frame only.
        Ok(match name.rsplit('.').next().unwrap_or_default() {
            "tar" => Self::Plain(member),
            "gz" => Self::Gzip(MultiGzDecoder::new(member)),
            "xz" => Self::Xz(XzDecoder::new(member)),
            "zst" => Self::Zstd(zstd::Decoder::with_buffer(member)?.single_frame()),
            other => bail!("`{name}`: unsupported compression `{}`", safe(other)),
        })
    }

    /// Reads what is left. Fails if any of it is damaged, or if something follows that dpkg wouldn't read.
    pub(crate) fn finish(mut self) -> Result<()> {
        io::copy(&mut self, &mut io::sink())?;
        let mut member = match self {
            Self::Plain(member) => member,
            Self::Gzip(decoder) => decoder.into_inner(),
            Self::Xz(decoder) => decoder.into_inner(),
            Self::Zstd(decoder) => decoder.finish(),
        };
        if !member.fill_buf()?.is_empty() {
            bail!("something follows behind its end");
        }
        Ok(())
    }
}

impl<R: BufRead> Read for Content<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(member) => member.read(buffer),
            Self::Gzip(decoder) => decoder.read(buffer),
            Self::Xz(decoder) => decoder.read(buffer),
            Self::Zstd(decoder) => decoder.read(buffer),
        }
    }
}

fn files(tar: &[u8]) -> Result<BTreeMap<String, Vec<u8>>> {
    let mut files = BTreeMap::new();
    for entry in tar::Archive::new(tar).entries()? {
        let mut entry = entry?;
        let name = String::from_utf8(entry.path_bytes().into_owned()).context("file name is not UTF-8")?;
        if entry.header().entry_type().is_file() {
            let mut content = Vec::new();
            entry.read_to_end(&mut content)?;
            let name = name.trim_start_matches("./").to_owned();
            // dpkg goes by the last one, whatever comes first.
            if files.insert(name.clone(), content).is_some() {
                bail!("duplicate file `{}`", safe(&name));
            }
        }
    }
    Ok(files)
}
