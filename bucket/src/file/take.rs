//! Taking what has the sum that was said, and nothing else: from a directory by the file system, or streamed from elsewhere.
//! Overlays take releases and candidates so, and a promotion its candidate.

use std::{
    fs::File,
    io::{self, Read as _, Seek as _, Write as _},
    pin::pin,
};

use bytes::Bytes;
use futures_util::{Stream, TryStreamExt as _};

use super::{
    bucket::FileBucket,
    copy,
    directory::Directory,
    download::{CHUNK, blocking},
    failure::failed,
    write::Written,
};
use crate::{Error, Generation, Metadata, ObjectPath, Sha256, source_file::Summing};

impl FileBucket {
    /// Copies an object, of this directory or of another, to a path where none must be yet. What is summed is the copy, so that
    /// nobody can change between the two what becomes an object.
    pub(crate) async fn take(
        &self,
        from: &Self,
        (path, seen): (&ObjectPath, Generation),
        (to, metadata): (&ObjectPath, &Metadata),
        sha256: &Sha256,
    ) -> Result<Generation, Error> {
        let (from, source) = (from.directory(), path.clone());
        let copy = move |directory: &Directory, to: &ObjectPath| {
            let mut written = copy::content((&from, &source, seen), (directory, to))?;
            let sum = sum(written.file()).map_err(|e| failed("read", to.as_str(), &e))?;
            Ok((written, sum))
        };
        let copied = self.run(to, copy).await?;
        self.keep(copied, path, (to, metadata), sha256).await
    }

    /// The same for an object of another kind of bucket, of whose content the stream has one piece after the other.
    pub(crate) async fn take_streamed(
        &self,
        content: impl Stream<Item = Result<Bytes, Error>>,
        path: &ObjectPath,
        (to, metadata): (&ObjectPath, &Metadata),
        sha256: &Sha256,
    ) -> Result<Generation, Error> {
        let mut written = self.run(to, Directory::begin).await?;
        let (mut sum, mut content) = (Summing::default(), pin!(content));
        while let Some(chunk) = content.try_next().await? {
            let mut target = written.file().try_clone().map_err(|e| failed("write", to.as_str(), &e))?;
            let write = move || {
                sum.add(&chunk);
                target.write_all(&chunk).map(|()| sum)
            };
            sum = blocking(write).await.map_err(|e| failed("write", to.as_str(), &e))?;
        }
        written.filled();
        self.keep((written, sum.finish()), path, (to, metadata), sha256).await
    }

    async fn keep(
        &self,
        (written, sum): (Written, Sha256),
        path: &ObjectPath,
        (to, metadata): (&ObjectPath, &Metadata),
        sha256: &Sha256,
    ) -> Result<Generation, Error> {
        if sum != *sha256 {
            let reason = format!("its content has the SHA-256 {sum}, not {sha256} as its metadata says");
            return Err(Error::Malformed { object: path.to_string(), reason });
        }
        let metadata = metadata.clone();
        self.run(to, move |directory, to| directory.commit(to, written, &metadata, None)).await
    }
}

/// The sum of a whole file.
fn sum(file: &mut File) -> io::Result<Sha256> {
    file.rewind()?;
    let (mut sum, mut chunk) = (Summing::default(), vec![0; CHUNK]);
    loop {
        match file.read(&mut chunk)? {
            0 => return Ok(sum.finish()),
            length => sum.add(&chunk[..length]),
        }
    }
}
